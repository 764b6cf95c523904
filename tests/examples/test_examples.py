"""Every example runs as it stands, made shorter by what is handed on to it."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from infinitetalk.cli.main import main
from tests.docs.test_blocks import read

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHORT = ("--duration", "0.4", "--device", "cpu")
VIDEOS: Mapping[str, tuple[str, ...]] = {
    "image": ("image",),
    "dubbing": ("dubbing",),
    "two_people": ("two_people",),
    "speech": ("speech",),
    "input_json": ("input_json",),
    "batch": ("first", "second"),
}
"""What each script makes."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository's root, with `infinitetalk` in `bin`, and image.sh's video."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "examples").symlink_to(EXAMPLES)
    program = folder / "bin" / "infinitetalk"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m infinitetalk "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["sh", "-eu", "examples/image.sh", *SHORT, "--quiet"]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def commands(script: Path) -> list[list[str]]:
    """A script's calls of `infinitetalk`, without their first word; it holds nothing else but comments and mkdir."""
    text = script.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    found = [line for line in lines if line and line != ["mkdir", "-p", "output"]]
    assert all(line[0] == "infinitetalk" for line in found)
    return [[word for part in line[1:] for word in (SHORT if part == "$@" else [part])] for line in found]


LONG = ("dubbing", "input_json", "two_people")
"""What these do is tested elsewhere in small; `make test` looks whether the program takes their lines."""


@pytest.mark.parametrize("name", LONG)
def test_lines_are_ones_that_the_program_takes(name: str) -> None:
    for words in commands(EXAMPLES / f"{name}.sh"):
        read(words)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.full] * (name in LONG)) for name in VIDEOS])
def test_scripts_make_their_videos(place: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """image.sh in a shell, the others here: a new process for each would load the libraries again."""
    if name == "speech" and shutil.which("espeak-ng") is None:
        pytest.skip("the program espeak-ng is not installed")
    monkeypatch.chdir(place)
    if name != "image":
        for words in commands(EXAMPLES / f"{name}.sh"):
            assert main(words) == 0
    for video in VIDEOS[name]:
        assert (place / "output" / f"{video}.mp4").stat().st_size > 5_000


def test_python_gives_arrays(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["python_api.py", "nano", "0.4"])
    runpy.run_path("examples/python_api.py")
    assert re.fullmatch(r"frames 0 to 9: \(10, \d+, \d+, 3\)\n", capsys.readouterr().out)


def test_every_example_is_run_and_listed() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.sh")}
    assert scripts == set(VIDEOS)
    assert [path.name for path in EXAMPLES.glob("*.py")] == ["python_api.py"]
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"]({path.name})" in table for path in EXAMPLES.iterdir() if path.name != "README.md")
    lines = [path.read_text(encoding="utf-8").count("\n") for path in EXAMPLES.glob("*.sh")]
    assert max(lines) <= 7, "a few lines each"
