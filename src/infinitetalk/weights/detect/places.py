"""Where weights usually lie on a machine: the path list of its user, the hub's cache, ComfyUI's model folders."""

import os
from pathlib import Path

from infinitetalk.core.errors import ModelError

VARIABLE = "INFINITETALK_MODELS"
COMFY_VARIABLE = "COMFYUI_PATH"
COMFY_HOMES = ("ComfyUI", "comfy/ComfyUI", "Documents/ComfyUI", "comfyui")
COMFY_FOLDERS = (
    "diffusion_models", "unet", "model_patches", "text_encoders", "clip", "clip_vision", "vae", "audio_encoders",
    "wav2vec2", "transformers",
)  # fmt: skip
"""Folders below ComfyUI's `models` that hold parts of video models."""


def hub_cache() -> Path:
    """The Hugging Face cache, as the hub's own programs find it."""
    if named := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def places() -> tuple[Path, ...]:
    """Folders to look for weights in, in this order, those that are there.

    `INFINITETALK_MODELS` may list more, separated as PATH is; they come first.

    Raises:
        ModelError: a listed folder that is not there.
    """
    listed = [Path(entry).expanduser() for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    if lost := next((path for path in listed if not path.is_dir()), None):
        raise ModelError(f"{VARIABLE} lists {lost}, and there is no such folder")
    homes = [Path(named)] if (named := os.environ.get(COMFY_VARIABLE)) else [Path.home() / home for home in COMFY_HOMES]
    comfy = [home / "models" / folder for home in homes for folder in COMFY_FOLDERS]
    found = [path for path in (*listed, hub_cache(), *comfy) if path.is_dir()]
    return tuple({path.resolve(): path for path in found}.values())
