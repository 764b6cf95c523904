"""Who gets which order: by memory, by model, by the kind of GPU that began it."""

from typing import Any

import pytest

from infinitetalk.cluster.orders import Ended, Order
from infinitetalk.cluster.seats import Seat, match
from infinitetalk.cluster.station import Facts
from infinitetalk.cluster.tickets import MOST_LOSSES, Ticket
from infinitetalk.core.planner import Plan
from infinitetalk.jobs.record import JobProgress

FITS: Any = object.__new__(Plan)


def seat(device: str, gib: int, *shapes: str, busy: bool = False) -> Seat:
    facts = Facts(host=device, process=1, device=device, memory=gib * 2**30, scratch="")
    plans = {shape: FITS if shape in shapes else "too little memory" for shape in ("small", "large")}
    made = Seat(actor=None, group=None, facts=facts, plans=plans)
    if busy:
        made.asked["call"] = "make"
    return made


def ticket(number: int, shape: str, model: str = "nano") -> Ticket:
    order: Any = Order(id=f"{number}", request={"model": model}, settings=None, output="a.mp4")  # type: ignore[arg-type]
    return Ticket(number, order, shape, lambda: None)


def chosen(seats: list[Seat], tickets: list[Ticket]) -> list[tuple[str, int]]:
    """All matches, in turn."""
    found = []
    while (pair := match(seats, tickets)) is not None:
        pair[0].asked["call"] = "make"
        tickets.remove(pair[1])
        found.append((pair[0].actor or pair[0].facts.device, pair[1].number))  # type: ignore[union-attr]
    return found


def test_large_gpus_are_left_to_what_needs_them() -> None:
    t4, h100 = seat("t4", 15, "small"), seat("h100", 79, "small", "large")
    assert chosen([h100, t4], [ticket(1, "small"), ticket(2, "large")]) == [("t4", 1), ("h100", 2)]
    # Small ones take a large GPU when nothing else wants it.
    t4, h100 = seat("t4", 15, "small"), seat("h100", 79, "small", "large")
    assert chosen([h100, t4], [ticket(1, "small"), ticket(2, "small")]) == [("t4", 1), ("h100", 2)]
    t4, h100 = seat("t4", 15, "small", busy=True), seat("h100", 79, "small", "large")
    assert chosen([h100, t4], [ticket(1, "small"), ticket(2, "large")]) == [("h100", 2)]


def test_what_fits_nowhere_waits() -> None:
    assert match([seat("t4", 15, "small")], [ticket(1, "large")]) is None
    assert match([Seat(actor=None, group=None)], [ticket(1, "small")]) is None


def test_of_equals_the_loaded_model_comes_first_and_then_the_oldest() -> None:
    one = seat("h100", 79, "small")
    one.loaded = ticket(0, "small", "14b").model
    assert chosen([one], [ticket(1, "small"), ticket(2, "small", "14b")])[0] == ("h100", 2)
    assert chosen([seat("h100", 79, "small")], [ticket(2, "small"), ticket(1, "small")])[0] == ("h100", 1)


def test_what_was_begun_on_one_kind_of_gpu_waits_for_it_if_there_is_one() -> None:
    order = ticket(1, "small")
    order.begin(Facts(host="x", process=1, device="h100", memory=1, scratch=""))
    order.seen(JobProgress(windows=3, planned=5))
    assert order.lost("killed") and order.order.attempt == 2
    t4, h100 = seat("t4", 15, "small"), seat("h100", 79, "small", busy=True)
    assert match([t4, h100], [order]) is None
    assert match([t4], [order]) == (t4, order), "and goes on elsewhere if there is none"


def test_an_order_that_loses_worker_after_worker_is_given_up() -> None:
    order = ticket(1, "small")
    for _ in range(MOST_LOSSES - 1):
        assert order.lost("killed")
    order.begin(Facts(host="x", process=1, device="h100", memory=1, scratch=""))
    order.seen(JobProgress(windows=1, planned=5))
    for _ in range(MOST_LOSSES - 1):
        assert order.lost("killed"), "a new window, a new count"
    assert not order.lost("killed")
    assert len(order.notes) == 2 * MOST_LOSSES - 1 and order.wait(0) is None
    order.end(Ended(state="failed"))
    assert order.wait() == Ended(state="failed")


@pytest.mark.parametrize("planned", [0, 4])
def test_progress_elsewhere_is_told_as_if_it_were_here(planned: int) -> None:
    from contextlib import ExitStack
    from dataclasses import replace

    from infinitetalk.cluster.maker import Relay
    from infinitetalk.core.stages import Stage
    from infinitetalk.engine.board import Board

    there, here = Board(), Board()
    with ExitStack() as stages:
        relay = Relay(here, stages)
        relay.tell(JobProgress.of(there))
        if planned:
            there.plan({Stage.DENOISING: planned, Stage.ASSEMBLY: 2})
        there.note("resumed at window 1")
        there.skip(Stage.KEY_FRAMES)
        with there.stage(Stage.DENOISING):
            there.advance(3)
            relay.tell(JobProgress.of(there), ["a worker was lost"])
            stage = here.at_work
        relay.tell(JobProgress.of(there), ["a worker was lost"])
        assert (stage, here.at_work) == (Stage.DENOISING, None)
        relay.tell(replace(JobProgress.of(there), windows=1), ["a worker was lost"])
    assert here.rows[Stage.DENOISING].done == 3 and here.rows[Stage.DENOISING].total == planned
    assert here.rows[Stage.KEY_FRAMES].skipped
    assert here.notes == ["resumed at window 1", "a worker was lost"]


def test_an_order_waits_until_all_free_workers_have_said_whether_it_fits() -> None:
    small, large, order = seat("4060", 8, "small"), seat("h100", 79, "small"), ticket(1, "small")
    small.plans.clear()
    assert match([small, large], [order]) is None, "the small one has not answered"
    small.plans["small"] = FITS
    assert match([small, large], [order]) == (small, order)


def test_a_free_worker_on_which_nothing_fits_makes_room_for_another() -> None:
    small, order = seat("4060", 8, "small"), ticket(1, "large")
    assert small.refuses([order]) and small.refuses([order, ticket(2, "large")])
    assert not small.refuses([order, ticket(2, "small")]) and not small.refuses([])
    small.plans.clear()
    assert not small.refuses([order]), "it has not answered"
    assert not seat("4060", 8, "small", busy=True).refuses([order])
