"""`infinitetalk COMMAND`: finds the command, runs it, turns errors into one line and an exit code."""

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from itertools import groupby

from infinitetalk.cli import (
    app,
    batch,
    bench,
    convert,
    demo,
    doctor,
    download,
    evaluate,
    generate,
    inspect,
    live,
    models,
    people,
    serve,
    verify,
    verify_media,
)
from infinitetalk.cli.command import DONE, PROGRAM, STOPPED, USER_ERROR, Command, command_parser
from infinitetalk.cli.display import emit
from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.core.ranks import started_by_torchrun
from infinitetalk.core.telemetry import switch_off
from infinitetalk.core.version import own_version

COMMANDS: tuple[Command, ...] = (
    demo.COMMAND,
    generate.COMMAND,
    live.COMMAND,
    people.COMMAND,
    batch.COMMAND,
    app.COMMAND,
    serve.COMMAND,
    download.COMMAND,
    convert.COMMAND,
    models.COMMAND,
    inspect.COMMAND,
    verify.COMMAND,
    verify_media.COMMAND,
    evaluate.COMMAND,
    doctor.COMMAND,
    bench.COMMAND,
)
"""All commands, in the order of the help text; neighbours of one group stand under its heading."""


def overview() -> str:
    """The text of `infinitetalk --help`."""
    lines = ["Talking videos of any length from a portrait or a video and a voice.", ""]
    lines += [f"usage: {PROGRAM} COMMAND [options]"]
    for group, members in groupby(COMMANDS, key=lambda command: command.group):
        lines += ["", f"{group}:"]
        lines += [f"  {command.name:<12}  {command.summary}" for command in members]
    lines += ["", "options:", "  -h, --help  show this text", "  --version   show the version"]
    lines += ["", f"Start with:  {PROGRAM} demo", f"Every command explains itself:  {PROGRAM} generate --help"]
    return "\n".join(lines) + "\n"


def _find(word: str) -> Command | None:
    return next((command for command in COMMANDS if command.name == word), None)


def _run(command: Command, words: Sequence[str]) -> int:
    parser = command_parser(command)
    try:
        arguments, unknown = parser.parse_known_args(words)
        if unknown:
            parser.refuse_unknown(unknown[0])
        return command.run(arguments)
    except InfiniteTalkError as error:
        if "--json" in words:
            emit("error", message=str(error), exit_code=error.exit_code, **error.facts)
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return STOPPED


def _survive_old_terminals() -> None:
    """Lets a terminal that lacks a character show a question mark instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns: 0 done, 1 the machine could not or a check failed, 2 something given was wrong, 130 stopped by Ctrl-C.
    """
    _survive_old_terminals()
    switch_off()
    try:
        place = started_by_torchrun()
    except InfiniteTalkError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    if place is not None and place.rank:
        from infinitetalk.engine.worker import serve_torchrun

        return serve_torchrun(place)
    code = _main(argv)
    if place is not None and code == DONE:
        from infinitetalk.engine.crew import release_torchrun

        release_torchrun()
    return code


def _main(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"] and len(words) > 1:
        words = [words[1], "--help"]
    word = words[0] if words else "--help"
    if word in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return DONE
    if word == "--version":
        sys.stdout.write(f"{PROGRAM} {own_version()}\n")
        return DONE
    command = _find(word)
    if command is None:
        known = ", ".join(command.name for command in COMMANDS)
        sys.stderr.write(f"error: {word} is no command; there are {known}\n")
        return USER_ERROR
    try:
        return _run(command, words[1:])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else USER_ERROR
