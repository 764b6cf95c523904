"""How a long video is cut into windows: pure arithmetic on frame numbers.

    window 0   |##############################|
    window 1                         |mmmmm########################|
    window 2                                               |mmmmm#########|

Each window begins with the last `motion` frames (m) of the one before, which it continues but does not show again. The
last window is just long enough (4n+1 frames), so that no sound has to be invented for it. A window ends early where
the voices pause. Where the source cuts, a window ends and the next one starts anew; sound goes on through the cut.

With an overlap (o), both windows make the frames at a border, which fade from one to the other:

    window 0   |######################oooo|
    window 1                    |mmmmmoooo##################|
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

from infinitetalk.core.defaults import Settings
from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, TEMPORAL_STRIDE
from infinitetalk.core.timeline import Timeline


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
    fade: int = 0
    """Of these the first, which the window before has made too: its picture fades into this one's."""
    spare: int = 0
    """Frames made behind those that it adds, from which the next window's fade."""
    mirror: bool = False
    """Reference mode: voices that end in this window go on mirrored."""

    @property
    def end(self) -> int:
        """One past the last frame that the network makes."""
        return self.start + self.length

    @property
    def starts_anew(self) -> bool:
        """Whether it continues no frames: it starts from the reference picture alone."""
        return self.keep_from == 0

    @property
    def starts_shot(self) -> bool:
        """Whether nothing before belongs to it: the first window of the video or of a shot."""
        return self.starts_anew and not self.fade

    @property
    def first_frame(self) -> int:
        """The first frame of the video that this window adds."""
        return self.start + self.keep_from


REACH = 4
"""A window gives up at most a fourth of its frames to end at a pause."""

PATIENCE = 0.5
"""Decibels by which a place must be quieter for each frame that a window gives up for it."""


def frames_of(samples: int) -> int:
    """Video frames that so many samples last, rounded up."""
    return -(-samples // SAMPLES_PER_FRAME)


def reference_frames_of(samples: int) -> int:
    """Video frames as the reference counts them, in its order of floating-point operations."""
    return int(samples / SAMPLE_RATE * FPS)


def plan_request(
    request: TalkRequest,
    settings: Settings,
    samples: Sequence[int],
    timeline: Timeline | None = None,
    loudness: Sequence[float] = (),
) -> tuple[Window, ...]:
    """Cuts a request's video into windows; `samples` are the lengths of its voices at 16 kHz.

    `timeline` is the source's: no window crosses its cuts, and the video ends where it says so. `loudness` tells in
    decibels how loud it is where each frame begins: windows end at quiet moments.

    Raises:
        RequestError: in reference mode, a voice that the reference implementation would refuse.
    """
    counted = reference_frames_of if request.reference else frames_of
    limit = None if request.duration is None else max(1, round(request.duration * FPS))
    if request.mode == "clip":
        limit = min(limit or settings.window_frames, settings.window_frames)
    course = timeline or Timeline()
    lengths = [counted(length) for length in samples]
    if course.limit is not None:
        limit = course.limit if limit is None else min(limit, course.limit)
    return plan(
        lengths,
        settings.window_frames,
        settings.motion_frames,
        limit=limit,
        borders=Borders(
            cuts=() if request.reference else course.cuts_before(min(max(lengths), limit or max(lengths))),
            loudness=loudness,
            overlap=settings.overlap_frames,
            anchor=request.reanchor,
        ),
        reference=request.reference,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Borders:
    """Where windows end and how they meet."""

    cuts: tuple[int, ...] = ()
    """Frames with which a new shot begins, rising."""
    loudness: Sequence[float] = ()
    """Decibels around the beginning of each frame; empty: windows never end early."""
    overlap: int = 0
    """Frames at a border that both windows make."""
    anchor: int | None = None
    """Every so many windows one starts from the reference picture alone and takes over in the overlap."""


def plan(
    voices: Sequence[int],
    window: int,
    motion: int,
    *,
    limit: int | None = None,
    borders: Borders = Borders(),
    reference: bool = False,
) -> tuple[Window, ...]:
    """Cuts a video into windows.

    Args:
        voices: frames that each voice lasts, rounded up (in reference mode: down).
        window: frames per window, 4n+1.
        motion: frames handed on from window to window, fewer than `window`.
        limit: frames of video at most.
        borders: where windows end and how they meet; not for reference mode.
        reference: every window full, as the reference implementation counts them.

    Raises:
        RequestError: in reference mode, a voice that the reference implementation would refuse.
    """
    if reference:
        return _reference_plan(voices, window, motion, limit)
    total = max(voices) if limit is None else min(max(voices), limit)
    windows: list[Window] = []
    for begin, end in pairwise([0, *(cut for cut in borders.cuts if 0 < cut < total), total]):
        windows += _shot(range(begin, end), len(windows), window, motion, borders)
    return tuple(windows)


def _shot(frames: range, index: int, window: int, motion: int, borders: Borders) -> Iterator[Window]:
    """The windows of a stretch without cuts; `index` is the first one's."""
    shown = frames.start
    for number in count():
        if shown >= frames.stop:
            return
        anew = number % borders.anchor == 0 if borders.anchor else number == 0
        keep_from = 0 if anew else motion
        start, fade = shown - keep_from, borders.overlap if number else 0
        if start + window >= frames.stop:
            keep = frames.stop - shown
            yield Window(index + number, start, _fitting(frames.stop - start), keep_from, keep, fade)
            return
        last = start + window - borders.overlap
        reach = min(window // REACH, window - keep_from - fade - borders.overlap - TEMPORAL_STRIDE)
        end = _quietest(range(last, last - reach - 1, -TEMPORAL_STRIDE), borders.loudness)
        length = end + borders.overlap - start
        yield Window(index + number, start, length, keep_from, end - shown, fade, borders.overlap)
        shown = end


def _quietest(places: range, loudness: Sequence[float]) -> int:
    """Of some frames, latest first, the one with the quietest beginning; earlier ones must be quieter still."""
    known = [place for place in places if place < len(loudness)]
    return min(known, key=lambda place: loudness[place] + PATIENCE * (places.start - place), default=places.start)


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
