"""The studio, drawn and served: a form made from the request, a desk that makes videos, a page that shows them."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from starlette.middleware import Middleware

from infinitetalk.app import door, form, player, telling
from infinitetalk.app.banner import Machine
from infinitetalk.app.beside import Beside, Service
from infinitetalk.app.door import FullDisk, Login, Sessions
from infinitetalk.app.headers import SafeHeaders
from infinitetalk.app.studio import Studio
from infinitetalk.app.tickets import Counter
from infinitetalk.app.vetting import Vetting
from infinitetalk.core.errors import MachineError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.serving import LOCAL, ServiceLimits
from infinitetalk.engine.job import Workshop
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.tidy import tidied
from infinitetalk.runtime.platform import data_folder
from infinitetalk.server.metrics import Metrics
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.locate import ASSETS, bundled

_HERE = Path(__file__).parent
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
LARGEST = "4gb"
"""Of an uploaded file."""
LOOK = 0.5
"""Seconds between two looks at a job."""

_TITLE = """<header class="top"><svg viewBox="0 0 48 48" aria-hidden="true"><rect width="48" height="48" rx="13"/><path
d="M10 24h3M17 18v12M24 11v26M31 17v14M38 24h-3"/></svg><div><h1>InfiniteTalk</h1><p>A picture or a video, a voice, and
the picture speaks.</p></div><button type="button" id="shade" aria-label="switch between light and dark"
>◐</button></header>"""
_SHADE = "element.querySelector('#shade').addEventListener('click', () => document.body.classList.toggle('dark'))"


@dataclass(frozen=True, slots=True)
class _Views:
    """What shows a job, in the order of `studio.View`."""

    key: gr.State
    seen: gr.State
    progress: gr.HTML
    outcome: gr.HTML
    player: gr.HTML
    gallery: gr.HTML
    stop: gr.Button
    timer: gr.Timer

    @property
    def all(self) -> list[Any]:
        return [self.key, self.seen, self.progress, self.outcome, self.player, self.gallery, self.stop, self.timer]


@dataclass(frozen=True, slots=True)
class _Page:
    """All that the page consists of."""

    form: form.Form
    views: _Views
    banner: gr.HTML
    estimate: gr.HTML
    make: gr.Button
    first: gr.Button


def _draw(model: str) -> _Page:
    gr.HTML(_TITLE, js_on_load=_SHADE)
    banner = gr.HTML(elem_id="banner")
    key, seen, timer = gr.State(), gr.State(), gr.Timer(LOOK, active=False)
    with gr.Row(equal_height=False, elem_id="work"):
        with gr.Column(scale=5, min_width=320, elem_id="ask"):
            drawn = form.draw(bundled(), model)
        with gr.Column(scale=6, min_width=320, elem_id="see"):
            shown = player.player()
            progress, outcome = gr.HTML(elem_id="progress"), gr.HTML(elem_id="told")
            estimate = gr.HTML(elem_id="estimate")
            with gr.Row(elem_id="actions"):
                make = gr.Button("Make the video", variant="primary", size="lg", elem_id="make")
                first = gr.Button("First window only", size="lg", elem_id="first")
                stop = gr.Button("Stop and keep", variant="stop", size="lg", visible=False, elem_id="stop")
            gr.HTML(f'<p class="consent" role="note">{telling.CONSENT}</p>', elem_id="consent")
    gr.HTML('<h2 class="step">Your videos</h2>')
    gallery = telling.gallery()
    views = _Views(key, seen, progress, outcome, shown, gallery, stop, timer)
    return _Page(drawn, views, banner, estimate, make, first)


def build(
    jobs: Counter,
    machine: Machine,
    model: str,
    *,
    uploads: Path,
    local: bool = True,
    usual: Mapping[str, Any] | None = None,
) -> gr.Blocks:
    """The page, not yet served.

    Raises:
        ModelError: the first model cannot be used.
    """
    ModelFolder.open(model)
    page: gr.Blocks = gr.Blocks(title="InfiniteTalk", analytics_enabled=False, delete_cache=(3600, 86400))
    with page:
        drawn = _draw(model)
        studio = Studio(jobs, machine, drawn.form.names, uploads, local=local, usual=usual or {})
        _wire_jobs(page, drawn, studio)
        _wire_form(page, drawn, studio, model)
    return page


_QUIET: Mapping[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}


def _wire_jobs(page: gr.Blocks, drawn: _Page, studio: Studio) -> None:
    """Buttons, cards and the clock that looks after jobs."""
    views, inputs = drawn.views, drawn.form.components

    def make(request: gr.Request, *values: Any) -> Any:
        return studio.make(request, False, *values)

    def first(request: gr.Request, *values: Any) -> Any:
        return studio.make(request, True, *values)

    def act(request: gr.Request, event: gr.EventData, key: str | None) -> Any:
        return studio.act(request, key, event)

    def look(request: gr.Request, key: str | None, seen: dict[str, Any] | None) -> Any:
        return studio.look(request, key, seen)

    def stop(request: gr.Request, key: str | None) -> Any:
        return studio.stop(request, key)

    def arrive(request: gr.Request) -> Any:
        return studio.arrive(request)

    drawn.make.click(make, inputs, views.all, trigger_mode="once", **_QUIET)
    drawn.first.click(first, inputs, views.all, trigger_mode="once", **_QUIET)
    views.stop.click(stop, views.key, views.all, **_QUIET)
    views.timer.tick(look, [views.key, views.seen], views.all, trigger_mode="once", **_QUIET)
    views.gallery.click(act, views.key, [*views.all, *inputs], **_QUIET)
    page.load(arrive, None, views.all, **_QUIET)


def _wire_form(page: gr.Blocks, drawn: _Page, studio: Studio, model: str) -> None:
    """What fields do to each other."""
    asked, inputs = drawn.form, drawn.form.components
    image, video, boxes, chooser = (asked.one(name) for name in ("image", "video", "boxes", "model"))
    assert asked.editor and asked.faces and asked.look and asked.layout
    page.load(partial(studio.fit, model), None, [drawn.banner, *inputs[1:]], **_QUIET)
    _change(chooser)(studio.fit, chooser, [drawn.banner, *inputs[1:]], **_QUIET)
    gr.on([_change(image), _change(video)], studio.frame, [image, video, boxes], asked.editor, **_QUIET)
    asked.editor.input(None, asked.editor, boxes, js="(text) => text", **_QUIET)
    _change(boxes)(None, boxes, asked.editor, js="(text) => text", **_QUIET)
    asked.faces.click(studio.faces, [image, video], [asked.editor, boxes], **_QUIET)
    asked.look.click(studio.people, inputs, asked.layout, **_QUIET)
    for example, button in asked.examples:
        button.click(partial(form.example_values, asked.names, example), None, inputs, **_QUIET)
    costly = [component for name, component in asked.slots if name in _COSTLY]
    gr.on([*map(_change, costly)], studio.estimate, inputs, drawn.estimate, trigger_mode="always_last", **_QUIET)


def _change(component: Component) -> Any:
    """The event that a component's value has changed; every component of a form has it."""
    return component.change  # type: ignore[attr-defined]


_COSTLY = ("model", "image", "video", "audio", "text", "voice", "recipe", "size", "duration", "steps", "window_frames")
"""Fields on which the time of a job depends most."""


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Gradio reads some settings from the environment alone."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def serving(
    model: str,
    *,
    host: str,
    port: int | None,
    share: bool,
    device: str,
    memory: MemorySettings | None = None,
    folder: Path | None = None,
    protect: Login | None = None,
    usual: Mapping[str, Any] | None = None,
    limits: ServiceLimits | None = None,
    service: Service | None = None,
) -> Iterator[gr.Blocks]:
    """The page, and the HTTP API beside it, served while the block runs.

    Args:
        folder: keeps the jobs; without one they go when the block ends.
        usual: fields of the request by name that the form starts with.
        limits: what users may ask for; default: no limit for this machine's own user, else a service's.
        service: who may use the API; default: one user, whose token is in the folder.

    Raises:
        ModelError: the first model cannot be used.
        MachineError: the port is taken, the host is no address of this machine, the folder cannot be made, or the
            database does not answer.
    """
    with ExitStack() as closing:
        scratch = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="infinitetalk-"))).resolve()
        uploads = scratch / "uploads"
        uploads.mkdir()
        # Nothing is sent anywhere: no analytics, no fonts from elsewhere. `share` alone reaches out, for a public link.
        closing.enter_context(_environment(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(uploads)))
        workshop = Workshop(device, memory)
        ModelFolder.open(model)
        local = host in LOCAL and not share
        if limits is None and not local:
            limits = ServiceLimits()
        place, service, metrics = folder or scratch / "jobs", service or Service(), Metrics()
        settings = service.settings((model, *(name for name in bundled() if name != model)), place, limits)
        queue = closing.enter_context(
            JobQueue(place, workshop, database=service.database, limits=limits, observer=metrics)
        )
        if limits is not None:
            closing.enter_context(tidied(queue, limits.keep_days))
        machine = Machine(workshop, device, memory, scratch)
        page = build(Counter(queue, Vetting.of(limits)), machine, model, uploads=uploads, local=local, usual=usual)
        closing.callback(page.close, verbose=False)
        api = Middleware(Beside, queue=queue, settings=settings, metrics=metrics)
        _launch(page, queue, api, host=host, port=port, share=share, protect=protect, limits=limits)
        yield page


def _theme() -> gr.themes.Base:
    """Indigo on slate; titles of fields are plain text."""
    theme = gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=FONT, font_mono=["monospace"])
    plain = {
        f"block_{part}_{what}{shade}": value
        for part in ("title", "label")
        for shade in ("", "_dark")
        for what, value in (("background_fill", "transparent"), ("text_color", "*body_text_color"))
    }
    return theme.set(
        **plain, block_title_padding="0", block_title_text_weight="600", block_radius="14px", block_border_width="1px"
    )


def _launch(
    page: gr.Blocks, queue: JobQueue, api: Middleware, *, host: str, port: int | None, share: bool,
    protect: Login | None, limits: ServiceLimits | None,
) -> None:  # fmt: skip
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=share,
            auth=None if protect is None else (protect.user, protect.password),
            theme=_theme(),
            css=(_HERE / "look.css").read_text(encoding="utf-8"),
            allowed_paths=[str(ASSETS / "demo")],
            max_file_size=LARGEST if limits is None else limits.upload_bytes,
            prevent_thread_lock=True,
            _frontend=False,  # Gradio would give a busy machine three seconds to answer, and end
            run_history=False,
            inline=False,  # no other page may frame this one, and in a frame it would have no cookie
            app_kwargs={
                "routes": door.routes(queue),
                "middleware": [api, Middleware(SafeHeaders), Middleware(Sessions), Middleware(FullDisk)],
            },
        )
    except OSError as error:
        where = host if port is None else f"{host}:{port}"
        problem = "it is taken, or is no address of this machine"
        raise MachineError(f"{where} cannot be served: {problem}; give another --port or --host") from error


def launch(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    device: str = "auto",
    memory: MemorySettings | None = None,
    auth: str | None = None,
    folder: Path | None = None,
    usual: Mapping[str, Any] | None = None,
    limits: ServiceLimits | None = None,
    service: Service | None = None,
    wait: bool = True,
) -> None:
    """Serves the page and the HTTP API until Ctrl-C, or with `wait` false only until it has answered once.

    Args:
        auth: USER:PASSWORD. A page that is shared has a password in any case, which is printed if it was made here.
        folder: keeps the jobs; default: the user's folder for data.
        usual: fields of the request by name that the form starts with.
        limits: as `serving`.
        service: as `serving`.

    Raises:
        ModelError: the first model cannot be used.
        MachineError: as `serving`.
        RequestError: `auth` is not USER:PASSWORD.
    """
    protect = door.login(auth, share=share)
    place = folder or data_folder() / "studio"
    with serving(
        model,
        host=host,
        port=port,
        share=share,
        device=device,
        memory=memory,
        folder=place,
        protect=protect,
        usual=usual,
        limits=limits,
        service=service,
    ) as page:
        if protect is not None and protect.made:
            sys.stdout.write(f"Log in as {protect.user} with the password {protect.password}\n")
            sys.stdout.flush()
        tokens = f"{place / 'token'}" if service is None or service.users is None else "one of --tokens"
        sys.stdout.write(f"HTTP API at {page.local_url}v1 (token: {tokens})\n")
        sys.stdout.flush()
        if share and not page.share_url:
            sys.stderr.write("warning: there is no public link: gradio.live cannot be reached from here\n")
        if wait:
            page.block_thread()
