"""What lies between the VAE's convolutions in fused kernels, against the plain form, in Triton's interpreter."""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import VAEConfig
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine import codec
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vae_blocks import CausalConv, Lively, Memory
from infinitetalk.ops.conv import words
from infinitetalk.ops.pixels import Pixels
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


def compare_networks() -> None:
    """Coding a whole video, and piece by piece."""
    from infinitetalk.ops.pixels_triton import FusedPixels

    net = shaken(VideoVAE(SMALL))
    video, latent = noise(1, 3, 9, 16, 16), noise(1, 16, 3, 2, 2)
    with torch.no_grad():
        truth = net.encode(video), net.decode(latent)
        net.compute_by(FusedPixels())
        pieces = torch.cat(list(net.decode_stream([latent])), dim=2)
        for found, wanted in zip((net.encode(video), net.decode(latent), pieces), (*truth, truth[1]), strict=True):
            torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


@NEEDS_TRITON
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fused_kernels_give_what_the_plain_form_does(dtype: str) -> None:
    interpret(f"from tests.kernels.test_pixels import *; compare(torch.{dtype})")


@NEEDS_TRITON
def test_a_vae_of_fused_kernels_codes_as_the_plain_one() -> None:
    interpret("from tests.kernels.test_pixels import *; compare_networks()")


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
