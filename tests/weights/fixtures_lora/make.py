"""Writes the LoRA files of this folder and the weights that their projects make of them, with those projects' code.

    python tests/weights/fixtures_lora/make.py CHECKOUTS

Needs the packages peft, diffusers, accelerate, lycoris-lora and loguru, and in the folder CHECKOUTS:

    musubi-tuner   kohya-ss/musubi-tuner       30c658c4f4b0bf05038b3346eff9670259b10fc7
    LightX2V       ModelTC/LightX2V            f8aee98b5462cca8d7288888146ebd95592bf266
    VideoX-Fun     aigc-apps/VideoX-Fun        804a4258e2608f855ccaec8fffa279e75a3b89c6
    InfiniteTalk   MeiGen-AI/InfiniteTalk      0107cd96421b3b1bef7728bde14447dbff7b2db2
    diffusers      huggingface/diffusers       58eb52c0803ea9af3abec60841c2a093bdf1f951 (its script of names alone)

The committed files were made with peft 0.21.2, diffusers 0.42.1, lycoris-lora 4.1.3 and torch 2.13.0. Every network is
a class of those projects with weights of `tests.conftest.golden_weight`, seed 5; NAME.safetensors is the LoRA,
NAME.expected.safetensors holds the weights that differ after the project merged it, under Wan's names.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.conftest import golden_normal, golden_weight

HERE = Path(__file__).parent
SEED = 5
SIZES = {"in_dim": 36, "dim": 16, "ffn_dim": 24, "freq_dim": 8, "text_dim": 12, "num_heads": 2, "num_layers": 2}
STRENGTH = 0.7

State = dict[str, Tensor]


def module_at(path: Path, name: str) -> Any:
    """A module from a file, without the packages around it."""
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(network: nn.Module) -> Any:
    """Gives a network the weights of this folder."""
    network.load_state_dict(
        {name: golden_weight(name, tuple(v.shape), SEED) for name, v in network.state_dict().items()}
    )
    return network.eval().requires_grad_(False)


def wan(model_type: str = "i2v", **changes: Any) -> Any:
    """musubi-tuner's transformer of Wan, whose names are Wan's own."""
    torch.cuda.current_device = lambda: 0  # it asks for one while it is imported
    kind = import_module("musubi_tuner.wan.modules.model").WanModel
    return fill(kind(model_type=model_type, cross_attn_norm=True, **SIZES | changes))


def diffusers_wan() -> Any:
    """diffusers' transformer of Wan with the same weights."""
    network = import_module("diffusers").WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=36, out_channels=16, text_dim=12, freq_dim=8,
        ffn_dim=24, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6, image_dim=20,
        added_kv_proj_dim=16,
    )  # fmt: skip
    network.load_state_dict({name: golden_weight(wan_name, shape, SEED) for wan_name, name, shape in renamed(network)})
    return network.eval().requires_grad_(False)


RENAMES: dict[str, str] = {}


def renamed(network: nn.Module) -> list[tuple[str, str, tuple[int, ...]]]:
    """Wan's name, diffusers' name and the shape of each parameter, as diffusers' own script renames them."""
    ours = set(wan().state_dict())
    theirs = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    pairs = []
    for name in ours:
        new = name
        for old, changed in RENAMES.items():
            new = new.replace(old, changed)
        pairs.append((name, new, theirs[new]))
    assert len(pairs) == len(theirs)
    return pairs


def draw(shapes: Mapping[str, tuple[int, ...]], size: float = 0.1) -> State:
    """Random values for adapters: what training would have left."""
    return {name: golden_normal(name, shape, SEED + 1) * size for name, shape in shapes.items()}


def train(adapter: nn.Module, marks: tuple[str, ...]) -> None:
    """Puts random values where an adapter begins with zeros."""
    for name, value in adapter.named_parameters():
        if any(mark in name for mark in marks):
            value.data = golden_normal(name, tuple(value.shape), SEED + 1) * 0.3


def changed(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> State:
    """The tensors that a merge changed."""
    return {name: value.contiguous().clone() for name, value in after.items() if not torch.equal(value, before[name])}


def write_expected(name: str, state: State) -> None:
    """Writes what a LoRA is expected to make of the weights."""
    assert state
    save_file(state, HERE / f"{name}.expected.safetensors")


def peft_folder(name: str, network: Any, **settings: Any) -> None:
    """An adapter as peft's `save_pretrained` writes it; merged by peft's `merge_and_unload`."""
    peft = import_module("peft")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    model = peft.get_peft_model(network, peft.LoraConfig(**settings))
    train(model, ("lora_B", "lora_magnitude"))
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink(missing_ok=True)
    if not settings.get("use_dora"):
        write_expected(name, changed(model.merge_and_unload().state_dict(), before))


def peft_files() -> None:
    """Prefix base_model.model, adapter_config.json; and an injected adapter's own names, with `.default`."""
    peft = import_module("peft")
    everything = r"blocks\.\d+\.((self|cross)_attn\.(q|k|v|o|k_img|v_img)|ffn\.[02])"
    peft_folder("peft", wan(), r=2, lora_alpha=6, target_modules=everything)
    peft_folder(
        "peft_rslora", wan(), r=4, lora_alpha=2, use_rslora=True, lora_bias=True, rank_pattern={"ffn.0": 3},
        alpha_pattern={r"blocks\.1\.self_attn\.q": 5}, target_modules=["self_attn.q", "ffn.0", "patch_embedding"],
    )  # fmt: skip
    peft_folder("peft_dora", wan(), r=2, lora_alpha=2, use_dora=True, target_modules=["self_attn.q"])
    network = wan()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    config = peft.LoraConfig(r=3, lora_alpha=3, target_modules=["q", "k", "v", "o", "ffn.0", "ffn.2"])
    peft.inject_adapter_in_model(config, network, adapter_name="default")
    train(network, ("lora_B",))
    save_file({k: v for k, v in network.state_dict().items() if ".lora_" in k}, HERE / "peft_default.safetensors")
    for module in list(network.modules()):
        if hasattr(module, "merge") and hasattr(module, "base_layer"):
            module.merge()
    after = {k.replace(".base_layer", ""): v for k, v in network.state_dict().items() if ".lora_" not in k}
    write_expected("peft_default", changed(after, before))


def diffusers_file() -> None:
    """What diffusers' `save_lora_weights` writes, alpha in its header; fused by diffusers."""
    diffusers, peft = import_module("diffusers"), import_module("peft")
    network = diffusers_wan()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    names = [
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "add_k_proj",
        "add_v_proj",
        "ffn.net.0.proj",
        "ffn.net.2",
        "time_proj",
        "proj_out",
    ]
    names += ["linear_1", "linear_2", "image_embedder.ff.net.2"]
    network.add_adapter(peft.LoraConfig(r=2, lora_alpha=5, target_modules=names))
    train(network, ("lora_B",))
    layers = peft.get_peft_model_state_dict(network)
    meta = network.peft_config["default"].to_dict()
    with tempfile.TemporaryDirectory() as folder:
        diffusers.WanPipeline.save_lora_weights(
            folder, transformer_lora_layers=layers, transformer_lora_adapter_metadata=meta
        )
        shutil.copyfile(Path(folder) / "pytorch_lora_weights.safetensors", HERE / "diffusers.safetensors")
    fresh = diffusers_wan()
    pipe = diffusers_pipeline(fresh)
    pipe.load_lora_weights(HERE / "diffusers.safetensors")
    write_expected("diffusers", fused(pipe, fresh, before))


def diffusers_pipeline(network: Any) -> Any:
    """A pipeline that has a transformer and nothing else, to load LoRAs with."""
    diffusers = import_module("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    parts = dict.fromkeys(("tokenizer", "text_encoder", "vae", "image_encoder", "image_processor"))
    return diffusers.WanImageToVideoPipeline(**parts, scheduler=scheduler, transformer=network)


def fused(pipe: Any, network: Any, before: Mapping[str, Tensor]) -> State:
    """The weights that diffusers' own fusing changed, under Wan's names."""
    pipe.fuse_lora(components=["transformer"])
    after = {k.replace(".base_layer", ""): v for k, v in network.state_dict().items() if ".lora_" not in k}
    theirs = changed(after, before)
    return {wan_name: theirs[name] for wan_name, name, _ in renamed(diffusers_wan()) if name in theirs}


def by_diffusers(name: str) -> State:
    """What diffusers' conversion of other layouts makes of a file, merged by diffusers."""
    network = diffusers_wan()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    pipe = diffusers_pipeline(network)
    pipe.load_lora_weights(HERE / f"{name}.safetensors")
    return fused(pipe, network, before)


def agree(full: State, expected: State, least: int) -> None:
    """Checks that weights merged at strength 1 by another project say the same; it may leave some as they were."""
    assert len(full) >= least
    for key, value in full.items():
        before = golden_weight(key, tuple(value.shape), SEED)
        torch.testing.assert_close(before + STRENGTH * (value - before), expected[key], rtol=1e-5, atol=1e-5)


def lightx2v_file(name: str, network: Any, checkouts: Path, *, crashes: bool) -> None:
    """Extracted from two models and merged by LightX2V; MeiGen's merge agrees where it does not crash."""
    extractor = module_at(checkouts / "LightX2V/tools/extract/lora_extractor.py", "lora_extractor")
    loader = module_at(checkouts / "LightX2V/lightx2v/utils/lora_loader.py", "lora_loader").LoRALoader()
    before = {key: value.clone() for key, value in network.state_dict().items() if not key.startswith("img_emb")}
    tuned = {key: value + draw({key: tuple(value.shape)}, 0.05)[key] for key, value in before.items()}
    lora = dict[str, Tensor]()
    for key, value in tuned.items():
        difference = value - before[key]
        if value.ndim == 2:  # the extractor itself does so from a million parameters on
            lora |= extractor._decompose_to_lora(difference, key, 3)
        else:
            lora[extractor._generate_lora_diff_key(key)] = difference
    extractor.save_lora_weights(lora, str(HERE / f"{name}.safetensors"), "safetensors", "fp16")
    target = {key: value.clone() for key, value in wan().state_dict().items() if key in before}
    loader.apply_lora(target, load_file(HERE / f"{name}.safetensors"), strength=STRENGTH)
    expected = changed(target, wan().state_dict())
    write_expected(name, expected)
    if not crashes:
        meigen(name, network, checkouts, expected)
        agree(by_diffusers(name), expected, least=50)


def meigen(name: str, network: Any, checkouts: Path, expected: State) -> None:
    """Checks that MeiGen's code merges the same, but for modulations, of which it knows nothing."""
    wrapper = module_at(checkouts / "InfiniteTalk/wan/wan_lora.py", "wan_lora").WanLoraWrapper(network)
    wrapper.load_lora(str(HERE / f"{name}.safetensors"), "lora")
    wrapper.apply_lora("lora", STRENGTH, param_dtype=torch.float32)
    after = network.state_dict()
    for key, value in expected.items():
        if not key.endswith("modulation"):
            torch.testing.assert_close(after[key], value, rtol=1e-5, atol=1e-6)


def kohya_files(checkouts: Path) -> None:
    """Names with underscores and alphas: musubi-tuner's and VideoX-Fun's; agreed upon by diffusers' conversion."""
    maker = import_module("musubi_tuner.networks.lora_wan")
    network = wan()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    lora = maker.create_arch_network(1.0, 4, 2.0, None, None, network)
    for part in lora.unet_loras:
        lora.add_module(part.lora_name, part)
    train(lora, ("lora_up",))
    keys = [key for key in lora.state_dict() if "org_module" not in key]
    weights = {key: lora.state_dict()[key] for key in keys}
    save_file(weights, HERE / "kohya.safetensors", metadata={"ss_network_module": "networks.lora_wan"})
    merged = maker.create_arch_network_from_weights(STRENGTH, weights, unet=network, for_inference=True)
    merged.merge_to(None, network, weights)
    expected = changed(network.state_dict(), before)
    write_expected("kohya", expected)
    agree(by_diffusers("kohya"), expected, least=len(expected))
    converter = import_module("musubi_tuner.convert_lora")
    save_file(converter.convert_to_diffusers("lora_unet_", None, weights), HERE / "kohya_other.safetensors")
    fun_file(checkouts)


def fun_file(checkouts: Path) -> None:
    """Two underscores, and layers outside of the blocks."""
    for name in ("videox_fun", "videox_fun.utils"):
        package = ModuleType(name)
        package.__path__ = [str(checkouts / "VideoX-Fun" / name.replace(".", "/"))]
        sys.modules[name] = package
    fun = import_module("videox_fun.utils.lora_utils")
    network = wan()
    network.__class__ = type("WanTransformer3DModel", (type(network),), {})
    before = {key: value.clone() for key, value in network.state_dict().items()}
    lora = fun.create_network(1.0, 2, 3.0, None, network, skip_name="img_emb")
    for part in lora.unet_loras:
        del part.org_module
        lora.add_module(part.lora_name, part)
    train(lora, ("lora_up",))
    lora.save_weights(str(HERE / "fun.safetensors"), torch.bfloat16, None)
    fun.merge_lora(SimpleNamespace(transformer=network), str(HERE / "fun.safetensors"), STRENGTH)
    write_expected("fun", changed(network.state_dict(), before))


def lycoris_files() -> None:
    """LyCORIS: plain pairs, merged by it; and the kinds that are refused by name."""
    lycoris = import_module("lycoris")
    for kind, settings in (("lokr", {"factor": 2}), ("loha", {}), ("dora", {"dora_wd": True}), ("locon", {})):
        network = wan(num_layers=1)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        blocks = nn.ModuleDict({"blocks": network.blocks})
        algorithm = "locon" if kind == "dora" else kind
        made = lycoris.create_lycoris(blocks, 1.0, linear_dim=2, linear_alpha=1, algo=algorithm, **settings)
        made.apply_to()
        train(made, ("lora_up", "lokr_w2", "hada_w2"))
        made.save_weights(str(HERE / f"lycoris_{kind}.safetensors"), torch.float16, {})
        if kind == "locon":
            made.load_state_dict({k: v.float() for k, v in load_file(HERE / "lycoris_locon.safetensors").items()})
            made.restore()
            made.merge_to(STRENGTH)
            write_expected("lycoris_locon", changed(network.state_dict(), before))


def main(checkouts: Path) -> None:
    """Writes all files anew."""
    sys.path.insert(0, str(checkouts / "musubi-tuner/src"))
    script = module_at(checkouts / "diffusers/scripts/convert_wan_to_diffusers.py", "convert_wan")
    RENAMES.update(script.TRANSFORMER_KEYS_RENAME_DICT)
    steps: list[Callable[[], None]] = [
        peft_files,
        diffusers_file,
        lambda: lightx2v_file("lightx2v", wan(), checkouts, crashes=False),
        lambda: lightx2v_file("lightx2v_t2v", wan("t2v", in_dim=16), checkouts, crashes=True),
        lambda: kohya_files(checkouts),
        lycoris_files,
    ]
    for step in steps:
        step()


if __name__ == "__main__":
    torch.manual_seed(SEED)
    main(Path(sys.argv[1]))
