"""`infinitetalk batch --ray`: the same batch on a cluster."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.batch import dry_run, end, results_path, tell
from infinitetalk.cli.command import STOPPED, memory_settings
from infinitetalk.cli.display import emit
from infinitetalk.cli.text import near_path, say
from infinitetalk.core.knobs import given

_WRITE_EVERY = 5.0
"""Seconds between two versions of the table of results."""

if TYPE_CHECKING:
    from infinitetalk.cluster.pool import Pool
    from infinitetalk.cluster.vault import Vault
    from infinitetalk.jobs.batch import Line, Outcome


def run_on_ray(arguments: argparse.Namespace) -> int:
    """Makes the videos on a cluster; exit codes as without.

    Raises:
        InfiniteTalkError: no cluster answers, or a store or device that cannot be used.
    """
    from infinitetalk.cluster.batch import Planner, check
    from infinitetalk.cluster.connection import connected
    from infinitetalk.cluster.pool import Pool
    from infinitetalk.cluster.vault import Vault
    from infinitetalk.jobs.batch import read_lines

    vault = Vault(arguments.store or str(arguments.output_folder.absolute()))
    lines = check(read_lines(arguments.jobs, Path(), given(arguments)), vault, restart=arguments.restart)
    with connected(arguments.ray), Pool(vault, arguments.device, memory_settings(arguments)) as pool:
        if not arguments.json and not arguments.quiet:
            say(f"{pool.room} workers of {pool.offer}; videos go to {vault.url}")
        if arguments.dry_run:
            return dry_run(lines, Planner(pool), arguments)
        return _run(lines, pool, vault, arguments)


def _run(lines: "Sequence[Line]", pool: "Pool", vault: "Vault", arguments: argparse.Namespace) -> int:
    from infinitetalk.cluster.batch import run
    from infinitetalk.jobs.batch import write_table

    outcomes: list[Outcome] = []
    results = results_path(arguments)
    written = time.monotonic()
    write_table(results, outcomes)  # a place that cannot be written is told before the first video is made

    def told(line: "Line", text: str) -> None:
        if arguments.json:
            emit("note", line=line.number, text=text)
        elif not arguments.quiet:
            say(f"Line {line.number}: {text}")

    try:
        for outcome in run(lines, pool, vault, told):
            outcomes.append(outcome)
            if time.monotonic() - written > _WRITE_EVERY:  # of ten thousands of lines, whose table is written anew
                write_table(results, outcomes)
                written = time.monotonic()
            tell(outcome, arguments)
            if outcome.state == "done" and not arguments.json and not arguments.quiet:
                say(f"  {len(outcomes)} of {len(lines)}: {near_path(outcome.line.output)}")
    except KeyboardInterrupt:
        say(f"Stopped after {len(outcomes)} of {len(lines)} lines; the same command goes on.")
        return STOPPED
    finally:
        write_table(results, outcomes)
        vault.put(results, results.name)
    return end(outcomes, results, arguments)
