"""Progress in a cell: one line with a bar that is drawn anew; in a log, lines as on any terminal."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from infinitetalk.cli.text import size_text
from infinitetalk.engine.board import Board, clock_text
from infinitetalk.weights.hub.store import Held

SECONDS = 0.5
"""Between two drawings."""


class Bar:
    """A bar and a line of text below the cell."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        from IPython import display

        page: Any = display  # it has no types
        self._html = page.HTML
        self._now = now
        self._drawn = -SECONDS
        self._handle = page.display(page.HTML(""), display_id=True)

    def draw(self, share: float, text: str, *, always: bool = False) -> None:
        """Shows a share from 0 to 1 and a line, unless the last drawing was just now."""
        if not always and self._now() - self._drawn < SECONDS:
            return
        self._drawn = self._now()
        bar = f'<progress style="width: 20em" value="{min(1.0, share):.3f}" max="1"></progress>'
        self._handle.update(self._html(f"{bar} {escape(text)}"))


class Download:
    """Watches a download of several files."""

    def __init__(self, files: Sequence[Held], bar: Bar | None = None) -> None:
        self._bar = bar or Bar()
        self._total = max(1, sum(held.entry.size for held in files))
        self._before = 0

    def begin(self, held: Held, here: int) -> None:
        """A file is next, of which some bytes are here."""
        self._tell(held, here)

    def move(self, held: Held, here: int) -> None:
        """So many of its bytes are here."""
        self._tell(held, here)

    def end(self, held: Held) -> None:
        """It is whole."""
        self._before += held.entry.size
        self._tell(held, 0, always=self._before >= self._total)

    def _tell(self, held: Held, here: int, *, always: bool = False) -> None:
        done = self._before + here
        text = f"{size_text(done)} of {size_text(self._total)} · {held.entry.short}"
        self._bar.draw(done / self._total, text, always=always)


@contextmanager
def board() -> Iterator[Board]:
    """Gives the board of a job, and draws it while the block runs."""
    bar, noted = Bar(), [0]

    def changed(told: Board) -> None:
        for note in told.notes[noted[0] :]:
            print(note)  # noqa: T201 (a cell's output)
        noted[0] = len(told.notes)
        if told.at_work is not None:
            left = "" if told.left is None else f" · {clock_text(told.left)} left"
            done, total = told.windows
            window = f" · window {min(done + 1, total)} of {total}" if total else ""
            bar.draw(told.fraction, f"{told.at_work.value}{window}{left}")

    shown = Board(changed=changed)
    yield shown
    shown.finish()
    bar.draw(1.0, f"done in {clock_text(shown.elapsed)}", always=True)
