"""From a downloaded preset's name to its model: its files, put together, with the settings that the preset wants."""

from dataclasses import replace
from pathlib import Path

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.core.loras import Lora
from infinitetalk.core.presets import DIT_ROLES, PRESETS, Preset, Role
from infinitetalk.weights.detect.assemble import assemble, choose, refuse_named
from infinitetalk.weights.detect.collect import collect
from infinitetalk.weights.detect.component import TRANSFORMERS, Component
from infinitetalk.weights.folder import ModelFolder, Part
from infinitetalk.weights.header import SUFFIXES
from infinitetalk.weights.hub.client import Hub, cached
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


def open_transformer(hub: Hub, record: Record) -> tuple[Part[DiTConfig], tuple[Lora, ...]]:
    """The transformer of a preset and its LoRAs; nothing else of it need be here yet.

    Raises:
        ModelError: files that were not downloaded, or that make no transformer.
    """
    own = [(held, cached(hub, held.entry)) for held in record.files if held.entry.role in DIT_ROLES]
    if lost := [held.entry.short for held, path in own if path is None]:
        raise ModelError(
            f"model {record.name} lacks {', '.join(lost)}; run: infinitetalk download {record.name} --part dit"
        )
    paths = [(held.entry.role, path) for held, path in own if path is not None]
    loras = tuple(Lora(path) for role, path in paths if role is Role.LORA)
    files = [path for role, path in paths if role is not Role.LORA and path.suffix in SUFFIXES]
    given = collect(files)
    refuse_named(given)
    choice = choose(given)
    if choice.dit is None or Component.ADAPTER in choice.lacking:
        raise ModelError(f"model {record.name}: {', '.join(path.name for path in files)} make no whole transformer")
    units = [choice.parts[part] for part in TRANSFORMERS if part in choice.parts]
    return Part(choice.dit, tuple(file for unit in units for file in unit.files)), loras


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
