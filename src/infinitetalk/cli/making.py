"""Makes videos for a command: draws its progress, says where the video is, stops cleanly on Ctrl-C."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from infinitetalk.cli.command import DONE, STOPPED
from infinitetalk.cli.display import emit, show
from infinitetalk.cli.text import command_line, near_path, say
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.board import clock_text
from infinitetalk.runtime.platform import peak_memory

if TYPE_CHECKING:
    from infinitetalk.engine.job import Made


class RunOn(NamedTuple):
    """What a job runs on."""

    device: str
    memory: MemorySettings


def make(
    request: TalkRequest,
    output: Path,
    run_on: RunOn,
    *,
    as_json: bool,
    quiet: bool,
    restart: bool = False,
    seeds: Sequence[int] = (),
    hls: Path | None = None,
) -> int:
    """Runs one job with its progress on the terminal, or one for each seed; gives the exit code.

    All are checked before the first is made. Of several seeds, videos that are there already are kept, unless all are:
    so the same command goes on after a stop, wherever that was.

    Raises:
        InfiniteTalkError: whatever the job refuses or cannot do.
    """
    from infinitetalk.engine.job import Stopped, Workshop, prepare

    try:
        workshop = Workshop(*run_on)
        jobs = by_seed(request, output, seeds)
        kept = [] if restart else done_before(jobs)
        prepared = [prepare(one, path, restart=restart, hls=hls) for one, path in jobs if path not in kept]
        for path in kept:
            _tell_kept(path, as_json=as_json, quiet=quiet)
        for job in prepared:
            with show(as_json=as_json, quiet=quiet) as board:
                made = workshop.make(job, board)
            _report(made, as_json=as_json, quiet=quiet)
    except Stopped as stop:
        _report(stop.made, as_json=as_json, quiet=quiet)
        return STOPPED
    return DONE


def by_seed(request: TalkRequest, output: Path, seeds: Sequence[int]) -> list[tuple[TalkRequest, Path]]:
    """The jobs of several seeds: talk.mp4 becomes talk-seed7.mp4."""
    if not seeds:
        return [(request, output)]
    named = [(seed, output.with_name(f"{output.stem}-seed{seed}{output.suffix}")) for seed in seeds]
    return [(replace(request, seed=seed), path) for seed, path in named]


def done_before(jobs: Sequence[tuple[TalkRequest, Path]]) -> list[Path]:
    """The videos of jobs that were begun and not all done which are complete."""
    from infinitetalk.engine.journal import made

    kept = [path for one, path in jobs if made(path, one)]
    return kept if len(kept) < len(jobs) else []


def _tell_kept(path: Path, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        emit("kept", video=str(path.absolute()))
    else:
        say(str(path) if quiet else f"Kept:    {near_path(path)}  (complete already; --restart makes it anew)")


def _report(made: "Made", *, as_json: bool, quiet: bool) -> None:
    if as_json:
        emit("done" if made.complete else "stopped", **made.to_json(), peak_memory_bytes=peak_memory())
    elif quiet:
        if made.windows:
            say(str(made.video))
    elif not made.windows:
        say("Stopped before the first window was done: there is no video yet.")
    else:
        _tell(made)


def _tell(made: "Made") -> None:
    length = f"{made.seconds:.1f} s, {made.size}, {made.frames} frames"
    if made.complete:
        say(f"Video:   {near_path(made.video)}  ({length}; made in {clock_text(made.wall)})")
    else:
        say(f"Stopped: {near_path(made.video)} holds {made.windows} of {made.planned} windows  ({length})")
        say("Go on:   the same command makes the other windows")
    for line in made.advice:
        say(f"Advice:  {line}")
    say(f"Repeat:  {command_line('generate', '--request', near_path(made.sidecar), '--output', 'again.mp4')}")
