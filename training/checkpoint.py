"""What a training leaves behind while it goes on: whole files or none, so that it can be stopped at any time."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


def save(state: Mapping[str, object], path: Path) -> None:
    """Writes a checkpoint in place of the one before."""
    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    partial.replace(path)


class Rhythm:
    """Calls something every so many seconds."""

    def __init__(self, call: Callable[[], None], every: float = 60.0) -> None:
        self._call, self._every = call, every
        self._last = time.monotonic()

    def beat(self) -> None:
        """To be called often."""
        if time.monotonic() - self._last >= self._every:
            self._call()
            self._last = time.monotonic()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is."""

    spent: float
    """seconds of training"""
    seconds: float
    """of the whole training"""
    steps: int
    done: bool
    """whether its results are written"""

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        partial.replace(path)

    @staticmethod
    def read(path: Path) -> "Progress | None":
        """What `write` wrote; None if it never did."""
        return Progress(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
