"""The request refuses what cannot work and survives a round trip through JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infinitetalk.core.errors import MediaError, RequestError
from infinitetalk.core.request import Box, TalkRequest

GOOD: dict[str, Any] = {"image": Path("face.png"), "audio": (Path("voice.wav"),)}


def request(**changes: Any) -> TalkRequest:
    return TalkRequest(**(GOOD | changes))


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"image": None}, "image", "exactly one"),
        ({"video": Path("a.mp4")}, "image", "exactly one"),
        ({"audio": ()}, "audio", "at least one"),
        ({"window_frames": 80}, "window_frames", "81 would work"),
        ({"window_frames": 1}, "window_frames", "at least 5"),
        ({"motion_frames": 0}, "motion_frames", "at least 1"),
        ({"motion_frames": 26}, "motion_frames", "at most 25"),
        ({"size": "650x640"}, "size", "656x640 would work"),
        ({"size": "huge"}, "size", "WIDTHxHEIGHT"),
        ({"size": "0x640"}, "size", "multiples of 16"),
        ({"steps": 0}, "steps", "at least 1"),
        ({"shift": float("nan")}, "shift", "finite"),
        ({"audio_scale": float("inf")}, "audio_scale", "finite"),
        ({"text_scale": -1.0}, "text_scale", "at least 0"),
        ({"color_strength": 1.5}, "color_strength", "at most 1"),
        ({"seed": -1}, "seed", "at least 0"),
        ({"start": -0.1}, "start", "at least 0"),
        ({"duration": 0.0}, "duration", "at least 0.04"),
        ({"quality": 0}, "quality", "at least 1"),
        ({"quality": 52}, "quality", "at most 51"),
        ({"framing": "stretch"}, "framing", "crop, face, letterbox"),
        ({"mode": "forever"}, "mode", "streaming, clip"),
        ({"audio": (Path("a.wav"), Path("b.wav")), "boxes": (Box(0, 0, 1, 1),)}, "boxes", "one per voice"),
        ({"boxes": (Box(0, 0, 1.2, 1),)}, "boxes", "fractions up to 1"),
        ({"boxes": (Box(5, 0, 1, 1),)}, "boxes", "x0 < x1"),
        ({"boxes": (Box(0, 0, float("nan"), 1),)}, "boxes", "finite"),
        ({"boxes": (Box(0, 0, 1, 1),), "masks": (Path("m.png"),)}, "masks", "not both"),
        ({"size": "4112x640"}, "size", "at most 4096"),
        ({"size": "9" * 5000 + "x16"}, "size", "WIDTHxHEIGHT such as"),
        ({"size": "9000x9001"}, "size", "4096x4096 would work"),
        ({"steps": "4"}, "steps", "must be a whole number"),
        ({"steps": 4.5}, "steps", "must be a whole number"),
        ({"seed": None}, "seed", "must be a whole number"),
        ({"seed": True}, "seed", "must be a whole number"),
        ({"size": 480}, "size", "must be text"),
        ({"preview": 1}, "preview", "must be true or false"),
        ({"audio": None}, "audio", "must be a list of paths"),
        ({"audio": ("a.wav", 5)}, "audio", "must be a list of paths"),
        ({"image": 5}, "image", "must be the path of a file"),
        ({"boxes": [5]}, "boxes", "must be a list of boxes"),
    ],
)
def test_refusals_name_field_value_and_need(changes: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        request(**changes)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_texts_stand_for_paths_and_lists_for_tuples() -> None:
    plain = TalkRequest(
        image="face.png",  # type: ignore[arg-type]
        audio=["a.wav", Path("b.wav")],  # type: ignore[arg-type]
        boxes=[[0, 0, 0.5, 1], (0.5, 0, 1, 1)],  # type: ignore[arg-type]
        start=1,
        seed=np.int64(3),  # type: ignore[arg-type]
    )
    assert plain == TalkRequest(
        image=Path("face.png"),
        audio=(Path("a.wav"), Path("b.wav")),
        boxes=(Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)),
        start=1.0,
        seed=3,
    )
    assert type(plain.seed) is int
    assert TalkRequest(video="clip.mp4", audio="a.wav").audio == (Path("a.wav"),)  # type: ignore[arg-type]


def test_json_round_trip_keeps_every_field() -> None:
    one = request(
        audio=(Path("a.wav"), Path("b.wav")),
        boxes=(Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)),
        duration=2.5,
        apg=True,
        steps=8,
    )
    assert TalkRequest.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", "8"), ("steps", True), ("apg", 1), ("audio", [5]), ("prompt", 3), ("shift", "x"), ("colour", 1)],
)
def test_json_of_the_wrong_kind_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        TalkRequest.from_json(request().to_json() | {name: value})
    assert caught.value.field == name


def test_box_parses_four_numbers_only() -> None:
    assert Box.parse("1,2,3.5,4") == Box(1, 2, 3.5, 4)
    for bad in ("1,2,3", "a,b,c,d", "1,2,3,4,5", ""):
        with pytest.raises(RequestError):
            Box.parse(bad)


def test_an_error_is_one_line_whatever_a_name_holds() -> None:
    assert str(MediaError(Path("a\nb.png"), "no such file")) == "a b.png: no such file"
