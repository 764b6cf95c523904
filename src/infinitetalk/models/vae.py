"""The causal video VAE: video [-1, 1] ↔ latents with a quarter of the frames and an eighth of the height and width.

The first latent frame stands for the first video frame alone. Parameter names are those of Wan 2.1's checkpoint.
"""

import itertools
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import VAEConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.vae_blocks import (
    AttentionBlock,
    CausalConv,
    Chain,
    ChannelNorm,
    Downsample,
    Ending,
    Lively,
    Memory,
    ResidualBlock,
    Streamed,
    TimeConv,
    Upsample,
    chain,
    pass_through,
)
from infinitetalk.ops.parallel import ALONE, Parallel
from infinitetalk.ops.pixels import Pixels


class Encoder(nn.Module):
    """Video → 2 z_dim moments per latent cell."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.dim * factor for factor in (1, *config.dim_mult)]
        self.conv1 = CausalConv(3, widths[0])
        levels: list[nn.Module] = []
        for level, (channels, out) in enumerate(itertools.pairwise(widths)):
            levels += _residuals(channels, out, config.num_res_blocks)
            if level < len(config.temporal_downsample):
                levels.append(Downsample(out, time=config.temporal_downsample[level]))
        self.downsamples = Chain(*levels)
        self.fine = next((index for index, layer in enumerate(levels) if _changes_frames(layer)), len(levels))
        """How many of these layers come before the frames are halved: those with the most pixels."""
        self.middle = _middle(widths[-1])
        self.head = Ending(ChannelNorm(widths[-1]), nn.SiLU(), CausalConv(widths[-1], 2 * config.z_dim))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        layers = [*self.downsamples]
        x = pass_through([self.conv1, *layers[: self.fine]], x, memory)
        x = chain(layers[self.fine :], x, memory)
        moments: Tensor = self.head(self.middle(x, memory), memory)
        return moments


class Decoder(nn.Module):
    """Latents → video."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        factors = config.dim_mult[::-1]
        widths = [config.dim * factor for factor in (factors[0], *factors)]
        self.conv1 = CausalConv(config.z_dim, widths[0])
        self.middle = _middle(widths[0])
        levels: list[nn.Module] = []
        times = config.temporal_downsample[::-1]
        for level, (channels, out) in enumerate(itertools.pairwise(widths)):
            # Every upsampling before has halved the channels.
            levels += _residuals(channels // 2 if level else channels, out, config.num_res_blocks + 1)
            if level < len(times):
                levels.append(Upsample(out, time=times[level]))
        self.upsamples = Chain(*levels)
        self.fine = max((index + 1 for index, layer in enumerate(levels) if _changes_frames(layer)), default=0)
        """From which of these layers on all frames are there: those with the most pixels."""
        self.head = Ending(ChannelNorm(widths[-1]), nn.SiLU(), CausalConv(widths[-1], 3))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        layers = [*self.upsamples]
        x = self.middle(self.conv1(x, memory), memory)
        x = chain(layers[: self.fine], x, memory)
        return pass_through([*layers[self.fine :], self.head], x, memory)


class VideoVAE(nn.Module):
    """Encodes and decodes videos, whole or as streams; both give the same within rounding.

    `encode` and `decode` take the whole video in one piece: fastest on a GPU and for training, at a memory that grows
    with its length. The streams hold the layers' last frames and one piece.

    Several processes can share the work of the streams: each gets the whole input and makes its rows of the output.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        if len(config.temporal_downsample) != len(config.dim_mult) - 1:
            raise ModelError(
                f"temporal_downsample must have {len(config.dim_mult) - 1} entries, one less than dim_mult"
            )
        if not len(config.mean) == len(config.std) == config.z_dim:
            raise ModelError(f"mean and std must have z_dim = {config.z_dim} numbers each")
        self.config = config
        self._known: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.time_stride = 2 ** sum(config.temporal_downsample)
        self.space_stride = 2 ** len(config.temporal_downsample)
        self.parallel: Parallel = ALONE
        """With whom rows are shared; see `sharing`."""
        self.pixels = Pixels()
        """What computes between convolutions."""
        self.encoder = Encoder(config)
        self.conv1 = CausalConv(2 * config.z_dim, 2 * config.z_dim, 1)
        self.conv2 = CausalConv(config.z_dim, config.z_dim, 1)
        self.decoder = Decoder(config)

    def compute_by(self, pixels: Pixels) -> None:
        """Lets this compute between convolutions from now on."""
        self.pixels = pixels
        for module in self.modules():
            if isinstance(module, Lively):
                module.pixels = pixels

    def sharing(self, rows: int) -> Parallel:
        """With whom so many rows of latents are shared: with nobody if there are fewer rows than processes."""
        return self.parallel if rows >= self.parallel.size else ALONE

    def moments(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [B, z_dim, T, h, w] float32 of the latents of a video, before normalisation."""
        mean, log_variance = self._encode(video, None).chunk(2, dim=1)
        return mean, log_variance

    def normalise(self, latent: Tensor) -> Tensor:
        """Raw latents [B, z_dim, T, h, w] → those that the DiT works on, by the configuration's mean and std."""
        mean, std = self._statistics(latent.device)
        return (latent.float() - mean) / std

    def encode(self, video: Tensor) -> Tensor:
        """Encodes a whole video.

        Args:
            video: [B, 3, F, H, W] in [-1, 1]; F = 4n+1, H and W multiples of 8.

        Returns:
            normalised mean latents [B, z_dim, n+1, H/8, W/8] float32.

        Raises:
            ValueError: a number of frames that is not 4n+1.
        """
        return self.normalise(self.moments(video)[0])

    def encode_still(self, picture: Tensor, frames: int) -> Tensor:
        """Encodes a picture that grey frames follow: as `encode` does within rounding, for a fraction of the work.

        A layer sees so little of the past that its answers to grey frames soon repeat. Every layer is asked until then,
        and the last answer stands for all later ones.

        Args:
            picture: [B, 3, 1, H, W] in [-1, 1], H and W multiples of 8.
            frames: 4n+1, the picture's included.

        Returns:
            normalised mean latents [B, z_dim, n+1, H/8, W/8] float32.

        Raises:
            ValueError: a number of frames that is not 4n+1.
        """
        if (frames - 1) % self.time_stride:
            raise ValueError(f"a video of {frames} frames cannot be encoded: need {self.time_stride}n+1")
        first = picture.to(self.conv1.weight.dtype)
        x = _channels_last(torch.cat([first, torch.zeros_like(first)], dim=2)[:, :, :frames])
        for layer in (self.encoder.conv1, *self.encoder.downsamples, *self.encoder.middle, *self.encoder.head):
            x = layer(_prolonged(x, _until_it_repeats(layer, x.shape[1])))
        latents = (frames - 1) // self.time_stride + 1
        moments = self.conv1(_prolonged(x, latents - x.shape[1])[:, :latents])
        return self.normalise(_channels_first(moments).float()[:, : self.config.z_dim])

    def decode(self, latent: Tensor) -> Tensor:
        """Decodes whole normalised latents [B, z_dim, T, h, w] → video [B, 3, 4T-3, 8h, 8w] float32, not clamped."""
        return self._decode(latent, None)

    def encode_stream(self, chunks: Iterable[Tensor], step: int = 1, at_once: int | None = None) -> Iterator[Tensor]:
        """Encodes a video that arrives in chunks of any number of frames, `step` latent frames at a time.

        With `at_once`, so many video frames pass together through the layers with the most pixels, which takes less
        memory.

        Yields:
            normalised mean latents, one frame first and then `step` (or what is left) at a time: the own rows.

        Raises:
            ValueError: the chunks' frames do not add up to 4n+1.
        """
        memory = Memory(at_once)
        for piece in _recut(chunks, step * self.time_stride):
            yield self.normalise(self._encode(piece, memory).chunk(2, dim=1)[0])

    def decode_stream(self, chunks: Iterable[Tensor], step: int = 1, at_once: int | None = None) -> Iterator[Tensor]:
        """Decodes normalised latents that arrive in chunks of any number of frames, `step` latent frames at a time.

        `at_once` as `encode_stream` takes it.

        Yields:
            video float32, not clamped: one frame first and then 4 `step` (or what is left) at a time; the own rows.
        """
        memory = Memory(at_once)
        for piece in _recut(chunks, step):
            yield self._decode(piece, memory)

    def _encode(self, video: Tensor, memory: Memory | None) -> Tensor:
        frames = video.shape[2] - (memory is None or not memory.started)
        if frames % self.time_stride:
            raise ValueError(f"a video of {video.shape[2]} frames cannot be encoded: need {self.time_stride}n+1")
        if memory is not None:
            rows = video.shape[3] // self.space_stride
            own = memory.share(rows, self.sharing(rows))
            video = video[:, :, :, own.start * self.space_stride : own.stop * self.space_stride]
        x = self.encoder(_channels_last(video.to(self.conv1.weight.dtype)), memory)
        if memory is not None:
            memory.started = True
        return _channels_first(self.conv1(x)).float()

    def _decode(self, latent: Tensor, memory: Memory | None) -> Tensor:
        if memory is not None:
            latent = latent[:, :, :, memory.share(latent.shape[3], self.sharing(latent.shape[3]))]
        mean, std = self._statistics(latent.device)
        raw = (latent.float() * std + mean).to(self.conv2.weight.dtype)
        x = self.decoder(self.conv2(_channels_last(raw)), memory)
        if memory is not None:
            memory.started = True
        return _channels_first(x).float()

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._known:
            # Made anew for each piece, the host would wait for the device each time.
            with torch.inference_mode(mode=False):
                mean, std = torch.tensor([self.config.mean, self.config.std], device=device).view(2, -1, 1, 1, 1)
            self._known[device] = mean, std
        return self._known[device]

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws weights for training from scratch; the generator lives on the weights' device.

        Attention starts at zero, and resampling over time starts as picking and repeating frames.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
                bound = 1 / math.sqrt(math.prod(module.weight.shape[1:]))
                if module.bias is not None:
                    nn.init.uniform_(module.bias, -bound, bound, generator=generator)
            if isinstance(module, ChannelNorm):
                nn.init.ones_(module.gamma)
            if isinstance(module, TimeConv):
                module.pick_frames()
        for part in (self.encoder, self.decoder):
            for module in part.modules():
                if isinstance(module, AttentionBlock):
                    nn.init.zeros_(module.proj.weight)


def _changes_frames(layer: nn.Module) -> bool:
    return isinstance(layer, Downsample | Upsample) and layer.time_conv is not None


def _prolonged(x: Tensor, frames: int) -> Tensor:
    """The last frame of [B, T, H, W, C] repeated so often."""
    return torch.cat([x, x[:, -1:].expand(-1, frames, -1, -1, -1)], dim=1) if frames > 0 else x


def _until_it_repeats(layer: nn.Module, frames: int) -> int:
    """How many more frames a layer must see after `frames`, the last of which repeats, until its answers repeat."""
    if isinstance(layer, Downsample) and layer.time_conv is not None:
        return 2 + (frames + 1) % 2
    if not isinstance(layer, Streamed):
        return 0
    return sum(part.look_back for part in layer.modules() if isinstance(part, CausalConv))


def _residuals(channels: int, out: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(channels if index == 0 else out, out) for index in range(count)]


def _middle(channels: int) -> Chain:
    return Chain(ResidualBlock(channels, channels), AttentionBlock(channels), ResidualBlock(channels, channels))


def _channels_last(video: Tensor) -> Tensor:
    return video.permute(0, 2, 3, 4, 1).contiguous()


def _channels_first(video: Tensor) -> Tensor:
    return video.permute(0, 4, 1, 2, 3)


def _recut(chunks: Iterable[Tensor], step: int) -> Iterator[Tensor]:
    """Cuts a stream of [B, C, F, ...] anew: one frame, then `step` frames at a time, then what is left."""
    waiting: list[Tensor] = []
    need = 1
    for chunk in chunks:
        rest = chunk
        while sum(part.shape[2] for part in waiting) + rest.shape[2] >= need:
            taken = need - sum(part.shape[2] for part in waiting)
            yield torch.cat([*waiting, rest[:, :, :taken]], dim=2)
            waiting, rest, need = [], rest[:, :, taken:], step
        if rest.shape[2]:
            waiting.append(rest)
    if waiting:
        yield torch.cat(waiting, dim=2)
