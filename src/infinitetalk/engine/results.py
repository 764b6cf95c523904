"""What the engine hands out: windows of frames, and whole clips."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.core.sizes import FPS
from infinitetalk.core.stages import Stage
from infinitetalk.engine.progress import Progress
from infinitetalk.media.drift import Drift
from infinitetalk.media.inputs import Picture


def rgb(frames: Tensor) -> NDArray[np.uint8]:
    """Frames [3, F, H, W] in [-1, 1] → RGB pictures [F, H, W, 3]."""
    pixels: NDArray[np.uint8] = ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).numpy()
    return pixels


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What a window knows of those before it."""

    first: Tensor
    """Pixels of the first window's key frame, [1, 3, 1, H, W] in [-1, 1]."""
    tail: Tensor
    """The last frames of a window, [1, 3, motion frames, H, W] in [-1, 1], as they were shown."""
    spare: Tensor | None = None
    """Frames behind them that the window made too, [1, 3, overlap, H, W], from which the next one's fade."""
    track: Tensor | None = None
    """Where the talking faces are around the window's end, [frames, voices, directions], see `engine.finish`."""

    def tensors(self) -> dict[str, Tensor]:
        """What there is of it by name, on the CPU."""
        parts = {"first": self.first, "tail": self.tail, "spare": self.spare, "track": self.track}
        return {name: part.cpu().contiguous() for name, part in parts.items() if part is not None}

    def to(self, device: torch.device) -> "Past":
        """The same on a device."""
        spare = None if self.spare is None else self.spare.to(device)
        return Past(self.first.to(device), self.tail.to(device), spare, self.track)


@dataclass(frozen=True, slots=True, eq=False)
class Resume:
    """Where an interrupted video goes on."""

    window: int
    """The first window to make."""
    past: Past
    """What the window before it handed on."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """A finished window. All tensors but the past's are float32 on the CPU."""

    index: int
    count: int
    """Windows of the whole job."""
    first_frame: int
    """Number of the first of `frames` in the video."""
    frames: Tensor
    """The frames that this window adds, [3, F, H, W] in [-1, 1]."""
    latent: Tensor
    """What was denoised, overlap included, [16, T, h, w]."""
    condition: Tensor
    """What it started from: mask and latents of the reference picture, [20, T, h, w]."""
    before: Tensor | None
    """The frame before `frames`, [3, H, W] as they are, if it is of the same shot."""
    ends_shot: bool
    """Whether a cut or the end of the video follows."""
    past: Past
    """What the next window continues, on the engine's device; with it `Engine.stream` can go on from here."""
    drift: Drift
    rate: Fraction = Fraction(FPS)
    """Frames a second that the request asks for."""
    put: Callable[[NDArray[np.uint8]], Iterator[Picture]] | None = None
    """Puts the window's pictures at that rate into the source, while the stream is at this window; None: they stay."""

    def rgb(self) -> NDArray[np.uint8]:
        """The new frames as RGB pictures [F, H, W, 3]."""
        return rgb(self.frames)

    def pictures(self, progress: Progress | None = None) -> Iterator[Picture]:
        """The finished pictures of the request's rate and size, one by one, to be taken before the next window is made.

        Raises:
            MachineError: OpenCV is missing.
            MediaError: the source cannot be read any more.
        """
        if self.rate == FPS or progress is None:
            frames = self.at_rate(self.rate)
        else:
            with progress.stage(Stage.INTERPOLATION):
                frames = self.at_rate(self.rate)
                progress.advance()
        return iter(frames) if self.put is None else self.put(frames)

    def finished(self) -> Tensor:
        """The same as [3, F, H, W] in [-1, 1]; at the model's own rate and size `frames`, unrounded."""
        if self.put is None and self.rate == FPS:
            return self.frames
        shown = [torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1 for picture in self.pictures()]
        return torch.stack(shown, dim=1) if shown else self.frames[:, :0]

    def at_rate(self, fps: Fraction | int) -> NDArray[np.uint8]:
        """The window at another rate: the frames that lie after `before` and up to its own last one.

        Raises:
            MachineError: OpenCV is missing.
        """
        from infinitetalk.media.interpolation import interpolate

        if fps == FPS:
            return self.rgb()
        before = None if self.before is None else rgb(self.before[:, None])[0]
        frames = self.rgb()
        shown = [*interpolate(frames, before, self.first_frame, fps, ends=self.ends_shot)]
        return np.stack(shown) if shown else frames[:0]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A whole video in memory."""

    frames: Tensor
    """[3, F, H, W] in [-1, 1], float32 on the CPU."""
    fps: Fraction = Fraction(FPS)

    def rgb(self) -> NDArray[np.uint8]:
        """The frames as RGB pictures [F, H, W, 3]."""
        return rgb(self.frames)
