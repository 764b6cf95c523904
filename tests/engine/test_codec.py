"""Pieces of time change nothing but memory."""

import pytest
import torch

from infinitetalk.engine import codec
from infinitetalk.engine.codec import decode, encode, encode_still, latent_count
from infinitetalk.engine.model import Model


def test_latent_frames_are_whole() -> None:
    assert [latent_count(frames) for frames in (1, 3, 4, 5, 8, 9, 81)] == [1, 1, 1, 2, 2, 3, 21]


@pytest.mark.parametrize("frames", [1, 5, 13])
@pytest.mark.parametrize("pixels", [1, 64 * 64 * 2, 10**9])
def test_pieces_equal_the_whole(tiny: Model, monkeypatch: pytest.MonkeyPatch, frames: int, pixels: int) -> None:
    video = torch.rand(1, 3, frames, 64, 64, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    monkeypatch.setattr(codec, "_PIXELS_AT_A_TIME", pixels)
    with torch.inference_mode():
        latent = encode(tiny.vae, video)
        assert torch.allclose(latent, tiny.vae.encode(video), atol=1e-4)
        assert torch.allclose(decode(tiny.vae, latent), tiny.vae.decode(latent).clamp(-1, 1), atol=1e-4)


def test_frames_behind_the_last_whole_latent_are_not_seen(tiny: Model) -> None:
    video = torch.rand(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(encode(tiny.vae, video), encode(tiny.vae, video[:, :, :5]))


def test_a_still_picture_is_encoded_as_its_video_is(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    video = torch.zeros(1, 3, 23, 64, 64)
    video[:, :, :1] = torch.rand(1, 3, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    picture = video[:, :, :1]
    with torch.inference_mode():
        wanted = encode(tiny.vae, video)
        assert torch.allclose(encode_still(tiny.vae, picture, 23), wanted, atol=1e-4)
        # Where memory is short, and for large pictures, the video itself goes through the network.
        tiled = encode(tiny.vae, video, 32)
        monkeypatch.setattr(type(tiny.vae), "encode_still", None)
        assert torch.equal(encode_still(tiny.vae, picture, 23, tile=32), tiled)
        assert torch.allclose(encode_still(tiny.vae, picture, 23, at_once=1), wanted, atol=1e-4)
        monkeypatch.setattr(codec, "_STILL_PIXELS", 64 * 63)
        assert torch.equal(encode_still(tiny.vae, picture, 23), wanted)
