"""Relatives of the networks that InfiniteTalk was trained with: they look alike, and do not fit."""

import re
from collections.abc import Mapping
from pathlib import Path

from infinitetalk.weights.detect.component import Component

Shape = tuple[int, ...]

NEEDED = "InfiniteTalk needs Wan2.1-I2V-14B (480P or 720P)"

_FOREIGN: tuple[tuple[str, str], ...] = (
    (r"vace_(?:blocks|patch_embedding)\..+", "a VACE model"),
    (r"img_emb\.emb_pos|condition_embedder\.image_embedder\.pos_embed", "a first-and-last-frame model (FLF2V)"),
    (r"(?:casual_audio_encoder|audio_injector|cond_encoder|frame_packer)\..+", "Wan 2.2's speech-to-video model (S2V)"),
    (r"(?:face_adapter|motion_encoder|face_encoder|pose_patch_embedding)\..+", "Wan 2.2's Animate model"),
    (r"(?:control_adapter|ref_conv)\..+", "a Fun Control model"),
)
"""Tensors that only these relatives have."""

SMALL = 1536
FIVE_B = 3072
TEXT_CHANNELS, PICTURE_CHANNELS, SECOND_VAE_CHANNELS = 16, 36, 48


def refusal(component: Component, shapes: Mapping[str, Shape]) -> str:
    """Why a network that was recognised can never be used here; empty where it may.

    Args:
        component: what it looks like.
        shapes: this package's names of its tensors → their shapes.
    """
    if component is Component.VAE:
        latent = shapes.get("conv2.weight", ())
        wrong = latent[:1] == (SECOND_VAE_CHANNELS,)
        return "the VAE of Wan 2.2's 5B model; InfiniteTalk needs Wan 2.1's (Wan2.1_VAE.pth)" if wrong else ""
    if component not in (Component.BASE, Component.MERGED):
        return ""
    relative = _foreign(shapes) or (_base(shapes) if component is Component.BASE else "")
    return f"{relative}; {NEEDED}" if relative else ""


def _foreign(shapes: Mapping[str, Shape]) -> str:
    for pattern, what in _FOREIGN:
        if any(re.fullmatch(pattern, name) for name in shapes):
            return what
    return ""


def _base(shapes: Mapping[str, Shape]) -> str:
    """What a base is if it is not the one for pictures."""
    patch = shapes.get("patch_embedding.weight", ())
    if len(patch) < 2:
        return ""
    dim, channels = patch[:2]
    if dim == FIVE_B and channels == SECOND_VAE_CHANNELS:
        return "a base of Wan 2.2 (TI2V-5B)"
    size = " of 1.3B" if dim == SMALL else ""
    if channels == TEXT_CHANNELS:
        return f"a text-to-video base{size}"
    if size:
        return f"a base{size}"
    if channels == PICTURE_CHANNELS and "img_emb.proj.1.weight" not in shapes:
        return "a base of Wan 2.2 (I2V-A14B, without picture attention)"
    return ""


def people_of(path: Path) -> str:
    """Whether a file's own name, or its folder's, says that it was trained for one person or for several."""
    for word in (path.stem, path.parent.name):
        parts = re.split(r"[^a-z]+", word.lower())
        told = {part for part in ("single", "multi") if part in parts}
        if len(told) == 1:
            return told.pop()
    return ""
