"""Whole videos of the source's size and rate: untouched pixels, faces that move, windows, stops and repeats."""

from collections.abc import Callable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.timeline import Timeline
from infinitetalk.engine.board import Board
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.job import Workshop, prepare
from infinitetalk.engine.model import Model
from infinitetalk.engine.results import Past, Resume
from infinitetalk.media.faces import find_faces
from infinitetalk.media.files import check
from infinitetalk.media.paste import Paste
from infinitetalk.media.sidecar import read_request
from infinitetalk.media.video import VideoSource
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.locate import ASSETS
from tests.media.moving import OTHER, PORTRAIT, scene, write_video

VOICE = ASSETS / "demo" / "voice_1.flac"
SIZE = Pixels(121, 201)
Frames = NDArray[np.uint8]
Dub = Callable[..., TalkRequest]


def shot(count: int, step: float = 1.0, begin: int = 0) -> list[Frames]:
    """A portrait that moves to the right."""
    return [scene(SIZE, (PORTRAIT, 90, (round(begin + step * index), 15))) for index in range(count)]


@pytest.fixture
def dub(tiny_folder: Path, tmp_path: Path) -> Dub:
    """Gives `dub(frames, rate=25, **settings)`, a request for their video."""

    def make(frames: list[Frames], rate: Fraction | int = 25, **more: Any) -> TalkRequest:
        path = write_video(tmp_path / "source.mp4", frames, rate)
        values: dict[str, Any] = {
            "model": str(tiny_folder),
            "video": path,
            "audio": (VOICE,),
            "size": "64x64",
            "steps": 1,
        }
        values |= {"window_frames": 13, "motion_frames": 5, "duration": 1.2, "provenance": False}
        return TalkRequest(**values | more)

    return make


def shown(tiny: Model, request: TalkRequest) -> list[Frames]:
    """All finished pictures."""
    return [picture for window in Engine(tiny).stream(request) for picture in window.pictures()]


def source_frames(request: TalkRequest, count: int, rate: Fraction | int = 25) -> list[Frames]:
    assert request.video is not None
    with VideoSource(request.video) as source:
        return [source.frame_at(float(number / Fraction(rate))) for number in range(count)]


@pytest.mark.parametrize("framing", ["crop", pytest.param("face", marks=pytest.mark.full), "letterbox"])
def test_face_only_leaves_all_else_as_it_was(tiny: Model, dub: Dub, framing: str) -> None:
    step, begin = {"letterbox": (2.0, 0), "crop": (0.8, 40), "face": (0.8, 20)}[framing]
    request = dub(shot(30, step, begin), output_size="source", blend="face", framing=framing)
    made, true = shown(tiny, request), source_frames(request, 30)
    assert len(made) == 30
    places = []
    for picture, source in zip(made, true, strict=True):
        assert picture.shape == (120, 200, 3)
        (face,) = find_faces(source)
        (x, y), edge = face.middle, face.height
        rows, columns = np.mgrid[0:120, 0:200]
        apart = np.maximum(np.abs(columns - x), np.abs(rows - y + 0.15 * edge)) / edge
        changed = (picture != source[:120, :200]).any(axis=-1)
        assert not changed[apart > 1.05].any(), "far from the face no bit is another"
        assert changed[apart < 0.3].mean() > 0.9
        places.append((x, float(columns[changed].mean())))
    moved = np.ptp(np.array(places), axis=0)
    assert moved[0] > 25 * step
    assert moved[1] == pytest.approx(moved[0], abs=5)


def test_of_a_mouth_only_eyes_stay_as_they_were(tiny: Model, dub: Dub) -> None:
    request = dub(shot(30, 0.8, 40), output_size="source", blend="mouth", framing="crop")
    for picture, source in zip(shown(tiny, request), source_frames(request, 30), strict=True):
        (face,) = find_faces(source)
        changed = (picture != source[:120, :200]).any(axis=-1)
        *eyes, _, mouth = [(int(y), int(x)) for x, y in face.points[:4]]
        rows, columns = np.mgrid[0:120, 0:200]
        for y, x in eyes:
            assert not changed[np.hypot(rows - y, columns - x) < 0.15 * face.height].any()
        assert changed[np.hypot(rows - mouth[0], columns - mouth[1]) < 0.08 * face.height].all()
        assert changed.sum() < 0.5 * face.height**2


def test_what_lies_outside_of_the_crop_is_the_source_of_its_time(tiny: Model, dub: Dub) -> None:
    request = dub(shot(30), output_size="source")
    made, true = shown(tiny, request), source_frames(request, 30)
    top, left, bottom, right = Paste(SIZE, Pixels(64, 64), Pixels(120, 200)).region
    assert (top, bottom) == (0, 120)
    for picture, source in zip(made, true, strict=True):
        np.testing.assert_array_equal(picture[:, :left], source[:120, :left])
        np.testing.assert_array_equal(picture[:, right:], source[:120, right:200])
        inner = (picture != source[:120, :200]).any(axis=-1)[:, left + 8 : right - 8]
        assert inner.mean() > 0.9


@pytest.mark.parametrize(("blend", "fps"), [
    ("face", "source"),
    pytest.param("face", "25", marks=pytest.mark.full),
    pytest.param("frame", "source", marks=pytest.mark.full),
])  # fmt: skip
def test_windows_do_not_depend_on_a_stop(tiny: Model, dub: Dub, blend: str, fps: str) -> None:
    """From any window on, the pictures are those of a whole run: also behind a cut, and at another rate."""
    source = [*shot(21, step=1.7), *shot(25, step=-1.5, begin=100)]
    request = dub(source, 30, output_size="source", blend=blend, fps=fps, duration=1.6)
    whole = [(window.past, [*window.pictures()]) for window in Engine(tiny).stream(request)]
    assert len(whole) >= 4
    for number in (1, 2, len(whole) - 1):
        past = whole[number - 1][0]
        known = Past(**{name: part.clone() for name, part in past.tensors().items()})
        again = [[*window.pictures()] for window in Engine(tiny).stream(request, resume=Resume(number, known))]
        for one, other in zip(chain(*again), chain(*(part for _, part in whole[number:])), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rate", [pytest.param(Fraction(30000, 1001), marks=pytest.mark.full), Fraction(10)])
def test_the_source_s_rate_and_frames_by_time(tiny: Model, dub: Dub, rate: Fraction) -> None:
    count = int(2 * rate)
    source = [scene(SIZE, (PORTRAIT, 90, (number * 60 // count, 15))) for number in range(count)]
    request = dub(source, rate, output_size="source", blend="face", fps="source")
    made = shown(tiny, request)
    assert len(made) == -(-30 * rate // 25)
    for picture, true in zip(made, source_frames(request, len(made), rate), strict=True):
        np.testing.assert_array_equal(picture[:, 185:], true[:120, 185:200])
        changed = np.argwhere((picture != true[:120, :200]).any(axis=-1)).mean(axis=0)
        (face,) = find_faces(true)
        assert np.hypot(*(changed - np.array(face.middle)[::-1])) < 0.3 * face.height


def test_a_cut_changes_source_and_face_at_once(tiny: Model, dub: Dub) -> None:
    """At 50 frames a second a cut may lie between two frames of the model's: no picture shows parts of both shots."""
    left, right = scene(SIZE, (PORTRAIT, 90, (5, 15))), scene(SIZE, (OTHER, 90, (100, 15)))[:, :, ::-1].copy()
    request = dub([left] * 31 + [right] * 31, 50, output_size="source", blend="face", fps="source")
    made = shown(tiny, request)
    assert len(made) == 60
    true = source_frames(request, 60, 50)
    for number, picture in enumerate(made):
        behind = number > 31  # the first frame of the new shot that the model makes is that of second 0.64
        now = true[30 if number == 31 else number]
        changed = (picture != now[:120, :200]).any(axis=-1)
        assert 500 < changed.sum() < 9000
        assert changed[:, :100].any() != behind
        assert changed[:, 100:].any() == behind


@pytest.mark.parametrize("cuts", ["ignore", "detect"])
def test_nothing_is_made_where_no_face_is_any_more(tiny: Model, dub: Dub, cuts: str) -> None:
    """Somebody who is suddenly gone fades; behind a cut to a picture without a face nothing is made at all."""
    source = [*shot(8), *[255 - scene(SIZE)] * 30]
    request = dub(source, output_size="source", blend="face", cuts=cuts, duration=1.5)
    made, true = shown(tiny, request), source_frames(request, 38)
    changed = [bool((picture != frame[:120, :200]).any()) for picture, frame in zip(made, true, strict=True)]
    assert changed == sorted(changed, reverse=True)
    first, last = (8, 8) if cuts == "detect" else (8 + 15, 8 + 23)  # 0.8 s, and what is averaged
    assert first <= sum(changed) <= last


def test_a_source_that_runs_backwards(tiny: Model, dub: Dub) -> None:
    request = dub(shot(12, step=4), output_size="source", source_end="ping-pong")
    made, true = shown(tiny, request), source_frames(request, 12)
    course = Timeline(12, "ping-pong")
    for number, picture in enumerate(made):
        np.testing.assert_array_equal(picture[:, 165:], true[course.source_frame(number)][:120, 165:200])


def test_places_between_frames_follow_the_course() -> None:
    half = Fraction(1, 2)
    assert Timeline(10, "ping-pong").source_frame(9 + half) == 9 - half
    assert Timeline(10, "ping-pong").source_frame(half) == half
    assert Timeline(10, "loop").source_frame(10 + half) == half
    assert Timeline(10, "stop").source_frame(11 + half) == 9
    assert Timeline().source_frame(11 + half) == 11 + half


def test_a_job_writes_size_and_rate_and_its_sidecar_repeats_it(dub: Dub, tmp_path: Path) -> None:
    request = dub(shot(30), Fraction(30000, 1001), output_size="source", blend="face", fps="source", duration=0.8)
    workshop, hls = Workshop("cpu"), tmp_path / "preview"
    first = workshop.make(prepare(request, tmp_path / "first.mp4", hls=hls))
    assert (first.complete, first.size, first.fps) == (True, Pixels(120, 200), Fraction(30000, 1001))
    assert first.to_json()["fps"] == pytest.approx(29.97, abs=1e-3)
    again = workshop.make(prepare(read_request(first.sidecar), tmp_path / "again.mp4"))
    assert again.video.read_bytes() == first.video.read_bytes()
    with av.open(str(first.video)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.average_rate) == (120, 200, Fraction(30000, 1001))
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(decoded) == first.frames == 24
    with av.open(str(hls / "index.m3u8")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert np.diff(times) == pytest.approx(1001 / 30000, abs=1e-3)
    assert len(times) == 24


def test_a_slow_source_may_give_a_window_no_frame(dub: Dub, tmp_path: Path) -> None:
    """A video of two frames a second: windows between them bring none, also after a stop."""
    request = dub(shot(4, step=9), 2, output_size="source", fps="source", duration=1.4)
    workshop, seen = Workshop("cpu"), tmp_path / "seen.mp4"
    made = workshop.make(prepare(request, seen, hls=tmp_path / "preview"))
    assert (made.frames, made.complete) == (3, True)
    assert made.windows > 3
    job = prepare(request, tmp_path / "stopped.mp4")
    from infinitetalk.media.writer import VideoWriter

    write, calls = VideoWriter.write, list[int]()

    def stopping(self: VideoWriter, frames: Any) -> None:
        write(self, frames)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VideoWriter, "write", stopping)
        workshop.make(job)
    resumed = workshop.make(prepare(request, tmp_path / "stopped.mp4"))
    assert resumed.complete
    assert resumed.video.read_bytes() == seen.read_bytes()


def test_a_picture_keeps_its_size(tiny: Model, tiny_folder: Path, tmp_path: Path) -> None:
    picture = scene(SIZE, (PORTRAIT, 90, (60, 15)))
    Image.fromarray(picture).save(tmp_path / "face.png")
    values: dict[str, Any] = {"model": str(tiny_folder), "image": tmp_path / "face.png", "audio": (VOICE,)}
    values |= {"size": "64x64", "steps": 1, "window_frames": 13, "duration": 0.5, "output_size": "source"}
    clip = Engine(tiny).generate(TalkRequest(**values, blend="face", fps="50"))
    assert clip.fps == 50
    assert clip.frames.shape == (3, 24, 120, 200)
    rgb = clip.rgb()
    np.testing.assert_array_equal(rgb[:, :, :40], np.broadcast_to(picture[:120, :40], (24, 120, 40, 3)))
    assert (rgb[5] != picture[:120, :200]).any()


REFUSED = [
    ({"blend": "face"}, "output_size source would work"),
    ({"blend": "mouth"}, "blend = mouth.*output_size source would work"),
    ({"output_size": "source", "reference": True, "cuts": "ignore"}, "output_size = source.*the reference has no such"),
    ({"fps": "source", "reference": True}, "fps = source.*the reference has no such"),
]


@pytest.mark.parametrize(("settings", "told"), REFUSED)
def test_what_cannot_work_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        TalkRequest(video=Path("a.mp4"), audio=(VOICE,), **settings)


def test_a_picture_has_no_rate() -> None:
    with pytest.raises(RequestError, match="a picture has no rate; 25, 50 or 60 would work"):
        TalkRequest(image=Path("a.png"), audio=(VOICE,), fps="source")


def test_a_source_without_a_face_is_refused_before_weights(dub: Dub) -> None:
    request = dub([scene(SIZE)] * 3, output_size="source", blend="face")
    with pytest.raises(RequestError, match="no face was found in the source's first frame"):
        check(request, ModelFolder.open(request.model).facts)
    corner = dub([scene(SIZE, (PORTRAIT, 60, (0, 0)))] * 3, output_size="source", blend="face")
    with pytest.raises(
        RequestError, match=r"framing = crop.*cuts away a talking face; face or letterbox would keep it"
    ):
        check(corner, ModelFolder.open(request.model).facts)


def test_sources_too_fast_or_too_large(dub: Dub, tmp_path: Path) -> None:
    fast = dub(shot(4), 200, fps="source")
    facts = ModelFolder.open(fast.model).facts
    with pytest.raises(RequestError, match="the source has 200 frames a second, and 1 to 120 work"):
        check(fast, facts)
    Image.new("RGB", (5000, 40)).save(tmp_path / "wide.png")
    wide = TalkRequest(model=fast.model, image=tmp_path / "wide.png", audio=(VOICE,), output_size="source")
    with pytest.raises(RequestError, match="the source is 5000x40, and sides up to 4096 work"):
        check(wide, facts)


def test_faces_that_may_go_astray_are_told_of(tiny: Model, dub: Dub) -> None:
    for strength, told in ((1.0, True), (0.5, False)):
        board = Board()
        request = dub(shot(3), output_size="source", blend="face", strength=strength, steps=2, duration=0.2)
        windows = Engine(tiny).stream(request, board)
        next(windows)
        windows.close()
        assert any("strength 0.5 keeps that too" in note for note in board.notes) == told
