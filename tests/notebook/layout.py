"""The files of a preset in their real layout, tiny and random: published names, the tensors' names, kinds and marks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
)

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.presets import Preset, Role
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE
from tests.hub.fake_hub import FakeHub
from tools import make_tiny

SPEECH: Mapping[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
VISION_DIM = 768
"""The narrowest width that is known by itself: nothing beside the published file says how many heads there are."""
DIT = DiTConfig(
    dim=256,
    ffn_dim=512,
    freq_dim=256,
    text_dim=256,
    num_heads=2,
    num_layers=2,
    clip_dim=VISION_DIM,
    audio_blocks=2,
    audio_channels=64,
    intermediate_dim=32,
    output_dim=64,
    context_tokens=4,
)
State = Mapping[str, Tensor]


def _plain(state: State, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.detach().to(dtype).clone() for name, value in state.items()}


def _transformer() -> dict[str, Tensor]:
    return make_tiny.random_state(make_tiny.module_shapes(lambda: AudioDiT(DIT)), 0)


def _of_sound(name: str) -> bool:
    return "audio_" in name or ".norm_x." in name


def _write_gguf(path: Path, state: State, kind: gguf.GGMLQuantizationType) -> None:
    """As converters write it: the blocks' matrices of one kind, the rest in float32, and no tensor of five axes.

    No program here packs Q4_K, so its blocks are random: a scale and an offset in float16, then 140 bytes.
    """
    writer = gguf.GGUFWriter(path, "wan")
    random = np.random.default_rng(0)
    for name, value in state.items():
        array = value.float().numpy()
        if value.ndim == 5:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(array.shape))
            array = array.reshape(-1, *array.shape[3:])
        if value.ndim != 2 or not name.startswith("blocks."):
            writer.add_tensor(name, array)
        elif kind is gguf.GGMLQuantizationType.Q4_K:
            packed = random.integers(0, 256, (array.shape[0], array.shape[1] // 256, 144), dtype=np.uint8)
            scale = 0.8 / np.sqrt(array.shape[1]) / 257
            packed[:, :, :4] = np.array([scale, 7.5 * scale], dtype=np.float16).view(np.uint8)
            writer.add_tensor(name, packed.reshape(array.shape[0], -1), raw_dtype=kind)
        else:
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_base(path: Path) -> None:
    state = {name: value for name, value in _transformer().items() if not _of_sound(name)}
    _write_gguf(path, state, gguf.GGMLQuantizationType.Q4_K)


def _write_adapter(path: Path) -> None:
    state = {name: value for name, value in _transformer().items() if _of_sound(name)}
    _write_gguf(path, state, gguf.GGMLQuantizationType.Q8_0)


def _write_lora(path: Path) -> None:
    pairs = {}
    for block in range(DIT.num_layers):
        home = f"diffusion_model.blocks.{block}.self_attn.q"
        pairs[f"{home}.lora_down.weight"] = torch.randn(4, DIT.dim).bfloat16() / 16
        pairs[f"{home}.lora_up.weight"] = torch.randn(DIT.dim, 4).bfloat16() / 16
    save_file(pairs, path)


def _write_text(path: Path) -> None:
    config = UMT5Config(vocab_size=512, d_model=DIT.text_dim, d_kv=64, d_ff=128, num_layers=2, num_heads=2)
    state = _plain(_network(UMT5EncoderModel(config)), torch.float16)
    state = {name: value for name, value in state.items() if name != "encoder.embed_tokens.weight"}
    kept = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, value in state.items():
        if value.ndim == 2 and "block" in name and "relative" not in name:
            scale = value.abs().max().float() / 448
            kept[name] = (value.float() / scale).to(torch.float8_e4m3fn)
            kept[name.removesuffix("weight") + "scale_weight"] = scale
        else:
            kept[name] = value
    save_file(kept, path)


def _write_vision(path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=VISION_DIM, intermediate_size=VISION_DIM, num_hidden_layers=2, num_attention_heads=12,
        image_size=224, patch_size=14, projection_dim=8,
    )  # fmt: skip
    save_file(_plain(_network(CLIPVisionModelWithProjection(config)), torch.float16), path)


def _write_vae(path: Path) -> None:
    state = make_tiny.random_state(make_tiny.module_shapes(lambda: VideoVAE(make_tiny.VAE)), 0)
    save_file(_plain(state, torch.float16), path)


def _write_speech(path: Path) -> None:
    config = Wav2Vec2Config(**SPEECH)
    save_file(_plain(_network(Wav2Vec2ForCTC(config)), torch.float32), path)


def _network(model: PreTrainedModel) -> State:
    torch.manual_seed(0)
    return model.state_dict()


def _write_speech_config(path: Path) -> None:
    path.write_text(json.dumps(Wav2Vec2Config(**SPEECH).to_dict()), encoding="utf-8")


WRITERS = {
    (Role.BASE, ".gguf"): _write_base,
    (Role.ADAPTER, ".gguf"): _write_adapter,
    (Role.LORA, ".safetensors"): _write_lora,
    (Role.TEXT, ".safetensors"): _write_text,
    (Role.VISION, ".safetensors"): _write_vision,
    (Role.VAE, ".safetensors"): _write_vae,
    (Role.SPEECH, ".safetensors"): _write_speech,
    (Role.SPEECH, ".json"): _write_speech_config,
}


@dataclass(frozen=True)
class Layout:
    """What lies on the hub."""

    bytes: int


def publish(hub: FakeHub, preset: Preset, tiny: Path, scratch: Path) -> Layout:
    """Puts a preset's files on the hub, under the names and in the repositories and revisions that it lists."""
    total = 0
    for number, file in enumerate(preset.files):
        path = scratch / f"{number}{Path(file.name).suffix}"
        if file.role is Role.TOKENIZER:
            path = tiny / "tokenizer" / "spiece.model"
            name = file.name.replace("*", path.name)
        else:
            WRITERS[file.role, path.suffix](path)
            name = file.name
        content = path.read_bytes()
        hub.add(file.repository.name, name, content, file.revision)
        total += len(content)
    return Layout(total)
