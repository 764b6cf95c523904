"""LoRA files of other projects change the weights as those projects change them; see `fixtures_lora/make.py`."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.core.loras import Lora
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.layers import Linear
from infinitetalk.ops.ggml import Blocks
from infinitetalk.ops.stored import Scaled, Stored
from infinitetalk.weights.keymaps import DIT
from infinitetalk.weights.load import assemble
from infinitetalk.weights.lora.names import Modules, diffusers_name
from infinitetalk.weights.lora.stack import LoraStack
from infinitetalk.weights.packed import pack_tensor
from tests.conftest import golden_weight

FIXTURES = Path(__file__).parent / "fixtures_lora"
CONFIG = DiTConfig(
    dim=16, ffn_dim=24, freq_dim=8, text_dim=12, text_len=4, num_heads=2, num_layers=2, clip_dim=20, clip_tokens=3,
    audio_blocks=2, audio_channels=4, intermediate_dim=8, output_dim=8, context_tokens=2,
)  # fmt: skip
STRENGTH = 0.7  # as in make.py

FILES = {
    "peft": ("peft/adapter_model", "peft", 1.0),
    "peft_rslora": ("peft_rslora/adapter_model", "peft_rslora", 1.0),
    "peft_default": ("peft_default", "peft_default", 1.0),
    "diffusers": ("diffusers", "diffusers", 1.0),
    "lightx2v": ("lightx2v", "lightx2v", STRENGTH),
    "lightx2v_t2v": ("lightx2v_t2v", "lightx2v_t2v", STRENGTH),
    "kohya": ("kohya", "kohya", STRENGTH),
    "kohya_other": ("kohya_other", "kohya", STRENGTH),
    "fun": ("fun", "fun", STRENGTH),
    "lycoris_locon": ("lycoris_locon", "lycoris_locon", STRENGTH),
}
"""Name → the LoRA, what its project made of the weights, at which strength."""


def lora(name: str, strength: float = 1.0) -> Lora:
    return Lora(FIXTURES / f"{FILES[name][0] if name in FILES else name}.safetensors", strength)


def shapes(config: DiTConfig = CONFIG) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in AudioDiT(config).named_parameters()}


SHAPES = shapes()


def base() -> dict[str, Tensor]:
    return {name: golden_weight(name, shape, 5) for name, shape in SHAPES.items()}


def merged(*loras: Lora) -> dict[str, Tensor]:
    """What LoRAs change, merged."""
    stack = LoraStack.open(loras, SHAPES)
    return {name: stack.merge(name, value) for name, value in base().items() if stack.changes(name)}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Lora]:
    """Writes a LoRA whose keys or tensors a test made."""

    def write(tensors: dict[str, Tensor], name: str = "lora", metadata: dict[str, str] | None = None) -> Lora:
        path = tmp_path / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
        return Lora(path)

    return write


@pytest.mark.parametrize("name", FILES)
def test_a_file_changes_the_weights_as_its_own_project_does(name: str) -> None:
    _, expected_name, strength = FILES[name]
    expected = load_file(FIXTURES / f"{expected_name}.expected.safetensors")
    ours = merged(lora(name, strength))
    assert ours.keys() == expected.keys()
    for parameter, value in expected.items():
        torch.testing.assert_close(ours[parameter], value, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(value, base()[parameter], atol=1e-4)


def test_modulations_are_found_under_both_of_their_names(written: Callable[..., Lora]) -> None:
    tensors = load_file(lora("lightx2v").path)
    other = {key.replace(".diff_m", ".modulation.diff"): value for key, value in tensors.items()}
    assert other.keys() != tensors.keys()
    expected, ours = merged(lora("lightx2v")), merged(written(other))
    assert {"blocks.0.modulation", "blocks.1.modulation", "head.modulation"} <= ours.keys()
    assert all(torch.equal(ours[name], value) for name, value in expected.items())


def test_the_input_layer_of_text_to_video_is_skipped_and_told_of() -> None:
    (file,) = LoraStack.open([lora("lightx2v_t2v")], SHAPES).files
    assert "patch_embedding.weight" not in file.changes
    assert "patch_embedding.bias" in file.changes
    (note,) = file.notes
    assert "patch_embedding.diff was skipped" in note
    assert "16 channels and not 36" in note
    assert not LoraStack.open([lora("lightx2v")], SHAPES).files[0].notes


def test_a_first_layer_of_yet_another_width_is_refused(written: Callable[..., Lora]) -> None:
    with pytest.raises(ModelError, match=r"another model: patch_embedding.weight is \[16, 36, 1, 2, 2\]"):
        merged(written({"diffusion_model.patch_embedding.diff": torch.zeros(16, 20, 1, 2, 2)}))


def test_several_loras_add_up_each_with_its_strength() -> None:
    given = [lora("kohya", 0.5), lora("lightx2v", -0.25), lora("kohya", 0.5)]
    together, weights = merged(*given), base()
    apart = [merged(one) for one in given]
    assert together.keys() == apart[0].keys() | apart[1].keys()
    for name, value in together.items():
        total = weights[name] + sum(one[name] - weights[name] for one in apart if name in one)
        torch.testing.assert_close(value, total, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, weights[name]) for name, value in merged(lora("kohya", 0.0)).items())


def test_merging_is_in_float32_and_rounds_once() -> None:
    stack = LoraStack.open([lora("kohya", STRENGTH)], SHAPES)
    name = "blocks.0.self_attn.q.weight"
    low = base()[name].bfloat16()
    once = stack.merge(name, low)
    assert once.dtype == torch.float32
    assert torch.equal(low, base()[name].bfloat16())  # the given tensor stays as it was
    assert torch.equal(once, stack.merge(name, low.float()))


def in_blocks(ggml: str, name: str, value: Tensor) -> Stored:
    """A matrix as gguf packs it."""
    packed = gguf.quants.quantize(value.reshape(-1, 32).numpy(), gguf.GGMLQuantizationType[ggml])
    return Blocks.of(name, torch.from_numpy(packed), ggml, tuple(value.shape))


KINDS: dict[str, Callable[[str, Tensor], Stored]] = {
    "int8, a scale per row": lambda name, value: Scaled.of(name, *pack_tensor(value)),
    "fp8_e4m3fn, one scale": lambda name, value: Scaled.of(
        name, (value / 2).to(torch.float8_e4m3fn), torch.tensor(2.0)
    ),
    "fp8_e5m2, no scale": lambda name, value: Scaled.of(name, value.to(torch.float8_e5m2), None),
    "GGUF Q8_0": partial(in_blocks, "Q8_0"),
    "GGUF Q4_0": partial(in_blocks, "Q4_0"),
}
"""How a quantised file may hold a matrix."""
INT8 = "int8, a scale per row"


def network(*loras: Lora, stored: bool, kind: str = INT8) -> AudioDiT:
    """The network with its blocks' matrices in few bits: as they are stored, or their values as a dense file's."""
    tensors: dict[str, Tensor | Stored] = {}
    for name, value in base().items():
        small = KINDS[kind](name, value) if value.ndim == 2 and name.startswith("blocks.") else None
        tensors[name] = value if small is None else small if stored else small.dequantise(torch.float32)
    stack = LoraStack.open(loras, SHAPES) if loras else None
    factory = partial(AudioDiT, CONFIG)
    return assemble(factory, tensors, DIT, dtype=torch.float32, keep_stored=True, amendments=stack)


def linear(dit: AudioDiT, name: str) -> Linear:
    layer = dit.get_submodule(name)
    assert isinstance(layer, Linear)
    return layer


def answer(dit: AudioDiT) -> Tensor:
    torch.manual_seed(3)
    with torch.inference_mode():
        velocity: Tensor = dit(
            torch.randn(1, 16, 2, 4, 4), torch.tensor(500.0), condition=torch.randn(1, 20, 2, 4, 4),
            audio=torch.randn(1, 5, 5, 2, 4), text=torch.randn(1, 3, 12), clip=torch.randn(1, 3, 20),
        )  # fmt: skip
    return velocity


LIVE = [(name, INT8) for name in ("peft", "peft_rslora", "diffusers", "kohya", "fun")]


@pytest.mark.parametrize(("name", "kind"), LIVE + [("kohya", kind) for kind in KINDS if kind != INT8])
def test_a_side_branch_beside_stored_weights_says_what_merging_says(
    name: str, kind: str, relative_error: Callable[[Tensor, Tensor], float]
) -> None:
    given = lora(name, STRENGTH)
    live, dense = network(given, stored=True, kind=kind), network(given, stored=False, kind=kind)
    query = linear(live, "blocks.0.self_attn.q")
    assert query.stored is not None
    assert query.branch_up is not None
    assert relative_error(answer(live), answer(dense)) < 1e-5
    assert relative_error(answer(live), answer(network(stored=True, kind=kind))) > 1e-2


def test_branches_of_several_loras_stand_side_by_side(relative_error: Callable[[Tensor, Tensor], float]) -> None:
    given = (lora("kohya", 0.5), lora("peft", -0.25))
    live = network(*given, stored=True)
    branch = linear(live, "blocks.1.ffn.0").branch_down
    assert branch is not None
    assert branch.shape == (4 + 2, 16)
    assert relative_error(answer(live), answer(network(*given, stored=False))) < 1e-5


def test_a_branch_moves_and_changes_format_with_its_layer() -> None:
    live = network(lora("kohya"), stored=True).to(torch.bfloat16)
    buffers = dict(linear(live, "blocks.0.self_attn.q").named_buffers())
    assert buffers.keys() == {"stored_data", "stored_scale", "branch_down", "branch_up"}
    assert buffers["stored_data"].dtype == torch.int8
    assert buffers["branch_up"].dtype == torch.bfloat16
    assert answer(live).isfinite().all()


@pytest.mark.parametrize("low", [False, True])
def test_a_branch_takes_inputs_of_any_layout(low: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(12, 8).requires_grad_(False)
    down, up = torch.randn(2, 12), torch.randn(8, 2)
    whole = Linear(12, 8).requires_grad_(False)
    whole.load_state_dict({"weight": layer.weight + up @ down, "bias": layer.bias})
    layer.add_branch(down, up)
    for x in (torch.randn(3, 12), torch.randn(2, 12, 5).transpose(1, 2), torch.randn(12), torch.randn(2, 2, 3, 12)):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            torch.testing.assert_close(layer(x).float(), whole(x.float()).float(), atol=0.1 if low else 1e-5, rtol=0.02)
    with pytest.raises(ValueError, match="a branch"):
        layer.add_branch(up, down)


def test_a_small_scale_does_not_vanish_in_float16(written: Callable[..., Lora]) -> None:
    down, up = torch.full((1, 16), 8.0), torch.full((16, 1), 1e-3)
    file = written({"blocks.0.self_attn.q.lora_A.weight": down, "blocks.0.self_attn.q.lora_B.weight": up})
    layer = Linear(16, 16)
    layer.hold(Scaled.of("q", *pack_tensor(torch.zeros(16, 16))))
    LoraStack.open([file._replace(strength=1e-4)], SHAPES).attach(
        "blocks.0.self_attn.q.weight", layer, "cpu", torch.float16
    )
    assert layer.branch_up is not None
    assert layer.branch_down is not None
    product = layer.branch_up.float() @ layer.branch_down.float()
    torch.testing.assert_close(product, up @ down * 1e-4, rtol=1e-3, atol=0)


def test_a_whole_difference_makes_a_stored_matrix_dense(
    written: Callable[..., Lora], relative_error: Callable[[Tensor, Tensor], float]
) -> None:
    file = written({"blocks.0.ffn.0.diff": torch.randn(24, 16) * 0.1, "blocks.0.ffn.0.diff_b": torch.randn(24)})
    live = network(file, stored=True)
    first, last = linear(live, "blocks.0.ffn.0"), linear(live, "blocks.0.ffn.2")
    assert (first.stored, first.branch_up) == (None, None)
    assert last.stored is not None
    assert relative_error(answer(live), answer(network(file, stored=False))) < 1e-5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lycoris_lokr", "LyCORIS LoKr"),
        ("lycoris_loha", "LyCORIS LoHa"),
        ("lycoris_dora", "DoRA"),
        ("peft_dora/adapter_model", "DoRA"),
    ],
)
def test_other_kinds_are_refused_by_name(name: str, kind: str) -> None:
    with pytest.raises(ModelError, match=kind) as caught:
        merged(lora(name))
    assert f"{name}.safetensors" in str(caught.value)


def test_a_configuration_says_its_variant_too(tmp_path: Path) -> None:
    source = FIXTURES / "peft"
    (tmp_path / "adapter_model.safetensors").write_bytes((source / "adapter_model.safetensors").read_bytes())
    config = json.loads((source / "adapter_config.json").read_text())
    for changes, words in (
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "LOHA"}, "peft_type LOHA"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"lora_alpha": "six"}, "lora_alpha"),
        ({"alpha_pattern": {"(": 1}}, "no regular expression"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ModelError, match=words):
            merged(Lora(tmp_path / "adapter_model.safetensors"))
    (tmp_path / "adapter_config.json").unlink()
    (file,) = LoraStack.open([Lora(tmp_path / "adapter_model.safetensors")], SHAPES).files
    assert "adapter_config.json" in file.notes[0]


def test_a_pattern_may_stand_for_the_whole_name(written: Callable[..., Lora]) -> None:
    keys = [f"transformer.blocks.{i}.attn1.to_q.lora_{half}.weight" for i in (0, 1) for half in "AB"]
    tensors = {key: torch.ones((1, 16) if "lora_A" in key else (16, 1)) for key in keys}
    values = {"transformer.r": 1, "transformer.lora_alpha": 1, "transformer.alpha_pattern": {"^blocks.1.attn1.to_q": 3}}
    ours = merged(written(tensors, metadata={"lora_adapter_metadata": json.dumps(values)}))
    for block, scale in ((0, 1.0), (1, 3.0)):
        name = f"blocks.{block}.self_attn.q.weight"
        torch.testing.assert_close(ours[name], base()[name] + scale)


def test_torch_files_are_read_too(tmp_path: Path) -> None:
    torch.save(load_file(lora("kohya").path), tmp_path / "kohya.pt")
    ours, expected = merged(Lora(tmp_path / "kohya.pt")), merged(lora("kohya"))
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], value) for name, value in expected.items())


def test_a_configuration_of_another_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 1, "lora_alpha": 1000}))
    path = tmp_path / "kohya_other.safetensors"
    path.write_bytes(lora("kohya_other").path.read_bytes())
    ours, expected = merged(Lora(path)), merged(lora("kohya_other"))
    assert all(torch.equal(ours[name], value) for name, value in expected.items())


def test_keys_that_match_nothing_are_all_listed(written: Callable[..., Lora]) -> None:
    tensors = load_file(lora("kohya").path)
    strange = ["lora_te_text_model_q.alpha", "lora_unet_blocks_7_ffn_0.alpha", "strange"]
    extra = {f"lora_unet_blocks_{i}_x.alpha": torch.ones(()) for i in range(9)} | dict.fromkeys(strange, torch.ones(()))
    with pytest.raises(ModelError, match="12 of its 84 keys match nothing") as caught:
        merged(written(tensors | {key: value.clone() for key, value in extra.items()}))
    assert set(caught.value.unused) == set(extra)


def pair(module: str, out: int, rank: int, inner: int) -> dict[str, Tensor]:
    return {f"{module}.lora_down.weight": torch.zeros(rank, inner), f"{module}.lora_up.weight": torch.zeros(out, rank)}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (pair("diffusion_model.blocks.0.self_attn.q", 1536, 2, 1536), r"another model \(Wan 2.1 1.3B\): blocks.0.self"),
        (pair("diffusion_model.blocks.9.self_attn.q", 16, 2, 16), "none of its 2 keys names a part of this model"),
        (pair("unet.down_blocks.0.attn.to_q", 16, 2, 16), "for another model"),
        ({"blocks.0.ffn.0.lora_A.weight": torch.zeros(2, 16)}, "has no up beside it"),
        ({"blocks.0.ffn.0.lora_B.weight": torch.zeros(24, 2)}, "has no down beside it"),
        (pair("blocks.0.ffn.0", 24, 2, 16) | {"blocks.0.ffn.0.lora_up.weight": torch.zeros(24, 3)}, "do not fit each"),
        (pair("blocks.0.ffn.0", 24, 2, 16) | {"blocks.0.ffn.0.alpha": torch.zeros(2)}, "must be one number"),
        (pair("blocks.0.ffn.0", 24, 2, 16) | {"blocks.0.ffn.0.lora_A.weight": torch.zeros(2, 16)}, "are both the down"),
        ({"blocks.0.norm3.diff": torch.zeros(17)}, r"blocks.0.norm3.weight is \[16\] and the file's \[17\]"),
        ({"blocks.0.norm1.diff": torch.zeros(16)}, "none of its 1 keys"),
        ({"blocks.0.modulation.diff_b": torch.zeros(16)}, "none of its 1 keys"),
        (
            {"blocks.0.ffn.0.diff": torch.full((24, 16), torch.nan)},
            "blocks.0.ffn.0.diff holds numbers that are not fin",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(
    tensors: dict[str, Tensor], words: str, written: Callable[..., Lora]
) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        merged(written(tensors))
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_refused(written: Callable[..., Lora]) -> None:
    with pytest.raises(ModelError, match="holds no tensors"):
        merged(written({}))


def test_two_modules_change_one_parameter_together(written: Callable[..., Lora]) -> None:
    one = {key: value + 0.1 for key, value in pair("blocks.0.ffn.0", 24, 2, 16).items()}
    two = {key: value + 0.1 for key, value in pair("lora_unet_blocks_0_ffn_net_0_proj", 24, 2, 16).items()}
    weight = base()["blocks.0.ffn.0.weight"]
    ours = merged(written(one | two))["blocks.0.ffn.0.weight"]
    torch.testing.assert_close(ours, weight + 2 * 2 * 0.01)


def test_every_module_of_the_14b_network_is_found_by_each_of_its_names() -> None:
    names = shapes(DiTConfig())
    modules = Modules(names)
    for parameter in names:
        owner = parameter.removesuffix(".weight").removesuffix(".bias")
        other = diffusers_name(owner) or owner
        flat = owner.replace(".", "_")
        for spelling in (owner, f"diffusion_model.{owner}", f"base_model.model.{owner}", f"transformer.{other}", other):
            assert modules.find(spelling) == owner
        for spelling in (f"lora_unet_{flat}", f"lora_unet__{flat}", f"lycoris_{flat}"):
            assert modules.find(spelling) == owner
