"""Models as ComfyUI's folders hold them: whole folders, and single files that are put together."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.presets import PRESETS
from infinitetalk.engine.job import Workshop
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.hub.client import Hub
from infinitetalk.weights.hub.store import readable
from infinitetalk.weights.locate import bundled

FOLDER = "infinitetalk"
FILES = "files below"
SEARCHED = "search"
PARTS: Mapping[str, tuple[str, ...]] = {
    "diffusion_model": ("diffusion_models",),
    "adapter": ("model_patches", "diffusion_models"),
    "text_encoder": ("text_encoders",),
    "clip_vision": ("clip_vision",),
    "vae": ("vae",),
    "audio_encoder": ("audio_encoders",),
}
"""A part's widget → ComfyUI's folders for it."""


@dataclass(frozen=True)
class Model:
    """What the loader hands to the sampler."""

    name: str
    loras: str
    workshop: Workshop


def register() -> None:
    """Adds `models/infinitetalk`, for whole model folders."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir, FOLDER)))


def names() -> list[str]:
    """Bundled models, downloaded presets, folders in `models/infinitetalk`, and single files."""
    hub = Hub.from_environment()
    here = [record.name for record in readable(hub) if record.name in PRESETS and not record.lacking(hub)]
    return [*bundled(), *here, *sorted(_folders()), FILES]


def _folders() -> Mapping[str, Path]:
    homes = [Path(home) for home in folder_paths.get_folder_paths(FOLDER)]
    return {path.name: path for home in homes if home.is_dir() for path in home.iterdir() if path.is_dir()}


def files(part: str) -> dict[str, Path]:
    """Weight files by name that could be a part; ComfyUI's own list leaves GGUF files out."""
    found = {}
    for kind in PARTS[part]:
        if kind not in folder_paths.folder_names_and_paths:
            continue
        for name in folder_paths.get_filename_list(kind):
            found[name] = Path(folder_paths.get_full_path_or_raise(kind, name))
        for home in map(Path, folder_paths.get_folder_paths(kind)):
            found |= {path.relative_to(home).as_posix(): path for path in home.rglob("*.gguf")}
    return found


def load(name: str, chosen: Mapping[str, str], memory: MemorySettings, loras: str, device: str) -> Model:
    """Looks at a model's files; weights are loaded when the sampler needs them.

    Raises:
        InfiniteTalkError: files that make no model.
    """
    if name == FILES:
        # Parts that are not named are looked for in ComfyUI's folders too.
        os.environ.setdefault("COMFYUI_PATH", folder_paths.base_path)
        paths = [str(files(part)[file]) for part, file in chosen.items() if file != SEARCHED]
        name = ",".join(paths) or str(folder_paths.models_dir)
    else:
        name = str(_folders().get(name, name))
    ModelFolder.open(name)
    return Model(name, loras, Workshop(device, memory))
