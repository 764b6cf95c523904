"""Two lanes that run whenever a die says so, in any order that their events allow."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(eq=False)
class Mark:
    """An event; a waiter waits for the recording that was the last one when it asked."""

    recorded: int = 0
    passed: int = 0


@dataclass
class Lane:
    """What is queued: things to do, and waits for events."""

    work: list[Callable[[], bool]] = field(default_factory=list)
    """Each tells whether it could be done."""

    def run(self) -> bool:
        """Does the first thing if it can be done."""
        if self.work and self.work[0]():
            self.work.pop(0)
            return True
        return False


class DiceLanes:
    """See `infinitetalk.runtime.memory.lanes.Lanes`: nothing happens at once, all of it happens in the end."""

    def __init__(self, seed: int) -> None:
        self.computing, self.copying = Lane(), Lane()
        self._dice = random.Random(seed)
        self._lock = threading.RLock()

    def event(self, *, timed: bool = False) -> Mark:  # noqa: ARG002 - there is no time here
        return Mark()

    def _record(self, lane: Lane, event: Mark) -> None:
        with self._lock:
            event.recorded += 1
            number = event.recorded

            def passes() -> bool:
                event.passed = number
                return True

            lane.work.append(passes)

    def _wait(self, lane: Lane, event: Mark) -> None:
        with self._lock:
            number = event.recorded
            lane.work.append(lambda: event.passed >= number)

    def computed(self, event: Mark) -> None:
        self._record(self.computing, event)

    def copied(self, event: Mark) -> None:
        self._record(self.copying, event)

    def compute_waits(self, event: Mark) -> None:
        self._wait(self.computing, event)

    def copy_waits(self, event: Mark) -> None:
        self._wait(self.copying, event)

    def host_waits(self, event: Mark) -> None:
        number = event.recorded
        while event.passed < number:
            self.some()
            time.sleep(0)

    def copy(self, target: Tensor, source: Tensor) -> None:
        def copies() -> bool:
            target.copy_(source)
            return True

        self.copying.work.append(copies)

    def compute(self, work: Callable[[], None]) -> None:
        """Queues something for computing."""

        def computes() -> bool:
            work()
            return True

        self.computing.work.append(computes)

    def some(self, most: int = 3) -> None:
        """Lets a few things happen, in whichever lane."""
        with self._lock:
            for _ in range(self._dice.randint(0, most)):
                self._dice.choice((self.computing, self.copying)).run()

    def finish(self) -> None:
        with self._lock:
            while self.computing.work or self.copying.work:
                moved = [lane.run() for lane in (self.computing, self.copying)]
                assert any(moved), "the lanes wait for each other for ever"
