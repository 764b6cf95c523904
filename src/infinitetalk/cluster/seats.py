"""Workers of a cluster, each in a placement group of its own, and which orders fit on whom."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from infinitetalk.cluster.connection import import_ray
from infinitetalk.cluster.station import Facts, Station
from infinitetalk.cluster.tickets import Ticket
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.planner import Plan

_CALLS = 4
"""Calls that a worker answers at the same time: `make`, and questions meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What every worker of a pool is started with."""

    store: str
    probe: str
    device: str
    memory: MemorySettings | None
    need: Mapping[str, float]
    """Of its node's resources."""


@dataclass(eq=False, slots=True)
class Seat:
    """One worker: a process for a group of GPUs of one node."""

    actor: Any
    group: Any
    facts: Facts | None = None
    """None while it starts."""
    plans: dict[str, Plan | str] = field(default_factory=dict)
    """Shape of a job → how it would be done there, or why it does not fit."""
    ticket: Ticket | None = None
    asked: dict[Any, str] = field(default_factory=dict)
    """Calls that were not answered yet → their kind."""
    shapes: tuple[str, ...] = ()
    """Those whose plans it was asked for."""
    loaded: str | None = None
    """The model, with its LoRAs, that it used last."""
    since: float = 0.0
    """When it was last needed."""

    @classmethod
    def hire(cls, offer: Offer) -> "Seat":
        """Asks Ray for a worker. It starts when a node has room for it, which may be one that Ray starts first."""
        ray = import_ray()
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = placement_group([dict(offer.need)], strategy="STRICT_PACK")
        place = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
        actor = (
            ray.remote(Station)
            .options(
                num_cpus=offer.need.get("CPU", 0), num_gpus=offer.need.get("GPU", 0), max_restarts=0,
                max_concurrency=_CALLS, scheduling_strategy=place,
            )
            .remote(offer.store, offer.probe, offer.device, offer.memory)
        )  # fmt: skip
        seat = cls(actor, group)
        seat.asked[actor.facts.remote()] = "facts"
        return seat

    @property
    def idle(self) -> bool:
        """Whether it is there and has nothing to do."""
        return self.facts is not None and not any(kind in ("make", "plans") for kind in self.asked.values())

    def ask_plans(self, tickets: Iterable[Ticket]) -> None:
        """Asks how those would be done of whose shape that is not known."""
        unknown = {ticket.shape: ticket.order for ticket in tickets if ticket.shape not in self.plans}
        if unknown:
            answer = self.actor.plans.remote(list(unknown.values()))
            self.asked[answer] = "plans"
            self.shapes = tuple(unknown)

    def fits(self, ticket: Ticket) -> bool:
        """Whether an order is known to fit."""
        return isinstance(self.plans.get(ticket.shape), Plan)

    def take(self, ticket: Ticket) -> None:
        """Begins an order."""
        assert self.facts is not None
        self.ticket, self.loaded = ticket, ticket.model
        ticket.begin(self.facts)
        self.asked[self.actor.make.remote(ticket.order)] = "make"

    def look(self) -> None:
        """Asks how far the order is, unless an answer is due."""
        if self.ticket is not None and "look" not in self.asked.values():
            self.asked[self.actor.look.remote()] = "look"

    def stop_if_asked(self) -> None:
        """Stops the order if that is wanted; again and again, as a worker may not have begun."""
        if self.ticket is not None and self.ticket.stopping and "stop" not in self.asked.values():
            self.asked[self.actor.stop.remote()] = "stop"

    def refuses(self, tickets: Sequence[Ticket]) -> bool:
        """Whether it has nothing to do, and none of the orders that wait fits."""
        return self.idle and bool(tickets) and all(isinstance(self.plans.get(one.shape), str) for one in tickets)

    def dismiss(self) -> None:
        """Ends the worker; its folder goes with it."""
        ray = import_ray()
        from ray.util.placement_group import remove_placement_group

        ray.kill(self.actor)
        remove_placement_group(self.group)


def match(seats: Sequence[Seat], tickets: Sequence[Ticket]) -> tuple[Seat, Ticket] | None:
    """Which idle worker takes which order next; None if none fits.

    The worker with the least memory comes first, and takes of what fits there what fits on the fewest workers, so that
    large GPUs are left to those that need them. Of equals, the one whose model is loaded there, else the oldest. An
    order that was begun on one kind of GPU waits for such a one if there is any.
    """
    living = [seat for seat in seats if seat.facts is not None]
    kinds = {seat.facts.device for seat in living if seat.facts is not None}
    free = [seat for seat in living if seat.ticket is None]
    # Whoever answers first would else get what fits elsewhere as well.
    told = [one for one in tickets if all(one.shape in seat.plans for seat in free)]
    for seat in sorted((seat for seat in living if seat.idle), key=_memory):
        assert seat.facts is not None
        mine = seat.facts.device
        fitting = [one for one in told if seat.fits(one) and (one.device in (None, mine) or one.device not in kinds)]
        if fitting:
            return seat, min(fitting, key=partial(_urgency, seat, living))
    return None


def _urgency(seat: Seat, living: Sequence[Seat], ticket: Ticket) -> tuple[int, bool, int]:
    return sum(other.fits(ticket) for other in living), ticket.model != seat.loaded, ticket.number


def _memory(seat: Seat) -> int:
    return 0 if seat.facts is None else seat.facts.memory
