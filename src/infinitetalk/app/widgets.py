"""One Gradio widget per field of the request, made from `core.knobs`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.components import Component

from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.knobs import CONTROLS, Control, Kind

Slot = tuple[str, Component]
"""A field's name and a widget that fills it; a field of many files may have several widgets."""

WORDS = frozenset({"prompt", "prompts", "negative_prompt", "text_scale"})
"""Fields that a model without a text part has no use for."""

BY_NAME: Mapping[str, Control] = {control.name: control for control in CONTROLS}


def _info(control: Control) -> str:
    text = control.knob.help
    return f"{text} ({control.bounds})" if control.bounds and control.bounds not in text else text


def _text(control: Control) -> Component:
    lines = 3 if "prompt" in control.name else 1
    return gr.Textbox(label=control.label, info=_info(control), value=control.default, lines=lines)


def _choice(control: Control) -> Component:
    # A radio once set cannot be emptied, so that leaving it to the model is a choice of its own.
    open_one = [("usual", "")] if control.default is None else []
    choices = [*open_one, *((name, name) for name in control.knob.choices)]
    return gr.Radio(choices=choices, value=control.default or "", label=control.label, info=_info(control))


def _switch(control: Control) -> Component:
    return gr.Checkbox(value=control.default, label=control.label, info=_info(control))


def _number(control: Control) -> Component:
    if control.default is None:  # a number widget has no look for "not given"
        return _text(control)
    precision = 0 if control.kind is Kind.WHOLE else None
    return gr.Number(value=control.default, precision=precision, label=control.label, info=_info(control))


def _boxes(control: Control) -> Component:
    return gr.Textbox(label=control.label, info=f"{control.knob.help}; a semicolon between boxes")


def _names(control: Control) -> Component:
    return gr.Textbox(label=control.label, info=f"{control.knob.help}; a space between names")


def _loras(control: Control) -> Component:
    return gr.Textbox(label=control.label, info=f"{control.knob.help}: one line each, FILE or FILE:STRENGTH", lines=2)


def _lines(control: Control) -> Component:
    return gr.Textbox(label=control.label, info=f"{control.knob.help}; one line each", lines=2)


def _files(control: Control) -> Component:
    return gr.File(file_count="multiple", type="filepath", label=control.label, height=140)


def _file(control: Control) -> Component:
    return gr.File(type="filepath", label=control.label, height=140)


_MAKERS: Mapping[Kind, Callable[[Control], Component]] = {
    Kind.TEXT: _text,
    Kind.CHOICE: _choice,
    Kind.SWITCH: _switch,
    Kind.WHOLE: _number,
    Kind.NUMBER: _number,
    Kind.TEXTS: _names,
    Kind.BOXES: _boxes,
    Kind.LORAS: _loras,
    Kind.STRENGTHS: _lines,
    Kind.PROMPTS: _lines,
    Kind.FILES: _files,
    Kind.FILE: _file,
}


def widget(name: str) -> Slot:
    """The usual widget of one field."""
    control = BY_NAME[name]
    return name, _MAKERS[control.kind](control)


def widgets(names: Iterable[str]) -> list[Slot]:
    """The usual widgets of some fields, in the order given."""
    return [widget(name) for name in names]


def picture() -> Slot:
    """The portrait; the file is taken as it is, so that nothing is lost on the way."""
    return "image", gr.Image(type="filepath", image_mode=None, label="Picture", height=320, elem_id="picture")


def video() -> Slot:
    """The video to dub."""
    return "video", gr.Video(label="Video", sources=["upload"], height=320, elem_id="video")


def voice(number: int) -> Slot:
    """One voice, from a file or the microphone."""
    label = "Voice" if number == 1 else f"Voice {number}"
    return "audio", gr.Audio(type="filepath", label=label, buttons=[], elem_id=f"voice-{number}")


def model_choice(models: Sequence[str], first: str) -> Slot:
    """The models that this machine has."""
    names = list(dict.fromkeys((first, *models)))
    return "model", gr.Dropdown(choices=names, value=first, label="Model", visible=len(names) > 1, elem_id="model")


def collect(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Field name → value, with the files of several widgets in one list."""
    form: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if BY_NAME[name].kind is Kind.FILES:
            files = value if isinstance(value, list) else [value] if value else []
            form[name] = [*form.get(name, []), *files]
        else:
            form[name] = value
    return form


def fitted(names: Sequence[str], facts: ModelFacts) -> list[dict[str, Any]]:
    """Updates that fit widgets to a model: its defaults as placeholders, words only where it understands them."""
    own = asdict(facts.defaults)
    return [_fitted(BY_NAME[name], own, has_text=facts.has_text) for name in names]


def _fitted(control: Control, own: Mapping[str, Any], *, has_text: bool) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if control.default is None and control.kind in (Kind.TEXT, Kind.WHOLE, Kind.NUMBER):
        default = own.get(control.name)
        changes["placeholder"] = "" if default is None else f"{default}"
    if control.name in WORDS:
        changes["visible"] = has_text
        if not has_text:
            changes["value"] = None
    return gr.update(**changes)
