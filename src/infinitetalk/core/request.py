"""The one frozen request that describes a job.

Command-line flags and web widgets are made from its fields (see `core.knobs`), so a setting is written down once: here,
with its help text, its group and its bounds.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, Self, TypeVar, get_args, get_type_hints

from infinitetalk.core.caching import StepCache
from infinitetalk.core.control import Strength, TimedPrompt
from infinitetalk.core.errors import RequestError
from infinitetalk.core.loras import Lora
from infinitetalk.core.recipes import RECIPES
from infinitetalk.core.script import count_speakers
from infinitetalk.core.sizes import TEMPORAL_STRIDE, nearest_window, parse_size
from infinitetalk.core.timeline import SOURCE_ENDS

T = TypeVar("T")


class Box(NamedTuple):
    """A person's place in the source picture: x0, y0, x1, y1, in pixels, or in fractions if all are at most 1."""

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads 'x0,y0,x1,y1'."""
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != 4:
            raise RequestError("box", text, "must be four numbers x0,y0,x1,y1 such as 40,60,200,260 or 0,0,0.5,1")
        return cls(*numbers)


@dataclass(frozen=True, slots=True)
class Knob:
    """What faces need to know of one field: help text, group, bounds and choices."""

    help: str
    group: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    flag: str = ""
    """Command-line flag without dashes, where it is not the field's own name."""
    expert: bool = False
    aliases: tuple[str, ...] = ()
    """Other spellings of the flag, dashes included, that guides for other programs use."""


def knob(default: Any, help_text: str, group: str, **more: Any) -> Any:
    """A dataclass field that carries its knob."""
    return field(default=default, metadata={"knob": Knob(help_text, group, **more)})


INPUT, LOOK, LENGTH, SAMPLING, OUTPUT = "input", "picture", "length", "sampling", "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkRequest:
    """Everything that decides what a job makes. `None` means: the model's own default.

    Paths may be given as texts, and several of anything as a list.

    Raises:
        RequestError: a value that cannot work, whatever the files hold; `media.files.check` looks at those.
    """

    model: str = knob("nano", "model name or folder", INPUT)
    image: Path | None = knob(None, "portrait to bring to life", INPUT)
    video: Path | None = knob(None, "video to dub", INPUT)
    audio: tuple[Path, ...] = knob((), "voice; once per person, left to right (more than two: experimental)", INPUT)
    text: str | None = knob(None, "instead of sound: what is said; for several people '(s1) ... (s2) ...'", INPUT)
    voice: tuple[str, ...] = knob((), "who speaks the text: kokoro:af_heart or espeak:en-gb; once per speaker", INPUT)
    boxes: tuple[Box, ...] = knob((), "where a person is: x0,y0,x1,y1 in pixels or fractions; once per voice, then for "
                                  "who stays silent (default: faces)", INPUT, flag="box")  # fmt: skip
    masks: tuple[Path, ...] = knob((), "instead of a box: picture or video that is white where a person is", INPUT,
                                   flag="mask")  # fmt: skip
    prompt: str | None = knob(None, "what the picture shows and how it moves", INPUT)
    prompts: tuple[TimedPrompt, ...] = knob((), "instead of the prompt from second START to END of the video: "
                                            "START-END:TEXT; once per stretch", INPUT, flag="prompt_at")  # fmt: skip
    negative_prompt: str | None = knob(None, "what the video should not look like", INPUT, expert=True)
    loras: tuple[Lora, ...] = knob((), "LoRA file for the model, strength 1 unless given; once per LoRA", INPUT,
                                   flag="lora")  # fmt: skip

    encoder: str | None = knob(None, "speech encoder in place of the model's own: english, chinese, or a folder or "
                               "file of wav2vec2-base's shape", INPUT, aliases=("--wav2vec_dir",))  # fmt: skip
    voices: str = knob("parallel", "several voices at once, one after the other, or each a channel of its file", INPUT,
                       choices=("parallel", "sequence", "channels"))  # fmt: skip
    audio_strength: tuple[Strength, ...] = knob((), "how strongly voices move mouths, 0 to 3: X, or [PERSON:]X@START-"
                                                "END for a person or seconds of the video", INPUT)  # fmt: skip
    separate: str = knob("none", "what the network hears of the sound: all of it, or the voices without music; needs "
                         "the package demucs", INPUT, choices=("none", "vocals"))  # fmt: skip
    noise_floor: float | None = knob(None, "decibels under a voice's loudness below which it counts as silence, so "
                                     "that breath moves no lips (25 is usual)", INPUT, least=5, most=60)  # fmt: skip

    size: str | None = knob(None, "size table (480 or 720, by the source's shape) or WIDTHxHEIGHT", LOOK)
    framing: str = knob("crop", "fit the source by cutting its edges, cutting around the faces, or adding bars", LOOK,
                        choices=("crop", "face", "letterbox"))  # fmt: skip
    color_strength: float | None = knob(None, "pull colours back to the reference, 0 to 1", LOOK, least=0, most=1,
                                        expert=True)  # fmt: skip

    start: float = knob(0.0, "seconds of sound to leave out at the beginning", LENGTH, least=0)
    duration: float | None = knob(None, "seconds of video at most; default: as long as the sound", LENGTH, least=0.04)
    source_end: str = knob("hold", "when the sound is longer than the video: hold its last frame, play it "
                           "again, play it to and fro, or stop with it", LENGTH, choices=SOURCE_ENDS)  # fmt: skip
    strength: float = knob(1.0, "how much of a source video is made anew: low values keep camera and gestures, 1 keeps "
                           "nothing but each window's first frame", LENGTH, least=0.01, most=1)  # fmt: skip
    cuts: str = knob("detect", "find where a video cuts and begin a window there, or leave cuts alone", LENGTH,
                     choices=("detect", "ignore"))  # fmt: skip
    mode: str = knob("streaming", "any length, window after window, or one clip of a single window", LENGTH,
                     choices=("streaming", "clip"))  # fmt: skip
    preview: bool = knob(False, "make the first window only", LENGTH)
    window_frames: int | None = knob(None, "frames made at a time, 4n+1", LENGTH, least=5, most=1001, expert=True)
    motion_frames: int | None = knob(None, "frames handed on to the next window, 1 to 25", LENGTH, least=1, most=25,
                                     expert=True, aliases=("--motion_frame",))  # fmt: skip

    seam_frames: int | None = knob(None, "frames over which a window takes over from the one before, 0: at once (8)",
                                   LENGTH, least=0, most=100, expert=True)  # fmt: skip
    window_end: str = knob("pause", "let a window end where the voices pause, up to a fourth earlier, or each full",
                           LENGTH, choices=("pause", "full"), expert=True)  # fmt: skip
    overlap_frames: int | None = knob(None, "frames at a border that both windows make, one fading into the other",
                                      LENGTH, least=0, most=100, expert=True)  # fmt: skip
    reanchor: int | None = knob(None, "every so many windows start from the reference picture alone; needs overlap "
                                "frames", LENGTH, least=1, most=100_000, expert=True)  # fmt: skip

    seed: int = knob(42, "random seed: the same seed gives the same video", SAMPLING, least=0, most=2**63 - 1)
    recipe: str | None = knob(None, "steps, schedule and guidance by name; draft (4) and fast (8) need their LoRA",
                              SAMPLING, choices=tuple(RECIPES))  # fmt: skip
    steps: int | None = knob(None, "denoising steps per window", SAMPLING, least=1, most=1000)
    shift: float | None = knob(None, "weight of high noise: 7 at 480, 11 at 720, 2 for distilled LoRAs", SAMPLING,
                               least=0.01, most=100, expert=True)  # fmt: skip
    scheduler: str | None = knob(None, "method of the steps: Euler's, or Adams and Bashforth's of second order (euler)",
                                 SAMPLING, choices=("euler", "ab2"), expert=True)  # fmt: skip
    text_scale: float | None = knob(None, "how strongly the prompt guides", SAMPLING, least=0, most=100)
    audio_scale: float | None = knob(None, "how strongly the sound guides", SAMPLING, least=0, most=100)
    step_cache: str = knob("off", "skip forward passes of steps that change little: quicker, not exact", SAMPLING,
                           choices=tuple(map(str, StepCache)))  # fmt: skip
    cache_threshold: float | None = knob(None, "change at which teacache asks the network again (0.2)", SAMPLING,
                                         least=0, most=100, expert=True)  # fmt: skip
    cache_interval: int | None = knob(None, "steps from which to which taylorseer asks the network (3)", SAMPLING,
                                      least=2, most=1000, expert=True)  # fmt: skip
    apg: bool = knob(False, "adaptive projected guidance: strong scales without burnt colours", SAMPLING, expert=True)
    apg_momentum: float = knob(-0.75, "momentum of adaptive projected guidance", SAMPLING, least=-1, most=1,
                                expert=True)  # fmt: skip
    apg_threshold: float = knob(55.0, "norm threshold of adaptive projected guidance", SAMPLING, least=0, most=1e6,
                                expert=True)  # fmt: skip
    reference: bool = knob(False, "behave exactly as the reference implementation, mirrored tail included", SAMPLING,
                           expert=True)  # fmt: skip

    output_size: str = knob("model", "the model's own size, or the source's: what was made is put back to where it "
                            "was cut out", OUTPUT, choices=("model", "source"))  # fmt: skip
    blend: str = knob("frame", "what is made anew of a source of its own size: all that the model sees, the talking "
                      "faces alone, or their mouths and chins", OUTPUT, choices=("frame", "face", "mouth"))  # fmt: skip
    fps: str = knob("25", "frames a second, or as many as the source video has: other rates than the model's 25 are "
                    "interpolated by optical flow", OUTPUT, choices=("25", "50", "60", "source"))  # fmt: skip
    # Lossless (0) would need a profile of H.264 that browsers and phones do not play.
    quality: int = knob(18, "constant rate factor of H.264, lower is better", OUTPUT, least=1, most=51)

    soundtrack: Path | None = knob(None, "sound of the video in place of the voices': any file with sound, from its "
                                   "beginning, cut to the video's length", OUTPUT)  # fmt: skip
    provenance: bool = knob(True, "sign into the video that it is AI-generated, with model and settings' hash (C2PA)",
                            OUTPUT)  # fmt: skip
    # The last one, as ComfyUI's graphs hold values by their order.
    motion: float | None = knob(None, "how much heads and eyes move beside speech: 0 not at all, 1 as people do, 2 "
                                "much; default the model's; for models that learned it", LOOK,
                                least=0, most=2)  # fmt: skip

    def __post_init__(self) -> None:
        for item in fields(self):
            # A frozen dataclass has no other way to take texts for paths, and lists for tuples.
            object.__setattr__(self, item.name, _typed(item.name, getattr(self, item.name), item.default))
        check_values({item.name: getattr(self, item.name) for item in fields(self)})
        if (self.image is None) == (self.video is None):
            given = "nothing" if self.image is None else self.image
            raise RequestError("image", given, "give a picture (image) or a video, exactly one of them")
        self._check_sound()
        if self.size is not None and not self.size.isdecimal():
            parse_size(self.size)
        self._check_methods()
        self._check_footage()
        self._check_output()
        self._check_borders()
        self._check_people()
        self._check_control()

    def _check_sound(self) -> None:
        if self.text is None:
            if self.voice:
                raise RequestError("voice", ", ".join(self.voice), "is for a text; give one (text), or leave it out")
            if not self.audio:
                raise RequestError("audio", "nothing", "give at least one sound file, or a text")
            return
        if self.audio:
            raise RequestError("text", self.text[:60], "give a text or sound (audio), not both")
        if len(self.voice) != (speakers := count_speakers(self.text)):
            need = (
                f"must be one per speaker of the text, such as kokoro:af_heart or espeak:en-gb: {speakers} would work"
            )
            raise RequestError("voice", len(self.voice), need)
        if self.separates:
            raise RequestError("separate", self.separate, "a text is spoken without music; leave it out")
        if self.voices != "parallel":
            raise RequestError("voices", self.voices, "the speakers of a text take turns by themselves; leave it out")

    def _check_methods(self) -> None:
        if self.reference and self.scheduler not in (None, "euler"):
            raise RequestError("scheduler", self.scheduler, "the reference has Euler's method only; leave one out")
        if self.reference and self.step_cache == StepCache.TAYLORSEER:
            raise RequestError("step_cache", self.step_cache, "the reference has teacache only; leave one out")
        for name, method in (("cache_threshold", StepCache.TEACACHE), ("cache_interval", StepCache.TAYLORSEER)):
            if getattr(self, name) is not None and self.step_cache != method:
                raise RequestError(name, getattr(self, name), f"is for step_cache {method}, not {self.step_cache}")

    def _check_control(self) -> None:
        for strength in self.audio_strength:
            if strength.person is not None and strength.person > self.voice_count:
                need = f"there are {self.voice_count} voices, counted from 1"
                raise RequestError("audio_strength", str(strength), need)
        for name in ("audio_strength", "noise_floor", "prompts"):
            if self.reference and getattr(self, name):
                given = getattr(self, name)
                value = ", ".join(map(str, given)) if isinstance(given, tuple) else given
                raise RequestError(name, value, "the reference has no such thing; leave one out")
        if self.reference and self.separates:
            raise RequestError("separate", self.separate, "the reference has no such thing; leave one out")
        if self.reference and self.motion is not None:
            raise RequestError("motion", self.motion, "the reference has no such thing; leave one out")
        if self.reference and self.voices == "channels":
            raise RequestError("voices", self.voices, "the reference has no such thing; leave one out")

    @property
    def voice_count(self) -> int:
        """Voices that are heard."""
        return len(self.audio) if self.text is None else count_speakers(self.text)

    @property
    def people(self) -> int:
        """Everybody in the picture that the request tells apart: the voices, then those who stay silent."""
        return max(self.voice_count, len(self.boxes), len(self.masks))

    @property
    def places_speaker(self) -> bool:
        """Whether a single voice has a box, so that the other faces in the picture are to be found."""
        return self.voice_count == len(self.boxes) == 1 and not self.reference

    @property
    def finds_faces(self) -> bool:
        """Whether several people are to be placed by their faces."""
        return self.people > 1 and not (self.boxes or self.masks or self.reference)

    @property
    def separates(self) -> bool:
        """Whether voices are taken out of their sound before they are heard."""
        return self.separate != "none"

    @property
    def rate(self) -> Fraction | None:
        """Frames a second of the finished video; None: as many as the source has."""
        return None if self.fps == "source" else Fraction(self.fps)

    @property
    def finds_cuts(self) -> bool:
        """Whether cuts are looked for; the reference knows of none."""
        return self.video is not None and self.cuts == "detect" and not self.reference

    @property
    def watches_light(self) -> bool:
        """Whether colours are left alone in windows where the source's light changes: in a video, unless it is said."""
        return self.video is not None and self.color_strength is None and not self.reference

    @property
    def finds_pauses(self) -> bool:
        """Whether windows end at pauses; the reference's are all full."""
        return self.window_end == "pause" and not self.reference

    def _check_footage(self) -> None:
        for name, usual in (("source_end", "hold"), ("strength", 1.0)):
            value = getattr(self, name)
            if value != usual and self.video is None:
                raise RequestError(name, value, "is for a video; leave it out for a picture")
            if value != usual and self.reference:
                raise RequestError(name, value, f"the reference has {usual} only; leave one out")

    def _check_output(self) -> None:
        if self.fps == "source" and self.video is None:
            raise RequestError("fps", "source", "a picture has no rate; 25, 50 or 60 would work")
        if self.blend != "frame" and self.output_size != "source":
            raise RequestError("blend", self.blend, "changes a part of the source alone: output_size source would work")
        for name, others in (("output_size", ("source",)), ("blend", ("face", "mouth")), ("fps", ("source",))):
            if self.reference and (value := getattr(self, name)) in others:
                raise RequestError(name, value, "the reference has no such thing; leave one out")

    def _check_borders(self) -> None:
        if self.reference and self.overlap_frames:
            raise RequestError("overlap_frames", self.overlap_frames, "the reference has none; leave one out")
        if self.reference and self.reanchor:
            raise RequestError("reanchor", self.reanchor, "the reference has no such thing; leave one out")

    def _check_people(self) -> None:
        voices = self.voice_count
        if self.boxes and self.masks:
            raise RequestError("masks", len(self.masks), "give boxes or masks, not both")
        for name, given in (("boxes", self.boxes), ("masks", self.masks)):
            if given and (len(given) < voices or (self.reference and len(given) > voices)):
                raise RequestError(name, len(given), f"must be one per voice: {voices} would work")
        for box in self.boxes:
            _check_box(box)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` turns into an equal request."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            RequestError: a field that does not exist, or a value of the wrong type.
        """
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise RequestError(unknown[0], json.dumps(values[unknown[0]]), "is no setting of a request")
        return cls(**values)


def check_single_voice(request: TalkRequest) -> None:
    """Refuses a place for the only one in the picture, which no network would look at.

    Raises:
        RequestError: one voice with a box beside which nobody was found, or with a mask.
    """
    if len(request.boxes or request.masks) == 1:
        found = "no other face was found, and " if request.places_speaker else ""
        need = f"{found}a single voice needs no place; leave it out, or add the places of those who shall stay silent"
        raise RequestError("boxes" if request.boxes else "masks", 1, need)


def check_values(values: Mapping[str, object]) -> None:
    """Checks values by field name for what holds of each alone: bounds, finite numbers, windows of 4n+1 frames.

    Raises:
        RequestError: a value that cannot work.
    """
    for item in fields(TalkRequest):
        if item.name in values:
            _check_bounds(item.name, values[item.name], item.metadata["knob"])
    window = values.get("window_frames")
    if isinstance(window, int) and (window - 1) % TEMPORAL_STRIDE:
        raise RequestError("window_frames", window, f"must be 4n+1: {nearest_window(window)} would work")


def _check_bounds(name: str, value: object, bounds: Knob) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(name, value, "must be a finite number")
    if isinstance(value, int | float):
        if bounds.least is not None and value < bounds.least:
            raise RequestError(name, value, f"must be at least {bounds.least:g}")
        if bounds.most is not None and value > bounds.most:
            raise RequestError(name, value, f"must be at most {bounds.most:g}")
    if bounds.choices and value not in bounds.choices:
        raise RequestError(name, value, f"must be one of {', '.join(bounds.choices)}")


def _check_box(box: Box) -> None:
    if not all(math.isfinite(side) for side in box):
        raise RequestError("boxes", tuple(box), "must be finite numbers")
    if min(box) < 0 or box.x1 <= box.x0 or box.y1 <= box.y0:
        raise RequestError("boxes", tuple(box), "must be x0,y0,x1,y1 with x0 < x1 and y0 < y1, none negative")
    if 1 < max(box) < 2:  # too small for pixels
        raise RequestError("boxes", tuple(box), "reaches beyond the picture: fractions up to 1 would work")


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def _whole(value: Any) -> int | None:
    return None if isinstance(value, bool) or not isinstance(value, Integral) else int(value)


def _path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, str | Path) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _box(value: Any) -> Box | None:
    return Box.parse(",".join(str(side) for side in value)) if isinstance(value, list | tuple) else None


def _each(value: Any, read: Callable[[Any], T | None]) -> tuple[T, ...] | None:
    """All values of a list or tuple, if every one is of the right type."""
    typed = [read(part) for part in value] if isinstance(value, list | tuple) else [None]
    good = tuple(part for part in typed if part is not None)
    return good if len(good) == len(typed) else None


def _paths(value: Any) -> tuple[Path, ...] | None:
    return _each([value] if isinstance(value, str | Path) else value, _path)


def _texts(value: Any) -> tuple[str, ...] | None:
    return _each([value] if isinstance(value, str) else value, _text)


def _loras(value: Any) -> tuple[Lora, ...] | None:
    return _each([value] if isinstance(value, str | Path | Lora) else value, Lora.read)


def _strengths(value: Any) -> tuple[Strength, ...] | None:
    return _each([value] if isinstance(value, str | int | float | Strength) else value, Strength.read)


def _prompts(value: Any) -> tuple[TimedPrompt, ...] | None:
    return _each([value] if isinstance(value, str | TimedPrompt) else value, TimedPrompt.read)


def _boxes(value: Any) -> tuple[Box, ...] | None:
    return _each([value] if isinstance(value, Box) else value, _box)


_READERS: Mapping[object, tuple[Callable[[Any], Any], str]] = {
    str: (_text, "text"),
    bool: (_flag, "true or false"),
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
    Path: (_path, "the path of a file"),
    tuple[Path, ...]: (_paths, "a list of paths"),
    tuple[str, ...]: (_texts, "a list of names"),
    tuple[Box, ...]: (_boxes, "a list of boxes [x0, y0, x1, y1]"),
    tuple[Lora, ...]: (_loras, "a list of files, FILE:STRENGTH or [FILE, STRENGTH]"),
    tuple[Strength, ...]: (_strengths, "a list of strengths, [PERSON:]X[@START-END] or [X, PERSON, START, END]"),
    tuple[TimedPrompt, ...]: (_prompts, "a list of prompts, START-END:TEXT or [START, END, TEXT]"),
}
"""A field's type → what reads its value from Python or JSON, and the type in words."""


def value_type(declared: object) -> object:
    """A field's type without None.

    >>> value_type(int | None)
    <class 'int'>
    """
    plain = [part for part in get_args(declared) if part is not NoneType]
    return plain[0] if NoneType in get_args(declared) else declared


_TYPES: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    name: _READERS[value_type(declared)] for name, declared in get_type_hints(TalkRequest).items()
}


def _typed(name: str, value: Any, default: Any) -> Any:
    """A field's value in its own type; refuses the wrong kind by name."""
    if value is None and default is None:
        return None
    read, kind = _TYPES[name]
    typed = read(value)
    if typed is None:
        raise RequestError(name, json.dumps(value, default=str), f"must be {kind}")
    return typed
