"""The picture that a window starts from, as the networks want it: pixels, vision tokens and latents."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from infinitetalk.core.sizes import FPS, MASK_CHANNELS, Pixels
from infinitetalk.core.timeline import Timeline
from infinitetalk.core.windows import Window
from infinitetalk.engine.footage import GLANCES, Footage
from infinitetalk.engine.protocols import AheadVision, FrameSource, Picture, VisionSource
from infinitetalk.media.color import light_stays
from infinitetalk.media.fit import Focus, fit_picture

T = TypeVar("T")


class _Last(Generic[T]):
    """A function of a tensor that remembers its last answer, so that a still picture is encoded once."""

    def __init__(self, function: Callable[[Tensor], T]) -> None:
        self._function = function
        self._seen: tuple[Tensor, T] | None = None

    def knows(self, value: Tensor) -> bool:
        """Whether it has the answer."""
        return self._seen is not None and self._seen[0] is value

    def __call__(self, value: Tensor) -> T:
        if self._seen is None or self._seen[0] is not value:
            self._seen = (value, self._function(value))
        return self._seen[1]


@dataclass(frozen=True, slots=True)
class Moving:
    """How a source moves within a window."""

    latents: Tensor | None = None
    """Of its own frames, [16, T, h, w] float32, if denoising starts from them."""
    light_stays: bool = True
    """Whether its light does; where nobody asks, it does."""


class KeyFrames:
    """Key frames of a source, one per window.

    Args:
        encode: video [1, 3, F, H, W] → latents [1, 16, T, h, w], by the VAE.
        encode_still: a picture [1, 3, 1, H, W] and how many frames there are, all others grey → latents, by the VAE.
        frames: video frames of the longest window.
        timeline: how the source runs through the video.
        overlap: frames that a window shares with the one before, at most.
        footage: whether denoising starts from the source's own frames.
        watched: whether the source's light is of interest.
        reference: take source frames by number, as the reference implementation does, instead of by time.
    """

    def __init__(
        self,
        source: FrameSource,
        encode: Callable[[Tensor], Tensor],
        encode_still: Callable[[Tensor, int], Tensor],
        vision: VisionSource | None,
        *,
        size: Pixels,
        framing: str,
        focus: Focus | None = None,
        frames: int,
        reference: bool,
        timeline: Timeline,
        overlap: int,
        footage: bool,
        watched: bool,
        device: torch.device,
    ) -> None:
        self._source = source
        self._to_latents, self._still_to_latents = encode, encode_still
        self._size = size
        self._framing, self._focus = framing, focus
        self._frames = frames
        self._reference = reference
        self._timeline = timeline
        self._footage = Footage(source, timeline, self._fit, overlap=overlap)
        self._wanted, self._watched = footage, watched
        self._device = device
        self._picture: tuple[Picture, Tensor] | None = None
        self._latent = _Last(self._encode)
        self._vision = vision
        self._tokens = None if vision is None else _Last(vision.encode)

    def frame(self, window: Window) -> Picture:
        """The source's frame where a window starts, overlap included."""
        if self._reference:
            return self._source.frame_index(window.start)
        return self._footage.picture(window.start)

    def seconds(self, window: Window) -> float:
        """The time in the source at which a window starts."""
        return self._timeline.source_frame(window.start) / FPS

    def pixels(self, window: Window) -> Tensor:
        """The source's frame where a window starts, overlap included, [1, 3, 1, H, W] in [-1, 1].

        The very same tensor as for the window before if the frame is the same.
        """
        frame = self.frame(window)
        if self._picture is None or not np.array_equal(self._picture[0], frame):
            self._picture = (frame, self._fit(frame).to(self._device))
        return self._picture[1]

    def moving(self, window: Window) -> Moving:
        """The source's own frames in a window, as far as they are asked for: the next window's key frame is later."""
        if not (self._wanted or self._watched):
            return Moving()
        read = self._footage.clip if self._wanted else self._footage.glance
        frames = read(window).to(self._device)
        latents = self._to_latents(frames)[0] if self._wanted else None
        stays = not self._watched or light_stays(frames[0, :, :: GLANCES if self._wanted else 1])
        return Moving(latents, stays)

    def begin(self, window: Window) -> None:
        """Lets an encoder that is elsewhere look at a window's key frame while others work."""
        pixels = self.pixels(window)
        if isinstance(self._vision, AheadVision) and self._tokens is not None and not self._tokens.knows(pixels):
            self._vision.begin(pixels)

    def tokens(self, pixels: Tensor) -> Tensor | None:
        """Vision tokens [1, tokens, channels] of a key frame, if the model looks."""
        return None if self._tokens is None else self._tokens(pixels)

    def latent(self, pixels: Tensor) -> Tensor:
        """Latents [16, T, h, w] float32 of the longest window that shows a key frame and then grey."""
        return self._latent(pixels)

    def _fit(self, picture: Picture) -> Tensor:
        return fit_picture(picture, self._size, self._framing, self._focus)

    def _encode(self, pixels: Tensor) -> Tensor:
        return self._still_to_latents(pixels, self._frames)[0]


def condition(latent: Tensor, frames: int, motion: float = 1.0) -> Tensor:
    """What the network is told of the key frame, [4 + 16, frames, h, w]: where true frames are, and the latents.

    Latents know nothing of later ones, so a shorter window takes the first `frames` of a longer one's. Where frames are
    not known, a network that learned it reads how much more people shall move than usual, from -1 to 1.
    """
    latent = latent[:, :frames]
    mask = latent.new_full((MASK_CHANNELS, *latent.shape[1:]), motion - 1)
    mask[:, 0] = 1
    return torch.cat([mask, latent])
