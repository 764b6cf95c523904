"""Listens to a job in its own thread: passes on how far it is, and stops it when it is told to."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from infinitetalk.core.stages import Stage
from infinitetalk.engine.board import Board


class Interrupted(KeyboardInterrupt):
    """Raised once, from the listener of a job that is to stop; the engine treats it as Ctrl-C."""


@dataclass(slots=True)
class Listener:
    """A `Progress` that hands everything to a board, and stops the job when it is told to."""

    board: Board
    stop: Callable[[], bool]
    first: bool = False
    """Whether the job stops after its first window; what it makes is the beginning of the whole."""
    stopped: bool = False
    more: bool = False
    """Whether there are windows after the first one."""

    @property
    def begun(self) -> bool:
        """Whether the first window was all that was wanted, and is there."""
        return self.first and self.more and self.board.windows[0] > 0

    def _look(self) -> None:
        if not self.stopped and (self.begun or self.stop()):
            self.stopped = True  # once: what closes the file must run through
            raise Interrupted

    def plan(self, units: Mapping[Stage, int]) -> None:
        """Passes the units on, or those of the first window."""
        windows = units.get(Stage.ASSEMBLY, 1) if self.first else 1
        self.more = windows > 1
        self.board.plan({stage: -(-total // windows) for stage, total in units.items()})

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Enters a stage of the board."""
        self._look()
        with self.board.stage(stage):
            yield

    def advance(self, units: int = 1) -> None:
        """Passes the units on."""
        self.board.advance(units)
        self._look()

    def skip(self, stage: Stage) -> None:
        """Passes the stage on."""
        self.board.skip(stage)

    def note(self, text: str) -> None:
        """Passes the line on."""
        self.board.note(text)
