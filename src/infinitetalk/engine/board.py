"""How far a job is, as numbers that any face can draw: units, seconds and time left for each of the seven stages."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from infinitetalk.core.stages import Stage


class State(Enum):
    """Where a stage stands."""

    WAITING = "waiting"
    AT_WORK = "at work"
    PAUSED = "paused"
    DONE = "done"
    SKIPPED = "skipped"


@dataclass(slots=True)
class Row:
    """One stage of the board."""

    stage: Stage
    total: int = 0
    done: int = 0
    seconds: float = 0.0
    """Seconds spent in this stage, up to the last change."""
    first: float = 0.0
    """The part of `seconds` before the plan was known: loading and such, which no later unit will take again."""
    paid: float = 0.0
    """The part of `seconds` that finished units took, and `first`."""
    skipped: bool = False

    @property
    def left(self) -> float:
        """Seconds that the missing units will take at the pace so far; 0 while the pace is unknown."""
        if not self.done or self.done >= self.total:
            return 0.0
        expected = (self.total - self.done) * max(0.0, self.paid - self.first) / self.done
        return max(0.0, expected - (self.seconds - self.paid))


@dataclass(slots=True)
class Board:
    """A `Progress` that remembers. `changed`, if given, is called after every change."""

    changed: Callable[["Board"], None] | None = None
    now: Callable[[], float] = time.perf_counter
    rows: dict[Stage, Row] = field(default_factory=lambda: {stage: Row(stage) for stage in Stage})
    started: float = field(init=False)
    finished: bool = False
    notes: list[str] = field(default_factory=list)
    """What the user should read, in the order in which it came up."""
    _open: list[Stage] = field(default_factory=list)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self._since = self.now()

    def plan(self, units: Mapping[Stage, int]) -> None:
        """Takes the units of each stage."""
        self._settle()
        for stage, total in units.items():
            row = self.rows[stage]
            row.total, row.first = total, row.seconds
        self._tell()

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Counts the time inside for `stage`, but for stages entered within."""
        self._settle()
        self._open.append(stage)
        self._tell()
        try:
            yield
        finally:
            self._settle()
            self._open.pop()
            self._tell()

    def advance(self, units: int = 1) -> None:
        """Counts finished units of the innermost stage."""
        self._settle()
        if self._open:
            row = self.rows[self._open[-1]]
            row.done += units
            row.paid = row.seconds
        self._tell()

    def skip(self, stage: Stage) -> None:
        """Marks a stage that this job does not need."""
        self.rows[stage].skipped = True
        self._tell()

    def note(self, text: str) -> None:
        """Takes a line for the user."""
        self.notes.append(text)
        self._tell()

    def finish(self) -> None:
        """Says that the job is over: nothing is left, and a stage that was at work is done."""
        self.finished = True
        self._tell()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.now() - self.started

    @property
    def at_work(self) -> Stage | None:
        """The innermost open stage."""
        return self._open[-1] if self._open else None

    @property
    def windows(self) -> tuple[int, int]:
        """Finished windows and their number; (0, 0) before the plan is known."""
        row = self.rows[Stage.ASSEMBLY]
        return row.done, row.total

    @property
    def left(self) -> float | None:
        """Seconds left; None before the first denoising step is done."""
        if self.finished:
            return 0.0
        if not self.rows[Stage.DENOISING].done:
            return None
        running = self.now() - self._since if self._open else 0.0
        return max(0.0, sum(row.left for row in self.rows.values()) - running)

    @property
    def fraction(self) -> float:
        """How much of the job is done, by time, 0 to 1."""
        left = self.left
        return 0.0 if left is None else self.elapsed / max(self.elapsed + left, 1e-9)

    def state(self, stage: Stage) -> State:
        """Where one stage stands."""
        row = self.rows[stage]
        if row.skipped:
            return State.SKIPPED
        if stage is self.at_work:
            return State.AT_WORK
        if row.seconds and (self.finished or row.done >= row.total):
            return State.DONE
        return State.PAUSED if row.seconds else State.WAITING

    def seconds(self, stage: Stage) -> float:
        """Seconds spent in a stage up to this moment."""
        running = self.now() - self._since if stage is self.at_work else 0.0
        return self.rows[stage].seconds + running

    def _settle(self) -> None:
        now = self.now()
        if self._open:
            self.rows[self._open[-1]].seconds += now - self._since
        self._since = now

    def _tell(self) -> None:
        if self.changed is not None:
            self.changed(self)


def clock_text(seconds: float) -> str:
    """A duration as people read it.

    >>> clock_text(3.21), clock_text(75), clock_text(3700)
    ('3.2 s', '1:15', '1:01:40')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
