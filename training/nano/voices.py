"""Speech features of the whole corpus on one device, cut into the windows that the network hears."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from infinitetalk.models.speech import SpeechEncoder, normalise
from training import checkpoint
from training.speech.corpus import Utterance, load

SAMPLES_PER_FRAME = 640
AUDIO_WINDOW = 5
SILENCE_FRAMES = 200
UNSURE = "asterisk-"
"""Engines whose phones the encoder itself has found: good enough to teach it a language, not how mouths move."""


@dataclass(frozen=True, slots=True)
class VoiceBank:
    """Features of all speech streams, one after the other.

    The last stream is silence, and stands for everyone who says nothing. `features` holds the streams as they are;
    `disturbed` (if any) the same streams with noise and other disturbance, frame for frame.
    """

    features: Tensor
    """(frames of all streams, layers, channels)"""
    offset: Tensor
    """(streams,) where each begins"""
    length: Tensor
    """(streams,) frames"""
    disturbed: Tensor | None = None
    moves: Tensor | None = None
    """(frames of all streams, shapes) how the mouth moves, every column with a spread of 1"""
    noise: Tensor | None = None
    """(layers, channels) the most noise that training adds: unseen voices are heard less clearly than these"""

    def sample(self, frames: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random windows of the streams, silence excepted: features as `windows` gives them, and moves.

        Returns:
            (count, frames, 5, layers, channels) and (count, frames, shapes)

        Raises:
            ValueError: these voices have no moves.
        """
        if self.moves is None:
            raise ValueError("these voices have no moves: training.nano.encode writes them for the training split")
        room = (self.length[:-1] - frames).clamp(min=0)
        stream = torch.multinomial(room.float(), count, replacement=True, generator=generator)
        share = torch.rand(count, generator=generator, device=room.device)
        start = (share * room[stream]).long()
        place = (self.offset[stream] + start)[:, None] + torch.arange(frames, device=room.device)
        heard = self.windows(stream[:, None], start[:, None], frames, generator)
        return heard[:, 0], self.moves[place].float()

    def windows(self, stream: Tensor, start: Tensor, frames: int, generator: torch.Generator | None = None) -> Tensor:
        """What the network hears: features around each frame, the ends of a stream repeated as in the engine.

        Args:
            stream: (B, P) stream indices; negative for silence.
            start: (B, P) first frame within the stream.
            frames: how many.
            generator: lets half of the samples hear the disturbed streams, and adds noise; None for neither.

        Returns:
            (B, P, frames, 5, layers, channels)
        """
        device = self.features.device
        stream = torch.where(stream < 0, len(self.length) - 1, stream)
        reach = torch.arange(AUDIO_WINDOW, device=device) - AUDIO_WINDOW // 2
        place = start[..., None, None] + torch.arange(frames, device=device)[:, None] + reach
        place = (
            place.clamp(min=0).minimum(self.length[stream][..., None, None] - 1) + self.offset[stream][..., None, None]
        )
        heard = self.features[place]
        if self.disturbed is None or generator is None:
            return heard.float()
        noisy = torch.rand(len(stream), generator=generator, device=device) < 0.5
        heard = torch.where(noisy.view(-1, 1, 1, 1, 1, 1), self.disturbed[place], heard).float()
        if self.noise is None:
            return heard
        level = torch.rand(len(stream), generator=generator, device=device).view(-1, 1, 1, 1, 1, 1)
        return heard + level * self.noise * torch.randn(heard.shape, generator=generator, device=device)

    def save(self, path: Path) -> None:
        """Writes everything to one file."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        checkpoint.save({name: None if value is None else value.cpu() for name, value in tensors.items()}, path)

    @staticmethod
    def load(path: Path, device: torch.device) -> "VoiceBank":
        """Reads what `save` wrote."""
        return VoiceBank(**torch.load(path, weights_only=True, map_location=device))


def spoken(corpus: Path, split: str) -> list[Utterance]:
    """What people in clips say: a split of the corpus, recordings in languages other than English left out."""
    return [utterance for utterance in load(corpus, (split,)) if not utterance.engine.startswith(UNSURE)]


def frames_of(samples: int) -> int:
    """Whole video frames in so many samples."""
    return samples // SAMPLES_PER_FRAME


@torch.inference_mode()
def listen(encoder: SpeechEncoder, streams: Sequence[Tensor], *, dtype: torch.dtype = torch.bfloat16) -> VoiceBank:
    """Encodes every stream, and silence, as the engine does: whole, at its own level, one feature per video frame.

    Args:
        encoder: on the device that the features shall live on.
        streams: waveforms [samples] float32 at 16 kHz.
    """
    device = encoder.network.device
    parts = []
    for stream in (*streams, torch.zeros(SILENCE_FRAMES * SAMPLES_PER_FRAME)):
        frames = frames_of(len(stream))
        parts.append(encoder(normalise(stream[: frames * SAMPLES_PER_FRAME].to(device)), frames).to(dtype))
    length = torch.tensor([len(part) for part in parts], device=device)
    return VoiceBank(torch.cat(parts), length.cumsum(0) - length, length)
