"""One Gradio widget per field of the request, made from `core.knobs`."""

from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.components import Component

from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.errors import RequestError
from infinitetalk.core.knobs import CONTROLS, Control, Kind
from infinitetalk.core.recipes import RECIPES, Cook, follow, lacking
from infinitetalk.core.request import TalkRequest

Slot = tuple[str, Component]
"""A field's name and a widget that fills it; a field of many files may have several widgets."""

WORDS = frozenset({"prompt", "prompts", "negative_prompt", "text_scale"})
"""Fields that a model without a text part has no use for."""

BY_NAME: Mapping[str, Control] = {control.name: control for control in CONTROLS}


def info(control: Control) -> str:
    """The one line that explains a field, from the request."""
    text = control.knob.help
    return f"{text} ({control.bounds})" if control.bounds and control.bounds not in text else text


def explained(component: Component, *names: str) -> Component:
    """A component without a place for help, with the help of its fields below it."""
    lines = "".join(f"<p>{escape(info(BY_NAME[name]))}</p>" for name in names)
    gr.HTML(f'<div class="help">{lines}</div>', elem_classes="help-box")
    return component


def _text(control: Control) -> Component:
    lines = 3 if "prompt" in control.name else 1
    return gr.Textbox(label=control.label, elem_id=control.name, info=info(control), value=control.default, lines=lines)


def _choice(control: Control) -> Component:
    # A radio once set cannot be emptied, so that leaving it to the model is a choice of its own.
    open_one = [("usual", "")] if control.default is None else []
    choices = [*open_one, *((name, name) for name in control.knob.choices)]
    return gr.Radio(
        choices=choices, value=control.default or "", label=control.label, elem_id=control.name, info=info(control)
    )


def _switch(control: Control) -> Component:
    return gr.Checkbox(value=control.default, label=control.label, elem_id=control.name, info=info(control))


def _number(control: Control) -> Component:
    if control.default is None:  # a number widget has no look for "not given"
        return _text(control)
    precision = 0 if control.kind is Kind.WHOLE else None
    return gr.Number(
        value=control.default, precision=precision, label=control.label, elem_id=control.name, info=info(control)
    )


def _boxes(control: Control) -> Component:
    return gr.Textbox(label=control.label, elem_id=control.name, info=f"{control.knob.help}; a semicolon between boxes")


def _names(control: Control) -> Component:
    return gr.Textbox(label=control.label, elem_id=control.name, info=f"{control.knob.help}; a space between names")


def _loras(control: Control) -> Component:
    return gr.Textbox(
        label=control.label,
        elem_id=control.name,
        info=f"{control.knob.help}: one line each, FILE or FILE:STRENGTH",
        lines=2,
    )


def _lines(control: Control) -> Component:
    return gr.Textbox(label=control.label, elem_id=control.name, info=f"{control.knob.help}; one line each", lines=2)


def _files(control: Control) -> Component:
    files = gr.File(file_count="multiple", type="filepath", label=control.label, elem_id=control.name, height=120)
    return explained(files, control.name)


def _file(control: Control) -> Component:
    return explained(gr.File(type="filepath", label=control.label, elem_id=control.name, height=120), control.name)


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


class _Quiet(ComponentMeta):
    """Makes a component without writing a stub file beside its source, as Gradio's own metaclass does."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> type:
        return ABCMeta.__new__(cls, name, bases, attributes)


class AsItIs(gr.Image, metaclass=_Quiet):
    """A picture whose file is handed on unopened: what is wrong with it, the product says in its own words."""

    is_template = True  # Gradio draws it as the class above

    def preprocess(self, payload: Any) -> str | None:
        """The path of the uploaded file."""
        return None if payload is None or payload.path is None else str(payload.path)


def picture() -> Slot:
    """The portrait; the file is taken as it is, so that nothing is lost on the way."""
    component = AsItIs(type="filepath", image_mode=None, label="Picture", height=300, elem_id="picture")
    return "image", explained(component, "image")


def video() -> Slot:
    """The video to dub."""
    component = gr.Video(label="Video", sources=["upload"], height=300, elem_id="video")
    return "video", explained(component, "video")


def voice(number: int) -> Slot:
    """One voice, from a file or the microphone."""
    label = "Voice" if number == 1 else f"Voice {number}"
    component = gr.Audio(
        sources=["upload", "microphone"], type="filepath", label=label, buttons=[], elem_id=f"voice-{number}"
    )
    return "audio", explained(component, "audio") if number == 1 else component


def words() -> Slot:
    """What is to be spoken."""
    control = BY_NAME["text"]
    return "text", gr.Textbox(label="What is said", info=info(control), lines=4, elem_id="text")


def speakers(known: Sequence[str]) -> Slot:
    """Who speaks it."""
    control = BY_NAME["voice"]
    usual = [name for name in (*_SPEAKERS, *known[:1]) if name in known][:1]
    component = gr.Dropdown(
        choices=list(known),
        value=None,
        multiselect=True,
        allow_custom_value=True,
        label="Speakers",
        info=f"{info(control)}{f', such as {usual[0]}' if usual else ''}",
        elem_id="speakers",
    )
    return "voice", component


_SPEAKERS = ("kokoro:af_heart", "espeak:en-gb")


def model_choice(models: Sequence[str], first: str) -> Slot:
    """The models that this machine has."""
    names = list(dict.fromkeys((first, *models)))
    component = gr.Dropdown(
        choices=names, value=first, label="Model", info=info(BY_NAME["model"]), visible=len(names) > 1, elem_id="model"
    )
    return "model", component


def preset() -> Slot:
    """Steps, schedule and guidance by one name."""
    control = BY_NAME["recipe"]
    choices = [("usual", ""), *((name, name) for name in control.knob.choices)]
    return "recipe", gr.Radio(choices=choices, value="", label="Preset", info=info(control), elem_id="preset")


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


def fitted(names: Sequence[str], facts: ModelFacts, usual: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Updates that fit widgets to a model: its defaults as placeholders, words only where it understands them.

    `usual` are values of fields that who serves the page has chosen.
    """
    own = asdict(facts.defaults)
    updates = [_recipes(facts) if name == "recipe" else _fitted(BY_NAME[name], own, facts) for name in names]
    for name, update in zip(names, updates, strict=True):
        if name in usual:
            update["value"] = filled_one(name, usual[name])
    return updates


def _fitted(control: Control, own: Mapping[str, Any], facts: ModelFacts) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if control.default is None and control.kind in (Kind.TEXT, Kind.WHOLE, Kind.NUMBER):
        default = own.get(control.name)
        changes["placeholder"] = "" if default is None else f"{default}"
    if control.name in WORDS:
        changes["visible"] = facts.has_text
        if not facts.has_text:
            changes["value"] = None
    if control.name == "motion":
        changes["visible"] = facts.motion is not None
        if facts.motion is None:
            changes["value"] = control.default
    return gr.update(**changes)


def _recipes(facts: ModelFacts) -> dict[str, Any]:
    """The presets that a model can follow, or could with a LoRA; the request then says where to get it."""
    cook = Cook(name=facts.name, has_text=facts.has_text, steps=facts.defaults.steps, loras=facts.loras)
    choices = [(f"usual ({facts.defaults.steps} steps)", "")]
    choices += [(f"{name} ({RECIPES[name].settings['steps']} steps)", name) for name in RECIPES if _can(name, cook)]
    return gr.update(choices=choices, value="")


def _can(name: str, cook: Cook) -> bool:
    try:
        follow(name, cook)
    except RequestError:
        return lacking(name, cook) is not None
    return True


def filled(names: Sequence[str], request: TalkRequest) -> list[Any]:
    """What the widgets of some fields show for a request; `collect` is the way back."""
    counts: dict[str, int] = {}
    values = []
    for name in names:
        index = counts[name] = counts.get(name, -1) + 1
        values.append(_shown(BY_NAME[name], getattr(request, name), index, names.count(name)))
    return values


def filled_one(name: str, value: Any) -> Any:
    """What the only widget of a field shows for a value of the request."""
    return _shown(BY_NAME[name], value, 0, 1)


def _shown(control: Control, value: Any, index: int, widgets: int) -> Any:
    if control.kind is Kind.FILES and (widgets > 1 or control.name == "audio"):
        return str(value[index]) if index < len(value) else None
    if value is None:
        return "" if control.kind is Kind.CHOICE else None
    if control.default is None and control.kind in (Kind.WHOLE, Kind.NUMBER):
        return f"{value:g}" if control.kind is Kind.NUMBER else f"{value}"
    return _WRITERS[control.kind](value) if control.kind in _WRITERS else value


_WRITERS: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.FILE: str,
    Kind.FILES: lambda paths: [str(path) for path in paths],
    Kind.BOXES: lambda boxes: "; ".join(",".join(f"{side:g}" for side in box) for box in boxes),
    Kind.TEXTS: list,
    Kind.LORAS: lambda loras: "\n".join(f"{lora.path}:{lora.strength:g}" for lora in loras),
    **dict.fromkeys((Kind.STRENGTHS, Kind.PROMPTS), lambda values: "\n".join(map(str, values))),
}
