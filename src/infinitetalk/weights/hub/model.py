"""From a downloaded preset's name to its model: its files, put together, with the settings that the preset wants."""

from dataclasses import replace
from pathlib import Path

from infinitetalk.core.errors import ModelError
from infinitetalk.core.loras import Lora
from infinitetalk.core.presets import PRESETS, Preset, Role
from infinitetalk.weights.detect.assemble import assemble
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.header import SUFFIXES
from infinitetalk.weights.hub.client import Hub
from infinitetalk.weights.hub.store import Record, read, record_path


def open_downloaded(name: str) -> ModelFolder:
    """The model of a preset.

    Raises:
        ModelError: a preset that was not downloaded, or not wholly, or files that make no model.
    """
    hub = Hub.from_environment()
    record = read(hub, name)
    if record is None:
        raise ModelError(f"model {name}: not downloaded yet; run: infinitetalk download {name}")
    return _model(hub, record, PRESETS[name])


def _model(hub: Hub, record: Record, preset: Preset) -> ModelFolder:
    parts, loras = _files(hub, record)
    folder = assemble(parts)
    return replace(
        folder,
        path=record_path(hub, record.name),
        name=record.name,
        max_people=preset.people,
        defaults=replace(folder.defaults, **preset.defaults),
        loras=loras,
    )


def _files(hub: Hub, record: Record) -> tuple[list[Path], tuple[Lora, ...]]:
    """What the model is put together from, and its LoRAs."""
    parts: dict[Path, None] = {}
    loras = []
    for role, path in record.by_role(hub):
        if role is Role.LORA:
            loras.append(Lora(path))
        elif role is Role.TOKENIZER:
            parts[path.parent] = None
        elif path.is_dir() or path.suffix in SUFFIXES:
            parts[path] = None
    return list(parts), tuple(loras)
