"""The causal video VAE: pieces give what the whole gives, nothing looks ahead, precision, refusals."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from infinitetalk.core.configs import VAEConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vae_blocks import TimeConv
from tests.nets.random_nets import noise, shaken

SMALL = VAEConfig(dim=8, num_res_blocks=1)


def build(config: VAEConfig = SMALL, seed: int = 0) -> VideoVAE:
    return shaken(VideoVAE(config), seed)


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    return build()


@pytest.fixture(scope="module")
def video() -> Tensor:
    return noise(1, 3, 17, 16, 24).clamp(-1, 1)


@pytest.mark.parametrize("cuts", [[17], [1, 16], [1, 4, 4, 4, 4], [2, 3, 1, 11], [1] * 17])
@pytest.mark.parametrize("step", [1, 3])
@torch.inference_mode()
def test_encoding_in_pieces(vae: VideoVAE, video: Tensor, cuts: list[int], step: int) -> None:
    pieces = list(vae.encode_stream(torch.split(video, cuts, dim=2), step))
    assert pieces[0].shape[2] == 1
    torch.testing.assert_close(torch.cat(pieces, dim=2), vae.encode(video), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cuts", [[5], [1, 4], [2, 3], [1] * 5])
@pytest.mark.parametrize("step", [1, 3])
@torch.inference_mode()
def test_decoding_in_pieces(vae: VideoVAE, cuts: list[int], step: int) -> None:
    latent = noise(2, 16, 5, 2, 3)
    pieces = list(vae.decode_stream(torch.split(latent, cuts, dim=2), step))
    assert pieces[0].shape == (2, 3, 1, 16, 24)
    torch.testing.assert_close(torch.cat(pieces, dim=2), vae.decode(latent), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("times", [(False, True, True), (True, True, False), (False, False, True), (False,) * 3])
@pytest.mark.parametrize("at_once", [1, 2, 3])
@torch.inference_mode()
def test_few_frames_at_once_through_the_layers_with_the_most_pixels(times: tuple[bool, ...], at_once: int) -> None:
    """Less memory, the same video; no layer there meets more frames than it may."""
    vae = build(replace(SMALL, temporal_downsample=times))
    video = noise(1, 3, 1 + 3 * 2 ** sum(times), 16, 16)
    latent = vae.encode(video)
    met: list[int] = []
    for layer in (vae.encoder.conv1, vae.decoder.head[-1]):
        layer.register_forward_hook(lambda _layer, given, _made: met.append(given[0].shape[1]))
    coded = torch.cat(list(vae.encode_stream([video], 2, at_once)), dim=2)
    decoded = torch.cat(list(vae.decode_stream([latent], 2, at_once)), dim=2)
    assert max(met) <= at_once
    torch.testing.assert_close(coded, latent, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(decoded, vae.decode(latent), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("times", [(True, True, False), (False, False, True), (False, False, False)])
@torch.inference_mode()
def test_any_time_strides(times: tuple[bool, ...]) -> None:
    vae = build(replace(SMALL, temporal_downsample=times))
    stride = 2 ** sum(times)
    video = noise(1, 3, 1 + 2 * stride, 16, 16)
    latent = vae.encode(video)
    assert latent.shape == (1, 16, 3, 2, 2)
    torch.testing.assert_close(torch.cat([*vae.encode_stream([video])], dim=2), latent, atol=1e-5, rtol=1e-4)
    decoded = vae.decode(latent)
    assert decoded.shape == video.shape
    torch.testing.assert_close(torch.cat([*vae.decode_stream([latent])], dim=2), decoded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 5, 9])
@torch.inference_mode()
def test_sizes(vae: VideoVAE, frames: int) -> None:
    latent = vae.encode(noise(2, 3, frames, 32, 16))
    assert latent.shape == (2, 16, 1 + frames // 4, 4, 2)
    assert vae.decode(latent).shape == (2, 3, frames, 32, 16)


@torch.inference_mode()
def test_nothing_looks_ahead(vae: VideoVAE, video: Tensor) -> None:
    changed = video.clone()
    changed[:, :, 5:] = 0
    whole, cut = vae.encode(video), vae.encode(changed)
    torch.testing.assert_close(cut[:, :, :2], whole[:, :, :2], atol=1e-5, rtol=1e-4)
    assert (cut[:, :, 2] - whole[:, :, 2]).abs().max() > 1e-3
    torch.testing.assert_close(vae.decode(whole[:, :, :2]), vae.decode(whole)[:, :, :5], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_batch_answers_as_its_samples_do_alone(vae: VideoVAE) -> None:
    videos = noise(2, 3, 5, 16, 16)
    latents = vae.encode(videos)
    torch.testing.assert_close(latents[1:], vae.encode(videos[1:]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vae.decode(latents)[1:], vae.decode(latents[1:]), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_decoding_starts_before_all_latents_are_there(vae: VideoVAE) -> None:
    asked = []

    def latents() -> Iterator[Tensor]:
        for index in range(4):
            asked.append(index)
            yield noise(1, 16, 1, 2, 2, seed=index)

    frames = vae.decode_stream(latents())
    assert next(frames).shape[2] == 1
    assert next(frames).shape[2] == 4
    assert asked == [0, 1]


@torch.inference_mode()
def test_latents_are_normalised_by_the_configuration(vae: VideoVAE, video: Tensor) -> None:
    mean, _ = vae.moments(video[:, :, :5])
    config = replace(SMALL, mean=(0.5,) * 16, std=(2.0,) * 16)
    other = VideoVAE(config)
    other.load_state_dict(vae.state_dict())
    latent = other.encode(video[:, :, :5])
    torch.testing.assert_close(latent, (mean - 0.5) / 2)
    torch.testing.assert_close(other.decode(latent), vae.decode(vae.normalise(mean)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frames", [2, 4, 80])
def test_other_numbers_of_frames_are_refused(vae: VideoVAE, frames: int) -> None:
    video = torch.zeros(1, 3, frames, 16, 16)
    with pytest.raises(ValueError, match="need 4n"):
        vae.encode(video)
    with pytest.raises(ValueError, match="need 4n"), torch.no_grad():
        list(vae.encode_stream([video]))


def test_configurations_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="temporal_downsample must have 3 entries"):
        VideoVAE(replace(SMALL, temporal_downsample=(True, True)))
    with pytest.raises(ModelError, match="z_dim = 8"):
        VideoVAE(replace(SMALL, z_dim=8))


@torch.inference_mode()
def test_bfloat16_stays_near_float32(video: Tensor) -> None:
    net = build()
    latent = net.encode(video[:, :, :5])
    decoded = net.decode(latent)
    half = net.bfloat16()
    assert half.encode(video[:, :, :5]).dtype == half.decode(latent).dtype == torch.float32
    assert (half.encode(video[:, :, :5]) - latent).norm() / latent.norm() < 0.1
    assert (half.decode(latent) - decoded).norm() / decoded.norm() < 0.1


def test_training_under_autocast_reaches_every_weight() -> None:
    net = build()
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = net.moments(noise(2, 3, 5, 16, 16))
        video = net.decode(net.normalise(mean + log_variance))
    assert mean.dtype == video.dtype == torch.float32
    torch.autograd.backward(video.square().mean())
    idle = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle


def test_a_network_built_on_meta_has_nothing_but_its_weights(vae: VideoVAE) -> None:
    with torch.device("meta"):
        net = VideoVAE(SMALL)
    assert not dict(net.named_buffers())
    net.load_state_dict(vae.state_dict(), strict=True, assign=True)
    latent = noise(1, 16, 2, 2, 2)
    with torch.inference_mode():
        torch.testing.assert_close(net.decode(latent), vae.decode(latent), atol=0, rtol=0)


def test_first_weights_are_reproducible() -> None:
    states = []
    for _ in range(2):
        net = VideoVAE(SMALL)
        net.init_weights(torch.Generator().manual_seed(7))
        states.append(net.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_resampling_over_time_starts_as_picking_and_repeating() -> None:
    frames = noise(1, 7, 2, 2, 4)
    halve, double = TimeConv(4, 4, stride=2), TimeConv(4, 8)
    halve.pick_frames()
    double.pick_frames()
    torch.testing.assert_close(halve(frames), frames[:, 1::2])
    torch.testing.assert_close(double(frames), torch.cat([frames[:, 2:]] * 2, dim=-1))
    assert isinstance(halve, nn.Conv3d)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("stages", [(False, True, True), (True, True, False)])
@pytest.mark.parametrize("frames", [1, 5, 33, 81])
@torch.inference_mode()
def test_still_pictures_are_encoded_as_videos_are(blocks: int, stages: tuple[bool, ...], frames: int) -> None:
    vae = build(replace(SMALL, dim_mult=(1, 1, 1, 1), num_res_blocks=blocks, temporal_downsample=stages))
    video = torch.zeros(2, 3, frames, 16, 24)
    video[:, :, :1] = noise(2, 3, 1, 16, 24).clamp(-1, 1)
    torch.testing.assert_close(vae.encode_still(video[:, :, :1], frames), vae.encode(video), atol=1e-5, rtol=1e-4)


def test_still_pictures_of_other_lengths_are_refused(vae: VideoVAE) -> None:
    with pytest.raises(ValueError, match="8 frames cannot be encoded: need 4n"):
        vae.encode_still(torch.zeros(1, 3, 1, 16, 24), 8)
