"""A command of the terminal face, and the parser that all commands share."""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from infinitetalk.core.errors import UsageError
from infinitetalk.core.knobs import MEMORY_CONTROLS, add_flags, given
from infinitetalk.core.memory import MemorySettings

PROGRAM = "infinitetalk"
DONE, FAILED, USER_ERROR, STOPPED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Command:
    """One word of `infinitetalk WORD`. Modules of commands stay light: heavy imports happen inside `run`."""

    name: str
    group: str
    summary: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Does the work; gives the exit code. Deliberate errors are raised, not printed."""
    usage: str = "[options]"
    example: str = ""


class Layout(argparse.RawDescriptionHelpFormatter):
    """Help in two columns, no wider than reads well."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(110, shutil.get_terminal_size().columns - 2))


class Parser(argparse.ArgumentParser):
    """Complains as the rest of the product does: by an error of one line."""

    def error(self, message: str) -> NoReturn:
        """Refuses the command line.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def refuse_unknown(self, word: str) -> NoReturn:
        """Refuses a flag or word that does not exist, with the nearest one that does.

        Raises:
            UsageError: always.
        """
        near = get_close_matches(word.partition("=")[0], sorted(self._option_string_actions), n=1)
        self.error(f"{word} is not known here" + (f"; did you mean {near[0]}" if near else ""))


def command_parser(command: Command) -> Parser:
    """The parser of one command."""
    parser = Parser(
        prog=f"{PROGRAM} {command.name}",
        usage=f"{PROGRAM} {command.name} {command.usage}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog=f"example:\n  {command.example}" if command.example else None,
        formatter_class=Layout,
        allow_abbrev=False,
        add_help=False,
    )
    command.add_flags(parser)
    parser.add_argument_group("help").add_argument("-h", "--help", action="help", help="show this text")
    return parser


def add_json_flag(section: argparse._ActionsContainer) -> None:
    """Adds `--json`."""
    section.add_argument("--json", action="store_true", help="print JSON for programs instead of text for people")


def add_device_flag(section: argparse._ActionsContainer) -> None:
    """Adds `--device`."""
    section.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps (default auto)")


def add_memory_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the settings of a run's memory."""
    add_flags(parser, MEMORY_CONTROLS)


def memory_settings(arguments: argparse.Namespace) -> MemorySettings:
    """The settings of memory that a command line names.

    Raises:
        RequestError: a value that cannot work.
    """
    return MemorySettings(**given(arguments, MEMORY_CONTROLS))
