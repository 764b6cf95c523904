"""The studio: what the page's buttons do. Everything about videos happens at the desk and below."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from infinitetalk.app import door, places, telling, widgets
from infinitetalk.app.banner import Machine
from infinitetalk.app.player import watching
from infinitetalk.app.tickets import Counter, Ticket, told_plainly
from infinitetalk.core.errors import InfiniteTalkError, RequestError
from infinitetalk.core.knobs import CONTROLS, Kind, from_form
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.layout import layout
from infinitetalk.media.inputs import Picture
from infinitetalk.weights.folder import ModelFolder

View = tuple[Any, ...]
"""Values of what shows a job: key, seen, progress, outcome, player, gallery, stop button, timer."""

OWN_PATHS = ("encoder", "loras")
"""Fields by which a user may name files of this machine."""


@dataclass(frozen=True, slots=True)
class Studio:
    """The page's answers. One for all sessions: what belongs to a session is found by its owner."""

    jobs: Counter
    machine: Machine
    names: tuple[str, ...]
    """Field names of the values that the form sends, in its order."""
    uploads: Path
    """Where the page may take files from to show them."""
    local: bool = True
    """Whether only this machine's own user can come in, who may name files of it."""
    usual: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the form starts with, chosen by who serves the page."""

    def make(self, request: gr.Request, preview: bool, *values: Any) -> View:
        """Puts a job into the queue, and shows it."""
        owner = self._owner(request)
        try:
            form = self._form(values)
            ticket = self.jobs.submit(owner, {**form, **({"preview": True} if preview else {})})
        except InfiniteTalkError as error:
            gr.Warning(str(error), title="This cannot be made")
            return (gr.skip(), gr.skip(), "", telling.refusal(str(error)), *(gr.skip() for _ in range(4)))
        return self._view(ticket.key, owner)

    def _form(self, values: Sequence[Any]) -> dict[str, Any]:
        form = widgets.collect(self.names, values)
        if not self.local:
            for name in OWN_PATHS:
                self._require_public(name, form.get(name))
        return form

    def _require_public(self, name: str, value: Any) -> None:
        """Refuses to look for files of this machine for somebody elsewhere, but for those of its own user's choice."""
        usual = {control.name: control.default for control in CONTROLS}[name]
        if value in (None, "", usual, "english", "chinese", *self._offered(name)):
            return
        raise RequestError(name, value, "files of the server cannot be named from elsewhere; leave it as it was")

    def _offered(self, name: str) -> list[Any]:
        return [widgets.filled_one(name, self.usual[name])] if name in self.usual else []

    def _owner(self, request: gr.Request) -> str:
        return door.owner_of(request.cookies, request.session_hash)

    def _view(self, key: str | None, owner: str) -> View:
        """Everything that shows a job, and the session's gallery."""
        return self._drawn(key, self.jobs.mine(owner))

    def _drawn(self, key: str | None, mine: Sequence[Ticket]) -> View:
        """That of one look at the session's jobs.

        All of it tells of the same moment: a job that ended between two looks would be shown at work, and the page,
        for which all is over, would not look again.
        """
        ticket = _of(key, mine)
        over = ticket is None or ticket.over
        return (
            None if ticket is None else ticket.key,
            {"view": self._seen(ticket, mine), "share": 0.0},
            telling.progress(ticket, 0.0 if ticket is None else ticket.record.progress.fraction),
            telling.outcome(ticket),
            watching(ticket),
            telling.cards(mine),
            gr.update(visible=not over),
            gr.update(active=any(not one.over for one in mine)),
        )

    def _seen(self, ticket: Ticket | None, mine: Sequence[Ticket]) -> list[Any]:
        """What a page shows besides the progress: it is drawn again only if this changes."""
        return [watching(ticket), [[one.key, one.record.state.value] for one in mine]]

    def look(self, request: gr.Request, key: str | None, seen: dict[str, Any] | None) -> View:
        """Shows what has changed since the last look."""
        mine = self.jobs.mine(self._owner(request))
        ticket = _of(key, mine)
        view = self._seen(ticket, mine)
        if seen is None or view != seen["view"]:
            return self._drawn(key, mine)
        # The bar never goes back, though estimates of what is left may grow.
        share = max(seen["share"], 0.0 if ticket is None else ticket.record.progress.fraction)
        shown = telling.progress(ticket, share)
        return (gr.skip(), {"view": view, "share": share}, shown, *(gr.skip() for _ in range(5)))

    def arrive(self, request: gr.Request) -> View:
        """What a page shows that was just opened: the session's job at work, or its newest."""
        mine = self.jobs.mine(self._owner(request))
        running = [ticket for ticket in reversed(mine) if not ticket.over]
        newest = next(iter(running or mine), None)
        return self._drawn(None if newest is None else newest.key, mine)

    def stop(self, request: gr.Request, key: str | None) -> View:
        """Ends the job that is shown."""
        owner = self._owner(request)
        ticket = self.jobs.find(key, owner)
        if ticket is not None:
            self.jobs.queue.cancel(ticket.key, owner)
        return self._view(key, owner)

    def act(self, request: gr.Request, key: str | None, event: gr.EventData) -> tuple[Any, ...]:
        """Does what a card's button says; gives the view, then the form."""
        owner = self._owner(request)
        what, ticket = getattr(event, "act", ""), self.jobs.find(getattr(event, "key", None), owner)
        form: list[Any] = [gr.skip() for _ in self.names]
        if ticket is None:
            return (*self._view(key, owner), *form)
        shown: str | None = key
        try:
            if what == "again":
                form = self._again(ticket)
            elif what == "on":
                self.jobs.queue.go_on(ticket.key, owner)
                shown = ticket.key
            elif what == "remove":
                self.jobs.queue.remove(ticket.key, owner)
                shown = None if ticket.key == key else key
            elif what == "watch":
                shown = ticket.key
        except InfiniteTalkError as error:
            gr.Warning(str(error))
        return (*self._view(shown, owner), *form)

    def _again(self, ticket: Ticket) -> list[Any]:
        """The form as it was, with copies of its files."""
        request = TalkRequest.from_json(ticket.record.request)
        folder = Path(tempfile.mkdtemp(dir=self.uploads))
        copied = {stored: self._copy(Path(stored), name, folder) for stored, name in ticket.names.items()}
        values = widgets.filled(self.names, replace(request, preview=False))
        kinds = [widgets.BY_NAME[name].kind for name in self.names]
        return [
            _renamed(value, copied) if kind in (Kind.FILE, Kind.FILES) else value
            for kind, value in zip(kinds, values, strict=True)
        ]

    @staticmethod
    def _copy(stored: Path, name: str, folder: Path) -> str:
        place = folder / stored.stem / Path(name).name
        place.parent.mkdir()
        return str(shutil.copyfile(stored, place))

    def estimate(self, *values: Any) -> str:
        """What the form's video would take, or what it lacks; nothing before there is a source and a sound."""
        form = widgets.collect(self.names, values)
        if not (form.get("image") or form.get("video")) or not (form.get("audio") or form.get("text")):
            return ""
        try:
            request = from_form(self._form(values))
            self.jobs.vetting.check(form)
            return f'<p class="estimate">{self.machine.expect(request).line}</p>'
        except InfiniteTalkError as error:
            return f'<p class="estimate hint">{escape(told_plainly(str(error), form))}</p>'

    def _frame(self, image: str | None, video: str | None) -> Picture | None:
        self.jobs.vetting.check({"image": image, "video": video})
        return places.first_frame(image, video)

    def frame(self, image: str | None, video: str | None, boxes: str) -> Any:
        """The first frame of the source, for the editor of boxes."""
        try:
            return places.shown(self._frame(image, video), boxes or "")
        except InfiniteTalkError:
            return places.shown(None)  # the estimate tells

    def faces(self, image: str | None, video: str | None) -> tuple[Any, Any]:
        """Boxes around the faces of the source: for the editor and for the form."""
        try:
            frame = self._frame(image, video)
            found = "" if frame is None else places.faces(frame)
        except InfiniteTalkError as error:
            gr.Warning(str(error))
            return gr.skip(), gr.skip()
        if not found:
            gr.Warning("No face was found: draw a box around each person." if frame is not None else "Give a picture.")
            return gr.skip(), gr.skip()
        return gr.update(value=found), found

    def people(self, *values: Any) -> Any:
        """The picture of who is where and what is cut."""
        try:
            form = self._form(values)
            request = from_form(form)
            self.jobs.vetting.check(form)
            shown = layout(request)
        except InfiniteTalkError as error:
            form = widgets.collect(self.names, values)
            gr.Warning(told_plainly(str(error), form), title="This cannot be shown")
            return gr.update(visible=False)
        if shown.note:
            gr.Info(shown.note)
        return gr.update(value=shown.picture, visible=True)

    def fit(self, model: str) -> list[Any]:
        """The banner and the widgets of a model."""
        facts = ModelFolder.open(model).facts
        return [self.machine.banner(model), *widgets.fitted(self.names[1:], facts, self.usual)]


def _of(key: str | None, tickets: Sequence[Ticket]) -> Ticket | None:
    return next((ticket for ticket in tickets if ticket.key == key), None)


def _renamed(value: Any, copied: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [copied.get(path, path) for path in value]
    return copied.get(value, value) if isinstance(value, str) else value
