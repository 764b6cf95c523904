"""A job of twelve windows with `tiny`, and processes that make it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.faces.conftest import write_portrait, write_voice
from tests.starting import finished

WINDOWS, STEPS = 12, 6


def frames_of(video: Path) -> NDArray[np.uint8]:
    """All decoded frames."""
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@dataclass(frozen=True)
class Case:
    """One job, which every test makes at an output of its own."""

    words: tuple[str, ...]
    frames: NDArray[np.uint8]
    """Of the run that nobody interrupted."""
    bytes: bytes
    seconds: float
    """From its first journaled window to its end."""

    def command(self, output: Path, *more: object) -> list[str]:
        """What a shell runs, behind the program's name."""
        return ["generate", *self.words, "--output", str(output), "--json", *map(str, more)]


def events(text: str) -> list[dict[str, Any]]:
    """The lines of `--json`; a last one that a kill cut is left out."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def begun(told: list[dict[str, Any]]) -> int:
    """Windows whose denoising was begun, by steps that were told."""
    steps = [event["done"] for event in told if event["event"] == "progress" and event["stage"] == "denoising (DiT)"]
    return -(-max(steps, default=0) // STEPS)


@pytest.fixture(scope="session")
def case(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The job and its uninterrupted result."""
    folder = tmp_path_factory.mktemp("resume")
    picture, sound = write_portrait(folder / "portrait.png"), write_voice(folder / "voice.wav", 4)
    inputs = ["--model", str(tiny_folder), "--image", str(picture), "--audio", str(sound)]
    # A signed file names the moment at which it was signed.
    words = (*inputs, "--no-provenance", "--device", "cpu", "--steps", str(STEPS))
    output = folder / "whole.mp4"
    case = Case(words, np.zeros(0, np.uint8), b"", 0.0)
    done = finished(case.command(output))
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert begun(told) == WINDOWS
    seconds = sum(told[-1]["stage_seconds"][name] for name in ("denoising (DiT)", "lip sync and motion", "assembly"))
    return Case(words, frames_of(output), output.read_bytes(), seconds)
