"""Draws a download: bars on a terminal, plain lines in a log, JSON lines for programs."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infinitetalk.cli.display import emit
from infinitetalk.cli.text import size_text
from infinitetalk.engine.board import clock_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from infinitetalk.weights.hub.download import Watcher
    from infinitetalk.weights.hub.store import Held

LOG_SECONDS = 30.0
JSON_SECONDS = 1.0
BAR = 18
MOST_NAME, LEAST_NAME, BESIDE_NAME = 44, 12, 58
"""Columns of a file's name, at most and at least, and of what stands beside it."""


class _Bars:
    """One bar for the file that is under way, one for all of them; finished files stay as lines above."""

    def __init__(self, progress: "Progress", total: int, verb: str) -> None:
        self._progress = progress
        self._altogether = progress.add_task(_fit(verb), total=total)
        self._task: TaskID | None = None
        self._before = 0

    def begin(self, held: "Held", here: int) -> None:
        self._task = self._progress.add_task(_fit(held.entry.short), total=held.entry.size, completed=here)

    def move(self, _held: "Held", here: int, /) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=here)
        self._progress.update(self._altogether, completed=self._before + here)

    def end(self, held: "Held") -> None:
        self._before += held.entry.size
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._progress.console.print(
            f"  [green]✓[/] {_fit(held.entry.short)} [dim]{size_text(held.entry.size):>9}[/]",
            highlight=False,
        )


class _Lines:
    """A line when a file begins, every half minute, and when it is whole."""

    def __init__(self, files: Sequence["Held"]) -> None:
        self._files = list(files)
        self._start = self._told = time.monotonic()

    def _say(self, text: str) -> None:
        sys.stderr.write(f"[{clock_text(time.monotonic() - self._start):>8}] {text}\n")
        sys.stderr.flush()

    def begin(self, held: "Held", here: int) -> None:
        number = self._files.index(held) + 1
        left = f", {size_text(here)} of it here" if here else ""
        self._say(f"{number} of {len(self._files)}: {held.entry.short} ({size_text(held.entry.size)}{left})")
        self._told = time.monotonic()

    def move(self, held: "Held", here: int) -> None:
        if time.monotonic() - self._told >= LOG_SECONDS:
            self._told = time.monotonic()
            self._say(f"  {size_text(here)} of {size_text(held.entry.size)}")

    def end(self, held: "Held") -> None:
        """Says nothing: the next file's line follows."""


class _Json:
    """An event when a file begins, once a second, and when it is whole."""

    def __init__(self) -> None:
        self._told = 0.0

    def _emit(self, held: "Held", here: int) -> None:
        self._told = time.monotonic()
        emit("progress", file=held.entry.name, repository=held.entry.repository, done=here, total=held.entry.size)

    def begin(self, held: "Held", here: int) -> None:
        self._emit(held, here)

    def move(self, held: "Held", here: int) -> None:
        if time.monotonic() - self._told >= JSON_SECONDS:
            self._emit(held, here)

    def end(self, held: "Held") -> None:
        self._emit(held, held.entry.size)


def _fit(name: str) -> str:
    """A name as wide as its column; of a longer one the end, which tells kinds apart."""
    width = max(LEAST_NAME, min(MOST_NAME, shutil.get_terminal_size().columns - BESIDE_NAME))
    return f"{name if len(name) <= width else '…' + name[1 - width :]:<{width}}"


@contextmanager
def show_transfer(files: Sequence["Held"], *, as_json: bool, verb: str = "altogether") -> Iterator["Watcher"]:
    """Gives the watcher to report to, and draws what it is told while the block runs."""
    if as_json:
        yield _Json()
    elif sys.stderr.isatty():
        with _terminal()() as progress:
            yield _Bars(progress, sum(held.entry.size for held in files), verb)
    else:
        yield _Lines(files)


def _terminal() -> Callable[[], "Progress"]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("  [cyan]●[/] {task.description}"),
        BarColumn(bar_width=BAR),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return lambda: Progress(*columns, console=Console(stderr=True), refresh_per_second=4, transient=True)
