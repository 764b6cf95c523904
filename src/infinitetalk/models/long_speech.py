"""The speech encoder for sounds of any length: what it hears of a whole file, piece by piece.

wav2vec2 looks at all of a sound in two places: the first convolution is normalised over all time, and every layer
attends to all frames. So no overlap of pieces gives what the whole file gives. Here the statistics of the first
convolution are gathered in a pass of their own, and layer after layer every piece attends to the keys and values of all
pieces, which wait on disk. Memory does not grow with the sound; time does with its square, as it does for a whole file.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinitetalk.core.errors import MachineError
from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.models.speech import SpeechEncoder, shortest

PIECE = 500
"""Frames that go through a layer together."""

_KEYS = 4
"""Pieces whose keys are looked at together."""

Samples = Callable[[int, int], Tensor]
"""Gives the samples from one number to another, [samples] on the encoder's device, silence behind the sound's end."""


class Rows:
    """A table of float32 numbers on disk that grows at its end; gone when nobody refers to it any more."""

    def __init__(self, width: int) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as this object
        self.width = width
        self.count = 0

    def append(self, rows: Tensor) -> None:
        """Adds rows [n, width].

        Raises:
            MachineError: the disk is full.
        """
        content = memoryview(rows.float().cpu().contiguous().numpy().tobytes())
        try:
            self._file.seek(0, 2)
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            where = tempfile.gettempdir()
            need = "room for the features of a long sound is needed; TMPDIR names another folder"
            raise MachineError(f"{where}: cannot be written ({error.strerror}); {need}") from error
        self.count += len(rows)

    def read(self, begin: int, end: int) -> Tensor:
        """Rows from one number to another, [n, width] on the CPU; those outside of the table are left out."""
        begin, end = max(0, begin), min(end, self.count)
        self._file.seek(begin * self.width * 4)
        content = bytearray((end - begin) * self.width * 4)
        view = memoryview(content)
        while view:
            view = view[self._file.readinto(view) :]
        return torch.from_numpy(np.frombuffer(content, np.float32).reshape(-1, self.width))


class LongFeatures:
    """Features of a long sound, on disk."""

    def __init__(self, layers: list[Rows]) -> None:
        self._layers = layers

    def part(self, frames: range) -> Tensor:
        """Some frames' features, [frames, layers, channels] on the CPU."""
        return torch.stack([rows.read(frames.start, frames.stop) for rows in self._layers], dim=1)


def fits(encoder: SpeechEncoder) -> bool:
    """Whether an encoder has two features per video frame, as all of wav2vec2's have, so that pieces meet exactly."""
    stride = int(np.prod(encoder.config.conv_stride))
    return 2 * stride == SAMPLES_PER_FRAME and stride < shortest(encoder.config) <= SAMPLES_PER_FRAME


@torch.no_grad()
def encode_long(encoder: SpeechEncoder, samples: Samples, frames: int) -> LongFeatures:
    """What `SpeechEncoder.forward` gives for a whole sound that lasts `frames` video frames.

    Raises:
        MachineError: the disk is full.
    """
    shifts = encoder.config.shifts
    sums = _once(encoder, _moved(samples, 0, shifts[0], frames), frames)
    for number, shift in enumerate(shifts[1:], 1):
        further = _once(encoder, _moved(samples, number, shift, frames), frames)
        sums = [_mean(so_far, rows, number) for so_far, rows in zip(sums, further, strict=True)]
    return LongFeatures(sums)


def _moved(samples: Samples, number: int, shift: int, frames: int) -> Samples:
    """What a pass hears: as `speech.moved` of a waveform of so many frames."""
    end_of_all = frames * SAMPLES_PER_FRAME

    def part(begin: int, end: int) -> Tensor:
        first, last = max(0, begin - shift), min(end_of_all, end - shift)
        heard = F.pad(samples(first, last), (first - (begin - shift), end - shift - last))
        return -heard if number % 2 else heard

    return part if shift or number % 2 else samples


def _once(encoder: SpeechEncoder, samples: Samples, frames: int) -> list[Rows]:
    """The states after each layer, in one pass."""
    network, stable = encoder.network, encoder.config.do_stable_layer_norm
    states = _start(encoder, samples, frames)
    outputs = list[Rows]()
    for layer in network.encoder.layers:
        states = _through(layer, states, stable=stable, device=network.device, dtype=network.dtype)
        outputs.append(states)
    return outputs


def _mean(so_far: Rows, further: Rows, count: int) -> Rows:
    """The mean of one table more; the one so far is that of `count`."""
    mean = Rows(so_far.width)
    for begin in range(0, so_far.count, PIECE):
        known, new = (rows.read(begin, begin + PIECE) for rows in (so_far, further))
        mean.append(known + (new - known) / (count + 1))
    return mean


def _piece(states: Rows, begin: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return states.read(begin, begin + PIECE).to(device, dtype)


def _start(encoder: SpeechEncoder, samples: Samples, frames: int) -> Rows:
    """What enters the first layer."""
    network, width = encoder.network, encoder.config.hidden_size
    projected = Rows(width)
    with _global_norm(network.feature_extractor.conv_layers[0], samples, frames):
        for begin in range(0, frames, PIECE):
            end = min(frames, begin + PIECE)
            part = samples(begin * SAMPLES_PER_FRAME, end * SAMPLES_PER_FRAME).to(network.dtype)
            features = network.feature_extractor(part[None])[..., ::2]
            projected.append(network.feature_projection(features.transpose(1, 2))[0][0])
    placed, margin = Rows(width), encoder.config.num_conv_pos_embeddings
    for begin in range(0, frames, PIECE):
        around = projected.read(begin - margin, begin + PIECE + margin).to(network.device, network.dtype)
        own = slice(min(begin, margin), min(begin, margin) + min(PIECE, frames - begin))
        sums = (around + network.encoder.pos_conv_embed(around[None])[0])[own]
        placed.append(sums if encoder.config.do_stable_layer_norm else network.encoder.layer_norm(sums))
    return placed


@contextmanager
def _global_norm(first: Any, samples: Samples, frames: int) -> Iterator[None]:
    """While it lasts, the first convolution is normalised by the statistics of the whole sound."""
    norm = getattr(first, "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        yield
        return
    conv = first.conv
    assert isinstance(conv, nn.Conv1d)
    total = squares = torch.zeros((), dtype=torch.float64)
    count = 0
    for begin in range(0, frames, PIECE):
        further = conv.kernel_size[0] - conv.stride[0] if begin + PIECE < frames else 0
        end = min(frames, begin + PIECE) * SAMPLES_PER_FRAME + further
        out = conv(samples(begin * SAMPLES_PER_FRAME, end).to(conv.weight.dtype)[None, None])[0].double().cpu()
        total, squares, count = total + out.sum(-1), squares + out.square().sum(-1), count + out.shape[-1]
    mean = total / count
    scale = (squares / count - mean.square() + norm.eps).rsqrt() * norm.weight.double().cpu()
    shift = norm.bias.double().cpu() - mean * scale
    scale, shift = (values.to(conv.weight)[None, :, None] for values in (scale, shift))
    norm.forward = lambda features: features * scale + shift  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del norm.forward


def _through(layer: Any, states: Rows, *, stable: bool, device: torch.device, dtype: torch.dtype) -> Rows:
    """All pieces through one layer of the transformer."""
    attention = layer.attention
    width = attention.embed_dim
    asked = layer.layer_norm if stable else nn.Identity()
    known = Rows(2 * width)
    for begin in range(0, states.count, PIECE):
        heard = asked(_piece(states, begin, device, dtype))
        known.append(torch.cat([attention.k_proj(heard), attention.v_proj(heard)], dim=-1))
    after = Rows(width)
    # Taken once: blocks of this size that come and go tear holes into the heap, which grows with them.
    scores = torch.empty(attention.num_heads * PIECE * min(_KEYS * PIECE, known.count), device=device)
    for begin in range(0, states.count, PIECE):
        piece = _piece(states, begin, device, dtype)
        piece = piece + attention.out_proj(_attend(attention, attention.q_proj(asked(piece)), known, scores))
        if stable:
            after.append(piece + layer.feed_forward(layer.final_layer_norm(piece)))
        else:
            piece = layer.layer_norm(piece)
            after.append(layer.final_layer_norm(piece + layer.feed_forward(piece)))
    return after


def _attend(attention: Any, queries: Tensor, known: Rows, room: Tensor) -> Tensor:
    """Attention of a piece's queries [n, width] to all keys and values, some at a time: sums are kept rescaled.

    `room` is for the scores: as many float32 as there are heads, queries and keys at a time.
    """

    def heads(rows: Tensor) -> Tensor:
        separate: Tensor = rows.float().unflatten(-1, (attention.num_heads, attention.head_dim))
        return separate.transpose(0, 1)

    asked = heads(queries) * attention.scaling
    most = asked.new_full((*asked.shape[:2], 1), float("-inf"))
    weight, found = torch.zeros_like(most), torch.zeros_like(asked)
    for begin in range(0, known.count, _KEYS * PIECE):
        keys, values = map(heads, known.read(begin, begin + _KEYS * PIECE).to(queries.device).chunk(2, dim=-1))
        shape = (*asked.shape[:2], keys.shape[1])
        scores = torch.bmm(asked, keys.transpose(-1, -2), out=room[: math.prod(shape)].view(shape))
        now = torch.maximum(most, scores.amax(-1, keepdim=True))
        scores = scores.sub_(now).exp_()
        before = (most - now).exp()
        weight = weight * before + scores.sum(-1, keepdim=True)
        found = found * before + scores @ values
        most = now
    together: Tensor = (found / weight).transpose(0, 1).flatten(1).to(queries.dtype)
    return together
