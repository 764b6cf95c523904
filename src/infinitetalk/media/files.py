"""A request's files: everything about them that can be refused, and the files opened for the engine."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path

from infinitetalk.core.defaults import ModelFacts, Settings, resolve
from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import Box, TalkRequest, check_single_voice
from infinitetalk.core.sizes import FPS, SAMPLE_RATE, Pixels
from infinitetalk.core.timeline import Timeline
from infinitetalk.core.windows import plan_request
from infinitetalk.media.hearing import silence
from infinitetalk.media.inputs import FrameSource, Inputs, MaskSource, Wave
from infinitetalk.media.interpolation import require_flow
from infinitetalk.media.long_sound import AnySound, cut
from infinitetalk.media.masks import open_mask
from infinitetalk.media.paths import require_file, require_output
from infinitetalk.media.picture import StillSource, read_picture
from infinitetalk.media.separation import require_separator
from infinitetalk.media.shots import find_cuts, require_detector
from infinitetalk.media.sound import SHORTEST, open_sound
from infinitetalk.media.video import VideoSource, length_of
from infinitetalk.media.voices import arranged, open_voices, together


class FileMedia:
    """The engine's media source for requests that name files.

    Args:
        whole: a video is read to its end for cuts and length; if not, neither is known.
    """

    def __init__(self, *, whole: bool = True) -> None:
        self._whole = whole

    def open(self, request: TalkRequest) -> Inputs:
        """Reads the sounds and masks, opens the picture or video.

        Raises:
            MediaError: a file that cannot be used.
            RequestError: a start beyond the sound, or a box beyond the picture.
            MachineError: the disk for temporary files is full.
        """
        require_inputs(request)
        with ExitStack() as files:
            source = files.enter_context(_source(request))
            _check_boxes(request.boxes, source.size)
            masks = _masks(request, source.size, files)
            voices, seconds = open_voices(request)
            _check_start(request, seconds)
            silent = (silence(max(map(len, voices))),) * (request.people - len(voices))
            return Inputs(
                source,
                (*voices, *silent),
                masks,
                self._timeline(request, voices),
                rate=_rate(source),
                reopen=partial(VideoSource, request.video) if request.video is not None else None,
                files=files.pop_all(),
            )

    def _timeline(self, request: TalkRequest, voices: Sequence[Wave]) -> Timeline:
        """The course of the request's source through the video."""
        if request.video is None or not self._whole:
            return Timeline()
        frames = None if request.source_end == "hold" else max(1, round(length_of(request.video) * FPS))
        if not request.finds_cuts:
            return Timeline(frames, request.source_end)
        heard = max(map(len, voices)) / SAMPLE_RATE
        until = heard if request.duration is None else min(heard, request.duration)
        return Timeline(frames, request.source_end, find_cuts(request.video, until))


class PortraitMedia:
    """The engine's media source for sound that comes from elsewhere: it opens the picture alone."""

    def open(self, request: TalkRequest) -> Inputs:
        """Reads the picture.

        Raises:
            MediaError: a file that cannot be used.
        """
        assert request.image is not None, "a request for live talk has a picture"
        require_file(request.image, "picture")
        return Inputs(StillSource(read_picture(request.image)), ())


def check(request: TalkRequest, facts: ModelFacts, output: Path | None = None) -> Settings:
    """Refuses in seconds what would fail later: inputs, places of people, model limits and the output path.

    No weight is loaded for it. All inputs are decoded once, but for a video's frames beyond the first. Gives the
    request's numbers with every default filled in.

    Raises:
        RequestError: a setting, named with its value and what would work.
        MediaError: a file, named with what is wrong with it.
    """
    if output is not None:
        require_output(output, input_paths(request))
    require_inputs(request)
    if request.finds_cuts:
        require_detector()
    require_separator(request)
    request = completed(request, facts)
    with _source(request) as source:
        settings = resolve(request, facts, source.size, _rate(source))
        if settings.rate != FPS:
            require_flow()
        _check_boxes(request.boxes, source.size)
        _check_places(request, source, settings)
    _check_start(request, max(voice.end for voice in arranged(request)))
    if request.soundtrack is not None:
        open_sound(request.soundtrack)
    if request.reference:
        plan_request(request, settings, [len(voice) for voice in open_voices(request)[0]])
    return settings


def completed(request: TalkRequest, facts: ModelFacts) -> TalkRequest:
    """The request with what its files say of people: a single speaker's box is followed by those of other faces.

    Raises:
        RequestError: a box beyond the picture, or more people than the model can tell apart.
        MediaError: a file that cannot be used.
        MachineError: the face detector cannot run here.
    """
    if not request.places_speaker:
        return request
    require_inputs(request)
    from infinitetalk.media.bystanders import with_bystanders

    with _source(request) as source:
        _check_boxes(request.boxes, source.size)
        return with_bystanders(request, facts, source, _rate(source))


def output_sound(request: TalkRequest) -> AnySound:
    """The sound of the finished video: the voices mixed, from the request's start, or the soundtrack from its own.

    No longer than the video may last; it may be shorter.

    It is decoded while its pieces are asked for.

    Raises:
        MediaError: a sound that cannot be used.
    """
    if request.soundtrack is not None:
        return cut(open_sound(request.soundtrack), 0.0, request.duration)
    return cut(together(request), request.start, request.duration)


def input_paths(request: TalkRequest) -> Iterator[Path]:
    """Every file that a request names, in the order of its fields."""
    yield from (path for path in (request.image, request.video) if path is not None)
    yield from request.audio
    yield from request.masks
    yield from (lora.path for lora in request.loras)
    if request.soundtrack is not None:
        yield request.soundtrack


def require_inputs(request: TalkRequest) -> None:
    """Looks whether every file is there, before the first is decoded.

    Raises:
        MediaError: missing, empty, a folder, or not readable.
    """
    kinds: list[tuple[str, tuple[Path | None, ...]]] = [
        ("picture", (request.image,)),
        ("video", (request.video,)),
        ("sound", (*request.audio, request.soundtrack)),
        ("mask", request.masks),
        ("LoRA", tuple(lora.path for lora in request.loras)),
    ]
    for kind, paths in kinds:
        for path in paths:
            if path is not None:
                require_file(path, kind)


def _source(request: TalkRequest) -> AbstractContextManager[FrameSource]:
    if request.image is not None:
        return nullcontext(StillSource(read_picture(request.image)))
    assert request.video is not None
    return VideoSource(request.video)


def _rate(source: FrameSource) -> Fraction | None:
    """The rate of a video."""
    return source.rate if isinstance(source, VideoSource) else None


def _check_places(request: TalkRequest, source: FrameSource, settings: Settings) -> None:
    with ExitStack() as files:
        masks = _masks(request, source.size, files)
        check_single_voice(request)
        if request.people == 1 and request.blend == "frame":
            return
        from infinitetalk.media.framing import frame_faces
        from infinitetalk.media.people import People
        from infinitetalk.media.tracking import check_faces

        focus = frame_faces(request, source).focus
        People(request, masks, settings.size, focus).at(0.0, source.frame_at(0.0))
        if request.blend != "frame":
            check_faces(request, settings, source, masks, focus)


def _masks(request: TalkRequest, size: Pixels, files: ExitStack) -> tuple[MaskSource, ...]:
    return tuple(files.enter_context(open_mask(path, size)) for path in request.masks)


def _check_start(request: TalkRequest, end: float) -> None:
    if request.start > end - SHORTEST + 1e-6:
        latest = max(0.0, math.floor((end - SHORTEST) * 100 + 1e-6) / 100)
        raise RequestError("start", request.start, f"the sound is {end:.2f} s long; up to {latest:g} would work")


def _check_boxes(boxes: tuple[Box, ...], size: Pixels) -> None:
    for box in boxes:
        if max(box) > 1 and (box.x1 > size.width or box.y1 > size.height):
            need = f"reaches beyond the picture: x up to {size.width} and y up to {size.height} would work"
            raise RequestError("boxes", tuple(box), need)
