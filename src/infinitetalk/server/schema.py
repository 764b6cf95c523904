"""The API's schema of a request, made from the fields of `TalkRequest`."""

from collections.abc import Mapping
from typing import Any

from infinitetalk.core.knobs import CONTROLS, RIVALS, Control, Kind

_TEXT = {"type": "string"}
_FILE = {"type": "string", "format": "binary"}
_URL = {"type": "string", "format": "uri"}

_SHAPES: Mapping[Kind, dict[str, Any]] = {
    Kind.TEXT: _TEXT,
    Kind.CHOICE: _TEXT,
    Kind.SWITCH: {"type": "boolean"},
    Kind.WHOLE: {"type": "integer"},
    Kind.NUMBER: {"type": "number"},
    Kind.TEXTS: {"type": "array", "items": _TEXT},
    Kind.BOXES: {
        "type": "array",
        "items": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
    },
    Kind.LORAS: {"type": "array", "items": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*(:-?[0-9.]+)?$"}},
    Kind.STRENGTHS: {"type": "array", "items": {"type": "string", "description": "[PERSON:]X[@START-END]"}},
    Kind.PROMPTS: {"type": "array", "items": {"type": "string", "description": "START-END:TEXT"}},
}

_LISTS = (Kind.TEXTS, Kind.BOXES, Kind.LORAS, Kind.STRENGTHS, Kind.PROMPTS)

# In a form, a box is a text like the others.
_FORM_BOXES = {"type": "array", "items": {"type": "string", "description": "x0,y0,x1,y1"}}


def _described(control: Control, shape: Mapping[str, Any]) -> dict[str, Any]:
    made = {**shape, "description": control.knob.help, "title": control.label}
    if control.knob.choices:
        made["enum"] = list(control.knob.choices)
    if control.kind in (Kind.WHOLE, Kind.NUMBER):
        bounds = {"minimum": control.knob.least, "maximum": control.knob.most}
        made |= {name: bound for name, bound in bounds.items() if bound is not None}
    if control.default not in (None, ()):
        made["default"] = control.default
    return made


def _property(control: Control, *, form: bool, models: tuple[str, ...]) -> dict[str, Any]:
    file = _FILE if form else _URL
    if control.kind is Kind.FILE:
        return _described(control, file)
    if control.kind is Kind.FILES:
        return _described(control, {"type": "array", "items": file})
    made = _described(control, _FORM_BOXES if form and control.kind is Kind.BOXES else _SHAPES[control.kind])
    if control.name == "model":
        made |= {"enum": list(models), "default": models[0]}
    return made


def request_schema(*, form: bool, models: tuple[str, ...]) -> dict[str, Any]:
    """JSON Schema of a request.

    Args:
        form: of a multipart form, which carries files; else of JSON, which names them by URL.
        models: that may be named.
    """
    pairs = {tuple(sorted(pair)) for pair in RIVALS.items()}
    both = [{"not": {"required": list(pair)}} for pair in sorted(pairs)]
    sources = {"anyOf": [{"required": ["image"]}, {"required": ["video"]}]}
    sounds = {"anyOf": [{"required": ["audio"]}, {"required": ["text", "voice"]}]}
    return {
        "type": "object",
        "properties": {control.name: _property(control, form=form, models=models) for control in CONTROLS},
        "additionalProperties": False,
        "allOf": [sources, sounds, *both],
    }


def request_body(models: tuple[str, ...]) -> dict[str, Any]:
    """The body of `POST /v1/jobs`, for OpenAPI."""
    lists = {control.name: {"style": "form", "explode": True} for control in CONTROLS if control.kind in _LISTS}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": request_schema(form=True, models=models), "encoding": lists},
            "application/json": {"schema": request_schema(form=False, models=models)},
        },
    }
