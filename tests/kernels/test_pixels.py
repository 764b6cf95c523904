"""What lies between the VAE's convolutions in fused kernels, against the plain form, in Triton's interpreter."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from threading import Barrier, Lock
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import VAEConfig
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine import codec
from infinitetalk.models import vae_blocks
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vae_blocks import CausalConv, Lively, Memory
from infinitetalk.ops.conv import Reading, words
from infinitetalk.ops.parallel import Edges
from infinitetalk.ops.pixels import Pixels
from infinitetalk.ops.ranks import Ranks
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.regions import choose_pixels
from tests.kernels.interpreted import interpret
from tests.nets.random_nets import noise, shaken

SMALL = VAEConfig(dim=8, num_res_blocks=1)
NEEDS_TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")


def compare(dtype: torch.dtype) -> None:
    """Each kernel, with a bias and without; a pixel of zeros among them."""
    from infinitetalk.ops.pixels_triton import FusedPixels

    fused, plain = FusedPixels(), Pixels()
    x, answer, gamma = noise(2, 3, 5, 7, 24).to(dtype), noise(2, 3, 5, 7, 24, seed=1).to(dtype), noise(24, 1, 1, 1)
    x[0, 0, 0, 0] = 0
    atol, rtol = (1e-6, 1e-5) if dtype == torch.float32 else (0.05, 0.05)
    for bias in (None, noise(24, seed=2).to(dtype)):
        torch.testing.assert_close(fused.lively(x, gamma, bias), plain.lively(x, gamma, bias), atol=atol, rtol=rtol)
        torch.testing.assert_close(fused.joined(x, answer, bias), plain.joined(x, answer, bias), atol=atol, rtol=rtol)
    assert not fused.lively(x, gamma)[0, 0, 0, 0].any()


def readings(x: Tensor) -> Iterator[Reading]:
    """Every way in which frames x [B, T, H, W, C] are read: with a past or none, alone, at either end of a picture."""
    rows = [noise(*x.shape[:2], 1, *x.shape[3:], seed=seed).to(x.dtype) for seed in (3, 4)]
    for edges in (None, Edges(rows[0], None), Edges(None, rows[1]), Edges(rows[0], rows[1])):
        high = x.shape[2] + (0 if edges is None else 2)
        past = noise(x.shape[0], 2, high, *x.shape[3:], seed=5).to(x.dtype)
        lone = [Reading(2, None, lone=True, taps=1)] if x.shape[1] == 1 else []
        for reading in (Reading(2, past), Reading(2, past, taps=3), Reading(2), Reading(2, taps=3), *lone):
            yield reading._replace(edges=edges, keep=True)
            if edges is None:
                yield reading


def compare_frames(dtype: torch.dtype) -> None:
    """Frames as the next convolution reads them, and those that are kept."""
    from infinitetalk.ops.pixels_triton import FusedPixels

    fused, plain = FusedPixels(), Pixels()
    gamma, bias = noise(24, 1, 1, 1), noise(24, seed=2).to(dtype)
    atol, rtol = (1e-6, 1e-5) if dtype == torch.float32 else (0.05, 0.05)
    for count, added in ((1, None), (1, bias), (3, bias)):
        x = noise(2, count, 5, 7, 24).to(dtype)
        for reading in readings(x):
            found, wanted = (form.frames(x, reading, gamma, added) for form in (fused, plain))
            for ours, theirs in zip(found, wanted, strict=True):
                torch.testing.assert_close(ours, theirs, atol=atol, rtol=rtol)


def compare_networks(*, stacked: bool) -> None:
    """Coding a whole video, piece by piece, and a stream that goes on with the other form."""
    from infinitetalk.ops.pixels_triton import FusedPixels

    net = shaken(VideoVAE(SMALL))
    video, latent = noise(1, 3, 9, 16, 16), noise(1, 16, 3, 2, 2)
    with torch.no_grad(), patch.object(vae_blocks, "side_by_side", lambda _, weight: weight.shape[2] if stacked else 1):
        truth = net.encode(video), net.decode(latent)
        net.compute_by(FusedPixels())
        pieces = torch.cat(list(net.decode_stream([latent])), dim=2)
        changing = []
        for pixels, piece in zip((FusedPixels(), Pixels(), FusedPixels()), net.decode_stream([latent]), strict=True):
            net.compute_by(pixels)
            changing.append(piece)
        found = net.encode(video), net.decode(latent), pieces, torch.cat(changing, dim=2)
        for ours, theirs in zip(found, (*truth, truth[1], truth[1]), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


class Thread(Ranks):
    """One of several threads that stand for processes."""

    def __init__(self, rank: int, meeting: Barrier, sent: list[Tensor]) -> None:
        self.rank, self.size, self._meeting, self._sent = rank, meeting.parties, meeting, sent

    def _gathered(self, x: Tensor) -> Tensor:
        self._sent[self.rank] = x
        self._meeting.wait(60)
        taken = torch.stack(self._sent)
        self._meeting.wait(60)
        return taken


def compare_shared(pixels: Pixels) -> None:
    """Three threads, of which one is at neither end of the picture, make what one makes, in pieces."""
    nets = [shaken(VideoVAE(SMALL)) for _ in range(3)]
    video, latent = noise(1, 3, 9, 56, 16), noise(1, 16, 3, 7, 2)
    with torch.no_grad():
        truth = nets[0].encode(video), nets[0].decode(latent)
    meeting, sent = Barrier(3), [torch.empty(0)] * 3

    @torch.no_grad()
    def code(rank: int) -> tuple[Tensor, Tensor]:
        net = nets[rank]
        net.parallel = Thread(rank, meeting, sent)
        net.compute_by(pixels)
        coded = [torch.cat(list(made), dim=2) for made in (net.encode_stream([video]), net.decode_stream([latent]))]
        return coded[0], coded[1]

    with ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(code, range(3)))
    for found, wanted in zip(zip(*parts, strict=True), truth, strict=True):
        torch.testing.assert_close(torch.cat(found, dim=3), wanted, atol=2e-5, rtol=1e-4)


def test_rows_that_are_shared_are_those_of_one_process() -> None:
    compare_shared(Pixels())


def compare_shared_fused() -> None:
    """The interpreter runs one kernel at a time."""
    from infinitetalk.ops.pixels_triton import FusedPixels

    turn = Lock()

    class OneAtATime(FusedPixels):
        def frames(self, *given: Any, **more: Any) -> tuple[Tensor, Tensor | None]:
            with turn:
                return super().frames(*given, **more)

        def joined(self, *given: Any) -> Tensor:
            with turn:
                return super().joined(*given)

    compare_shared(OneAtATime())


@NEEDS_TRITON
@pytest.mark.full
def test_rows_that_are_shared_pass_through_fused_kernels() -> None:
    interpret("from tests.kernels.test_pixels import *; compare_shared_fused()")


@NEEDS_TRITON
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fused_kernels_give_what_the_plain_form_does(dtype: str) -> None:
    interpret(f"from tests.kernels.test_pixels import *; compare(torch.{dtype})")


@NEEDS_TRITON
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_frames_are_written_as_the_next_convolution_reads_them(dtype: str) -> None:
    interpret(f"from tests.kernels.test_pixels import *; compare_frames(torch.{dtype})")


@NEEDS_TRITON
@pytest.mark.parametrize("stacked", [True, pytest.param(False, marks=pytest.mark.full)])
def test_a_vae_of_fused_kernels_codes_as_the_plain_one(*, stacked: bool) -> None:
    interpret(f"from tests.kernels.test_pixels import *; compare_networks(stacked={stacked})")


class Late(Pixels):
    """Adds biases itself, in plain operations."""

    biases = True


def test_biases_are_added_once_whoever_adds_them() -> None:
    net = shaken(VideoVAE(SMALL))
    assert any(isinstance(layer, CausalConv) and layer.bias is not None and layer.bias.any() for layer in net.modules())
    latent = noise(1, 16, 3, 2, 2)
    with torch.no_grad():
        truth = net.decode(latent)
        net.compute_by(Late())
        torch.testing.assert_close(net.decode(latent), truth, atol=1e-5, rtol=1e-4)


def test_a_network_alone_computes_plainly_and_so_does_a_cpu() -> None:
    net = VideoVAE(SMALL)
    assert {type(layer.pixels) for layer in net.modules() if isinstance(layer, Lively)} == {Pixels}
    assert type(choose_pixels(Device.choose("cpu"), MemorySettings())) is Pixels


def test_in_16_bits_two_latent_frames_pass_together_unless_memory_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    net = VideoVAE(SMALL)
    pieces: list[int] = []
    decode_piece = net._decode

    def noted(latent: Tensor, memory: Memory | None) -> Tensor:
        pieces.append(latent.shape[2])
        return decode_piece(latent, memory)

    monkeypatch.setattr(net, "_decode", noted)
    large = torch.zeros(1, 16, 4, 33, 32)
    for half, at_once, wanted in ((False, None, [1, 1, 1, 1]), (True, None, [1, 2, 1]), (True, 1, [1, 1, 1, 1])):
        pieces.clear()
        with torch.no_grad():
            codec.decode(net.to(torch.bfloat16 if half else torch.float32), large, at_once=at_once)
        assert pieces == wanted


def test_values_are_copied_about_as_words_where_they_fit() -> None:
    x = noise(1, 4, 2, 3, 8).to(torch.bfloat16)
    assert words(x).dtype == torch.int64
    assert torch.equal(words(x[:, 1:]).view(x.dtype), x[:, 1:])
    for other in (x[..., :6], x[..., 1:5], x.transpose(-1, -2), x.clone().requires_grad_()):
        assert words(other) is other
