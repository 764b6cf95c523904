"""Figures of videos and tracks: correlations, closed lips, signal-to-noise ratios, borders of windows, distortions."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.media.landmarks import EYE_CORNERS
from training.evaluate.landmarks import Floats
from training.heads.visemes import LIPS_CLOSED, PHONE_CLASSES, Segment

FPS: Final = 25
TOLERANCE: Final = 0.02
"""Seconds by which phoneme labels may be off."""
LOWEST: Final = 25
"""Per cent of a video's frames that count as those with closed lips."""
_MARGIN: Final = 8
"""Pixels around a person that are not background: people move a little."""

# Points of the mesh that speech does not move: outline above the jaw, nose, corners of the eyes, brows.
RIGID: Final = (10, 338, 297, 332, 284, 251, 389, 356, 127, 162, 21, 54, 103, 67, 109, 168, 6, 197, 195, 5, 4, 1, 2, 98,
                327, 33, 133, 362, 263, 70, 105, 107, 336, 334, 300)  # fmt: skip
EYES: Final = (33, 133, 159, 145, 158, 153, 263, 362, 386, 374, 385, 380)


def loudness(voice: Floats, frames: int) -> Floats:
    """Root mean square of the sound under each video frame."""
    samples = 16_000 // FPS
    padded = np.pad(voice, (0, max(0, frames * samples - len(voice))))[: frames * samples]
    level: Floats = np.sqrt(np.square(padded.reshape(frames, samples)).mean(1)).astype(np.float32)
    return level


def closures(openness: Floats, segments: Sequence[Segment]) -> list[bool]:
    """For each p, b and m: whether the lips are among the video's most closed quarter of frames at some time of it."""
    threshold = np.percentile(openness, LOWEST)
    return [bool(openness[frames].min() <= threshold) for segment in segments
            if PHONE_CLASSES[segment.phone] in LIPS_CLOSED and (frames := _frames(segment, len(openness)))]  # fmt: skip


def by_chance(openness: Floats, segments: Sequence[Segment]) -> float:
    """The share of `closures` if the lips moved just so, but at any other time."""
    shifts = range(5, len(openness) - 5, 3)
    shares = [closures(np.roll(openness, shift), segments) for shift in shifts]
    return float(np.mean([value for share in shares for value in share]))


def _frames(segment: Segment, count: int) -> list[int]:
    """Video frames that a phone touches."""
    first, last = int((segment.start - TOLERANCE) * FPS), int((segment.end + TOLERANCE) * FPS)
    return [frame for frame in range(first, last + 1) if 0 <= frame < count]


def psnr(made: NDArray[np.uint8], truth: NDArray[np.uint8], where: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio of pictures [..., height, width, 3], where a mask [height, width] is set."""
    error = np.square(made.astype(np.float32) - truth.astype(np.float32)).mean(-1)
    error = error if where is None else error[..., where]
    return float(10 * np.log10(255**2 / max(1e-6, float(error.mean()))))


def inside(box: Floats, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask [height, width] of a box x0, y0, x1, y1."""
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    mask: NDArray[np.bool_] = (rows >= box[1]) & (rows < box[3]) & (columns >= box[0]) & (columns < box[2])
    return mask


def background(person: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where nobody is, nor comes near: the mask of a person [height, width], grown and turned around."""
    grown = np.pad(person, _MARGIN)
    for axis in (0, 1):
        shifted = [np.roll(grown, step, axis) for step in range(-_MARGIN, _MARGIN + 1)]
        grown = np.any(shifted, axis=0)
    return ~grown[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def changes(video: NDArray[np.uint8]) -> Floats:
    """Mean absolute difference of each frame to the one before, (F - 1,)."""
    return np.array([np.abs(b.astype(np.float32) - a).mean() for a, b in pairwise(video)], np.float32)


def borders(video: NDArray[np.uint8], starts: Sequence[int]) -> Floats:
    """Changes where windows begin with these frames, the first one's left out, relative to the median."""
    change = changes(video)
    return np.asarray(change[np.array(starts[1:], int) - 1] / np.median(change), np.float32)


def sharpness(video: NDArray[np.uint8]) -> float:
    """Mean difference of neighbouring pixels: falls when a video fades or blurs."""
    grey = video.astype(np.float32).mean(-1)
    return float(np.abs(np.diff(grey, axis=-1)).mean() + np.abs(np.diff(grey, axis=-2)).mean())


def distortion(track: Floats, like: Floats) -> Floats:
    """How far the parts of a face that speech leaves alone stray from the portrait, (F,), in distances of the eyes.

    Args:
        track: points (F, 468, 2) of a video; not a number where no face was found, which counts as 1.
        like: points (468, 2) of the portrait.
    """
    chosen = sorted({*RIGID, *EYES})
    shape = like[chosen]
    scale = float(np.linalg.norm(like[EYE_CORNERS[0]] - like[EYE_CORNERS[1]]))
    known = np.concatenate([shape, np.ones((len(chosen), 1), np.float32)], 1)
    strays = []
    for points in track:
        if not np.isfinite(points).all():
            strays.append(1.0)
            continue
        # An affine map takes out position, turning and most of what perspective does.
        pose, *_ = np.linalg.lstsq(known, points[chosen], rcond=None)
        apart = np.linalg.norm(known @ pose - points[chosen], axis=1)
        strays.append(float(np.sort(apart)[-8:].mean()) / scale)
    return np.array(strays, np.float32)
