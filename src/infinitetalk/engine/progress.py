"""Listeners to a job's progress, and a clock that gives every second of it to one stage."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from infinitetalk.core.stages import Stage


class Progress(Protocol):
    """Listens to a job. Calls arrive in the thread that iterates over the job."""

    def plan(self, units: Mapping[Stage, int]) -> None:
        """How many units each stage of the whole job has; called once, as soon as it is known."""
        ...

    def stage(self, stage: Stage) -> AbstractContextManager[None]:
        """Enters a stage: many times over, once per window say. Stages may nest; the innermost one is at work."""
        ...

    def advance(self, units: int = 1) -> None:
        """Units of the innermost stage are done."""
        ...

    def skip(self, stage: Stage) -> None:
        """This job has no use for a stage."""
        ...

    def note(self, text: str) -> None:
        """One line that the user should read: what was applied, left out or assumed."""
        ...


class StageClock:
    """A `Progress` that sums seconds per stage and passes everything on to a listener.

    Every moment between construction and now counts for exactly one stage, the innermost open one, or for `outside` if
    none is open. The engine yields a window with no stage of its own open, so what the consumer does meanwhile counts
    for whatever stage the consumer opens on the same clock.

    >>> clock = StageClock(now=iter([0.0, 1.0, 3.0, 3.5]).__next__)
    >>> with clock.stage(Stage.DENOISING):
    ...     pass
    >>> clock.seconds[Stage.DENOISING], clock.outside
    (2.0, 1.0)
    """

    def __init__(self, listener: Progress | None = None, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[Stage, float] = dict.fromkeys(Stage, 0.0)
        """Seconds per stage, up to the last change of stage."""
        self.outside = 0.0
        """Seconds in which no stage was open."""
        self.skipped: set[Stage] = set()
        self.failed: Stage | None = None
        """The innermost stage that an error ended first."""
        self._listener = listener
        self._now = now
        self._open: list[Stage] = []
        self._since = now()

    def plan(self, units: Mapping[Stage, int]) -> None:
        """Passes the units on."""
        if self._listener is not None:
            self._listener.plan(units)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Counts the time inside for `stage`, but for stages entered within."""
        self._settle()
        self._open.append(stage)
        try:
            if self._listener is None:
                yield
            else:
                with self._listener.stage(stage):
                    yield
        except Exception:
            self.failed = self.failed or stage
            raise
        finally:
            self._settle()
            self._open.pop()

    def advance(self, units: int = 1) -> None:
        """Passes the units on."""
        if self._listener is not None:
            self._listener.advance(units)

    def skip(self, stage: Stage) -> None:
        """Notes a stage that this job does not need."""
        self.skipped.add(stage)
        if self._listener is not None:
            self._listener.skip(stage)

    def note(self, text: str) -> None:
        """Passes the line on."""
        if self._listener is not None:
            self._listener.note(text)

    def _settle(self) -> None:
        """Books the time since the last change."""
        now = self._now()
        spent, self._since = now - self._since, now
        if self._open:
            self.seconds[self._open[-1]] += spent
        else:
            self.outside += spent
