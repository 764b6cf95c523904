"""Where a video cuts from one shot to the next, by PySceneDetect's adaptive detector."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from infinitetalk.core.sizes import FPS
from infinitetalk.media.video import shown_frames

_WIDTH = 256
"""Pixels across at which frames are compared: cuts change the whole picture."""

_SHORTEST = 3
"""Frames of the source that a shot lasts at least; what is shorter is a flash."""


def require_detector() -> None:
    """Looks whether cuts can be found here.

    Raises:
        MachineError: a package is missing.
    """
    try:
        import scenedetect  # noqa: F401
    except ImportError as error:
        need = "pip install scenedetect-headless, or leave cuts alone with --cuts ignore"
        raise MachineError(f"finding a video's cuts needs PySceneDetect; {need}") from error


def find_cuts(path: Path, until: float) -> tuple[int, ...]:
    """Frames, at 25 a second and from 0, with which a new shot begins; all above 0 and rising.

    Reads the video once from its beginning and keeps a few small frames, whatever the length.

    Args:
        until: seconds after which nobody asks.

    Raises:
        MediaError: undecodable, or without video.
        MachineError: a package is missing.
    """
    require_detector()
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(min_scene_len=_SHORTEST)
    times: dict[int, float] = {}
    found: list[float] = []
    for index, (due, picture) in enumerate(_small(path)):
        if due > until:
            break
        times[index] = due
        found += [times[cut.frame_num] for cut in detector.process_frame(FrameTimecode(index, float(FPS)), picture)]
        times.pop(index - 2 * detector.event_buffer_length, None)
    # The first frame of ours that shows the new shot: the reader shows it from its due time on.
    frames = [max(0, _first_at(due)) for due in found]
    return tuple(sorted({frame for frame in frames if frame > 0}))


def _first_at(due: float) -> int:
    """The first frame of ours that is shown at a time or later; as the reader compares the two."""
    frame = int(due * FPS)
    return frame if frame / FPS >= due else frame + 1


def _small(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Every frame with the time from which it is shown, [height, width, 3] in blue, green, red."""
    for due, frame in shown_frames(path):
        height = max(16, round(frame.height * _WIDTH / frame.width))
        small = frame.reformat(width=_WIDTH, height=height, format="bgr24")
        yield due, np.asarray(small.to_ndarray(), dtype=np.uint8)
