"""Two small presets; this module loads no heavy library, so that a process that downloads them starts at once."""

from typing import cast

from infinitetalk.core import presets
from infinitetalk.core.presets import HubFile, Preset, Repository, Role

BIG = HubFile(Role.BASE, Repository("some/base", "apache-2.0"), "big.safetensors")
ADAPTER = HubFile(Role.ADAPTER, Repository("some/adapter", "apache-2.0"), "folder/adapter.safetensors")
CONFIG = HubFile(Role.SPEECH, Repository("some/speech", "mit"), "config.json")
SPEECH = HubFile(Role.SPEECH, Repository("some/speech", "mit"), "model.safetensors", revision="refs/pr/1")
TOKENIZER = HubFile(Role.TOKENIZER, Repository("some/base", "apache-2.0"), "words/*")

SMALL = Preset(name="small", card="any", summary="for tests", people=1, files=(BIG, ADAPTER, TOKENIZER, CONFIG, SPEECH))
"""Stands in the table of presets while a test runs."""
OTHER = Preset(name="other", card="any", summary="shares a file", people=2, files=(BIG, SPEECH))

TABLE = cast(dict[str, Preset], presets.PRESETS)
