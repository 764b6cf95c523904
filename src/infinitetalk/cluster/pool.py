"""Hires workers of a cluster, gives them orders, and gives an order to another one when its worker is lost."""

import threading
import time
from contextlib import suppress
from typing import Any, Self

from infinitetalk.cluster.connection import bundle, import_ray, room_for, uses_gpus
from infinitetalk.cluster.orders import Ended, Order
from infinitetalk.cluster.seats import Offer, Seat, match
from infinitetalk.cluster.tickets import MOST_LOSSES, Ticket
from infinitetalk.cluster.vault import OWN, Vault
from infinitetalk.core.errors import MachineError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.planner import Plan
from infinitetalk.jobs.record import JobProgress

_PULSE = 0.25
"""Seconds that the pool waits for news at most."""

_LOOK_EVERY = 0.5
_COUNT_EVERY = 2.0
"""Seconds between looks at orders at work, and at the cluster's nodes."""

_MOST_WISHES = 1000
_MOST_FAILURES = 5
"""Workers in a row that may fail to start."""


class Pool:
    """Workers for one store; see the package's docstring. This process must be connected to a cluster.

    As many workers are hired as orders wait and the cluster has room for. What there is no room for is told to Ray as a
    wish, for which its autoscaler may start nodes; where there is no autoscaler nothing comes of it.

    Args:
        vault: where results and finished windows go.
        device: as `Workshop` takes it.
        memory: of each worker, its number of GPUs among it.
        keep: seconds after which a worker that has nothing to do is sent home, so that Ray may end its node.

    Raises:
        MachineError: a store that other machines cannot see, or a device that cannot be named.
    """

    def __init__(
        self, vault: Vault, device: str = "auto", memory: MemorySettings | None = None, *, keep: float = 120.0
    ) -> None:
        if not vault.shared:
            raise MachineError(f"{vault.url} is of this process alone; give a store that all nodes reach")
        self._ray, self._keep = import_ray(), keep
        probe = f"{OWN}/probe"
        vault.write(probe, b"seen")
        gpu = uses_gpus(device)
        wanted = memory or MemorySettings()
        # Without GPUs each worker has one processor, and so one thread: many videos at once beat many threads.
        need = bundle(wanted.gpus or 1, gpu=gpu)
        self._offer = Offer(store=vault.url, probe=probe, device="cuda" if gpu else "cpu", memory=memory, need=need)
        self._seats: list[Seat] = []
        self._queue: list[Ticket] = []
        self._surveyed: list[Ticket] = []
        self._count = self._room = self._failures = 0
        self._why: str | None = None
        self._looked = self._counted = float("-inf")
        self._wish = 0
        self._lock = threading.RLock()
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pool", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._news.set()
        self._thread.join()

    @property
    def room(self) -> int:
        """Workers that the cluster has room for."""
        return room_for(self._offer.need)

    @property
    def offer(self) -> str:
        """What a worker has, in words."""
        group = round(self._offer.need.get("GPU", 0))
        return f"{group} GPU each" if group else f"{round(self._offer.need['CPU'])} processor each, no GPU"

    def submit(self, order: Order, shape: str) -> Ticket:
        """Queues an order."""
        with self._lock:
            self._count += 1
            ticket = Ticket(self._count, order, shape, self._news.set)
            if self._why is None:
                self._queue.append(ticket)
            else:
                ticket.end(Ended(state="lost", error=self._why))
        self._news.set()
        return ticket

    def survey(self, order: Order, shape: str) -> list[Plan | str]:
        """How an order would be done by each worker that the cluster has room for, or why it does not fit there.

        Raises:
            MachineError: no worker starts, or there is room for none.
        """
        with self._lock:
            asked = Ticket(0, order, shape, self._news.set)
            self._surveyed.append(asked)
        self._news.set()
        while True:
            with self._lock:
                if self._why is not None:
                    raise MachineError(self._why)
                if self._counted > float("-inf") and self._room == 0:
                    self._surveyed.remove(asked)
                    raise MachineError(f"the cluster has room for no worker ({self.offer}); start such a node first")
                told = [seat.plans.get(shape) for seat in self._seats]
                whole = self._room > 0 and len(told) >= self._room and None not in told
                if whole:
                    self._surveyed.remove(asked)
                    return [plan for plan in told if plan is not None]
            time.sleep(_PULSE / 5)

    def at_work(self) -> list[Ticket]:
        """Orders that a worker has."""
        with self._lock:
            return [seat.ticket for seat in self._seats if seat.ticket is not None]

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001 - whoever waits for an order must hear of it
                    self._give_up(f"the cluster does not answer ({type(error).__name__}: {error})"[:300])
                    return
        finally:
            self._give_up("the connection to the cluster was closed")
            with suppress(Exception):  # of a cluster that is gone nothing is left to send home
                for seat in self._seats:
                    seat.dismiss()
                self._wish_for(0)

    def _step(self) -> None:
        with self._lock:
            self._settle_stopped()
            self._hire()
            self._assign()
            now = time.monotonic()
            if now - self._looked > _LOOK_EVERY:
                self._looked = now
                for seat in self._seats:
                    seat.look()
                    seat.stop_if_asked()
            asked = {call: seat for seat in self._seats for call in seat.asked}
        if not asked:
            self._news.wait(_PULSE)
            self._news.clear()
            return
        ready, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(asked), num_returns=1, timeout=_PULSE)
        with self._lock:
            for call in ready:
                self._hear(asked[call], call)

    def _hire(self) -> None:
        """Hires or dismisses workers, so that there are as many as can be used."""
        now = time.monotonic()
        if now - self._counted > _COUNT_EVERY:
            self._counted, self._room = now, self.room
            self._wish_for(len(self._queue) + sum(seat.ticket is not None for seat in self._seats))
        busy = sum(seat.ticket is not None for seat in self._seats)
        useless = sum(seat.refuses(self._queue) for seat in self._seats)
        wanted = self._room if self._surveyed else min(self._room, busy + len(self._queue) + useless)
        while self._why is None and len(self._seats) < wanted:
            self._seats.append(Seat.hire(self._offer))
        for seat in [one for one in self._seats if one.idle]:
            if self._queue or self._surveyed:
                seat.since = now
            elif now - seat.since > self._keep:
                self._seats.remove(seat)
                seat.dismiss()

    def _wish_for(self, workers: int) -> None:
        """Tells Ray how many workers could be used; its autoscaler, if there is one, decides."""
        workers = min(workers, _MOST_WISHES)
        if workers == self._wish:
            return
        self._wish = workers
        from ray.autoscaler.sdk import request_resources

        request_resources(bundles=[dict(self._offer.need)] * workers)

    def _assign(self) -> None:
        while (found := match(self._seats, self._queue)) is not None:
            seat, ticket = found
            self._queue.remove(ticket)
            seat.take(ticket)
        for seat in self._seats:
            if seat.idle:
                seat.ask_plans([*self._queue, *self._surveyed])
        self._refuse_misfits()

    def _refuse_misfits(self) -> None:
        """Ends orders that fit on no worker, when there is no worker left to ask."""
        if len(self._seats) < self._room or not self._seats or any(seat.facts is None for seat in self._seats):
            return
        for ticket in list(self._queue):
            answers = [seat.plans.get(ticket.shape) for seat in self._seats]
            if all(isinstance(answer, str) for answer in answers):
                self._queue.remove(ticket)
                told = max((f"{answer}" for answer in answers), key=len)
                ticket.end(Ended(state="failed", error=f"fits on no worker of the cluster: {told}"))

    def _settle_stopped(self) -> None:
        for ticket in [one for one in self._queue if one.stopping]:
            self._queue.remove(ticket)
            ticket.end(Ended(state="stopped"))

    def _hear(self, seat: Seat, call: Any) -> None:
        kind = seat.asked.pop(call, None)
        if kind is None:  # its worker was lost meanwhile
            return
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._lose(seat, error)
            return
        if kind == "facts" and isinstance(answer, str):
            self._give_up(answer)
        elif kind == "facts":
            seat.facts, seat.since, self._failures = answer, time.monotonic(), 0
        elif kind == "plans":
            seat.plans |= dict(zip(seat.shapes, answer, strict=True))
        elif kind == "look" and seat.ticket is not None:
            seat.ticket.seen(JobProgress.from_json(answer))
        elif kind == "make" and seat.ticket is not None:
            ticket, seat.ticket, seat.since = seat.ticket, None, time.monotonic()
            ticket.end(answer)

    def _lose(self, seat: Seat, error: Exception) -> None:
        """A worker is gone; its order goes on elsewhere."""
        if seat not in self._seats:
            return
        self._seats.remove(seat)
        seat.asked.clear()
        seat.dismiss()
        self._counted = float("-inf")
        ticket, seat.ticket, why = seat.ticket, None, _why(error)
        if ticket is not None:
            if ticket.lost(why):
                self._queue.insert(0, ticket)
            else:
                line = f"{MOST_LOSSES} workers were lost at window {ticket.progress.windows + 1} of it ({why})"
                ticket.end(Ended(state="failed", error=f"{line}; try fewer window frames or a smaller size"))
        elif seat.facts is None:
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                self._give_up(f"{_MOST_FAILURES} workers in a row did not start: {why}")

    def _give_up(self, why: str) -> None:
        """Nothing can be made; everybody who waits hears why."""
        with self._lock:
            self._why = self._why or why
            waiting = [*self._queue, *(seat.ticket for seat in self._seats if seat.ticket is not None)]
            self._queue.clear()
            for ticket in waiting:
                ticket.end(Ended(state="lost", error=self._why))


def _why(error: Exception) -> str:
    """A lost worker's reason in one line."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return f"{cause}"
    told = [line.strip() for line in str(error).splitlines() if line.strip()]
    return told[0][:200] if told else type(error).__name__
