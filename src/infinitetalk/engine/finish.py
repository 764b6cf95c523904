"""From the model's frames to the finished ones: the rate, size and place in the source that a request asks for.

All faces make their pictures through `WindowResult.pictures`, which this prepares. Where faces are is found out for
some frames more on both sides of a window, and handed on with `Past.track`: the frames of a window depend on the
window alone, also after a stop.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from infinitetalk.core.defaults import Settings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS
from infinitetalk.core.stages import Stage
from infinitetalk.core.windows import Window
from infinitetalk.engine.progress import Progress
from infinitetalk.engine.protocols import FrameSource, Inputs, Picture
from infinitetalk.engine.results import Past, WindowResult
from infinitetalk.media.fit import Focus
from infinitetalk.media.interpolation import numbers
from infinitetalk.media.paste import Paste
from infinitetalk.media.registration import Registration
from infinitetalk.media.tracking import FaceTracker, Outlines, check_faces, mask

_SMOOTHED = 0.12
"""Seconds before and after a frame over which places of faces are averaged."""

_SEARCHES = 5
"""Times a second that the whole picture is looked at for a face that is lost."""

_ASTRAY = (
    "blend: with strength 1 made heads move on their own, and faces are moved back onto the source's, but look another "
    "way than it does; strength 0.5 keeps that too"
)

_ROOM = 2**28
"""Bytes of source frames that are held where a source runs backwards."""


class Finish:
    """Finishes the windows of a job.

    Args:
        request: what is asked for.
        settings: its numbers.
        inputs: the opened files.
        windows: the plan of the whole video.
        focus: what framing keeps.
        files: closes what this opens.
        listener: told of settings that rarely do together.

    Raises:
        RequestError: no face of a voice, where faces are to be blended.
        MachineError: faces cannot be found here.
    """

    def __init__(
        self,
        request: TalkRequest,
        settings: Settings,
        inputs: Inputs,
        windows: Sequence[Window],
        *,
        focus: Focus | None,
        files: ExitStack,
        listener: Progress,
    ) -> None:
        self._settings, self._windows, self._timeline = settings, windows, inputs.timeline
        self._ratio = settings.rate / FPS
        self._paste: Paste | None = None
        self._tracker: FaceTracker | None = None
        if request.output_size == "model":
            return
        self._paste = Paste(inputs.source.size, settings.size, settings.output_size, request.framing, focus)
        self._source = _again(inputs, files)
        self._blend = request.blend
        if request.blend != "frame":
            if request.video is not None and settings.strength == 1:
                listener.note(_ASTRAY)
            check_faces(request, settings, inputs.source, inputs.masks, focus)
            self._tracker = FaceTracker(request, inputs.masks, settings.rate)
            self._looked_at = _again(inputs, files)
            self._around = round(_SMOOTHED * settings.rate)
            self._registration = Registration(self._tracker, self._paste, self._around)

    def attach(self, result: WindowResult, window: Window, past: Past | None, listener: Progress) -> WindowResult:
        """The result with the means to be finished; faces are looked for now.

        Args:
            result: of the window.
            window: of the plan.
            past: what the window before handed on, also if that is of another shot.
            listener: told of the time that it takes.
        """
        rate = self._settings.rate
        if self._paste is None:
            return replace(result, rate=rate)
        shown = numbers(result.first_frame, window.keep, rate, joined=result.before is not None, ends=result.ends_shot)
        if self._tracker is None:
            return replace(result, rate=rate, put=partial(self._put, shown, window, None))
        shot = self._shot(window)
        known = None if past is None or past.track is None else past.track.numpy()
        with listener.stage(Stage.FEATURE_EXTRACTION):
            begin, track = self._follow(shown, shot, window, known, joined=result.before is not None)
        around = self._around
        outlines = [_smooth(track, number - begin, around) for number in shown]
        rest = track[max(0, shown.stop - around - begin) :] if len(track) else known
        handed = None if rest is None else torch.from_numpy(np.array(rest))
        put = partial(self._put, shown, window, outlines)
        return replace(result, rate=rate, put=put, past=replace(result.past, track=handed))

    def _put(
        self,
        shown: range,
        window: Window,
        outlines: Sequence[Outlines] | None,
        frames: NDArray[np.uint8],
    ) -> Iterator[Picture]:
        """Each frame in the source's frame of its time."""
        assert self._paste is not None
        sources = _pictures(self._source, [self._seconds(number, window) for number in shown])
        if outlines is None or not len(frames):
            yield from map(self._paste, frames, sources)
            return
        maps = self._registration([*frames], outlines)
        for made, source, faces, moves in zip(frames, sources, outlines, maps, strict=True):
            result = source
            for reach, move in zip(faces, moves, strict=True):
                weights = mask(reach[None], self._settings.output_size, self._blend)
                result = self._paste(made, result, weights, move)
            yield result

    def _follow(
        self, shown: range, shot: range, window: Window, known: NDArray[np.float64] | None, *, joined: bool
    ) -> tuple[int, NDArray[np.float64]]:
        """Outlines [frames, voices, directions] of the faces around a window's frames, and the first one's number."""
        assert self._tracker is not None
        begin, found = shown.start, list[Outlines]()
        last = None if known is None else known[-1]
        if joined and known is not None:
            begin, found = max(shot.start, shown.start - self._around), list(known)
        every = max(1, round(self._settings.rate / _SEARCHES))
        new = range(begin + len(found), min(shot.stop, shown.stop + self._around))
        times = [self._seconds(number, window) for number in new]
        for number, seconds, picture in zip(new, times, _pictures(self._looked_at, times), strict=True):
            if found:
                last = self._tracker.follow(picture, found[-1], everywhere=number % every == 0)
            else:
                last = self._tracker.begin(picture, seconds, last)
            found.append(last)
        return begin, np.stack(found) if found else np.zeros((0, 0, 0))

    def _shot(self, window: Window) -> range:
        """The finished frames of a window's shot, by number."""
        starts = [other.first_frame for other in self._windows if other.starts_shot]
        last = self._windows[-1]
        borders = [*starts, last.first_frame + last.keep]
        first, end = next(pair for pair in pairwise(borders) if pair[0] <= window.first_frame < pair[1])
        return range(math.ceil(first * self._ratio), math.ceil(end * self._ratio))

    def _seconds(self, number: int, window: Window) -> float:
        """The time in the source of a finished frame.

        Behind the last frame that was made before a cut, that one is held, and so is the source.
        """
        place = number / self._ratio
        later = self._windows[window.index + 1 : window.index + 2]
        if later and later[0].starts_shot:
            place = min(place, Fraction(window.first_frame + window.keep - 1))
        return float(self._timeline.source_frame(place) / FPS)


def _again(inputs: Inputs, files: ExitStack) -> FrameSource:
    """The source, to be read where this wants it."""
    return inputs.source if inputs.reopen is None else files.enter_context(inputs.reopen())


def _smooth(track: NDArray[np.float64], index: int, around: int) -> Outlines:
    """The mean of the outlines around a frame, nearer ones counting more."""
    places = np.arange(max(0, index - around), min(len(track), index + around + 1))
    weights = around + 1.0 - np.abs(places - index)
    mean: Outlines = np.tensordot(weights / weights.sum(), track[places], axes=1)
    return mean


def _pictures(source: FrameSource, times: Sequence[float]) -> Iterator[Picture]:
    """The source's frames at some times; those of a stretch that runs backwards are read forwards, some at a time."""
    size = source.size
    room = max(1, _ROOM // (size.height * size.width * 3))
    for begin in range(0, len(times), room):
        part = times[begin : begin + room]
        if all(one <= other for one, other in pairwise(part)):
            yield from map(source.frame_at, part)
        else:
            found = {seconds: source.frame_at(seconds) for seconds in sorted(set(part))}
            yield from (found[seconds] for seconds in part)
