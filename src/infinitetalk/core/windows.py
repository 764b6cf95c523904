"""How a long video is cut into windows: pure arithmetic on frame numbers.

    window 0   |##############################|
    window 1                         |mmmmm########################|
    window 2                                               |mmmmm#########|

Each window begins with the last `motion` frames (m) of the one before, which it continues but does not show again. The
last window is just long enough (4n+1 frames), so that no sound has to be invented for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from infinitetalk.core.defaults import Settings
from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, TEMPORAL_STRIDE


@dataclass(frozen=True, slots=True)
class Window:
    """One run of the network, in frames of the video."""

    index: int
    start: int
    """First frame, overlap included."""
    length: int
    """Frames that the network makes: 4n+1."""
    keep_from: int
    """Frames at the beginning that the window before has shown already."""
    keep: int
    """Frames that this window adds to the video."""
    mirror: bool = False
    """Reference mode: voices that end in this window go on mirrored."""

    @property
    def end(self) -> int:
        """One past the last frame that the network makes."""
        return self.start + self.length

    @property
    def first_frame(self) -> int:
        """The first frame of the video that this window adds."""
        return self.start + self.keep_from


def frames_of(samples: int) -> int:
    """Video frames that so many samples last, rounded up."""
    return -(-samples // SAMPLES_PER_FRAME)


def reference_frames_of(samples: int) -> int:
    """Video frames as the reference counts them, in its order of floating-point operations."""
    return int(samples / SAMPLE_RATE * FPS)


def plan_request(request: TalkRequest, settings: Settings, samples: Sequence[int]) -> tuple[Window, ...]:
    """Cuts a request's video into windows; `samples` are the lengths of its voices at 16 kHz.

    Raises:
        RequestError: in reference mode, a voice that the reference implementation would refuse.
    """
    count = reference_frames_of if request.reference else frames_of
    limit = None if request.duration is None else max(1, round(request.duration * FPS))
    if request.mode == "clip":
        limit = min(limit or settings.window_frames, settings.window_frames)
    return plan(
        [count(length) for length in samples],
        settings.window_frames,
        settings.motion_frames,
        limit=limit,
        reference=request.reference,
    )


def plan(
    voices: Sequence[int],
    window: int,
    motion: int,
    *,
    limit: int | None = None,
    reference: bool = False,
) -> tuple[Window, ...]:
    """Cuts a video into windows.

    Args:
        voices: frames that each voice lasts, rounded up (in reference mode: down).
        window: frames per window, 4n+1.
        motion: frames handed on from window to window, fewer than `window`.
        limit: frames of video at most.
        reference: every window full, as the reference implementation counts them.

    Raises:
        RequestError: in reference mode, a voice that the reference implementation would refuse.
    """
    return _reference_plan(voices, window, motion, limit) if reference else _plan(voices, window, motion, limit)


def _plan(voices: Sequence[int], window: int, motion: int, limit: int | None) -> tuple[Window, ...]:
    total = max(voices) if limit is None else min(max(voices), limit)
    windows: list[Window] = []
    shown = 0
    while shown < total:
        keep_from = motion if windows else 0
        start = shown - keep_from
        length = min(window, _fitting(total - start))
        keep = min(length, total - start) - keep_from
        windows.append(Window(len(windows), start, length, keep_from, keep))
        shown += keep
    return tuple(windows)


def _fitting(frames: int) -> int:
    """The smallest window that holds so many frames: 4n+1 and at least 5."""
    return max(1, -(-(frames - 1) // TEMPORAL_STRIDE)) * TEMPORAL_STRIDE + 1


def _reference_plan(voices: Sequence[int], window: int, motion: int, limit: int | None) -> tuple[Window, ...]:
    """The reference looks at the first voice to find the last window, and at the last voice to cut the video."""
    if (shortest := min(voices)) <= window:
        need = f"voices must be longer than the {window} frames of a window in reference mode"
        raise RequestError("audio", f"{shortest} frames", need)
    if limit is not None and limit <= window:
        return (Window(0, 0, window, 0, limit),)
    goal = voices[0] if limit is None else min(voices[0], limit)
    starts = [0]
    while len(starts) == 1 or starts[-1] + window < goal:
        starts.append(starts[-1] + window - motion)
    end = starts[-1] + window
    total = end if limit is None else min(end, limit)
    if any(end >= frames for frames in voices):
        total = min(total, voices[-1])
    return tuple(
        Window(index, start, window, keep_from, keep, mirror=index > 0 and start + window >= goal)
        for index, start in enumerate(starts)
        # Windows behind the cut are left out: nobody sees them and nothing follows them.
        if (keep := min(start + window, total) - start - (keep_from := motion if index else 0)) > 0
    )
