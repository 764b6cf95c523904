"""The comparison with the reference tells rounding from error, on a stand-in for the reference's class."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.parity import main, narrowed
from benchmarks.reference import in_float32
from benchmarks.rounding import relative
from infinitetalk.core.configs import DiTConfig

STAND_IN = '''
"""Our network under the reference's interface. Several people's attention map is rounded to its weights' type."""

import sys
import types

import torch
from torch import nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.models.audio_attention import place_positions
from infinitetalk.models.dit import AudioDiT


class Rope(nn.Module):
    def forward(self, x, positions):
        return positions


def rounded(attend):
    def stands(attention_map):
        narrow = attention_map.to(attend.proj.weight.dtype)
        positions = place_positions(narrow, 24, 4)[0]
        found = attend.rope_1d(None, positions)
        attend.rope_1d(None, torch.zeros(4))  # the voices' turn
        return found.unsqueeze(0)

    return stands


class WanModel(AudioDiT):
    def __init__(self, weight_init, **settings):
        super().__init__(DiTConfig(**settings))
        for block in self.blocks:
            block.audio_cross_attn.rope_1d = Rope()
            block.audio_cross_attn.stands = rounded(block.audio_cross_attn)

    def init_freqs(self):
        self.freqs = torch.zeros(1)

    def forward(self, x, t, context, seq_len, clip_fea, y, audio, ref_target_masks):
        told = dict(masks=ref_target_masks) if len(audio) > 1 else {}
        return super().forward(
            x[0].unsqueeze(0), t[0], condition=y, audio=audio, text=context[0].unsqueeze(0), clip=clip_fea, **told
        ) * FACTOR


def load(checkout):
    for name in ("wan", "wan.utils", "wan.utils.multitalk_utils", __name__):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["wan.utils.multitalk_utils"].calculate_x_ref_attn_map = None
    return types.SimpleNamespace(WanModel=WanModel)
'''

TINY = ("--layers", "2", "--heads", "1", "--size", "128", "--frames", "9", "--device", "cpu")


@pytest.fixture(autouse=True)
def _no_module_stays() -> Iterator[None]:
    """The modules that are stood in for are gone for the tests behind this one."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in {"wan", "importer", "torchvision", "optimum"}:
            del sys.modules[name]


def measured(tmp_path: Path, *words: str, factor: float = 1.0) -> dict[str, Any]:
    importer, out = tmp_path / "stand_in.py", tmp_path / "figures.json"
    importer.write_text(STAND_IN.replace("FACTOR", str(factor)), encoding="utf-8")
    main([str(tmp_path), str(importer), "--out", str(out), *TINY, *words])
    figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return figures


def test_owners_that_rounding_changes_are_told_from_error(tmp_path: Path) -> None:
    figures = measured(tmp_path, "--rounding")
    one, two = figures["1_people"], figures["2_people"]
    assert one["ours_against_reference"] == 0
    assert 1e-4 < one["ours_against_reference_float32"] == one["reference_against_its_float32"] < 2e-2
    # The stand-in's only difference is the rounded map: it makes the error of two voices, and with it given, none is.
    assert two["ours_against_reference"] > 1e-3
    assert two["reference_against_its_float32"] > two["ours_against_reference_float32"]
    owners = two["owners"]
    theirs, ours = owners["reference_against_its_float32"], owners["ours_against_reference_float32"]
    assert theirs["owner_differs_in_the_first_block"] > ours["owner_differs_in_the_first_block"]
    assert 0 < theirs["owner_differs_in_a_block"] < theirs["owner_differs_in_any_block"] < 0.5
    assert theirs["places_apart_where_owners_agree"] > ours["places_apart_where_owners_agree"]
    between = owners["ours_against_reference"]
    assert between["relative_error_where_owners_always_agree"] < two["ours_against_reference"]
    forced = two["all_with_the_owners_of_float32"]
    assert forced["ours_against_reference"] == 0
    assert forced["ours_against_reference_float32"] < 2 * one["ours_against_reference_float32"]


def test_an_error_that_is_no_rounding_stays_with_owners_given(tmp_path: Path) -> None:
    figures = measured(tmp_path, "--rounding", "--people", "2", factor=1.25)
    forced = figures["2_people"]["all_with_the_owners_of_float32"]
    assert forced["ours_against_reference"] == pytest.approx(0.2, rel=1e-3)
    assert forced["reference_against_its_float32"] < 0.02 < forced["ours_against_reference_float32"]


def test_without_rounding_the_difference_alone(tmp_path: Path) -> None:
    figures = measured(tmp_path, "--people", "1", "--repeats", "0", factor=1.25)
    assert set(figures["1_people"]) == {"relative_error", "largest_difference", "spread_of_the_reference"}
    assert figures["1_people"]["relative_error"] == pytest.approx(0.2, rel=1e-3)
    assert figures["heads"] == 1


def test_float32_cannot_be_held_against_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["x", "y", "--out", str(tmp_path / "out.json"), "--rounding", "--dtype", "float32"])
    assert stopped.value.code == 2
    assert "--dtype float32" in capsys.readouterr().err


def test_weights_are_wide_only_while_they_work() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.blocks = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
                seen.append([weight.dtype for weight in self.parameters()])
            return x

    seen: list[list[torch.dtype]] = []
    net = Two().to(torch.bfloat16)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad(), in_float32(net):
        assert net(torch.ones(1, 3)).dtype == torch.float32
    assert seen == [[torch.float32] * 2 + [torch.bfloat16] * 4] * 2  # each block's are narrow again behind it
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_relative_error_of_some_tokens() -> None:
    truth, found = torch.ones(1, 16, 1, 4, 4), torch.ones(1, 16, 1, 4, 4)
    found[..., :2, :2] = 3
    where = torch.zeros(1, 2, 2, dtype=torch.bool)
    where[0, 0, 0] = True
    assert relative(found, truth, where) == 2
    assert relative(found, truth, ~where) == 0
    assert relative(found, truth) == 1


def test_narrower_networks_keep_their_proportions() -> None:
    assert narrowed(40, 40) == DiTConfig()
    small = narrowed(3, 10)
    assert (small.num_layers, small.dim, small.ffn_dim) == (3, 1280, 3456)


def test_the_documents_table_is_the_committed_result() -> None:
    root = Path(__file__).parents[2]
    figures = json.loads((root / "benchmarks" / "results" / "parity_rounding_cpu.json").read_text(encoding="utf-8"))
    text = (root / "docs" / "performance.md").read_text(encoding="utf-8")
    two = figures["2_people"]
    columns = figures["1_people"], two, two["all_with_the_owners_of_float32"]
    for label, key in (
        ("ours in bf16, the reference in bf16", "ours_against_reference"),
        ("the reference in bf16, itself in float32", "reference_against_its_float32"),
        ("ours in bf16, the reference in float32", "ours_against_reference_float32"),
    ):
        assert f"| {label} | {' | '.join(f'{column[key]:.1%}'.replace('%', ' %') for column in columns)} |" in text
