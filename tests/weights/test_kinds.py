"""Files that other projects' code wrote, read to the values that other projects' code gets from them."""

import base64
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinitetalk.core.configs import TextConfig, VisionConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.layers import Linear
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.ops.ggml import LAYOUTS, Blocks
from infinitetalk.ops.stored import Stored
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.guard import guard
from infinitetalk.runtime.pretend import VARIABLE
from infinitetalk.weights.keymaps import IDENTITY, TEXT, VISION
from infinitetalk.weights.kinds import Logical, Siblings
from infinitetalk.weights.load import assemble, read_tensors
from tests.weights.fixtures.kinds.source import CONFIG, FEW, source

FIXTURES = Path(__file__).parent / "fixtures/kinds"

FILES = {
    "quanto_fp8": ["quanto_fp8.safetensors"],
    "quanto_fp8_e5m2": ["quanto_fp8_e5m2.safetensors"],
    "quanto_int8": ["quanto_int8.safetensors"],
    "wan2gp_int8": ["wan2gp_int8.safetensors"],
    "comfy_e4m3fn": ["comfy_e4m3fn.safetensors"],
    "comfy_scaled": ["comfy_scaled.safetensors"],
    "comfy_quant": ["comfy_quant.safetensors"],
    "kijai_base_e4m3fn": ["kijai_base_e4m3fn.safetensors"],
    "kijai_base_e5m2_scaled": ["kijai_base_e5m2_scaled.safetensors"],
    "kijai_adapter_e4m3fn_scaled": ["kijai_adapter_e4m3fn_scaled.safetensors"],
    "lightx2v_fp8": ["lightx2v_fp8_part0.safetensors", "lightx2v_fp8_part1.safetensors"],
    "lightx2v_int8": ["lightx2v_int8.safetensors"],
    "lightx2v_scaled_fp8": ["lightx2v_scaled_fp8.safetensors"],
    "lightx2v_wan_t5_int8": ["lightx2v_wan_t5_int8.pth"],
    "lightx2v_wan_clip_fp8": ["lightx2v_wan_clip_fp8.pth"],
}
"""A fixture's name → its files; `<name>.expected.safetensors` has its values."""


def opened(name: str) -> Mapping[str, Tensor | Stored]:
    return read_tensors([FIXTURES / file for file in FILES[name]])


def expected(name: str) -> dict[str, Tensor]:
    return load_file(FIXTURES / f"{name}.expected.safetensors")


def dense(value: Tensor | Stored, dtype: torch.dtype = torch.float32) -> Tensor:
    return value.dequantise(dtype) if isinstance(value, Stored) else value


@pytest.mark.parametrize("name", FILES)
def test_values_are_those_of_the_other_project(name: str) -> None:
    tensors, values = opened(name), expected(name)
    assert values
    for key, value in values.items():
        # Each of them takes the product in float32 but for quanto, whose arithmetic is bfloat16: rounded once, too.
        assert torch.equal(dense(tensors[key], value.dtype), value), key


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("quanto_fp8", {"blocks.0.self_attn.q": "fp8_e4m3fn", "blocks.0.ffn.0": "fp8_e4m3fn"}),
        ("quanto_fp8_e5m2", {"blocks.0.self_attn.q": "fp8_e5m2", "blocks.0.ffn.0": "fp8_e5m2"}),
        ("quanto_int8", {"blocks.0.self_attn.q": "int8", "blocks.0.ffn.0": "int8"}),
        ("comfy_scaled", {"blocks.0.self_attn.q": "fp8_e4m3fn", "blocks.0.ffn.0": "fp8_e4m3fn"}),
        (
            "comfy_quant",
            {
                "blocks.0.self_attn.q": "fp8_e4m3fn",
                "blocks.0.ffn.0": "fp8_e5m2",
                "blocks.0.audio_cross_attn.kv_linear": "int8",
            },
        ),
        (
            "lightx2v_fp8",
            dict.fromkeys(
                ("blocks.0.self_attn.q", "blocks.0.ffn.0", "blocks.0.audio_cross_attn.kv_linear"), "fp8_e4m3fn"
            ),
        ),
    ],
)
def test_names_are_those_of_the_network_and_kinds_are_told(name: str, kinds: dict[str, str]) -> None:
    tensors = opened(name)
    assert set(tensors) == set(FEW)
    found = {key: value.kind for key in tensors if isinstance(value := tensors[key], Stored)}
    assert found == {f"{layer}.weight": kind for layer, kind in kinds.items()}


# GGUF


def test_blocks_of_every_kind_are_those_of_the_gguf_package() -> None:
    from gguf import GGMLQuantizationType, GGUFReader
    from gguf.quants import dequantize

    tensors = read_tensors([FIXTURES / "gguf_blocks.gguf"])
    reader = GGUFReader(FIXTURES / "gguf_blocks.gguf")
    assert {f"{kind}.weight" for kind in LAYOUTS} <= set(tensors)
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, GGMLQuantizationType(tensor.tensor_type)).copy())
        found = tensors[tensor.name]
        assert torch.equal(dense(found).float().flatten(), values.flatten()), tensor.name
        assert values.isfinite().all()
        if isinstance(found, Stored):
            assert found.kind == tensor.tensor_type.name.lower()
            assert torch.equal(found.dequantise(torch.bfloat16), dense(found).bfloat16())
    assert tensors["flat.weight"].shape == (2, 3, 2, 2, 32)
    assert tensors["Q4_K.weight"].shape == (3, 512)
    plain = {name: value.dtype for name in tensors if isinstance(value := tensors[name], Tensor)}
    assert plain == {"F32.bias": torch.float32, "F16.bias": torch.float16, "BF16.bias": torch.bfloat16}


@pytest.mark.parametrize("name", ["gguf_blocks.gguf", "comfy_quant.safetensors", "kijai_base_e4m3fn.safetensors"])
def test_no_value_is_asked_for_while_dequantising(name: str) -> None:
    """Tensors without values are enough: nothing waits for a device to tell one."""
    for key, value in read_tensors([FIXTURES / name]).items():
        if isinstance(value, Stored):
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                values = value.to("meta").dequantise(dtype)
                assert (values.shape, values.dtype, values.is_meta) == (value.shape, dtype, True), key


def test_every_kind_serves_a_card_without_bfloat16_and_fp8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "t4")
    card = Device.choose("auto")
    kinds = set()
    for files in (*FILES.values(), ["gguf_blocks.gguf"]):
        for value in read_tensors([FIXTURES / file for file in files]).values():
            if isinstance(value, Stored) and len(value.shape) == 2:
                layer = Linear(value.shape[1], value.shape[0], dtype=torch.float16)
                layer.hold(value)
                with guard(card), torch.no_grad():
                    assert layer(torch.ones(2, value.shape[1], dtype=torch.float16)).isfinite().all()
                kinds.add(value.kind)
    assert kinds == {"fp8_e4m3fn", "fp8_e5m2", "int8", *(name.lower() for name in LAYOUTS)}


def test_layers_with_held_matrices_compile_into_one_graph() -> None:
    for kind in ("Q4_0", "Q4_K", "Q6_K"):
        stored = read_tensors([FIXTURES / "gguf_blocks.gguf"])[f"{kind}.weight"]
        assert isinstance(stored, Blocks)
        layer = Linear(512, 3)
        layer.hold(stored)
        x = torch.randn(2, 512)
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        assert torch.equal(compiled(x), layer(x))


def test_blocks_are_dequantised_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = read_tensors([FIXTURES / "gguf_blocks.gguf"])
    for kind in LAYOUTS:
        stored = tensors[f"{kind}.weight"]
        assert isinstance(stored, Blocks)
        whole = stored.dequantise(torch.float16)
        monkeypatch.setattr("infinitetalk.ops.ggml.WEIGHTS_AT_ONCE", 256)
        assert torch.equal(stored.dequantise(torch.float16), whole)
        assert torch.equal(stored.rows(1, 3).dequantise(torch.float16), whole[1:3])
        monkeypatch.undo()


def test_blocks_say_what_does_not_fit() -> None:
    data = torch.zeros(2, 34, dtype=torch.uint8)
    for arguments, words in (
        ((data, "IQ4_NL", (2, 32)), "the tensor w is stored as IQ4_NL; this version reads Q4_0, "),
        ((data, "Q8_0", (3, 32)), r"68 bytes of Q8_0, which \[3, 32\] never takes"),
        ((data, "Q8_0", (2, 33)), r"which \[2, 33\] never takes"),
    ):
        with pytest.raises(ModelError, match=words):
            Blocks.of("w", *arguments)
    with pytest.raises(ModelError, match="share blocks"):
        Blocks.of("w", data, "Q8_0", (4, 16)).rows(1, 2)


def test_what_comfyui_gguf_converts_is_read() -> None:
    tensors, weights = read_tensors([FIXTURES / "gguf_city96.gguf"]), source(torch.bfloat16)
    assert set(tensors) == {
        *FEW,
        "text_embedding.2.weight",
        "head.modulation",
        "patch_embedding.weight",
        "patch_embedding.bias",
    }
    for name, value in tensors.items():
        assert torch.equal(dense(value).bfloat16(), weights[name]), name
    assert tensors["patch_embedding.weight"].shape == (32, 36, 1, 2, 2)


# Whole networks


def mixed() -> Mapping[str, Tensor | Stored]:
    """A base in ggml's blocks and an adapter in scaled fp8."""
    return read_tensors([FIXTURES / "gguf_q8_0.gguf", FIXTURES / "kijai_adapter_e4m3fn_scaled.safetensors"])


def answer(network: AudioDiT) -> Tensor:
    torch.manual_seed(4)
    with torch.no_grad():
        found: Tensor = network(
            torch.randn(1, 16, 2, 4, 4), torch.tensor(500.0), condition=torch.randn(1, 20, 2, 4, 4),
            audio=torch.randn(1, 5, CONFIG.audio_window, 2, 16), text=torch.randn(1, 3, 32),
            clip=torch.randn(1, 3, 32),
        )  # fmt: skip
    return found


def test_base_and_adapter_of_different_kinds_are_one_network() -> None:
    tensors = mixed()
    kept = assemble(lambda: AudioDiT(CONFIG), tensors, IDENTITY, dtype=torch.float32, keep_stored=True)
    kinds = {name: layer.form.kind for name, layer in kept.named_modules() if isinstance(layer, Linear) and layer.form}
    layers = [name for name, layer in kept.named_modules() if isinstance(layer, nn.Linear)]
    assert kinds["blocks.0.ffn.2"] == "q8_0"
    assert kinds["blocks.0.audio_cross_attn.proj"] == "fp8_e4m3fn"
    assert set(kinds) == set(layers)
    opened = {name: dense(value) for name, value in tensors.items()}
    full = assemble(lambda: AudioDiT(CONFIG), opened, IDENTITY, dtype=torch.float32)
    assert torch.equal(answer(kept), answer(full))
    exact = answer(assemble(lambda: AudioDiT(CONFIG), source(), IDENTITY, dtype=torch.float32))
    error = (answer(kept) - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.05  # what 8 bits cost, fp8 with one scale per matrix most of it


def test_lightx2v_text_encoder_is_kept_in_int8() -> None:
    shape = TextConfig(vocab=100, dim=48, dim_attn=32, dim_ffn=64, num_heads=4, num_layers=1, num_buckets=8)
    tensors = opened("lightx2v_wan_t5_int8")
    kept = assemble(lambda: TextEncoder(shape), tensors, TEXT, dtype=torch.float32, keep_stored=True)
    full = assemble(lambda: TextEncoder(shape), tensors, TEXT, dtype=torch.float32)
    assert sum(isinstance(layer, Linear) and layer.form is not None for layer in kept.modules()) == 7
    assert torch.equal(kept.encode([3, 1, 4]), full.encode([3, 1, 4]))


def test_lightx2v_picture_encoder_is_cut_as_it_is_stored() -> None:
    shape = VisionConfig(image_size=16, patch_size=4, dim=32, mlp_ratio=4, out_dim=16, num_heads=2, num_layers=1)
    tensors = opened("lightx2v_wan_clip_fp8")
    kept = assemble(lambda: VisionEncoder(shape), tensors, VISION, dtype=torch.float32, keep_stored=True)
    full = assemble(lambda: VisionEncoder(shape), tensors, VISION, dtype=torch.float32)
    queries = kept.network.get_submodule("encoder.layers.0.self_attn.q_proj")
    assert isinstance(queries, Linear)
    assert queries.form is not None
    whole = dense(tensors["visual.transformer.0.attn.to_qkv.weight"])
    assert torch.equal(queries.matrix(torch.float32), whole[:32])
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, 16, 16)
    states = [net.network(pixel_values=pixels).last_hidden_state for net in (kept, full)]
    assert torch.equal(*states)


# What is refused


def copy(name: str, folder: Path, **changes: Tensor | None) -> Path:
    """A fixture with tensors changed or, for None, taken out."""
    tensors: dict[str, Tensor | None] = dict(load_file(FIXTURES / f"{name}.safetensors"))
    tensors |= changes
    save_file({key: value for key, value in tensors.items() if value is not None}, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


Q = "blocks.0.self_attn.q"
NOTE = f"{Q}.comfy_quant"


def note(**values: object) -> Tensor:
    return torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("quanto_fp8", {f"{Q}.weight._scale": None}, rf"{Q}.weight._data has no {Q}.weight._scale beside it"),
        ("quanto_fp8", {f"{Q}.weight._data": None}, rf"{Q}.weight._scale belongs to {Q}.weight, which is not there"),
        ("quanto_fp8", {f"{Q}.weight": torch.ones(1)}, rf"both a tensor {Q}.weight and its numbers, {Q}.weight._data"),
        ("quanto_int8", {f"{Q}.weight._scale": torch.ones(3)}, r"float32 \[3\]: for \[32, 32\]"),
        ("comfy_scaled", {f"{Q}.scale_weight": None}, f"{Q}.weight has no scale beside it"),
        ("comfy_scaled", {f"{Q}.weight": None}, f"{Q}.scale_weight belongs to {Q}.weight, which is not there"),
        ("comfy_scaled", {f"{Q}.weight_scale": torch.ones(1)}, f"two scales: {Q}.scale_weight and {Q}.weight_scale"),
        ("comfy_scaled", {"other.scale_input": torch.ones(1)}, r"other.scale_input belongs to other.weight"),
        ("comfy_scaled", {f"{Q}.weight": torch.ones(32, 32, dtype=torch.uint8)}, "has a scale, but it is uint8"),
        ("comfy_quant", {f"{Q}.weight_scale": None}, f"{Q}.weight has no {Q}.weight_scale beside it, but {NOTE}"),
        ("comfy_quant", {NOTE: note(format="nvfp4")}, "stored as nvfp4; of ComfyUI's kinds float8_e4m3fn, "),
        ("comfy_quant", {NOTE: note(format="int8_tensorwise")}, "should be int8_tensorwise, but is float8_e4m3fn"),
        ("comfy_quant", {NOTE: torch.zeros(3, dtype=torch.uint8)}, f"comfy_quant says of the tensor {Q}.weight"),
        ("comfy_quant", {NOTE: note(format="float8_e4m3fn", convrot=True)}, "stored with convrot = True"),
        ("lightx2v_int8", {f"{Q}.weight_scale": None}, f"{Q}.weight has no scale beside it"),
        ("kijai_base_e5m2_scaled", {f"{Q}.scale_weight": None}, f"{Q}.weight has no scale beside it"),
    ],
)
def test_companions_that_do_not_fit_are_named(
    tmp_path: Path, name: str, changes: dict[str, Tensor | None], words: str
) -> None:
    path = copy(name, tmp_path, **changes)
    with pytest.raises(ModelError, match=words) as caught:
        {key: value for key, value in read_tensors([path]).items()}  # noqa: C416 - reads all
    assert str(path) in str(caught.value)


def test_scales_that_were_left_behind_are_noticed(tmp_path: Path) -> None:
    """Numbers up to 448 without any scale are no trained weights: the file with the scales lacks."""
    path = copy("lightx2v_fp8_part0", tmp_path)
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if not name.endswith("_scale")}, path)
    with pytest.raises(ModelError, match=r"ffn\.0\.weight has numbers of \d+ on average"):
        read_tensors([path])["blocks.0.ffn.0.weight"]


def test_fp8_without_scales_beside_a_scaled_adapter_stays_unscaled() -> None:
    files = [FIXTURES / f"kijai_{name}.safetensors" for name in ("base_e4m3fn", "adapter_e4m3fn_scaled")]
    tensors = read_tensors(files)
    for name in ("kijai_base_e4m3fn", "kijai_adapter_e4m3fn_scaled"):
        for key, value in expected(name).items():
            assert torch.equal(dense(tensors[key]), value), key


def test_a_float16_base_takes_a_scaled_adapter(tmp_path: Path) -> None:
    base = {name: value.half() for name, value in source().items() if name.startswith("blocks.0.self_attn")}
    save_file(base, tmp_path / "base.safetensors")
    tensors = read_tensors([tmp_path / "base.safetensors", FIXTURES / "kijai_adapter_e4m3fn_scaled.safetensors"])
    for key, value in expected("kijai_adapter_e4m3fn_scaled").items():
        assert torch.equal(dense(tensors[key]), value), key
    assert torch.equal(dense(tensors[f"{Q}.weight"]), base[f"{Q}.weight"])


# quanto's map


def quanto(folder: Path, changes: Mapping[str, object], name: str = "quanto_int8", beside: str = "") -> Path:
    shutil.copy(FIXTURES / "quanto_int8.safetensors", folder / f"{name}.safetensors")
    told = json.loads((FIXTURES / "quanto_int8.json").read_text()) | changes
    (folder / (beside or f"{name}.json")).write_text(json.dumps({key: value for key, value in told.items() if value}))
    return folder / f"{name}.safetensors"


INT8 = {"weights": "qint8", "activations": "none"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks.7.ffn.0": INT8}, r"names layers that quanto_int8.safetensors has not in few bits: blocks.7.ffn.0$"),
        ({Q: None}, f"lacks layers that quanto_int8.safetensors has: {Q}$"),
        ({Q: {"weights": "qfloat8", "activations": "none"}}, f"{Q} should be qfloat8, and the file holds I8"),
        ({Q: {"weights": "qint4", "activations": "none"}}, f"the weights of {Q} are qint4; qint8, "),
        ({Q: {"weights": "qint8", "activations": "qint8"}}, f"the activations of {Q} are qint8"),
        ({Q: "qint8"}, f"what it says of {Q} must be a JSON object"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, changes: Mapping[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read_tensors([quanto(tmp_path, changes)])


def test_maps_are_found_by_the_names_that_meigen_gives_them(tmp_path: Path) -> None:
    folder = tmp_path / "with.safetensors" / "in it"
    folder.mkdir(parents=True)
    with pytest.raises(ModelError, match="has not in few bits: blocks"):
        read_tensors([quanto(folder, {"blocks.7": INT8}, "t5_int8", "t5_map_int8.json")])
    shutil.copy(FIXTURES / "quanto_int8.safetensors", folder / "alone.safetensors")
    assert dense(read_tensors([folder / "alone.safetensors"])[f"{Q}.weight"]).shape == (32, 32)


def test_maps_in_the_notes_of_a_file_are_checked_too(tmp_path: Path) -> None:
    with safe_open(FIXTURES / "wan2gp_int8.safetensors", "pt") as file:
        coded = json.loads(base64.b64decode(file.metadata()["quantization_map_base64"]))
    assert coded[Q] == INT8
    tensors = load_file(FIXTURES / "wan2gp_int8.safetensors")
    told = json.dumps(coded | {"blocks.7.ffn.0": INT8})
    for key, content in (
        ("quantization_map", told),
        ("quantization_map_base64", base64.b64encode(told.encode()).decode()),
    ):
        save_file(tensors, tmp_path / f"{key}.safetensors", {key: content})
        with pytest.raises(ModelError, match=f"the {key} of .* has not in few bits: blocks.7.ffn.0$"):
            read_tensors([tmp_path / f"{key}.safetensors"])
    save_file(tensors, tmp_path / "damaged.safetensors", {"quantization_map": "{"})
    with pytest.raises(ModelError, match="its quantization_map is not readable"):
        read_tensors([tmp_path / "damaged.safetensors"])


def test_layers_left_as_they_are_may_be_in_the_map(tmp_path: Path) -> None:
    left = {"weights": "none", "activations": "none"}
    assert read_tensors([quanto(tmp_path, {"blocks.0.audio_cross_attn.kv_linear": left})])


# Names alone


def test_siblings_are_found_by_names_alone() -> None:
    names = [
        "a.weight",
        "a.scale_weight",
        "a.input_scale",
        "b.weight._data",
        "b.weight._scale",
        "scaled_fp8",
        "c.scale",
    ]
    found = Siblings.of(names)
    assert found.tensors == ("a.weight", "b.weight", "c.scale")
    assert found.scales == {"a.weight": "a.scale_weight", "b.weight": "b.weight._scale"}
    assert found.data == {"b.weight": "b.weight._data"}
    assert found.left == ("a.input_scale", "scaled_fp8")


def test_a_prefix_of_comfyui_changes_nothing(tmp_path: Path) -> None:
    prefix = "model.diffusion_model."
    tensors = {prefix + name: value for name, value in load_file(FIXTURES / "comfy_scaled.safetensors").items()}
    save_file(tensors, tmp_path / "prefixed.safetensors")
    found = read_tensors([tmp_path / "prefixed.safetensors"])
    assert set(found) == {prefix + name for name in FEW}
    for name, value in expected("comfy_scaled").items():
        assert torch.equal(dense(found[prefix + name]), value)


def test_the_marker_may_be_in_several_files() -> None:
    marker = {"scaled_fp8": torch.zeros(2)}
    assert set(Logical([("base", marker | {"a": torch.ones(1)}), ("adapter", dict(marker))])) == {"a"}


def test_fixtures_say_who_wrote_them() -> None:
    for path in FIXTURES.glob("*.expected.safetensors"):
        with safe_open(path, "pt") as file:
            assert any(char.isdigit() for char in file.metadata()["origin"]), path.name
