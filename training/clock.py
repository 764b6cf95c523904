"""Training by the wall clock: budgets, rates that follow them, and a log with times."""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from training import parallel


class Budget:
    """So many seconds of training, counted from the first call of `fraction`, with what earlier runs already spent."""

    def __init__(self, seconds: float, spent: float = 0.0) -> None:
        self.seconds = seconds
        self._spent = spent
        self._start: float | None = None

    @property
    def spent(self) -> float:
        """Seconds used so far, earlier runs included."""
        return self._spent + (time.monotonic() - self._start if self._start is not None else 0.0)

    def fraction(self) -> float:
        """The share that is used up, at most 1."""
        if self._start is None:
            self._start = time.monotonic()
        return min(1.0, self.spent / self.seconds)

    @property
    def over(self) -> bool:
        """Whether all of it is spent."""
        return self.spent >= self.seconds

    def steps(self, device: torch.device | None = None, at_most: float = math.inf) -> Iterator[tuple[int, float]]:
        """Yields (step, fraction) until the time is up, or this run has lasted `at_most` seconds; at least one step.

        A GPU is waited for every few steps: it takes orders long before it has carried them out.
        """
        step, stop = 0, self.spent + at_most
        while True:
            if device is not None and device.type == "cuda" and step % 8 == 0:
                torch.cuda.synchronize(device)
            fraction, late = parallel.agreed(self.fraction(), float(self.spent >= stop))
            if step and (fraction >= 1 or late):
                return
            yield step, fraction
            step += 1


def cosine(fraction: float, floor: float = 0.02) -> float:
    """Falls from 1 to `floor` over the budget."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


def warm(step: int, steps: int) -> float:
    """Rises from 1/steps to 1 over the first steps."""
    return min(1.0, (step + 1) / steps)


class RunLog:
    """Lines with seconds since the start, to the terminal and to a file; `due` says when the next regular line is.

    Of several processes that train together, only the first has something to say.
    """

    def __init__(self, path: Path, every: float = 10.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._every = path, every
        self._told = parallel.first()
        self._start = self._last = time.monotonic()

    def __call__(self, text: str) -> None:
        """Writes one line."""
        if not self._told:
            return
        line = f"[{time.monotonic() - self._start:6.1f}] {text}\n"
        sys.stdout.write(line)
        sys.stdout.flush()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)

    def due(self) -> bool:
        """True once every `every` seconds."""
        now = time.monotonic()
        if now - self._last < self._every:
            return False
        self._last = now
        return True
