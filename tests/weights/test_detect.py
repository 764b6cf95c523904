"""The detector on other people's key lists at full size: what files are, how they are stored, what is wrong."""

from math import prod
from pathlib import Path

import pytest

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.weights.detect.component import Component
from infinitetalk.weights.detect.unit import look
from tests.weights.fake import fake_gguf, fake_safetensors
from tests.weights.key_lists import Shapes, adapter, shapes

COMFY = "model.diffusion_model."


@pytest.mark.parametrize(
    ("network", "component", "grammar", "config"),
    [
        ("wan i2v 14B", Component.BASE, "Wan original", DiTConfig()),
        ("diffusers i2v 14B", Component.BASE, "Diffusers", DiTConfig()),
        ("meigen merged", Component.MERGED, "Wan original", DiTConfig()),
        ("flashtalk", Component.MERGED, "Wan original", DiTConfig()),
        ("wan t5", Component.TEXT, "Wan original", TextConfig()),
        ("hf umt5", Component.TEXT, "Hugging Face", TextConfig()),
        ("gguf umt5", Component.TEXT, "llama.cpp", TextConfig()),
        ("wan clip", Component.VISION, "Wan original", VisionConfig()),
        ("hf clip", Component.VISION, "Hugging Face", VisionConfig()),
        ("hf clip tower", Component.VISION, "Hugging Face", VisionConfig()),
        ("wan vae", Component.VAE, "Wan original", VAEConfig()),
        ("diffusers vae", Component.VAE, "Diffusers", VAEConfig()),
        ("hf wav2vec2", Component.SPEECH, "Hugging Face", SpeechConfig()),
        ("hf wav2vec2 ctc", Component.SPEECH, "Hugging Face", SpeechConfig()),
        ("hf wav2vec2 pretraining", Component.SPEECH, "Hugging Face", SpeechConfig()),
    ],
)
def test_a_network_is_known_by_its_names_and_its_shape_by_its_tensors(
    tmp_path: Path, network: str, component: Component, grammar: str, config: NetConfig
) -> None:
    unit = look([fake_safetensors(tmp_path / "x.safetensors", shapes(network))])
    assert (unit.component, unit.grammar, unit.problem) == (component, grammar, "")
    assert unit.config == config
    assert unit.parameters == sum(map(prod, shapes(network).values()))
    assert unit.bytes == 2 * unit.parameters
    assert not (unit.missing or unit.unused or unit.misshapen)


def test_an_adapter_is_the_same_for_one_and_for_several_so_its_name_tells(tmp_path: Path) -> None:
    for name, people in {
        "single/infinitetalk": "single",
        "multi/infinitetalk": "multi",
        "Wan2_1-InfiniTetalk-Single_fp16": "single",
        "Wan2_1-InfiniteTalk-Multi_fp8_e4m3fn_scaled_KJ": "multi",
        "wan2.1_infiniteTalk_multi_fp16": "multi",
        "wan2.1_infinitetalk_single_14B_mbf16": "single",
        "other/infinitetalk": "",
    }.items():
        unit = look([fake_safetensors(tmp_path / f"{name}.safetensors", adapter())])
        assert (unit.component, unit.grammar, unit.people, unit.problem) == (Component.ADAPTER, "MeiGen", people, "")


@pytest.mark.parametrize("prefix", [COMFY, "diffusion_model.", "model."])
def test_a_prefix_is_told(tmp_path: Path, prefix: str) -> None:
    named = {prefix + name: shape for name, shape in shapes("wan i2v 14B").items()}
    unit = look([fake_safetensors(tmp_path / "x.safetensors", named)])
    assert (unit.prefix, unit.problem) == (prefix, "")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("wan t2v 1.3B", "a text-to-video base of 1.3B; InfiniteTalk needs Wan2.1-I2V-14B"),
        ("diffusers t2v 1.3B", "a text-to-video base of 1.3B"),
        ("wan t2v 14B", "a text-to-video base; InfiniteTalk needs"),
        ("wan flf2v 14B", "a first-and-last-frame model"),
        ("wan vace 14B", "a VACE model"),
        ("wan2.2 i2v A14B", r"a base of Wan 2\.2 \(I2V-A14B"),
        ("wan2.2 ti2v 5B", r"a base of Wan 2\.2 \(TI2V-5B\)"),
        ("wan2.2 vae", r"the VAE of Wan 2\.2's 5B model; InfiniteTalk needs Wan 2\.1's"),
    ],
)
def test_relatives_that_do_not_fit_are_called_by_their_name(tmp_path: Path, network: str, words: str) -> None:
    unit = look([fake_safetensors(tmp_path / "x.safetensors", shapes(network))])
    assert not unit.usable
    with pytest.raises(ModelError, match=words):
        raise ModelError(unit.problem)


def _linears(names: Shapes) -> list[str]:
    """The big matrices of a transformer: what all quantisers quantise."""
    return [name for name, shape in names.items() if ".blocks." in f".{name}" and len(shape) == 2]


def _quantised(names: Shapes, form: str) -> tuple[Shapes, dict[str, str]]:
    """A key list as a quantiser leaves it: names and shapes, and the types that are not the file's own."""
    chosen = set(_linears(names))
    result: Shapes = {}
    types: dict[str, str] = {}
    for name, shape in names.items():
        layer, rows = name.removesuffix(".weight"), shape[:1]
        kept = f"{name}._data" if form.startswith("quanto") and name in chosen else name
        result[kept] = shape
        if name not in chosen:
            continue
        writers: dict[str, dict[str, tuple[tuple[int, ...], str]]] = {
            "quanto": {f"{name}._scale": ((*rows, 1), "BF16")},
            "comfy": {f"{layer}.scale_weight": ((), "F32"), f"{layer}.scale_input": ((), "F32")},
            "comfy_quant": {f"{layer}.weight_scale": ((), "F32"), f"{layer}.comfy_quant": ((27,), "U8")},
            "lightx2v": {f"{layer}.weight_scale": ((*rows, 1), "F32")},
            "packed": {f"{name}.scale": (rows, "F32")},
            "plain": {},
        }
        beside = writers[form.split(maxsplit=1)[0]]
        types[kept] = form.split()[1]
        for extra, (extra_shape, kind) in beside.items():
            result[extra], types[extra] = extra_shape, kind
    return result, types


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("quanto F8_E4M3", "fp8 e4m3, a scale per row (._scale)"),
        ("quanto I8", "int8, a scale per row (._scale)"),
        ("comfy F8_E4M3", "fp8 e4m3, one scale (.scale_weight)"),
        ("comfy F8_E5M2", "fp8 e5m2, one scale (.scale_weight)"),
        ("comfy_quant F8_E4M3", "fp8 e4m3, one scale (.weight_scale)"),
        ("lightx2v F8_E4M3", "fp8 e4m3, a scale per row (.weight_scale)"),
        ("lightx2v I8", "int8, a scale per row (.weight_scale)"),
        ("packed I8", "int8, a scale per row (.scale)"),
        ("plain F8_E4M3", "fp8 e4m3 without scale"),
    ],
)
@pytest.mark.parametrize("network", ["wan i2v 14B", "meigen merged"])
def test_every_tensor_says_how_it_is_stored(tmp_path: Path, network: str, form: str, kind: str) -> None:
    names, types = _quantised(shapes(network), form)
    unit = look([fake_safetensors(tmp_path / "x.safetensors", names, "BF16", types)])
    assert unit.problem == ""
    assert len(unit.kinds) == len(shapes(network))
    assert {name for name, told in unit.kinds.items() if told == kind} == set(_linears(shapes(network)))
    assert set(unit.kind_counts) == {kind, "bfloat16"}


def test_comfys_marker_and_tokenizer_belong_to_nobody_and_are_no_fault(tmp_path: Path) -> None:
    names, types = _quantised({COMFY + name: shape for name, shape in shapes("wan i2v 14B").items()}, "comfy F8_E4M3")
    names[COMFY + "scaled_fp8"], types[COMFY + "scaled_fp8"] = (2,), "F8_E4M3"
    assert look([fake_safetensors(tmp_path / "x.safetensors", names, "F16", types)]).problem == ""
    text = {**shapes("hf umt5"), "spiece_model": (4_548_313,)}
    unit = look([fake_safetensors(tmp_path / "t.safetensors", text, "F16", {"spiece_model": "U8"})])
    assert unit.problem == ""
    assert "spiece_model" in unit.kinds


@pytest.mark.parametrize(("kind", "prefix"), [("Q4_K", ""), ("Q6_K", COMFY), ("Q8_0", ""), ("Q4_0", "")])
def test_gguf_files_of_a_base_and_of_an_adapter(tmp_path: Path, kind: str, prefix: str) -> None:
    for network, component in ((shapes("wan i2v 14B"), Component.BASE), (adapter(), Component.ADAPTER)):
        named = {prefix + name: shape for name, shape in network.items()}
        unit = look([fake_gguf(tmp_path / f"{component.name}.gguf", named, set(_linears(named)), kind)])
        assert (unit.component, unit.problem) == (component, "")
        assert set(unit.kind_counts) == {kind, "float32"}
        assert unit.config == DiTConfig()


@pytest.mark.parametrize("kind", ["IQ4_XS", "IQ3_S"])
def test_a_kind_that_nobody_reads_is_told(tmp_path: Path, kind: str) -> None:
    names = shapes("wan i2v 14B")
    unit = look([fake_gguf(tmp_path / "x.gguf", names, set(_linears(names)), kind)])
    assert unit.component is Component.BASE
    assert unit.problem.startswith(f"it is stored as {kind}; this version reads F32")
    unit = look([fake_safetensors(tmp_path / "x.safetensors", names, "F16", dict.fromkeys(_linears(names), "F4"))])
    assert unit.problem.startswith("it is stored as F4")


def test_a_scale_without_its_matrix_is_told(tmp_path: Path) -> None:
    names, types = _quantised(shapes("wan i2v 14B"), "comfy F8_E4M3")
    del names["blocks.3.ffn.0.weight"]
    unit = look([fake_safetensors(tmp_path / "x.safetensors", names, "BF16", types)])
    assert "blocks.3.ffn.0.scale_weight belongs to blocks.3.ffn.0.weight" in unit.problem


def test_what_is_missing_left_over_or_of_another_shape_is_listed(tmp_path: Path) -> None:
    names = shapes("diffusers i2v 14B")
    del names["blocks.7.attn2.norm_added_k.weight"]
    names["blocks.3.attn1.to_q.weight"] = (5120, 5119)
    names["blocks.3.gate"] = (5120,)
    unit = look([fake_safetensors(tmp_path / "x.safetensors", names)])
    assert unit.missing == ("blocks.7.cross_attn.norm_k_img.weight",)
    assert unit.unused == ("blocks.3.gate",)
    assert unit.misshapen == ("blocks.3.self_attn.q.weight",)
    assert "1 missing (blocks.7.cross_attn.norm_k_img.weight); 1 left over" in unit.problem


def test_a_lora_and_something_else(tmp_path: Path) -> None:
    pair = {f"diffusion_model.blocks.0.self_attn.q.lora_{end}.weight": (8, 8) for end in ("down", "up")}
    assert look([fake_safetensors(tmp_path / "l.safetensors", pair)]).component is Component.LORA
    unit = look([fake_safetensors(tmp_path / "x.safetensors", {"model.layers.0.mlp.weight": (8, 8)})])
    assert unit.component is Component.UNKNOWN
    assert "its first tensor is model.layers.0.mlp.weight" in unit.problem


def test_a_config_that_is_not_this_networks_is_left_alone(tmp_path: Path) -> None:
    path = fake_safetensors(tmp_path / "x.safetensors", shapes("wan vae"))
    (tmp_path / "config.json").write_text('{"model_type": "i2v", "num_heads": 40, "ffn_dim": 13824}', encoding="utf-8")
    assert look([path]).config == VAEConfig()
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json is not readable JSON"):
        look([path])
