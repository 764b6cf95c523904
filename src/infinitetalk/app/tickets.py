"""A job as the page shows it: its record, its files, and what its user calls them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from typing import Any

from infinitetalk.app.vetting import Vetting
from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.core.files import durable
from infinitetalk.core.knobs import CONTROLS, Kind, from_form
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.board import clock_text
from infinitetalk.jobs.errors import UnknownJobError
from infinitetalk.jobs.files import JobFiles
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.record import JobRecord, JobState

_NAMES = "names.json"


class RefusedError(InfiniteTalkError):
    """What the queue refused, in the user's own words for files."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Ticket:
    """A job."""

    record: JobRecord
    files: JobFiles
    ahead: int = 0
    """Jobs before this one."""

    @property
    def key(self) -> str:
        """Its number, which nobody can guess."""
        return self.record.id

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.record.state.over

    @property
    def preview(self) -> bool:
        """Whether it makes the first window only."""
        return bool(self.record.request.get("preview"))

    @property
    def has_video(self) -> bool:
        """Whether there is a file to watch and to take along."""
        return self.over and bool(self.record.made) and self.files.video.is_file()

    @property
    def names(self) -> Mapping[str, str]:
        """What the user calls each input, by its path."""
        try:
            names: dict[str, str] = json.loads((self.files.folder / _NAMES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # a job that came in by another door
        return {str(self.files.inputs / stored): name for stored, name in names.items()}

    @property
    def notes(self) -> Sequence[str]:
        """What its user should read."""
        return [*self.record.progress.notes, *(self.record.made or {}).get("advice", ())]

    def told(self, line: str) -> str:
        """A line with the user's own names in the place of this machine's."""
        return _told(line, self.files, self.names)

    @property
    def line(self) -> str:
        """Where it stands, or how it ended, in one line."""
        record, made = self.record, self.record.made
        if record.state is JobState.FAILED:
            return self.told(record.error or "it failed")
        if not self.over:
            return "being made" if record.state is JobState.RUNNING else "waiting"
        if not made:
            return "Stopped before the first window was done."
        length = f"{made['seconds']:.1f} s, {made['width']}x{made['height']}"
        if made["complete"] or record.begun:
            part = f", window 1 of {made['windows_planned']}" if record.begun else ""
            return f"{length}{part}, made in {clock_text(made['wall_seconds'])}"
        return f"Stopped: {length}; {made['windows']} of {made['windows_planned']} windows are finished and stay."

    def begins(self, request: TalkRequest) -> bool:
        """Whether what it made is the first window of a request's video, which can go on from there."""
        if not self.record.begun:
            return False
        mine = TalkRequest.from_json(self.record.request)
        return all(
            control.name == "preview"
            or _same(control.kind, getattr(mine, control.name), getattr(request, control.name))
            for control in CONTROLS
        )


def _same(kind: Kind, mine: Any, other: Any) -> bool:
    """Whether two values of a field mean the same: of files, their bytes count.

    Raises:
        OSError: a file that cannot be read.
    """
    if kind is Kind.FILES:
        return len(mine) == len(other) and all(_same(Kind.FILE, *pair) for pair in zip(mine, other, strict=True))
    if kind is not Kind.FILE or mine is None or other is None:
        return bool(mine == other)
    return mine.suffix.lower() == other.suffix.lower() and cmp(mine, other, shallow=False)


@dataclass(frozen=True, slots=True)
class Counter:
    """Where the page hands jobs in and asks after them; every call names the owner."""

    queue: JobQueue
    vetting: Vetting = field(default_factory=Vetting)

    def submit(self, owner: str, form: Mapping[str, Any]) -> Ticket:
        """Takes a form's values; what they name is copied to where no name comes from the user.

        Where the first window of just this video was made before, that job goes on.

        Raises:
            InfiniteTalkError: whatever can be refused before a weight is loaded, or a full queue.
        """
        request = from_form(form)
        try:
            self.vetting.check(form)
        except InfiniteTalkError as error:
            raise RefusedError(told_plainly(str(error), form)) from error
        if not request.preview and (begun := self._begun(request, owner)) is not None:
            return self._ticket(self.queue.go_on(begun.key, owner))
        room = self.queue.room()
        names = _names(form, room)
        try:
            with durable(room.folder / _NAMES) as fresh:
                fresh.write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")
            return self._ticket(self.queue.submit(request, owner, room=room))
        except OSError as error:
            room.remove()
            raise RefusedError(f"the server's disk cannot be written ({error.strerror}); try later") from error
        except InfiniteTalkError as error:
            given = {str(room.inputs / stored): name for stored, name in names.items()}
            raise RefusedError(told_plainly(_told(str(error), room, given), form)) from error

    def _begun(self, request: TalkRequest, owner: str) -> Ticket | None:
        """The job that made the first window of this video, if there is one."""
        try:
            return next((ticket for ticket in self.mine(owner) if ticket.begins(request)), None)
        except OSError:
            return None  # a file that cannot be read is told of by who copies it

    def _ticket(self, record: JobRecord) -> Ticket:
        ahead = self.queue.store.ahead(record.id) if record.state is JobState.QUEUED else 0
        return Ticket(record, self.queue.files(record.id), ahead)

    def find(self, key: str | None, owner: str) -> Ticket | None:
        """A job of an owner."""
        if key is None:
            return None
        try:
            return self._ticket(self.queue.get(key, owner))
        except UnknownJobError:
            return None

    def mine(self, owner: str) -> list[Ticket]:
        """An owner's jobs, the newest first."""
        return [self._ticket(record) for record in self.queue.records(owner)]


def _named(form: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Every file of a form: field, number within the field, path."""
    kinds = {control.name: control.kind for control in CONTROLS}
    found = []
    for name, value in form.items():
        if kinds.get(name) in (Kind.FILE, Kind.FILES) and value:
            paths = value if isinstance(value, list) else [value]
            found += [(name, number, str(path)) for number, path in enumerate(paths)]
    return found


def _names(form: Mapping[str, Any], room: JobFiles) -> dict[str, str]:
    return {room.input_path(field, number, Path(path).suffix).name: Path(path).name
            for field, number, path in _named(form)}  # fmt: skip


def told_plainly(line: str, form: Mapping[str, Any]) -> str:
    """A line in which a form's files are called as their user calls them."""
    for _, _, path in _named(form):
        line = line.replace(path, Path(path).name)
    return line


def _told(line: str, files: JobFiles, names: Mapping[str, str]) -> str:
    for stored, name in names.items():
        line = line.replace(stored, name).replace(Path(stored).name, name)
    return line.replace(f"{files.inputs}/", "").replace(f"{files.folder}/", "")
