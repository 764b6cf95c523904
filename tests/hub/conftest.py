"""A hub on loopback with a small model on it, and a cache in a folder of its own."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from huggingface_hub import constants

from infinitetalk.core import presets
from infinitetalk.core.presets import HubFile, Preset, Repository, Role
from infinitetalk.weights.hub import fetch
from infinitetalk.weights.hub.client import Hub
from tests.hub.fake_hub import FakeHub, serve

BIG = HubFile(Role.BASE, Repository("some/base", "apache-2.0"), "big.safetensors")
ADAPTER = HubFile(Role.ADAPTER, Repository("some/adapter", "apache-2.0"), "folder/adapter.safetensors")
CONFIG = HubFile(Role.SPEECH, Repository("some/speech", "mit"), "config.json")
SPEECH = HubFile(Role.SPEECH, Repository("some/speech", "mit"), "model.safetensors", revision="refs/pr/1")
TOKENIZER = HubFile(Role.TOKENIZER, Repository("some/base", "apache-2.0"), "words/*")

SMALL = Preset(name="small", card="any", summary="for tests", people=1, files=(BIG, ADAPTER, TOKENIZER, CONFIG, SPEECH))
"""Stands in the table of presets while a test runs."""
OTHER = Preset(name="other", card="any", summary="shares a file", people=2, files=(BIG, SPEECH))

TABLE = cast(dict[str, Preset], presets.PRESETS)


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
