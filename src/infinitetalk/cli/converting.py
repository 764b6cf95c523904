"""Draws a conversion: a bar on a terminal, plain lines in a log, JSON lines for programs."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infinitetalk.cli.display import emit
from infinitetalk.cli.text import size_text
from infinitetalk.engine.board import clock_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from infinitetalk.weights.convert.write import Watcher

LOG_SECONDS, JSON_SECONDS = 10.0, 1.0
EARLY = 0.01
"""Share of the work after which the time left can be told."""
BAR = 24


class Pace:
    """How far a conversion is, and how long it will still take."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._before, self.total, self.done = 0, 1, 0

    def begin(self, total: int, done: int) -> None:
        """Bytes in all, and those of an earlier try, which say nothing of this one's pace."""
        self._start = time.monotonic()
        self.total, self.done, self._before = max(total, 1), done, done

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float | None:
        """Seconds to come; None while nobody can tell."""
        share = (self.done - self._before) / max(self.total - self._before, 1)
        return None if share < EARLY else self.spent * (1 / share - 1)


class _Bar:
    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, total: int, done: int, /) -> None:
        self._task = self._progress.add_task("", total=total, completed=done)

    def move(self, what: str, done: int, /) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, description=what)


class _Lines:
    """A line at the beginning, and one every ten seconds."""

    def __init__(self) -> None:
        self._pace, self._told = Pace(), 0.0

    def begin(self, total: int, done: int, /) -> None:
        self._pace.begin(total, done)
        self._told = time.monotonic()
        before = f", {size_text(done)} of it by an earlier try" if done else ""
        sys.stderr.write(f"writing {size_text(total)}{before}\n")

    def move(self, what: str, done: int, /) -> None:
        self._pace.done = done
        if time.monotonic() - self._told >= LOG_SECONDS:
            self._told = time.monotonic()
            left = "" if self._pace.left is None else f", {clock_text(self._pace.left)} left"
            of = f"{size_text(done)} of {size_text(self._pace.total)}"
            sys.stderr.write(f"[{clock_text(self._pace.spent):>8}] {of}, {what}{left}\n")
            sys.stderr.flush()


class _Json:
    """An event at the beginning, once a second, and at the end."""

    def __init__(self) -> None:
        self._pace, self._told = Pace(), 0.0

    def begin(self, total: int, done: int, /) -> None:
        self._pace.begin(total, done)
        emit("begin", total=total, done=done)

    def move(self, what: str, done: int, /) -> None:
        self._pace.done = done
        if time.monotonic() - self._told >= JSON_SECONDS or done == self._pace.total:
            self._told = time.monotonic()
            left = None if self._pace.left is None else round(self._pace.left, 2)
            emit("progress", what=what, done=done, total=self._pace.total, seconds_left=left)


@contextmanager
def show_conversion(*, as_json: bool) -> Iterator["Watcher"]:
    """Gives the watcher to report to, and draws what it is told while the block runs."""
    if as_json:
        yield _Json()
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("  [cyan]●[/] {task.description:<16}"),
            BarColumn(bar_width=BAR),
            DownloadColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        with Progress(*columns, console=Console(stderr=True), refresh_per_second=4, transient=True) as progress:
            yield _Bar(progress)
    else:
        yield _Lines()
