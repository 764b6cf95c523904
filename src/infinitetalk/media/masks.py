"""Masks as files: one picture for the whole video, or a video that moves with the source."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infinitetalk.core.sizes import Pixels
from infinitetalk.media.inputs import Mask, MaskSource
from infinitetalk.media.picture import as_mask, empty_mask, read_mask
from infinitetalk.media.video import VideoSource

_VIDEOS: Final = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ogv", ".mpg", ".ts"})

_LOOKED_AT: Final = 60
"""Seconds at the beginning of a mask video within which somebody must appear."""


@dataclass(frozen=True, slots=True)
class StillMask:
    """A person who stays in place."""

    mask: Mask

    def mask_at(self, seconds: float) -> Mask:  # noqa: ARG002  (the mask does not move)
        return self.mask


class MovingMask:
    """A person who moves: a video beside the source. Empty while the person is out of the picture."""

    def __init__(self, path: Path, size: Pixels) -> None:
        """Opens the video; `size` is the source's.

        Raises:
            MediaError: undecodable, of another shape than the source, or without anybody in its first minute.
        """
        self._path, self._size = path, size
        self._video = VideoSource(path)
        try:
            if not any(self.mask_at(float(second)).any() for second in range(_LOOKED_AT)):
                raise empty_mask(path)
        except BaseException:
            self._video.close()
            raise

    def mask_at(self, seconds: float) -> Mask:
        """The mask of the frame shown at a time; past the end the last one."""
        return as_mask(self._path, self._video.frame_at(seconds), self._size)

    def __enter__(self) -> "MovingMask":
        return self

    def __exit__(self, *error: object) -> None:
        self._video.close()


def open_mask(path: Path, size: Pixels) -> AbstractContextManager[MaskSource]:
    """A mask for a source of a size, by the file's ending a picture or a video.

    Raises:
        MediaError: a file that cannot be used, or a mask without anybody.
    """
    if path.suffix.lower() in _VIDEOS:
        return MovingMask(path, size)
    return nullcontext(StillMask(read_mask(path, size)))
