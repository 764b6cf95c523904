"""A hub on loopback with a small model on it, and a cache in a folder of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from infinitetalk.core.presets import HubFile, Preset, Repository, Role
from infinitetalk.weights.hub import fetch
from infinitetalk.weights.hub.client import Hub
from tests.hub.fake_hub import FakeHub, serve
from tests.hub.small import ADAPTER, BIG, CONFIG, OTHER, SMALL, SPEECH, TABLE, TOKENIZER
from tests.weights.loose import make_loose


def bytes_of(file: HubFile, size: int) -> bytes:
    """Content that differs from file to file and from place to place."""
    seed = sum(file.name.encode())
    return bytes((index * 31 + index // 251 + seed) % 256 for index in range(size))


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    """A running hub that has the files of the presets `small` and `other`."""
    hub = FakeHub()
    hub.add_file(BIG, bytes_of(BIG, 300_000))
    hub.add_file(ADAPTER, bytes_of(ADAPTER, 50_000))
    hub.add_file(TOKENIZER, b'{"words": []}')
    hub.add_file(CONFIG, b'{"model_type": "wav2vec2"}')
    hub.add_file(SPEECH, bytes_of(SPEECH, 20_000))
    hub.add("some/base", "unwanted.bin", b"x" * 5_000)
    hub.add("some/speech", "model.safetensors.wrong", b"x" * 5_000)
    with serve(hub):
        yield hub


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


@pytest.fixture
def environment(fake: FakeHub, home: Path) -> dict[str, str]:
    """What another process needs to use the hub on loopback."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE"))}
    return kept | {
        "HF_HOME": str(home),
        "HF_ENDPOINT": fake.endpoint,
        "NO_PROXY": "127.0.0.1,localhost",
        "NO_COLOR": "1",
    }


@pytest.fixture
def hub(fake: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The same for this process, whose hub library has read its environment; broken connections cost no time."""
    template = fake.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", fake.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(home / "assets"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    monkeypatch.setattr(fetch, "TIMEOUT", 5.0)
    for preset in (SMALL, OTHER):
        monkeypatch.setitem(TABLE, preset.name, preset)
    return Hub.from_environment()


TINY_FILES = (
    (Role.BASE, "tiny/base", "Wan2.1-I2V/config.json"),
    (Role.BASE, "tiny/base", "Wan2.1-I2V/diffusion_pytorch_model*"),
    (Role.ADAPTER, "tiny/adapter", "InfiniteTalk/multi/infinitetalk.safetensors"),
    (Role.ADAPTER, "tiny/adapter", "InfiniteTalk/multi/config.json"),
    (Role.LORA, "tiny/lora", "lightx2v_4step.safetensors"),
    (Role.TEXT, "tiny/base", "Wan2.1-I2V/models_t5.pth"),
    (Role.TOKENIZER, "tiny/base", "Wan2.1-I2V/google/umt5-xxl/*"),
    (Role.VISION, "tiny/clip", "clip/models_clip.pth"),
    (Role.VISION, "tiny/clip", "clip/config.json"),
    (Role.VAE, "tiny/base", "Wan2.1-I2V/Wan2.1_VAE.pth"),
    (Role.SPEECH, "tiny/speech", "wav2vec2/config.json"),
    (Role.SPEECH, "tiny/speech", "wav2vec2/pytorch_model.bin"),
)


@pytest.fixture
def tiny_preset(fake: FakeHub, hub: Hub, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The tiny model on the hub, without a manifest and with a LoRA, and the preset `tiny` of its files."""
    loose = make_loose(tiny_folder, tmp_path / "loose")
    lora = {"diffusion_model.blocks.0.self_attn.q.lora_down.weight": torch.ones(2, 128) / 100,
            "diffusion_model.blocks.0.self_attn.q.lora_up.weight": torch.ones(128, 2) / 100}  # fmt: skip
    save_file(lora, loose / "lightx2v_4step.safetensors")
    files = tuple(HubFile(role, Repository(repository, "mit"), name) for role, repository, name in TINY_FILES)
    for file in files:
        for path in loose.glob(file.name):
            fake.add(file.repository.name, path.relative_to(loose).as_posix(), path.read_bytes())
    defaults = {"steps": 2, "shift": 2.0, "text_scale": 1.0, "audio_scale": 1.0, "window_frames": 9, "motion_frames": 1}
    preset = Preset(name="tiny", card="any", summary="", people=2, files=files, defaults=defaults)
    monkeypatch.setitem(TABLE, "tiny", preset)
    return hub
