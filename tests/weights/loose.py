"""The tiny model as loose files in folders of their own, each with the `config.json` of its author's kind."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools import make_tiny

DIT_CONFIG: Mapping[str, Any] = {"_class_name": "WanModel", "qk_norm": True, **asdict(make_tiny.DIT)}
VISION_CONFIG = {"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14, "num_attention_heads": 2}
SPEECH_CONFIG: Mapping[str, Any] = {"model_type": "wav2vec2", "vocab_size": 32, **asdict(make_tiny.SPEECH)}


def write(path: Path, values: object) -> None:
    """A JSON file."""
    path.write_text(json.dumps(values), encoding="utf-8")


def make_loose(tiny: Path, folder: Path) -> Path:
    """Sorts the tiny model's files into folders without any manifest."""
    homes = {
        "Wan2.1-I2V": ["diffusion_pytorch_model*", "Wan2.1_VAE.pth", "models_t5.pth"],
        "clip": ["models_clip.pth"],
        "InfiniteTalk/multi": ["infinitetalk.safetensors"],
        "wav2vec2": ["pytorch_model.bin"],
    }
    for home, patterns in homes.items():
        (folder / home).mkdir(parents=True)
        for path in (path for pattern in patterns for path in tiny.glob(pattern)):
            shutil.copy(path, folder / home / path.name)
    shutil.copytree(tiny / "tokenizer", folder / "Wan2.1-I2V" / "google" / "umt5-xxl")
    write(folder / "Wan2.1-I2V" / "config.json", DIT_CONFIG)
    write(folder / "InfiniteTalk" / "multi" / "config.json", DIT_CONFIG)
    write(folder / "clip" / "config.json", VISION_CONFIG)
    write(folder / "wav2vec2" / "config.json", SPEECH_CONFIG)
    return folder
