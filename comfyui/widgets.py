"""Widgets from the request's fields: a setting is written down once, in `infinitetalk.core.request`."""

from collections.abc import Iterable, Mapping
from typing import Any

from infinitetalk.core.knobs import CONTROLS, MEMORY_CONTROLS, Control, Kind

OWN = "model's own"
OPEN = -1
"""Stands for a number that is left to the model."""
MOST_WHOLE = 2**53 - 1
"""The largest whole number that a browser keeps."""
SEED = "seed"
ELSEWHERE = frozenset(
    ("model", "image", "video", "audio", "text", "voice", "boxes", "masks", "encoder", "voices", "audio_strength",
     "separate", "noise_floor", "soundtrack", "loras")
)  # fmt: skip
"""Fields that other nodes or links give."""
MAIN = ("prompt", "size", "mode", "motion_frames", "seed", "steps", "text_scale", "audio_scale", "duration")
SOUND = ("voices", "audio_strength", "separate", "noise_floor")
BY_NAME: Mapping[str, Control] = {control.name: control for control in (*CONTROLS, *MEMORY_CONTROLS)}
FURTHER = tuple(control.name for control in CONTROLS if control.name not in ELSEWHERE.union(MAIN))
MEMORY = tuple(control.name for control in MEMORY_CONTROLS)
_LONG = (Kind.PROMPTS, Kind.STRENGTHS, Kind.LORAS)

Widget = tuple[Any, dict[str, Any]]


def widget(control: Control) -> Widget:
    """How ComfyUI draws a field."""
    about: dict[str, Any] = {"tooltip": control.knob.help}
    if control.kind is Kind.CHOICE:
        choices = [*control.knob.choices] if control.default is not None else [OWN, *control.knob.choices]
        return choices, about | {"default": control.default or OWN}
    if control.kind is Kind.SWITCH:
        return "BOOLEAN", about | {"default": control.default}
    if control.kind in (Kind.WHOLE, Kind.NUMBER):
        return _number(control, about)
    lines = control.kind in _LONG or control.name.endswith("prompt")
    return "STRING", about | {"default": control.default or "", "multiline": lines}


def _number(control: Control, about: dict[str, Any]) -> Widget:
    whole = control.kind is Kind.WHOLE
    least, most = control.knob.least or 0, control.knob.most
    shown: dict[str, Any] = {"min": least, "max": MOST_WHOLE if most is None else min(most, MOST_WHOLE)}
    shown["default"] = control.default
    if control.default is None:
        shown |= {"default": OPEN, "min": min(OPEN, least)}
        about = about | {"tooltip": f"{control.knob.help}; {OPEN}: {OWN}"}
    kind = int if whole else float
    shown = {name: kind(value) for name, value in shown.items()}
    if not whole:
        shown["step"] = 0.01
    if control.name == SEED:
        shown["control_after_generate"] = True
    return ("INT" if whole else "FLOAT"), shown | about


def widgets(names: Iterable[str]) -> dict[str, Widget]:
    """The widgets of some fields."""
    return {name: widget(BY_NAME[name]) for name in names}


def given(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What widgets hold, without what is left to the model."""
    return {
        name: values[name]
        for name in names
        if values[name] not in ("", OWN) and not (BY_NAME[name].default is None and values[name] == OPEN)
    }
