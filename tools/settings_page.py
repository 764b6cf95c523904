"""The document of every setting, written from the fields of `TalkRequest`, `MemorySettings` and `ServiceLimits`.

python -m tools.settings_page        (prints it)
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields

from infinitetalk.core.defaults import ModelDefaults
from infinitetalk.core.knobs import CONTROLS, GROUP_TITLES, LIMIT_CONTROLS, MEMORY_CONTROLS, Control, Kind

HEAD = "| flag | name | takes | default | what it does |\n|---|---|---|---|---|"
_OWN, _OPEN = "the model's own", "not set"
_BY_MODEL = frozenset({"encoder", *(item.name for item in fields(ModelDefaults))})
_WORDS = {Kind.FILE: "a file", Kind.FILES: "files", Kind.TEXTS: "texts", Kind.BOXES: "x0,y0,x1,y1"}

OPENING = """# Every setting

This page is made from the same fields as the command line's flags, the studio's form, the nodes for ComfyUI and the
HTTP API's schema. *name* is what a setting is called in Python, in JSON, in batch files and in the HTTP API. Where the
default is *the model's own*, the model folder decides: [the last table](#the-14b-models-own) has the 14B model's;
*not set* leaves it to the rest of the request: sound of any length, faces that are found, no recipe. Settings
that may be given several times on the command line are lists elsewhere.
"""

OUTSIDE = """
## Beside the request

What follows changes no video but its rounding; it belongs to the run and is not written into the file beside a video.
"""

OWN = """
## The 14B model's own

What a model folder's `defaults` leaves out.

| name | value |
|---|---|
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def takes(control: Control) -> str:
    """What a setting may be, in words."""
    if control.knob.choices:
        return ", ".join(f"`{choice}`" for choice in control.knob.choices)
    if control.bounds:
        return f"{control.kind.value}, {control.bounds}"
    return _WORDS.get(control.kind, control.kind.value)


def default(control: Control) -> str:
    """A setting's default, in words."""
    if control.kind is Kind.SWITCH:
        return "on" if control.default else "off"
    if control.default is None:
        return _OWN if control.name in _BY_MODEL else _OPEN
    if control.default == ():
        return _OPEN
    return f"`{control.default:g}`" if control.kind is Kind.NUMBER else f"`{control.default}`"


def row(control: Control) -> str:
    """A setting as a row of a table."""
    flags = " ".join(f"`{flag}`" for flag in (control.flag, *control.knob.aliases) if flag)
    cells = (flags, f"`{control.name}`", takes(control), default(control), control.knob.help)
    return f"| {' | '.join(map(_cell, cells))} |"


def _sections(controls: Iterable[Control]) -> Iterator[str]:
    wanted = tuple(controls)
    for group, title in GROUP_TITLES.items():
        if members := [control for control in wanted if control.group == group]:
            yield "\n".join([f"\n## {title[0].upper()}{title[1:]}\n", HEAD, *map(row, members)])


def settings_page() -> str:
    """The whole page in Markdown."""
    own = "\n".join(f"| `{item.name}` | {_cell(_own(item.name, item.default))} |" for item in fields(ModelDefaults))
    outside = [*_sections(MEMORY_CONTROLS), *_sections(LIMIT_CONTROLS)]
    return "\n".join([OPENING, *_sections(CONTROLS), OUTSIDE, *outside, OWN.rstrip("\n") + "\n" + own, ""])


def _own(name: str, value: object) -> str:
    return "7; 11 at size 720; 2 with a LoRA for a few steps" if name == "shift" else str(value)


if __name__ == "__main__":
    sys.stdout.write(settings_page())
