"""`infinitetalk batch`: many videos from one file of jobs."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.command import DONE, FAILED, STOPPED, USER_ERROR, Command, memory_settings
from infinitetalk.cli.display import emit, show
from infinitetalk.cli.fits import time_text
from infinitetalk.cli.generate import add_run_flags
from infinitetalk.cli.text import BAD, GOOD, Cell, near_path, print_table, say
from infinitetalk.core.errors import RequestError
from infinitetalk.core.knobs import CONTROLS, add_flags, given
from infinitetalk.core.units import GIB

if TYPE_CHECKING:
    from infinitetalk.engine.board import Board
    from infinitetalk.engine.job import Workshop
    from infinitetalk.jobs.batch import Forecast, Line, Outcome, Planner


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", type=Path, metavar="JOBS.jsonl|JOBS.csv",
                        help="a line for each job: a request's settings by name, and its output")  # fmt: skip
    section = parser.add_argument_group("batch")
    section.add_argument("--output-folder", type=Path, default=Path(), metavar="FOLDER",
                         help="of the videos whose output is no absolute path (default: this folder)")  # fmt: skip
    section.add_argument("--results", type=Path, metavar="FILE.csv",
                         help="a table of what came of each line (default: JOBS-results.csv)")  # fmt: skip
    section.add_argument("--dry-run", action="store_true", help="check every line, print plan and cost, make nothing")
    section.add_argument("--price", type=float, metavar="X", help="of an hour of this machine, for the cost")
    cluster = parser.add_argument_group("cluster")
    cluster.add_argument("--ray", metavar="auto|ADDRESS",
                         help="make the videos on a Ray cluster: the one this machine belongs to, or an address; "
                         "local: all GPUs of this machine")  # fmt: skip
    cluster.add_argument("--store", metavar="URL", help="with --ray: where videos and finished windows go, such as "
                         "s3://BUCKET/FOLDER; every node must reach it (default: the output folder)")  # fmt: skip
    add_run_flags(parser)
    add_flags(parser, CONTROLS)


def run(arguments: argparse.Namespace) -> int:
    """Makes the videos; exit code 0, 1 if a line failed, 2 if one was refused, 130 after Ctrl-C."""
    from infinitetalk.engine.job import Workshop
    from infinitetalk.jobs.batch import check, read_lines

    if arguments.ray is not None:
        from infinitetalk.cli.batch_ray import run_on_ray

        return run_on_ray(arguments)
    if arguments.store is not None:
        raise RequestError("store", arguments.store, "is for a cluster; give --ray as well, or --output-folder alone")
    workshop = Workshop(arguments.device, memory_settings(arguments))
    lines = read_lines(arguments.jobs, arguments.output_folder, given(arguments))
    lines = check(lines, restart=arguments.restart)
    if arguments.dry_run:
        return dry_run(lines, workshop, arguments)
    return _run(lines, workshop, results_path(arguments), arguments)


def results_path(arguments: argparse.Namespace) -> Path:
    """Where the table of results goes."""
    given_path: Path | None = arguments.results
    jobs: Path = arguments.jobs
    return given_path or jobs.with_name(f"{jobs.stem}-results.csv")


def dry_run(lines: "Sequence[Line]", workshop: "Planner", arguments: argparse.Namespace) -> int:
    """Prints what each line will take; exit code 2 if one is refused."""
    told = list(_forecasts(lines, workshop))
    wrong = sum(error is not None for _, _, error in told)
    work = sum(found.work for _, found, _ in told if found is not None)
    seconds = sum(found.seconds for _, found, _ in told if found is not None)
    cost = None if arguments.price is None else work / 3600 * arguments.price
    if arguments.json:
        for line, found, error in told:
            facts = {} if found is None else {"seconds": found.seconds, "work_seconds": found.work, "ram": found.ram,
                                              "vram": found.vram, "estimate": found.estimate}  # fmt: skip
            emit("line", line=line.number, output=str(line.output), done=line.done, error=error, **facts)
        emit("plan", lines=len(lines), refused=wrong, seconds=seconds, work_seconds=work, cost=cost)
    else:
        headers = ("", "line", "output", "video", "work", "GPU GiB", "RAM GiB", "")
        print_table(headers, [_row(*one) for one in told], right=(1, 3, 4, 5, 6))
        made = f"{len(lines) - wrong} of {len(lines)} lines can be made"
        price = "" if cost is None else f", cost {cost:.2f}"
        say(f"{made}: {seconds:.1f} s of video, about {time_text(work)} of work{price}; loading is left out")
    return USER_ERROR if wrong else DONE


def _forecasts(lines: "Sequence[Line]", workshop: "Planner") -> "Iterator[tuple[Line, Forecast | None, str | None]]":
    from infinitetalk.core.errors import InfiniteTalkError
    from infinitetalk.jobs.batch import forecast

    for line in lines:
        if line.error is not None or line.done:
            yield line, None, line.error
            continue
        try:
            yield line, forecast(line, workshop), None
        except InfiniteTalkError as error:
            yield line, None, str(error)


def _row(line: "Line", found: "Forecast | None", error: str | None) -> tuple[Cell, ...]:
    begin: tuple[Cell, ...] = (GOOD if error is None else BAD, f"{line.number}", near_path(line.output))
    if found is None:
        return (*begin, "", "", "", "", (error, "yellow") if error is not None else "is there already")
    about = "~" if found.estimate else ""
    vram = f"{found.vram / GIB:.1f}"
    return (*begin, f"{found.seconds:.1f} s", about + time_text(found.work), vram, f"{found.ram / GIB:.1f}", "")


def _run(lines: "Sequence[Line]", workshop: "Workshop", results: Path, arguments: argparse.Namespace) -> int:
    from infinitetalk.engine.job import Stopped
    from infinitetalk.jobs.batch import run as run_lines
    from infinitetalk.jobs.batch import write_table

    outcomes: list[Outcome] = []
    write_table(results, outcomes)  # a place that cannot be written is told before the first video is made
    with ExitStack() as shown:

        def listen(line: "Line") -> "Board":
            if not arguments.json and not arguments.quiet:
                say(f"[{len(outcomes) + 1}/{len(lines)}] {near_path(line.output)}")
            return shown.enter_context(show(as_json=arguments.json, quiet=arguments.quiet))

        try:
            for outcome in run_lines(lines, workshop, listen):
                shown.close()
                outcomes.append(outcome)
                write_table(results, outcomes)
                tell(outcome, arguments)
        except Stopped:
            shown.close()
            say(f"Stopped after {len(outcomes)} of {len(lines)} lines; the same command goes on.")
            return STOPPED
    return end(outcomes, results, arguments)


def tell(outcome: "Outcome", arguments: argparse.Namespace) -> None:
    """Prints how a line ended."""
    line = outcome.line
    if arguments.json:
        facts = outcome.facts
        emit("line", line=line.number, output=str(line.output), state=outcome.state, error=outcome.error, made=facts)
    elif arguments.quiet:
        if outcome.state == "done":
            say(outcome.url or f"{line.output}")
    else:
        say(f"Line {line.number}: {outcome.state}{f' - {outcome.error}' if outcome.error else ''}")


def end(outcomes: "Sequence[Outcome]", results: Path, arguments: argparse.Namespace) -> int:
    """Prints how the batch ended; gives the exit code."""
    counts = {state: sum(one.state == state for one in outcomes) for state in ("done", "before", "failed", "refused")}
    if arguments.json:
        emit("batch", results=str(results), **counts)
    elif not arguments.quiet:
        words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        say(f"Results: {near_path(results)}  ({words})")
    return FAILED if counts["failed"] else USER_ERROR if counts["refused"] else DONE


COMMAND = Command(
    name="batch",
    group="make videos",
    summary="make many videos from a file of jobs",
    add_flags=_add_flags,
    run=run,
    usage="JOBS.jsonl|JOBS.csv [--dry-run] [options]",
    example="infinitetalk batch jobs.csv --output-folder videos --model nano",
)
