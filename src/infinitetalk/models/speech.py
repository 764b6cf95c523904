"""The speech encoder: wav2vec2, heard at the video's frame rate.

The convolutions give 50 features a second; they are stretched to one per video frame before the transformer, so that
every layer already speaks of frames. What the video network hears of a frame is the state after each layer.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from infinitetalk.core.configs import SpeechConfig
from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.core.sizes import SAMPLES_PER_FRAME

# Added to the variance, as in the feature extractor that wav2vec2 was trained behind.
VARIANCE_FLOOR = 1e-7


def normalise(waveform: Tensor) -> Tensor:
    """Brings a waveform [..., samples] to zero mean and unit variance over time; silence stays silence."""
    centred = waveform - waveform.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + VARIANCE_FLOOR).sqrt()


def moved(waveform: Tensor, number: int, shift: int) -> Tensor:
    """What pass `number` hears of a waveform [..., samples]: later by `shift` samples, upside down if it is odd."""
    later = F.pad(waveform, (shift, -shift)) if shift else waveform
    return -later if number % 2 else later


def shortest(config: SpeechConfig) -> int:
    """The fewest samples that the convolutions turn into one feature."""
    samples = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _hugging_face(config: SpeechConfig, dropout: float) -> Wav2Vec2Config:
    """The same network in transformers' words. Nothing is masked or skipped: training computes what talking does."""
    return Wav2Vec2Config(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        conv_dim=config.conv_dim,
        conv_stride=config.conv_stride,
        conv_kernel=config.conv_kernel,
        num_conv_pos_embeddings=config.num_conv_pos_embeddings,
        num_conv_pos_embedding_groups=config.num_conv_pos_embedding_groups,
        feat_extract_norm=config.feat_extract_norm,
        do_stable_layer_norm=config.do_stable_layer_norm,
        conv_bias=config.conv_bias,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
    )


class SpeechEncoder(nn.Module):
    """wav2vec2 whose features are stretched to the video's frames before its transformer.

    In training mode there is dropout, and one pass instead of those at the configuration's `shifts`.

    Raises:
        ModelError: lists of convolutions that differ in length, or bad shifts.
    """

    def __init__(self, config: SpeechConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        lengths = {len(config.conv_dim), len(config.conv_stride), len(config.conv_kernel)}
        if lengths != {config.num_feat_extract_layers}:
            raise ModelError(
                f"speech: conv_dim, conv_stride and conv_kernel must each have the {config.num_feat_extract_layers} "
                f"numbers that num_feat_extract_layers says"
            )
        if not config.shifts or max(map(abs, config.shifts)) >= SAMPLES_PER_FRAME:
            raise ModelError(
                f"speech: shifts = {list(config.shifts)}: must name one pass or more, none of them moved by a frame of "
                f"{SAMPLES_PER_FRAME} samples; [0] hears the sound once, as it is"
            )
        self.config = config
        self.network = Wav2Vec2Model(_hugging_face(config, dropout))
        # Memory grows with the sound's length, not with its square.
        self.network.set_attn_implementation("sdpa")

    @contextmanager
    def _stretched(self, frames: int) -> Iterator[None]:
        """While it lasts, the convolutions' features [B, channels, L] leave as [B, channels, frames]."""

        def stretch(_module: nn.Module, _inputs: object, features: Tensor) -> Tensor:
            return F.interpolate(features, size=frames, mode="linear", align_corners=True)

        hook = self.network.feature_extractor.register_forward_hook(stretch)
        try:
            yield
        finally:
            hook.remove()

    def forward(self, waveform: Tensor, frames: int) -> Tensor:
        """Hears a normalised 16 kHz waveform as `frames` video frames (25 a second).

        Args:
            waveform: [samples] or [B, samples], zero mean and unit variance (see `normalise`).
            frames: how many frames the waveform spans.

        Returns:
            The states after each layer, [frames, layers, channels] or [B, frames, layers, channels].

        Raises:
            RequestError: fewer samples than one feature needs.
        """
        if waveform.shape[-1] < shortest(self.config):
            raise RequestError("audio", f"{waveform.shape[-1]} samples", f"needs at least {shortest(self.config)}")
        batch = waveform.reshape(-1, waveform.shape[-1]).to(self.network.dtype)
        shifts = (0,) if self.training else self.config.shifts
        heard = self._once(moved(batch, 0, shifts[0]), frames)
        for number, shift in enumerate(shifts[1:], 1):  # one after the other: a long sound takes much memory
            heard = heard + self._once(moved(batch, number, shift), frames)
        heard = heard / len(shifts) if len(shifts) > 1 else heard
        return heard if waveform.ndim == 2 else heard[0]

    def _once(self, batch: Tensor, frames: int) -> Tensor:
        """The states of one pass, [B, frames, layers, channels]."""
        with self._stretched(frames):
            states = self.network(batch, output_hidden_states=True).hidden_states
        return torch.stack(states[1:], dim=2)

    @torch.no_grad()
    def encode(self, samples: Tensor, frames: int) -> Tensor:
        """Hears raw samples: brings them to the network's device and level, then as `forward`.

        Args:
            samples: [samples] float, mono, 16 kHz.
            frames: how many video frames they span.

        Returns:
            [frames, layers, channels].
        """
        waveform = samples.to(self.network.device, torch.float32)
        heard: Tensor = self(normalise(waveform) if self.config.do_normalize else waveform, frames)
        return heard
