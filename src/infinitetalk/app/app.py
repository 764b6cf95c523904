"""The web page: a form made from the request, a button, the video. Everything else happens in the engine."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from infinitetalk.app import widgets
from infinitetalk.app.widgets import Slot
from infinitetalk.core.errors import InfiniteTalkError, MachineError
from infinitetalk.core.knobs import CONTROLS, from_form
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine.board import Board, clock_text
from infinitetalk.engine.job import Workshop, prepare
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.locate import ASSETS, bundled

EXAMPLE = (ASSETS / "demo" / "portrait_1.png", ASSETS / "demo" / "voice_1.flac")
TITLE = "# InfiniteTalk\nA picture or a video, a voice, and the picture speaks."
STYLE = "footer {display: none !important} .gradio-container {max-width: 1200px !important; margin: auto}"
MAIN = ("size", "framing", "duration", "steps", "audio_scale", "seed")
"""Knobs that everyone sees; the others are folded."""

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]


def _tell(progress: Callable[..., object]) -> Board:
    """A board that moves the page's progress bar, never back: estimates of what is left may grow."""
    shown = 0.0

    def changed(board: Board) -> None:
        nonlocal shown
        if board.at_work is None:
            return
        left = board.left
        rest = "" if left is None else f" · {clock_text(left)} left"
        shown = max(shown, min(0.99, board.fraction))
        progress(shown, desc=f"{board.at_work.value}{rest}")

    return Board(changed=changed)


@dataclass(frozen=True, slots=True)
class Page:
    """What the page's button does."""

    workshop: Workshop
    folder: Path
    """Every job gets a folder of its own in here; all of it goes when the page is closed."""
    names: tuple[str, ...]
    """Field names of the values that the form sends, in its order."""

    def make(self, *values: Any, progress: Callable[..., object]) -> tuple[str, dict[str, Any], str, str]:
        """Makes one video: gives the video, its settings, one line about it, and the job's folder."""
        job = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            request = from_form(widgets.collect(self.names, values))
            board = _tell(progress)
            made = self.workshop.make(prepare(request, job / "talking.mp4"), board)
        except InfiniteTalkError as error:
            shutil.rmtree(job)
            raise gr.Error(str(error), print_exception=False) from error
        lines = [f"{made.seconds:.1f} s, {made.size}, made in {clock_text(made.wall)}", *board.notes, *made.advice]
        return str(made.video), gr.update(value=str(made.sidecar), visible=True), "\n\n".join(lines), str(job)


def _form(models: Sequence[str], first: str) -> list[Slot]:
    """Draws the left column."""
    slots = [widgets.model_choice(models, first)]
    with gr.Tabs():
        with gr.Tab("Picture"):
            slots.append(widgets.picture())
        with gr.Tab("Video"):
            slots.append(widgets.video())
    slots += [widgets.voice(1), widgets.widget("prompt")]
    with gr.Accordion("Second person", open=False):
        gr.Markdown("People are found by their faces, left to right. Or give a box or mask each, in the voices' order.")
        slots += [widgets.voice(2), *widgets.widgets(("boxes", "masks"))]
    with gr.Accordion("Settings", open=True), gr.Row():
        slots += widgets.widgets(MAIN)
    placed = {name for name, _ in slots}
    rest = [control.name for control in CONTROLS if control.name not in placed]
    with gr.Accordion("More settings", open=False):
        slots += widgets.widgets(name for name in rest if not widgets.BY_NAME[name].knob.expert)
    with gr.Accordion("Expert settings", open=False):
        slots += widgets.widgets(name for name in rest if widgets.BY_NAME[name].knob.expert)
    return slots


def _result() -> list[gr.components.Component]:
    """Draws the right column's outputs."""
    video = gr.Video(label="Result", interactive=False, autoplay=True, height=420, elem_id="result")
    line = gr.Markdown(elem_id="told")
    settings = gr.DownloadButton("Settings of this video", size="sm", visible=False, elem_id="settings")
    return [video, settings, line, gr.State()]


def _clear(folder: str | None) -> None:
    """Removes a job's folder, once the page has its own copy of the video."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def build(workshop: Workshop, folder: Path, model: str) -> gr.Blocks:
    """The page, not yet served.

    Raises:
        ModelError: the first model cannot be used.
    """
    facts = ModelFolder.open(model).facts
    page: gr.Blocks = gr.Blocks(title="InfiniteTalk", analytics_enabled=False, delete_cache=(3600, 86400))
    with page:
        gr.Markdown(TITLE)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5):
                slots = _form(bundled(), model)
            with gr.Column(scale=6):
                start = gr.Button("Make the video", variant="primary", size="lg", elem_id="make")
                outputs = _result()
                if all(path.is_file() for path in EXAMPLE):
                    chosen = [component for name, component in slots if name in ("image", "audio")][:2]
                    gr.Examples([[str(path) for path in EXAMPLE]], chosen, label="Try these")
        inputs = [component for _, component in slots]
        names = tuple(name for name, _ in slots)
        face = Page(workshop, folder, names)

        def make(*values: Any, progress: gr.Progress = gr.Progress()) -> tuple[str, dict[str, Any], str, str]:  # noqa: B008
            return face.make(*values, progress=progress)

        def fit(name: str) -> list[dict[str, Any]]:
            return widgets.fitted(names[1:], ModelFolder.open(name).facts)

        done = start.click(make, inputs, outputs, concurrency_limit=1, show_progress_on=outputs[0])
        done.then(_clear, outputs[-1], None, show_progress="hidden")
        chooser = inputs[0]
        assert isinstance(chooser, gr.Dropdown)
        chooser.change(fit, chooser, inputs[1:], show_progress="hidden")
        page.load(lambda: widgets.fitted(names[1:], facts), None, inputs[1:], show_progress="hidden")
    return page


@contextmanager
def serving(
    model: str, *, host: str, port: int | None, share: bool, device: str, memory: MemorySettings | None = None
) -> Iterator[gr.Blocks]:
    """The page, served while the block runs; its jobs' files are removed at the end.

    Raises:
        ModelError: the first model cannot be used.
        MachineError: the port is taken, or the host is no address of this machine.
    """
    # Nothing is sent anywhere: no analytics, no fonts from elsewhere. `share` alone reaches out, for a public link.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with tempfile.TemporaryDirectory(prefix="infinitetalk-") as folder:
        page = build(Workshop(device, memory), Path(folder), model)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                share=share,
                theme=gr.themes.Soft(primary_hue="indigo", font=FONT, font_mono=["monospace"]),
                css=STYLE,
                allowed_paths=[str(ASSETS / "demo")],
                prevent_thread_lock=True,
                run_history=False,
            )
        except OSError as error:
            where = host if port is None else f"{host}:{port}"
            problem = "it is taken, or is no address of this machine"
            raise MachineError(f"{where} cannot be served: {problem}; give another --port or --host") from error
        try:
            yield page
        finally:
            page.close(verbose=False)


def launch(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    device: str = "auto",
    memory: MemorySettings | None = None,
    wait: bool = True,
) -> None:
    """Serves the page until Ctrl-C, or with `wait` false only until it has answered once.

    Raises:
        ModelError: the first model cannot be used.
        MachineError: the port is taken, or the host is no address of this machine.
    """
    with serving(model, host=host, port=port, share=share, device=device, memory=memory) as page:
        if wait:
            page.block_thread()
