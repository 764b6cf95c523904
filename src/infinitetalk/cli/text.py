"""What commands print: tables, JSON, sizes, and command lines that work when pasted."""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infinitetalk.cli.command import PROGRAM
from infinitetalk.core.errors import UsageError

Cell = str | tuple[str, str]
"""Text, or text with its style."""

GOOD: Cell = ("✓", "green")
BAD: Cell = ("✗", "bold red")


def say(line: str = "") -> None:
    """Prints one line on standard output."""
    sys.stdout.write(line + "\n")


def print_json(value: Any) -> None:
    """Prints one JSON value, indented."""
    say(json.dumps(value, indent=2))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Sequence[int] = ()) -> None:
    """Prints rows under headers (none, if all headers are empty); columns in `right` hold numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    titled = any(headers)
    table = Table(box=box.SIMPLE_HEAD if titled else None, pad_edge=not titled, show_header=titled)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else Text(cell[0], style=cell[1]) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, width=width).print(table)


def size_text(count: float) -> str:
    """A number of bytes as people read it.

    >>> size_text(30_500_000)
    '30.5 MB'
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def confirm(question: str, *, default: bool) -> bool:
    """Asks a person; an empty answer means the default.

    Raises:
        UsageError: nobody is there to be asked.
    """
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; add --yes to go ahead")
    sys.stdout.write(f"{question} [{'Y/n' if default else 'y/N'}] ")
    sys.stdout.flush()
    answer = sys.stdin.readline().strip().lower()
    return answer in ("y", "yes") if answer else default


def near_path(path: Path) -> str:
    """A path as short as it can be typed from the current folder."""
    full = path.absolute()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(full)


def program() -> str:
    """How this program is called from the user's shell, as it was called now."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == PROGRAM:
        return f"{shlex.quote(sys.executable)} -m {PROGRAM}"
    found = shutil.which(PROGRAM)
    if found is not None and Path(found).resolve() == called.resolve():
        return PROGRAM
    return shlex.quote(near_path(called)) if called.stem == PROGRAM else PROGRAM


def command_line(*words: object) -> str:
    """A command of this program that works when pasted."""
    return " ".join([program(), *(shlex.quote(str(word)) for word in words)])
