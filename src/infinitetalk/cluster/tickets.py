"""An order in a pool, as whoever gave it sees it."""

import threading
from collections.abc import Callable
from dataclasses import replace

from infinitetalk.cluster.orders import Ended, Order
from infinitetalk.cluster.station import Facts
from infinitetalk.jobs.record import JobProgress

MOST_LOSSES = 3
"""Workers that an order may lose at the same window before it is given up."""


class Ticket:
    """An order that waits, is made, or is over. Safe for many threads."""

    def __init__(self, number: int, order: Order, shape: str, changed: Callable[[], None]) -> None:
        self.number, self.order, self.shape = number, order, shape
        """Its place in the queue, and what its memory depends on."""
        self.model = str([order.request.get(name) for name in ("model", "encoder", "loras")])
        self.progress = self.before = JobProgress()
        """How far it is, and how far a worker had come that was lost."""
        self.device: str | None = None
        """Kind of GPU on which windows were finished; None before the first."""
        self.facts: Facts | None = None
        """Where it is made."""
        self.stopping = False
        self.ended: Ended | None = None
        self.losses = 0
        """Workers that were lost at the present window."""
        self.notes: list[str] = []
        self._at = 0
        self._over = threading.Event()
        self._changed = changed

    def wait(self, timeout: float | None = None) -> Ended | None:
        """How it ended; None if it did not within so many seconds."""
        return self.ended if self._over.wait(timeout) else None

    def stop(self) -> None:
        """Stops it after the step at work; finished windows stay in the store."""
        self.stopping = True
        self._changed()

    def begin(self, facts: Facts) -> None:
        """A worker has it."""
        self.facts = facts

    def seen(self, progress: JobProgress) -> None:
        """How far it is."""
        self.progress = progress
        if progress.windows > self._at:
            self._at, self.losses = progress.windows, 0
            self.device = None if self.facts is None else self.facts.device

    def lost(self, why: str) -> bool:
        """Its worker is gone; gives whether another one is to go on."""
        self.losses += 1
        self.before = self.progress
        where = "a node" if self.facts is None else f"{self.facts.host}"
        self.notes.append(f"the worker on {where} was lost ({why}); goes on at its last finished window")
        self.facts = None
        self.order = replace(self.order, attempt=self.order.attempt + 1)
        return self.losses < MOST_LOSSES

    def end(self, ended: Ended) -> None:
        """It is over."""
        self.progress = ended.progress or self.progress
        self.ended = ended
        self._over.set()
