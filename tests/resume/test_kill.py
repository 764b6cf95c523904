"""kill -9 at any moment: the same command goes on, makes at most one window twice, and ends in the same video."""

import json
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from tests.resume.conftest import WINDOWS, Case, begun, events, frames_of
from tests.starting import Started, finished

FULL = pytest.mark.full


def killed_at(case: Case, output: Path, delay: float, log: Path) -> bool:
    """Starts the job and kills it so many seconds after its first journaled window; whether it was still at work."""
    journal = output.with_name(output.name + ".job") / "journal.json"
    with Started(case.command(output), log, os.devnull) as process:
        while not journal.exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
    if not journal.exists():
        assert output.read_bytes() == case.bytes, "killed on its way out"
        return False
    return process.wait() == -9


def go_on(case: Case, output: Path, denoised: int) -> None:
    """Runs the command again and checks all that is promised."""
    journal = json.loads((output.with_name(output.name + ".job") / "journal.json").read_text())
    done = finished(case.command(output))
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert {"event": "note", "text": f"resumed at window {journal['windows']}"} in told
    assert denoised + begun(told) - WINDOWS <= 1
    np.testing.assert_array_equal(frames_of(output), case.frames)
    assert output.read_bytes() == case.bytes, "sound and all"
    assert not output.with_name(output.name + ".job").exists()
    assert not list(output.parent.glob("*.part*"))
    assert json.loads(output.with_name(output.name + ".json").read_text())["complete"] is True


@pytest.mark.parametrize("trial", [0, *(pytest.param(trial, marks=FULL) for trial in range(1, 10))])
def test_killed_at_a_random_moment(trial: int, case: Case, tmp_path: Path) -> None:
    moment = random.Random(trial).uniform(0, 1) * case.seconds
    output = tmp_path / "video.mp4"
    while not killed_at(case, output, moment, tmp_path / "log"):
        moment *= 0.7  # the job was over already
        output.unlink()
    go_on(case, output, begun(events((tmp_path / "log").read_text())))


@pytest.mark.full
def test_killed_again_and_again(case: Case, tmp_path: Path) -> None:
    """Four times in one job, each time a little later."""
    output, denoised, twice = tmp_path / "video.mp4", 0, 0
    job = tmp_path / "video.mp4.job" / "journal.json"
    for _ in range(4):
        before = json.loads(job.read_text())["windows"] if job.exists() else 0
        log = tmp_path / "log"
        with Started(case.command(output), log, os.devnull) as process:
            while process.poll() is None and (not job.exists() or json.loads(job.read_text())["windows"] <= before):
                time.sleep(0.001)
            time.sleep(0.05)
            process.kill()
        assert process.wait() == -9
        denoised += begun(events(log.read_text()))
        twice = denoised - json.loads(job.read_text())["windows"]
        assert twice <= 4, "one for each kill"
    go_on(case, output, denoised - max(0, twice - 1))


# Runs the command, but dies without a word at the n-th time that a file is moved into place.
DYING = """
import os, signal, sys
from pathlib import Path
from infinitetalk.cli.main import main
left, when = int(sys.argv[1]), sys.argv[2]
move = Path.replace
def replace(self, target):
    global left
    if Path(target).name not in ("attention.json",):
        left -= 1
    if left == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    moved = move(self, target)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return moved
Path.replace = replace
main(sys.argv[3:])
"""

# A window moves three files into place: itself, the state, the journal. The last one needs no state; behind it come the
# video, and its settings.
MOVES = [(5, "after"), (4, "before"), (4, "after"), (5, "before"), (6, "before"), (6, "after"), (35, "after")]
LAST = [(36, "before"), (36, "after"), (37, "before"), (37, "after")]


@pytest.mark.parametrize(
    ("move", "when"), [MOVES[0], *(pytest.param(*place, marks=FULL) for place in [*MOVES[1:], *LAST])]
)
def test_killed_between_any_two_files(move: int, when: str, case: Case, tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    died = finished([str(move), when, *case.command(output)], DYING)
    assert died.returncode == -9, died.stderr
    go_on(case, output, begun(events(died.stdout)))
