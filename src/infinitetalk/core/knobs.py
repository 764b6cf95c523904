"""Projects `TalkRequest`'s fields onto faces: command-line flags and web widgets.

A setting is written down once, in `core.request`; a face asks here which controls there are, of which kind, and hands
back what its user gave.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from infinitetalk.core.control import Strength, TimedPrompt
from infinitetalk.core.errors import RequestError
from infinitetalk.core.loras import Lora, paired
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.request import Box, Knob, TalkRequest, value_type
from infinitetalk.core.serving import ServiceLimits

T = TypeVar("T")


class Kind(Enum):
    """What a control holds, and so which widget or flag stands for it."""

    TEXT = "text"
    CHOICE = "choice"
    SWITCH = "switch"
    WHOLE = "whole number"
    NUMBER = "number"
    FILE = "file"
    FILES = "files"
    TEXTS = "texts"
    BOXES = "boxes"
    LORAS = "LoRAs"
    STRENGTHS = "strengths"
    PROMPTS = "prompts"


_KINDS: Mapping[object, Kind] = {
    str: Kind.TEXT,
    bool: Kind.SWITCH,
    int: Kind.WHOLE,
    float: Kind.NUMBER,
    Path: Kind.FILE,
    tuple[Path, ...]: Kind.FILES,
    tuple[str, ...]: Kind.TEXTS,
    tuple[Box, ...]: Kind.BOXES,
    tuple[Lora, ...]: Kind.LORAS,
    tuple[Strength, ...]: Kind.STRENGTHS,
    tuple[TimedPrompt, ...]: Kind.PROMPTS,
}

_METAVARS: Mapping[Kind, str] = {
    Kind.TEXT: "TEXT",
    Kind.TEXTS: "NAME",
    Kind.WHOLE: "N",
    Kind.NUMBER: "X",
    Kind.FILE: "FILE",
    Kind.FILES: "FILE",
    Kind.BOXES: "X0,Y0,X1,Y1",
    Kind.LORAS: "FILE[:STRENGTH]",
    Kind.STRENGTHS: "X",
    Kind.PROMPTS: "START-END:TEXT",
}

_LORA_LISTS = ("lora_dir", "lora_scale")

RIVALS: Mapping[str, str] = {"image": "video", "video": "image", "boxes": "masks", "masks": "boxes",
                             "audio": "text", "text": "audio"}  # fmt: skip
"""Fields of which a request holds one at most: giving one replaces the other."""

GROUP_TITLES: Mapping[str, str] = {
    "input": "what to make it from",
    "picture": "picture",
    "length": "length",
    "sampling": "sampling",
    "output": "video file",
    "memory": "memory of this run (never changes the video)",
    "kernels": "kernels of this run",
    "devices": "GPUs of this run",
    "limits": "limits of the service",
    "expert": "expert settings",
}


@dataclass(frozen=True, slots=True)
class Control:
    """One field of the request, as a face shows it."""

    name: str
    kind: Kind
    default: Any
    """The field's default; None or an empty tuple means that the model or the request decides."""
    knob: Knob

    @property
    def flag(self) -> str:
        """The command-line flag, dashes included."""
        return f"--{(self.knob.flag or self.name).replace('_', '-')}"

    @property
    def label(self) -> str:
        """The field's name in words."""
        return self.name.replace("_", " ").capitalize().replace("Apg", "APG").replace("Lora", "LoRA")

    @property
    def group(self) -> str:
        """The heading under which the control stands."""
        return "expert" if self.knob.expert else self.knob.group

    @property
    def bounds(self) -> str:
        """The allowed range in words; empty without one."""
        least, most = self.knob.least, self.knob.most
        if least is None:
            return ""
        return f"{least:g} or more" if most is None or most >= 1e6 else f"{least:g} to {most:g}"


def _control(item: Field[Any], declared: object) -> Control:
    kind = _KINDS[value_type(declared)]
    knob: Knob = item.metadata["knob"]
    default = None if item.default is MISSING else item.default
    return Control(item.name, Kind.CHOICE if knob.choices else kind, default, knob)


def _all_controls(kind: type[TalkRequest | MemorySettings | ServiceLimits]) -> tuple[Control, ...]:
    hints = get_type_hints(kind)
    return tuple(_control(item, hints[item.name]) for item in fields(kind))


CONTROLS: tuple[Control, ...] = _all_controls(TalkRequest)
"""Every field of the request, in its order."""

MEMORY_CONTROLS: tuple[Control, ...] = _all_controls(MemorySettings)
"""Every setting of a run's memory, which is no part of the request."""

LIMIT_CONTROLS: tuple[Control, ...] = _all_controls(ServiceLimits)
"""Every limit of a service."""


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The parser of a value as argparse wants it."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except RequestError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error.need}") from None

    return read


_READERS = {
    Kind.TEXT: str,
    Kind.TEXTS: str,
    Kind.CHOICE: str,
    Kind.WHOLE: _whole,
    Kind.NUMBER: _number,
    Kind.FILE: Path,
    Kind.FILES: Path,
    Kind.BOXES: _parsed(Box.parse),
    Kind.LORAS: _parsed(Lora.parse),
    Kind.STRENGTHS: _parsed(Strength.parse),
    Kind.PROMPTS: _parsed(TimedPrompt.parse),
}

_LINES = (Kind.LORAS, Kind.STRENGTHS, Kind.PROMPTS)
"""Lists that a form holds as one text, a line for each."""


def _help(control: Control) -> str:
    notes = [control.bounds] if control.bounds and control.bounds not in control.knob.help else []
    if control.default not in (None, ()) and control.kind is not Kind.SWITCH:
        notes.append(f"default {control.default:g}" if control.kind is Kind.NUMBER else f"default {control.default}")
    text = f"{control.knob.help} ({'; '.join(notes)})" if notes else control.knob.help
    return text.replace("%", "%%")


def _options(control: Control) -> dict[str, Any]:
    """The keywords of `add_argument`; absent flags leave no trace in the namespace."""
    common: dict[str, Any] = {"dest": control.name, "help": _help(control), "default": argparse.SUPPRESS}
    if control.kind is Kind.SWITCH:
        return common | {"action": argparse.BooleanOptionalAction}
    if control.kind is Kind.CHOICE:
        return common | {"metavar": "|".join(control.knob.choices)}
    many = {"action": "append"} if control.kind in (Kind.FILES, Kind.TEXTS, Kind.BOXES, *_LINES) else {}
    return common | many | {"type": _READERS[control.kind], "metavar": _METAVARS[control.kind]}


def add_flags(parser: argparse.ArgumentParser, controls: Iterable[Control] = CONTROLS) -> None:
    """Adds one flag per control, under the headings of `GROUP_TITLES`."""
    wanted = tuple(controls)
    for group, title in GROUP_TITLES.items():
        members = [control for control in wanted if control.group == group]
        if members:
            section = parser.add_argument_group(title)
            for control in members:
                section.add_argument(control.flag, *control.knob.aliases, **_options(control))
                if control.kind is Kind.LORAS:
                    _add_lora_lists(section)


def _add_lora_lists(section: argparse._ArgumentGroup) -> None:
    """Adds the reference implementation's two lists, which stand for the same field as `--lora`."""
    common: dict[str, Any] = {"nargs": "+", "action": "extend", "default": argparse.SUPPRESS}
    files, scales = _LORA_LISTS
    section.add_argument("--lora-dir", f"--{files}", dest=files, type=Path, metavar="FILE", **common,
                         help="LoRA files in one list")  # fmt: skip
    section.add_argument("--lora-scale", f"--{scales}", dest=scales, type=_number, metavar="X", **common,
                         help="their strengths, one per file")  # fmt: skip


def given(namespace: argparse.Namespace, controls: Iterable[Control] = CONTROLS) -> dict[str, Any]:
    """The fields that the command line names, typed as the request types them.

    Raises:
        RequestError: lists that belong together and differ in length.
    """
    found = dict(vars(namespace))
    if any(name in found for name in _LORA_LISTS):
        files, scales = (found.pop(name, []) for name in _LORA_LISTS)
        found["loras"] = [*found.get("loras", []), *paired(files, scales)]
    return {
        control.name: tuple(found[control.name]) if isinstance(found[control.name], list) else found[control.name]
        for control in controls
        if control.name in found
    }


def override(base: TalkRequest, changes: Mapping[str, Any]) -> TalkRequest:
    """A request with some fields replaced; a picture replaces a video, boxes replace masks, and the other way round.

    Raises:
        RequestError: the outcome cannot work.
    """
    values = {item.name: getattr(base, item.name) for item in fields(base)}
    for name in changes:
        rival = RIVALS.get(name)
        if rival is not None and rival not in changes:
            dropped = ("text", "voice") if rival == "text" else (rival,)
            values |= {control.name: control.default for control in CONTROLS if control.name in dropped}
    return TalkRequest(**{**values, **changes})


_TRUTH: Mapping[str, bool] = dict.fromkeys(("true", "1", "on", "yes"), True) | dict.fromkeys(
    ("false", "0", "off", "no"), False
)
"""What a switch may be called in a text."""


def _form_value(control: Control, value: Any) -> Any:
    if isinstance(value, float) and control.kind is Kind.WHOLE and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    if control.kind in (Kind.WHOLE, Kind.NUMBER):
        try:
            return int(value) if control.kind is Kind.WHOLE else float(value)
        except ValueError:
            raise RequestError(control.name, value, f"is not a {control.kind.value}") from None
    if control.kind is Kind.SWITCH:
        if value.strip().lower() not in _TRUTH:
            raise RequestError(control.name, value[:60], "must be true or false")
        return _TRUTH[value.strip().lower()]
    return _form_list(control, value)


def _form_list(control: Control, value: str) -> Any:
    """A list that a form holds as one text; any other text as it is."""
    if control.kind is Kind.TEXTS:
        return value.split()
    if control.kind is Kind.BOXES:
        return [list(Box.parse(part)) for part in value.split(";") if part.strip()]
    if control.kind in _LINES:
        return [line.strip() for line in value.splitlines() if line.strip()]
    return value


def form_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a form holds, as `TalkRequest.from_json` reads it; see `from_form`.

    Raises:
        RequestError: a text that is no number, switch or box.
    """
    filled = {name: value for name, value in values.items() if value is not None and value not in ("", [])}
    by_name = {control.name: control for control in CONTROLS}
    return {name: _form_value(by_name[name], value) if name in by_name else value for name, value in filled.items()}


def from_form(values: Mapping[str, Any]) -> TalkRequest:
    """Reads what widgets hold: JSON values by field name; None and emptiness mean "not given".

    Numbers and switches may be texts; boxes may be one text with a semicolon between boxes; LoRAs, strengths and timed
    prompts one text with a line for each.

    Raises:
        RequestError: a value that cannot work.
    """
    return TalkRequest.from_json(form_values(values))


def with_files(request: TalkRequest, change: Callable[[str, int, Path], Path]) -> TalkRequest:
    """A request with other media files: `change` gets each field's name, the file's number in it, and its path."""
    changes: dict[str, Any] = {}
    for control in CONTROLS:
        value = getattr(request, control.name)
        if control.kind is Kind.FILE and value is not None:
            changes[control.name] = change(control.name, 0, value)
        elif control.kind is Kind.FILES:
            changes[control.name] = tuple(change(control.name, number, path) for number, path in enumerate(value))
    return replace(request, **changes)
