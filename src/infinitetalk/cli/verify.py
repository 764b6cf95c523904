"""`infinitetalk verify DIR`: golden cases against this code, as a table."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.command import DONE, FAILED, Command, add_json_flag
from infinitetalk.cli.text import Cell, print_json, print_table, say
from infinitetalk.core.memory import Tier
from infinitetalk.engine.board import clock_text

if TYPE_CHECKING:
    from infinitetalk.engine.golden import CaseResult


def _add_flags(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("cases")
    section.add_argument("folder", type=Path, metavar="DIR", help="folder of golden cases, such as tests/golden")
    section.add_argument(
        "--memory",
        default=Tier.RESIDENT.value,
        choices=[tier.value for tier in Tier],
        help="where weights live meanwhile: resident (default), pinned or disk",
    )
    add_json_flag(section)


@contextmanager
def _waiting(folder: Path, *, silent: bool) -> Iterator[Callable[[str], None]]:
    """Shows what is being waited for; gives a function that says what came last."""
    if silent:
        yield lambda _: None
        return
    from rich.console import Console

    text = f"computing the cases of {folder} in float32 on the CPU"
    with Console(stderr=True).status(text) as status:
        yield lambda case: status.update(f"{text} · {case} done")


def _compute(folder: Path, tier: Tier, *, silent: bool) -> list["CaseResult"]:
    from infinitetalk.engine.golden import verify

    results = []
    with _waiting(folder, silent=silent) as told:
        for result in verify(folder, tier):
            told(result.case)
            results.append(result)
    return results


def _row(result: "CaseResult") -> tuple[Cell, ...]:
    verdict: Cell = ("pass", "green") if result.passed else ("FAIL", "bold red")
    note = "" if result.passed else result.note
    return (result.case, f"{result.error:.2e}", f"{result.bound:.0e}", f"{result.seconds:.1f}", verdict, note)


def run(arguments: argparse.Namespace) -> int:
    """Prints one row per case; exit code 1 if any fails."""
    results = _compute(arguments.folder, Tier(arguments.memory), silent=arguments.json)
    failed = sum(not result.passed for result in results)
    if arguments.json:
        print_json({"passed": not failed, "cases": [result.to_json() for result in results]})
        return FAILED if failed else DONE
    headers = ("case", "largest error", "bound", "seconds", "", "what is wrong" if failed else "")
    print_table(headers, [_row(result) for result in results], right=(1, 2, 3))
    seconds = clock_text(sum(result.seconds for result in results))
    say(f"{len(results) - failed} of {len(results)} cases pass ({seconds})")
    return FAILED if failed else DONE


COMMAND = Command(
    name="verify",
    group="look after models and the machine",
    summary="compute golden cases and compare them with the reference's numbers",
    add_flags=_add_flags,
    run=run,
    usage="DIR [options]",
    example="infinitetalk verify tests/golden",
)
