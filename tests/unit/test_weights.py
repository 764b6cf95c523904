"""Weight files to networks: reading, key maps, strict assembly, 8-bit storage."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infinitetalk.core.configs import SpeechConfig, TextConfig, VisionConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.weights.keymaps import IDENTITY, SPEECH, TEXT, VISION, KeyMap, Row
from infinitetalk.weights.load import assemble, build, read_tensors
from infinitetalk.weights.packed import Unpacked, pack, pack_tensor, unpack_tensor


class Small(nn.Module):
    """Two layers, a table of constants that no file holds, and a stored buffer that files hold."""

    table: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 4)
        self.second = nn.Linear(4, 2, bias=False)
        self.register_buffer("table", torch.arange(4) / 2, persistent=False)
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))


def state(**changes: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)
    values = {
        "first.weight": torch.randn(4, 6),
        "first.bias": torch.randn(4),
        "second.weight": torch.randn(2, 4),
        "count": torch.tensor([7]),
    }
    return values | changes


def made(tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> Small:
    return assemble(Small, tensors, IDENTITY, dtype=dtype)


def test_assembled_network_has_the_tensors_and_its_own_tables() -> None:
    net = made(state(), torch.bfloat16)
    assert torch.equal(net.first.weight, state()["first.weight"].bfloat16())
    assert net.count.tolist() == [7]
    assert net.count.dtype == torch.int64
    assert net.table.tolist() == [0, 0.5, 1, 1.5]
    assert net.table.dtype == torch.float32
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert set(dict(net.named_buffers())) == {"table", "count"}


def test_building_allocates_no_parameters() -> None:
    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1_000_000, 1_000_000)

    with pytest.raises(ModelError, match="2 missing"):
        assemble(Huge, {}, IDENTITY, dtype=torch.float32)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"first.weight": torch.ones(4, 6)}, r"3 missing \(count, first.bias, second.weight\)"),
        (state(third=torch.ones(1)), r"1 not used \(third\)"),
        (state(**{f"x{i}": torch.ones(1) for i in range(8)}), r"8 not used \(x0, x1, x2, x3, x4, and 3 more\)"),
        (state(**{"first.bias": torch.ones(5)}), r"first.bias .* shape \[5\], .* asks for \[4\]"),
    ],
)
def test_what_does_not_fit_is_named(tensors: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        made(tensors)


def test_the_error_holds_every_name() -> None:
    with pytest.raises(ModelError) as caught:
        made({"first.weight": torch.ones(4, 6), **{f"x{index}": torch.ones(1) for index in range(8)}})
    assert set(caught.value.missing) == {"count", "first.bias", "second.weight"}
    assert caught.value.facts["unused"] == [f"x{index}" for index in range(8)]


def test_values_that_nobody_gives_are_an_error() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.empty(3), persistent=False)

    with pytest.raises(ModelError, match="table without values"):
        assemble(Forgetful, {}, IDENTITY, dtype=torch.float32)


def test_two_names_for_one_parameter_are_refused() -> None:
    keymap = KeyMap((Row(r"old\.(.+)", (r"\1",)), *IDENTITY.rows))
    with pytest.raises(ModelError, match=r"two tensors for count, one of them old\.count"):
        assemble(Small, state(**{"old.count": torch.tensor([8])}), keymap, dtype=torch.float32)


def test_rows_cut_squeeze_and_leave() -> None:
    keymap = KeyMap((Row(r"(\w+)\.ab", (r"a.\1", r"b.\1"), squeeze=1),), extras=(r"junk\..+",))
    (a_name, a), (b_name, b) = keymap.convert("w.ab", torch.arange(8).reshape(1, 4, 2))
    assert (a_name, b_name) == ("a.w", "b.w")
    assert isinstance(a, Tensor)
    assert isinstance(b, Tensor)
    assert a.tolist() == [[0, 1], [2, 3]]
    assert b.tolist() == [[4, 5], [6, 7]]
    assert keymap.is_extra("junk.1")
    assert not keymap.is_extra("junk")
    assert keymap.targets("w") == ()
    with pytest.raises(ModelError, match="never has"):
        list(keymap.convert("w.ab", torch.ones(1, 3, 2)))
    with pytest.raises(ModelError, match="never has"):
        list(keymap.convert("w.ab", torch.ones(2, 4, 2)))


TEXT_SHAPE = TextConfig(vocab=8, dim=8, dim_attn=8, dim_ffn=8, num_heads=2, num_layers=2)
VISION_SHAPE = VisionConfig(image_size=28, dim=8, num_heads=2, num_layers=2)
SPEECH_SHAPE = SpeechConfig(hidden_size=16, num_hidden_layers=2, intermediate_size=8, num_attention_heads=2)


@pytest.mark.parametrize(
    ("factory", "keymap", "alien"),
    [
        (lambda: TextEncoder(TEXT_SHAPE), TEXT, "decoder.block.0.layer.0.layer_norm.weight"),
        (lambda: VisionEncoder(VISION_SHAPE), VISION, "visual.transformer.0.attn.extra.weight"),
        (lambda: SpeechEncoder(SPEECH_SHAPE), SPEECH, "adapter.layers.0.weight"),
    ],
    ids=["text", "vision", "speech"],
)
def test_unknown_tensors_of_the_encoders_are_refused(
    factory: Callable[[], TextEncoder | VisionEncoder | SpeechEncoder], keymap: KeyMap, alien: str
) -> None:
    tensors = dict(factory().network.state_dict())
    assemble(factory, tensors, keymap, dtype=torch.float32)
    with pytest.raises(ModelError, match=f"1 not used .{alien}"):
        assemble(factory, tensors | {alien: torch.ones(1)}, keymap, dtype=torch.float32)
    lost = next(name for name in tensors if ".0." in name)
    with pytest.raises(ModelError, match="1 missing"):
        assemble(factory, {n: t for n, t in tensors.items() if n != lost}, keymap, dtype=torch.float32)


def test_training_leftovers_of_speech_files_are_left() -> None:
    tensors: dict[str, Tensor] = {
        f"wav2vec2.{n}": t for n, t in SpeechEncoder(SPEECH_SHAPE).network.state_dict().items()
    }
    extras = ("wav2vec2.masked_spec_embed", "lm_head.weight", "lm_head.bias", "quantizer.codevectors", "project_q.bias")
    assemble(
        lambda: SpeechEncoder(SPEECH_SHAPE), tensors | {n: torch.ones(1) for n in extras}, SPEECH, dtype=torch.half
    )


# Files


def write_shards(folder: Path) -> list[Path]:
    values = state()
    homes = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(values)}
    for home in set(homes.values()):
        save_file({name: values[name] for name in values if homes[name] == home}, folder / home)
    return [folder / home for home in sorted(set(homes.values()))]


def write_safetensors(folder: Path) -> list[Path]:
    save_file(state(), folder / "weights.safetensors")
    return [folder / "weights.safetensors"]


def write_torch(folder: Path) -> list[Path]:
    torch.save(state(), folder / "weights.pth")
    return [folder / "weights.pth"]


def write_old_torch(folder: Path) -> list[Path]:
    torch.save(state(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    return [folder / "pytorch_model.bin"]


def write_nested_torch(folder: Path) -> list[Path]:
    torch.save({"state_dict": state(), "step": 3}, folder / "weights.pt")
    return [folder / "weights.pt"]


WRITERS = [write_shards, write_safetensors, write_torch, write_old_torch, write_nested_torch]


@pytest.mark.parametrize("write", WRITERS)
def test_every_layout_of_files_loads(tmp_path: Path, write: Callable[[Path], list[Path]]) -> None:
    net = build(Small, write(tmp_path), IDENTITY, dtype=torch.float32)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in state().items())


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.98])
def test_truncated_files_are_refused(tmp_path: Path, write: Callable[[Path], list[Path]], keep: float) -> None:
    paths = write(tmp_path)
    damaged = paths[0]
    content = damaged.read_bytes()
    damaged.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ModelError, match="not a whole") as caught:
        read_tensors(paths)
    assert "\n" not in str(caught.value)
    assert damaged.name in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_weight_file_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return (tmp_path.joinpath("ran").mkdir, ())  # type: ignore[return-value]

    torch.save({"weight": Evil()}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"weight": Path}))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ModelError, match="not a whole torch weight file"):
            read_tensors([tmp_path / name])
    assert not (tmp_path / "ran").exists()


def test_other_content_and_kinds_are_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": torch.ones(1), "step": 3}, tmp_path / "mixed.pth")
    (tmp_path / "weights.ckpt").touch()
    cases = {
        "list.pth": "other than named tensors",
        "mixed.pth": "other than named tensors",
        "weights.ckpt": "weight files end in",
        "none.pth": "no such weight file",
    }
    for name, words in cases.items():
        with pytest.raises(ModelError, match=words):
            read_tensors([tmp_path / name])


def test_one_name_in_two_files_is_refused(tmp_path: Path) -> None:
    paths = write_safetensors(tmp_path) + write_torch(tmp_path)
    with pytest.raises(ModelError, match=r"weights\.pth: the tensor first\.weight is in another"):
        read_tensors(paths)


# 8-bit storage


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float16])
def test_packing_error_of_random_matrices(scale_dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 320) * torch.logspace(-3, 1, 64)[:, None]
    steps, scale = pack_tensor(weight, scale_dtype)
    assert steps.dtype == torch.int8
    assert scale.dtype == scale_dtype
    error = unpack_tensor(steps, scale) - weight
    per_row = error.norm(dim=1) / weight.norm(dim=1)
    # Rounding to steps of max/127 of a normal row with a largest value near 3 sigma: 3 / 127 / sqrt(12) = 0.7 %.
    assert 0.004 < per_row.mean() < 0.009
    assert per_row.max() < 0.012
    if scale_dtype == torch.float32:
        assert (error.abs() <= scale[:, None] * 0.5001).all()


def test_packing_keeps_zero_rows_and_convolutions() -> None:
    torch.manual_seed(0)
    kernel = torch.randn(5, 3, 3, 1, 1)
    kernel[2] = 0
    steps, scale = pack_tensor(kernel)
    back = unpack_tensor(steps, scale)
    assert steps.shape == back.shape == kernel.shape
    assert not back[2].any()
    assert (back - kernel).abs().max() < 0.02


def test_packed_files_load_like_plain_ones(tmp_path: Path) -> None:
    packed = pack(state(), lambda name, _: name != "second.weight", torch.float16)
    assert packed["first.weight"].dtype == torch.int8
    assert set(packed) == {*state(), "first.weight.scale"}
    save_file(packed, tmp_path / "packed.safetensors")
    net = build(Small, [tmp_path / "packed.safetensors"], IDENTITY, dtype=torch.float32)
    assert torch.equal(net.second.weight, state()["second.weight"])
    assert torch.equal(net.first.weight, unpack_tensor(packed["first.weight"], packed["first.weight.scale"]))
    assert (net.first.weight - state()["first.weight"]).abs().max() < 0.02


def test_wrong_scales_are_refused() -> None:
    for tensor, scale, words in (
        (torch.ones(2, 2), torch.ones(2), "the tensor w has a scale, but it is float32"),
        (torch.ones(2, 2, dtype=torch.int8), torch.ones(3), r"the scale of the tensor w is float32 \[3\]"),
        (torch.ones(2, dtype=torch.int8), torch.ones(2), r"for \[2\] it must be one floating number"),
    ):
        with pytest.raises(ModelError, match=words):
            Unpacked({"w": tensor, "w.scale": scale})["w"]


def test_a_scale_without_its_tensor_is_seen() -> None:
    with pytest.raises(ModelError, match=r"1 not used \(gone\.scale\)"):
        made(dict(Unpacked(state(**{"gone.scale": torch.ones(2)}))))
