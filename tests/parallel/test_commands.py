"""`infinitetalk generate` on several processes as a whole: stopped by Ctrl-C, gone on with, and under torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "src" / "infinitetalk" / "assets" / "demo"


def words(folder: Path, output: Path, *more: str) -> list[str]:
    files = ["--image", str(DEMO / "portrait_1.png"), "--audio", str(DEMO / "voice_1.flac"), "--output", str(output)]
    return ["generate", "--model", str(folder), *files, "--device", "cpu", "--seed", "1", "--no-provenance", *more]


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    """A process group of its own, as a terminal makes one."""
    paths = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip


def windows_in(journal: Path) -> int:
    with suppress(OSError, ValueError):
        return int(json.loads(journal.read_text())["windows"])
    return 0


def gone(group: int, seconds: float) -> bool:
    """Whether all processes of a group end within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c_and_on(tiny_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    command = ["infinitetalk", *words(tiny_folder, output, "--gpus", "2", "--duration", "1.6", "--steps", "12")]
    first = start(command)
    journal = tmp_path / "talk.mp4.job" / "journal.json"
    while not windows_in(journal) and first.poll() is None:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does, to all of them
    told, errors = first.communicate(timeout=30)
    assert (first.returncode, "Stopped:" in told) == (130, True), errors
    assert gone(first.pid, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.mp4", "talk.mp4.job", "talk.mp4.json"]
    done = windows_in(journal)
    assert done
    second = start(command)
    told, errors = second.communicate(timeout=120)
    assert (second.returncode, f"resumed at window {done}" in errors) == (0, True), errors
    assert gone(second.pid, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.mp4", "talk.mp4.json"]


@pytest.mark.full
@pytest.mark.parametrize(("more", "code"), [((), 0), (("--gpus", "4"), 2), (("--size", "7"), 2)])
def test_torchrun(tiny_folder: Path, tmp_path: Path, more: tuple[str, ...], code: int) -> None:
    output = tmp_path / "talk.mp4"
    run = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "infinitetalk"]
    process = start([*run, *words(tiny_folder, output, "--duration", "0.5", *more)])
    told, errors = process.communicate(timeout=200)
    assert output.exists() == (code == 0), errors
    assert (process.returncode == 0) == (code == 0), errors
    assert told.count("Video:") == (code == 0)
    assert errors.count("error: ") == (0 if code == 0 else 1), errors
    assert gone(process.pid, 5)
