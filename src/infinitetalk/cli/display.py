"""Draws a job's board: a live table on a terminal, plain lines in a log, JSON lines for programs."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infinitetalk.core.stages import Stage
from infinitetalk.engine.board import Board, Row, State, clock_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MARKS: Mapping[State, tuple[str, str]] = {
    State.WAITING: ("·", "dim"),
    State.AT_WORK: ("●", "bold cyan"),
    State.PAUSED: ("●", "cyan"),
    State.DONE: ("✓", "green"),
    State.SKIPPED: ("–", "dim"),
}
"""Sign and style of a stage's state."""

BAR = 24


def emit(event: str, **facts: Any) -> None:
    """Prints one JSON line on standard output."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def footer(board: Board) -> str:
    """The line under the table: windows, time so far, time left."""
    done, total = board.windows
    parts = [f"window {min(done + 1, total)} of {total}"] if total and not board.finished else []
    parts.append(f"{clock_text(board.elapsed)} so far")
    if not board.finished:
        left = board.left
        parts.append("estimating the time left" if left is None else f"{clock_text(left)} left")
    return " · ".join(parts)


def _bar(row: Row, state: State) -> str:
    if state is State.SKIPPED or row.total < 2:
        return ""
    full = round(BAR * min(1.0, row.done / row.total))
    style = "green" if state is State.DONE else "cyan"
    return f"[{style}]{'━' * full}[/][bright_black]{'─' * (BAR - full)}[/] {row.done}/{row.total}"


def stage_table(board: Board) -> "Table":
    """The seven stages with their state, bar and seconds."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    caption = Text("\n".join([footer(board), *board.notes]))
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column(width=1)
    table.add_column(min_width=20)
    table.add_column(min_width=BAR + 8)
    table.add_column(justify="right", min_width=9)
    for row in board.rows.values():
        state = board.state(row.stage)
        mark, style = MARKS[state]
        spent = "skipped" if state is State.SKIPPED else "" if state is State.WAITING else _spent(board, row.stage)
        table.add_row(f"[{style}]{mark}[/]", f"[{style}]{row.stage.value}[/]", _bar(row, state), f"[dim]{spent}[/]")
    return table


def _spent(board: Board, stage: Stage) -> str:
    return clock_text(board.seconds(stage))


@dataclass(slots=True)
class _Live:
    """A renderable that asks the board anew on every refresh, so that seconds run on during a long step."""

    board: Board

    def __rich__(self) -> "Table":
        return stage_table(self.board)


@contextmanager
def _terminal(console: "Console") -> Iterator[Board]:
    from rich.live import Live

    board = Board()
    with Live(_Live(board), console=console, refresh_per_second=8):
        yield board
        board.finish()


def _line_writer() -> Callable[[Board], None]:
    """Prints a line when a stage begins for the first time and when a window is done."""
    seen: set[Stage] = set()
    told = [0]
    noted = [0]

    def changed(board: Board) -> None:
        for note in board.notes[noted[0] :]:
            sys.stderr.write(f"[{clock_text(board.elapsed):>8}] {note}\n")
        noted[0] = len(board.notes)
        stage = board.at_work
        if stage is not None and stage not in seen:
            seen.add(stage)
            sys.stderr.write(f"[{clock_text(board.elapsed):>8}] {stage.value}\n")
        done, total = board.windows
        if done > told[0]:
            told[0] = done
            left = "" if done == total else f", {clock_text(board.left or 0.0)} left"
            sys.stderr.write(f"[{clock_text(board.elapsed):>8}] window {done} of {total} done{left}\n")
        sys.stderr.flush()

    return changed


def _json_writer() -> Callable[[Board], None]:
    """Prints a line whenever a unit of a stage is done."""
    told: dict[Stage, int] = {}
    noted = [0]

    def changed(board: Board) -> None:
        for note in board.notes[noted[0] :]:
            emit("note", text=note)
        noted[0] = len(board.notes)
        for row in board.rows.values():
            if row.done != told.get(row.stage, 0):
                told[row.stage] = row.done
                left = None if board.left is None else round(board.left, 2)
                emit("progress", stage=row.stage.value, done=row.done, total=row.total, seconds_left=left)

    return changed


@contextmanager
def show(*, as_json: bool, quiet: bool) -> Iterator[Board]:
    """Gives the board to report to, and draws it while the block runs."""
    if quiet:
        yield Board()
    elif as_json:
        board = Board(changed=_json_writer())
        yield board
        board.finish()
    elif sys.stderr.isatty():
        from rich.console import Console

        with _terminal(Console(stderr=True)) as board:
            yield board
    else:
        board = Board(changed=_line_writer())
        yield board
        board.finish()
        write_stages(board)


def write_stages(board: Board) -> None:
    """Prints the stages with their seconds as plain text, for logs."""
    for row in board.rows.values():
        spent = "skipped" if row.skipped else clock_text(row.seconds)
        sys.stderr.write(f"  {row.stage.value:<20} {spent:>9}\n")
    sys.stderr.flush()
