"""The VAE in tiles: they cover all, fade into each other, and give nearly what whole frames give."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinitetalk.engine.codec import OVERLAP, decode, encode, spans
from infinitetalk.engine.engine import Engine

DEMO = Path(__file__).parents[2] / "src" / "infinitetalk" / "assets" / "demo"


@pytest.mark.parametrize(("length", "cells"), [(8, 16), (16, 16), (17, 16), (40, 16), (80, 32), (81, 32), (160, 32)])
def test_spans_cover_all(length: int, cells: int) -> None:
    found = spans(length, cells)
    assert set().union(*found) == set(range(length))
    assert all(len(span) == min(cells, length) for span in found)
    assert all(before.stop - after.start >= OVERLAP for before, after in pairwise(found))


@torch.inference_mode()
def test_tiles_stay_near_whole_frames() -> None:
    """With the trained VAE: on 256x256, tiles of 128 differ by less than half a step of 8 bits on the mean."""
    vae = Engine.from_pretrained("nano", device="cpu").model.vae
    picture = np.asarray(Image.open(DEMO / "portrait_1.png").convert("RGB").resize((256, 256)))
    frame = torch.from_numpy(picture.copy()).permute(2, 0, 1).float()[None, :, None] / 127.5 - 1
    whole, tiled = encode(vae, frame), encode(vae, frame, 128)
    assert whole.shape == tiled.shape
    assert float((tiled - whole).norm() / whole.norm()) < 0.05
    shown, pieces = decode(vae, whole), decode(vae, whole, 128)
    assert shown.shape == pieces.shape
    assert float((pieces - shown).abs().mean()) * 127.5 < 0.5
    assert float((pieces - shown).abs().max()) > 0


@torch.inference_mode()
def test_a_tile_as_large_as_the_frame_changes_nothing() -> None:
    vae = Engine.from_pretrained("nano", device="cpu").model.vae
    video = torch.rand(1, 3, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(encode(vae, video, 64), encode(vae, video))
