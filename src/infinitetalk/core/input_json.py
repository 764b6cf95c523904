"""Job files of the reference implementation: what its `--input_json` reads, as requests.

`cond_video` is a picture or a video, `cond_audio` one sound per person ("None" for who stays silent), `audio_type` says
whether voices speak together (para) or one after the other (add). A box in `bbox` holds the first row, the first
column, the last row and the last column in pixels of the source, whatever its numbers are called there; a request's
boxes have columns first. `tts_audio` holds a text and Kokoro's voices instead of sounds.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import Box, TalkRequest

KEYS = ("prompt", "cond_video", "cond_image", "cond_audio", "audio_type", "bbox", "tts_audio")
SPEECH_KEYS = ("text", "human1_voice", "human2_voice")
VOICES: Mapping[str, str] = {"para": "parallel", "add": "sequence"}
"""An `audio_type` → the request's `voices`."""
NOBODY = "None"
"""The reference's name of no file."""

_VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".flv", ".wmv", ".webm", ".mpeg", ".mpg"})
"""By this the reference tells videos from pictures."""
_MARGIN = 0.05
_HALVES = tuple(Box(side + _MARGIN / 2, _MARGIN, side + 0.5 - _MARGIN / 2, 1 - _MARGIN) for side in (0.0, 0.5))
"""Where the reference looks for two people without boxes: the picture's halves, less a margin."""


def read_input_json(path: Path) -> TalkRequest:
    """The request that a job file of the reference describes.

    Paths are looked for from the current folder, as the reference does, then from the file's folder and those above it,
    so that the examples of a checkout work from anywhere.

    Raises:
        RequestError: no such file, no JSON, an unknown key, or a value that cannot work.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RequestError("input_json", path, f"cannot be read ({error.strerror}); give a job file") from error
    except (ValueError, RecursionError) as error:
        raise RequestError("input_json", path, f"is not JSON ({error}); give a job file of the reference") from error
    if not isinstance(content, dict):
        raise RequestError("input_json", path, "must hold one object; for many videos see infinitetalk batch")
    if unknown := sorted(set(content) - set(KEYS)):
        raise RequestError(unknown[0], _short(content[unknown[0]]), f"is no key of a job file: {', '.join(KEYS)} are")
    return TalkRequest(**_values(content, _Finder(path)))


def legacy_box(box: Sequence[float]) -> Box:
    """The reference's order (first row, first column, last row, last column) as x0, y0, x1, y1."""
    top, left, bottom, right = box
    return Box(left, top, right, bottom)


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds what a job file names."""

    file: Path

    def __call__(self, name: str) -> Path:
        for folder in (Path(), *self.file.resolve().parents):
            if (folder / name).is_file():
                return folder / name
        return Path(name)  # whoever opens it will say that it is missing


def _values(content: Mapping[str, Any], find: _Finder) -> dict[str, Any]:
    found: dict[str, Any] = _source(content, find)
    if "prompt" in content:
        found["prompt"] = _text("prompt", content["prompt"])
    if content.get("tts_audio"):
        return found | _speech(content) | _places(content, ())
    sounds = _sounds(content)
    silent = [index for index, name in enumerate(sounds) if name == NOBODY]
    if len(silent) == len(sounds):
        raise RequestError("cond_audio", _short(content["cond_audio"]), "somebody must speak: name a sound file")
    speaking = [find(name) for name in sounds if name != NOBODY]
    return found | {"audio": tuple(speaking)} | _voices(content, len(sounds), silent) | _places(content, sounds)


def _source(content: Mapping[str, Any], find: _Finder) -> dict[str, Path]:
    names = [name for name in ("cond_video", "cond_image") if name in content]
    if len(names) != 1:
        given = "both" if names else "nothing"
        raise RequestError("cond_video", given, "give the path of a picture or video as cond_video, or as cond_image")
    path = find(_text(names[0], content[names[0]]))
    return {"video" if path.suffix.lower() in _VIDEOS else "image": path}


def _sounds(content: Mapping[str, Any]) -> list[str]:
    """The sounds' names by person."""
    people = content.get("cond_audio")
    if not isinstance(people, dict) or not people:
        raise RequestError("cond_audio", _short(people), 'must name sounds by person: {"person1": "voice.wav"}')
    _check_people("cond_audio", people)
    return [_text(f"cond_audio.{name}", people[name]) for name in _people(len(people))]


def _voices(content: Mapping[str, Any], people: int, silent: Sequence[int]) -> dict[str, str]:
    """How several voices follow each other."""
    kind = content.get("audio_type")
    if kind is None and people == 1:
        return {}
    if not isinstance(kind, str) or kind not in VOICES:
        raise RequestError("audio_type", _short(kind), "must be para (voices together) or add (one after the other)")
    if kind == "add" and silent:
        need = f"person{silent[0] + 1} has no sound, so nobody takes turns: para would work"
        raise RequestError("audio_type", kind, need)
    return {"voices": VOICES[kind]} if people > 1 else {}


def _speech(content: Mapping[str, Any]) -> dict[str, Any]:
    speech = content["tts_audio"]
    if content.get("cond_audio"):
        raise RequestError("tts_audio", _short(speech), "give sounds (cond_audio) or a text to speak, not both")
    if not isinstance(speech, dict) or (unknown := sorted(set(speech) - set(SPEECH_KEYS))):
        given = _short(speech) if not isinstance(speech, dict) else unknown[0]
        raise RequestError("tts_audio", given, f"must be an object of {', '.join(SPEECH_KEYS)}")
    # A tensor of Kokoro's, weights/Kokoro-82M/voices/af_heart.pt, is the voice of its name.
    files = [_text(f"tts_audio.{name}", speech[name]) for name in SPEECH_KEYS[1:] if name in speech]
    voices = tuple(f"kokoro:{PurePosixPath(file.replace(chr(92), '/')).stem}" for file in files)
    return {"text": _text("tts_audio.text", speech.get("text")), "voice": voices}


def _places(content: Mapping[str, Any], sounds: Sequence[str]) -> dict[str, tuple[Box, ...]]:
    """Boxes of those who speak, then of those who do not."""
    boxes = content.get("bbox")
    if boxes is None:
        # Without sounds for all, faces would not tell who speaks.
        places: Sequence[Box] = _HALVES if len(sounds) == 2 and NOBODY in sounds else ()
    else:
        if not isinstance(boxes, dict):
            raise RequestError("bbox", _short(boxes), 'must be boxes by person: {"person1": [0, 0, 400, 300], ...}')
        _check_people("bbox", boxes)
        if sounds and len(boxes) != len(sounds):
            raise RequestError("bbox", f"{len(boxes)} boxes", f"must be one per person: {len(sounds)} would work")
        places = [_box(f"bbox.{name}", boxes[name]) for name in _people(len(boxes))]
    if not places:
        return {}
    order = sorted(range(len(places)), key=lambda index: index < len(sounds) and sounds[index] == NOBODY)
    return {"boxes": tuple(places[index] for index in order)}


def _box(name: str, value: Any) -> Box:
    """Rows and columns as x and y."""
    need = "must be [first row, first column, last row, last column] in pixels of the source, such as [0, 0, 400, 300]"
    numbers = [] if not isinstance(value, list) else [side for side in value if _is_number(side)]
    if not isinstance(value, list) or len(numbers) != 4 or len(value) != 4:
        raise RequestError(name, _short(value), need)
    box = legacy_box([int(side) for side in numbers])
    if min(box) < 0 or box.x1 <= box.x0 or box.y1 <= box.y0 or max(box) < 2:  # 2: or they would be fractions
        raise RequestError(name, _short(value), need)
    return box


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _people(count: int) -> list[str]:
    return [f"person{number}" for number in range(1, count + 1)]


def _check_people(name: str, given: Mapping[str, Any]) -> None:
    wanted = _people(len(given))
    if set(given) != set(wanted):
        raise RequestError(name, ", ".join(sorted(given)), f"people are called {', '.join(wanted)} here")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise RequestError(name, _short(value), "must be a text")
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
