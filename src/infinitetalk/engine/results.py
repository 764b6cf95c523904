"""What the engine hands out: windows of frames, and whole clips."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.core.sizes import FPS
from infinitetalk.media.drift import Drift


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

    def tensors(self) -> dict[str, Tensor]:
        """What there is of it by name, on the CPU."""
        parts = {"first": self.first, "tail": self.tail, "spare": self.spare}
        return {name: part.cpu().contiguous() for name, part in parts.items() if part is not None}

    def to(self, device: torch.device) -> "Past":
        """The same on a device."""
        spare = None if self.spare is None else self.spare.to(device)
        return Past(self.first.to(device), self.tail.to(device), spare)


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

    def rgb(self) -> NDArray[np.uint8]:
        """The new frames as RGB pictures [F, H, W, 3]."""
        return rgb(self.frames)

    def at_rate(self, fps: int) -> NDArray[np.uint8]:
        """The window at another rate: the frames that lie after `before` and up to its own last one.

        Raises:
            MachineError: OpenCV is missing.
        """
        from infinitetalk.media.interpolation import interpolate

        if fps == FPS:
            return self.rgb()
        before = None if self.before is None else rgb(self.before[:, None])[0]
        return np.stack([*interpolate(self.rgb(), before, self.first_frame, fps, ends=self.ends_shot)])

    def frames_at(self, fps: int) -> Tensor:
        """The same as [3, F, H, W] in [-1, 1]; at the model's own rate `frames`, unrounded."""
        if fps == FPS:
            return self.frames
        return torch.from_numpy(self.at_rate(fps)).permute(3, 0, 1, 2) / 127.5 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A whole video in memory."""

    frames: Tensor
    """[3, F, H, W] in [-1, 1], float32 on the CPU."""
    fps: int = FPS

    def rgb(self) -> NDArray[np.uint8]:
        """The frames as RGB pictures [F, H, W, 3]."""
        return rgb(self.frames)
