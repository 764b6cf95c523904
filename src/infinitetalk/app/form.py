"""The form: one widget per field of the request, presets first, the rest folded away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from infinitetalk.app import places, widgets
from infinitetalk.app.widgets import BY_NAME, Slot
from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.core.knobs import CONTROLS, GROUP_TITLES
from infinitetalk.media.speakers import SPEAKERS
from infinitetalk.weights.locate import ASSETS

DEMO = ASSETS / "demo"
MAIN = ("size", "duration", "prompt")
"""Knobs that everyone sees, besides files and preset."""
SHORT = "3"
"""Seconds of an example's video: a window of nano."""


@dataclass(frozen=True, slots=True)
class Example:
    """Files of the package that make a video in seconds."""

    label: str
    picture: Path
    voices: tuple[Path, ...]

    @property
    def values(self) -> dict[str, Any]:
        """What of the form it fills."""
        return {"image": self.picture, "audio": self.voices}


def _examples() -> tuple[Example, ...]:
    anna, ben = DEMO / "voice_1.flac", DEMO / "voice_2.flac"
    known = (
        Example("A portrait", DEMO / "portrait_1.png", (anna,)),
        Example("Another one", DEMO / "portrait_2.png", (ben,)),
        Example("Two people", DEMO / "pair.png", (anna, ben)),
    )
    return tuple(one for one in known if all(path.is_file() for path in (one.picture, *one.voices)))


EXAMPLES = _examples()


@dataclass(slots=True)
class Form:
    """The widgets and what belongs to them."""

    slots: list[Slot] = field(default_factory=list)
    editor: gr.HTML | None = None
    faces: gr.Button | None = None
    look: gr.Button | None = None
    layout: gr.Image | None = None
    examples: list[tuple[Example, gr.Button]] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """Field names of the widgets, in their order."""
        return tuple(name for name, _ in self.slots)

    @property
    def components(self) -> list[Component]:
        """The widgets, in the same order."""
        return [component for _, component in self.slots]

    def all(self, name: str) -> list[Component]:
        """The widgets of one field."""
        return [component for slot, component in self.slots if slot == name]

    def one(self, name: str) -> Component:
        """The first widget of one field."""
        return self.all(name)[0]


def speakers_here() -> list[str]:
    """Names of voices that this machine can speak with."""
    found = []
    for kind, speaker in SPEAKERS.items():
        if kind == "kokoro" and not _has_kokoro():
            continue
        try:
            found += [f"{kind}:{name}" for name in speaker.voices()]
        except InfiniteTalkError:
            continue  # whoever names one is told what to install
    return found


def _has_kokoro() -> bool:
    from importlib.util import find_spec

    return find_spec("kokoro") is not None


def draw(models: Sequence[str], first: str) -> Form:
    """Draws the whole form into the current column."""
    form = Form()
    form.slots.append(widgets.model_choice(models, first))
    _examples_row(form)
    _source(form)
    _voice(form)
    _people(form)
    gr.HTML('<h2 class="step"><i>3</i> Settings</h2>')
    form.slots.append(widgets.preset())
    with gr.Row():
        form.slots += widgets.widgets(MAIN[:2])
    form.slots += widgets.widgets(MAIN[2:])
    _folded(form)
    return form


def _examples_row(form: Form) -> None:
    if not EXAMPLES:
        return
    with gr.Row(elem_id="examples"):
        for index, example in enumerate(EXAMPLES):
            button = gr.Button(example.label, icon=str(example.picture), size="sm", elem_id=f"example-{index + 1}")
            form.examples.append((example, button))


def _source(form: Form) -> None:
    gr.HTML('<h2 class="step"><i>1</i> Who speaks</h2>')
    with gr.Tabs(elem_id="source"):
        with gr.Tab("Picture"):
            form.slots.append(widgets.picture())
        with gr.Tab("Video"):
            form.slots.append(widgets.video())


def _voice(form: Form) -> None:
    gr.HTML('<h2 class="step"><i>2</i> What is said</h2>')
    with gr.Tabs(elem_id="spoken"):
        with gr.Tab("Sound or microphone"):
            form.slots.append(widgets.voice(1))
        with gr.Tab("Text", elem_id="write"):
            form.slots += [widgets.words(), widgets.speakers(speakers_here())]


def _people(form: Form) -> None:
    with gr.Accordion("Several people", open=False, elem_id="people"):
        gr.HTML(
            '<div class="help"><p>People are found by their faces, left to right. Or draw a box around each, in the '
            "order of the voices, by dragging on the picture; who has a box and no voice stays silent.</p></div>"
        )
        form.editor = places.editor()
        with gr.Row():
            form.faces = gr.Button("Find faces", size="sm", elem_id="find-faces")
            form.look = gr.Button("Show who is where", size="sm", elem_id="look")
        form.layout = gr.Image(
            label="Who is where, and what is cut", interactive=False, visible=False, buttons=[], elem_id="layout"
        )
        form.slots.append(widgets.voice(2))
        form.slots += widgets.widgets(("boxes", "masks", "voices"))


def _folded(form: Form) -> None:
    """All other fields, by their groups; those for experts last."""
    placed = set(form.names)
    rest = [control for control in CONTROLS if control.name not in placed]
    with gr.Accordion("More settings", open=False, elem_id="more"):
        for group, title in GROUP_TITLES.items():
            names = [control.name for control in rest if control.group == group and not control.knob.expert]
            if names:
                gr.HTML(f'<h3 class="group">{title}</h3>')
                form.slots += widgets.widgets(names)
    with gr.Accordion("Expert settings", open=False, elem_id="expert"):
        form.slots += widgets.widgets(control.name for control in rest if control.knob.expert)


def example_values(names: Sequence[str], example: Example) -> list[Any]:
    """Updates of all widgets: the example's files, a short video, and nothing that would contradict them."""
    updates: list[Any] = []
    voice = 0
    for name in names:
        if name == "image":
            updates.append(str(example.picture))
        elif name == "audio":
            updates.append(str(example.voices[voice]) if voice < len(example.voices) else None)
            voice += 1
        elif name in _CONTRADICTING:
            updates.append(_CONTRADICTING[name])
        else:
            updates.append(gr.skip())
    return updates


_CONTRADICTING: Mapping[str, Any] = {
    "video": None, "text": "", "voice": None, "boxes": "", "masks": None, "duration": SHORT,
}  # fmt: skip

assert all(name in BY_NAME for name in _CONTRADICTING)
