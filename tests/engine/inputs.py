"""Inputs from memory and requests for the tiny model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME, Pixels
from infinitetalk.engine.protocols import Inputs, Picture, Waveform


@dataclass(frozen=True)
class Frames:
    """A video in memory at a frame rate; one frame is a picture."""

    frames: Picture
    rate: float = FPS

    @property
    def size(self) -> Pixels:
        return Pixels(*self.frames.shape[1:3])

    def frame_at(self, seconds: float) -> Picture:
        return self.frame_index(int(seconds * self.rate + 1e-6))

    def frame_index(self, index: int) -> Picture:
        frame: Picture = self.frames[min(index, len(self.frames) - 1)]
        return frame


@dataclass(frozen=True)
class Memory:
    """Inputs that are already there, whatever the request names."""

    source: Frames
    voices: tuple[Waveform, ...]

    def open(self, request: TalkRequest) -> Inputs:
        assert len(request.audio) == len(self.voices)
        return Inputs(self.source, self.voices)


def pictures(count: int = 1, height: int = 72, width: int = 64, seed: int = 0) -> Frames:
    """Smooth random frames, each of its own colours."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Frames(blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width])


def voice(frames: int, seed: int = 0) -> Waveform:
    """Noise as long as so many video frames."""
    return np.random.default_rng(seed).standard_normal(frames * SAMPLES_PER_FRAME).astype(np.float32) * 0.1


def talk(people: int = 1, *, video: bool = False, **settings: Any) -> TalkRequest:
    """A request for one step per window, with places side by side for several people."""
    values: dict[str, Any] = {"model": "tiny", "steps": 1, "audio": tuple(Path(f"{n}.wav") for n in range(people))}
    values["video" if video else "image"] = Path("source")
    if people > 1 and not settings.get("reference"):
        values["boxes"] = tuple(Box(n / people, 0, (n + 1) / people, 1) for n in range(people))
    return TalkRequest(**{**values, **settings})
