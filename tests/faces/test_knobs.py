"""Flags and forms are projections of the request."""

import argparse
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.core.errors import RequestError
from infinitetalk.core.knobs import CONTROLS, Control, Kind, add_flags, from_form, given, override
from infinitetalk.core.request import Box, TalkRequest

PICTURE, VOICE = Path("face.png"), Path("voice.wav")
BASE = TalkRequest(image=PICTURE, audio=(VOICE,))

# Whoever adds, renames or drops a setting changes what users type: this list says so out loud.
FLAGS = """
--model --image --video --audio --text --voice --box --mask
--prompt --prompt-at --negative-prompt --lora --encoder --voices --audio-strength
--separate --noise-floor --size --framing --color-strength
--start --duration --source-end --strength --cuts --mode --preview
--window-frames --motion-frames --seam-frames --window-end --overlap-frames --reanchor
--seed --recipe --steps --shift --scheduler --text-scale --audio-scale
--step-cache --cache-threshold --cache-interval --apg --apg-momentum --apg-threshold --reference
--output-size --blend --fps --quality --soundtrack --provenance --motion
"""


NEEDED: dict[str, dict[str, Any]] = {
    "cache_threshold": {"step_cache": "teacache"},
    "cache_interval": {"step_cache": "taylorseer"},
    "source_end": {"video": Path("clip.mp4")},
    "strength": {"video": Path("clip.mp4")},
    "blend": {"output_size": "source"},
    "fps": {"video": Path("clip.mp4")},
    "text": {"voice": ("espeak:en",)},
    "voice": {"text": "Hello."},
}
"""Fields that mean something beside others only."""


def parse(line: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return given(parser.parse_args(shlex.split(line)))


def test_every_field_has_one_control_and_the_flags_are_pinned() -> None:
    assert [control.name for control in CONTROLS] == [item.name for item in fields(TalkRequest)]
    assert [control.flag for control in CONTROLS] == FLAGS.split()


def test_flags_are_typed_as_the_request_types_them() -> None:
    line = "--image face.png --audio a.wav --audio b.wav --box 0,0,0.5,1 --box 0.5,0,1,1 --seed 7 --shift 3 --apg"
    values = parse(line)
    assert values == {
        "image": PICTURE,
        "audio": (Path("a.wav"), Path("b.wav")),
        "boxes": (Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)),
        "seed": 7,
        "shift": 3.0,
        "apg": True,
    }
    assert TalkRequest(**values).seed == 7


def test_other_programs_spellings_are_known() -> None:
    assert parse("--wav2vec_dir weights/wav2vec2-base-960h") == {"encoder": "weights/wav2vec2-base-960h"}


def test_absent_flags_leave_no_trace() -> None:
    assert parse("") == {}


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_every_flag_reaches_its_field(control: Control) -> None:
    words = {
        Kind.TEXT: "32x32",
        Kind.WHOLE: "5",
        Kind.NUMBER: "5.5" if control.knob.least == 5 else "0.5",
        Kind.FILE: "face.png",
        Kind.FILES: "voice.wav",
        Kind.TEXTS: "espeak:en",
        Kind.BOXES: "0,0,1,1",
        Kind.LORAS: "face.safetensors:0.5",
        Kind.STRENGTHS: "1:0.5@2-3",
        Kind.PROMPTS: "2-3:laughs",
    }
    if control.kind is Kind.SWITCH:
        assert parse(control.flag) == {control.name: True}
        assert parse(f"--no-{control.flag[2:]}") == {control.name: False}
        return
    word = control.knob.choices[-1] if control.kind is Kind.CHOICE else words[control.kind]
    value = parse(f"{control.flag} {word}")[control.name]
    changed = override(BASE, {control.name: value, **NEEDED.get(control.name, {})})
    assert getattr(changed, control.name) == value


def test_override_replaces_rivals() -> None:
    dubbed = override(BASE, {"video": Path("clip.mp4")})
    assert (dubbed.image, dubbed.video) == (None, Path("clip.mp4"))
    masked = override(override(BASE, {"boxes": (Box(0, 0, 1, 1),)}), {"masks": (Path("mask.png"),)})
    assert (masked.boxes, masked.masks) == ((), (Path("mask.png"),))


def test_override_refuses_both_rivals() -> None:
    with pytest.raises(RequestError, match="exactly one"):
        override(BASE, {"image": PICTURE, "video": Path("clip.mp4")})


def test_form_equals_flags() -> None:
    form = {
        "image": "face.png",
        "video": None,
        "audio": ["a.wav", "b.wav"],
        "boxes": "0,0,0.5,1; 0.5,0,1,1",
        "masks": [],
        "prompt": "",
        "steps": 8.0,
        "text_scale": "3",
        "duration": 2,
        "preview": False,
    }
    files, places = "--image face.png --audio a.wav --audio b.wav", "--box 0,0,.5,1 --box .5,0,1,1"
    line = f"{files} {places} --steps 8 --duration 2 --text-scale 3"
    assert from_form(form) == TalkRequest(**parse(line))


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"steps": 2.5}, "steps"),
        ({"steps": "x"}, "steps"),
        ({"shift": "y"}, "shift"),
        ({"boxes": "1,2,3"}, "box"),
        ({"colour": 1}, "colour"),
        ({"audio": []}, "audio"),
    ],
)
def test_form_refusals_name_the_field(form: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        from_form({"image": "face.png", "audio": ["a.wav"], **form})
    assert caught.value.field == field


def test_help_names_bounds_and_defaults_once() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    text = " ".join(parser.format_help().split())
    assert "1 to 1000" in text
    assert "default 42" in text
    assert "1 to 25 (1 to 25)" not in text
