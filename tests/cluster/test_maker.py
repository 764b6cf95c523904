"""What a service's queue hears of a cluster that fails."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.cluster.maker import ClusterMaker, Relay
from infinitetalk.cluster.orders import Ended, Order
from infinitetalk.cluster.tickets import Ticket
from infinitetalk.cluster.vault import Vault
from infinitetalk.core.errors import DeviceLostError, MachineError
from infinitetalk.engine.progress import StageClock
from infinitetalk.jobs.record import JobProgress
from tests.cluster.conftest import MakeJob


class Failing:
    """A pool whose orders end at once."""

    def __init__(self, ended: Ended) -> None:
        self.ended = ended

    def submit(self, order: Order, shape: str) -> Ticket:
        ticket = Ticket(1, order, shape, lambda: None)
        ticket.end(self.ended)
        return ticket


@pytest.mark.parametrize(("state", "kind"), [("failed", MachineError), ("lost", DeviceLostError)])
def test_a_job_fails_alone_but_a_lost_cluster_keeps_jobs_waiting(
    state: str, kind: type[Exception], make_job: MakeJob, tmp_path: Path
) -> None:
    pool: Any = Failing(Ended(state=state, error="why"))
    with pytest.raises(MachineError, match="why") as told:
        ClusterMaker(pool, Vault(str(tmp_path / "store"))).make(make_job(0.5))
    assert type(told.value) is kind


def test_a_listener_is_called_while_an_order_waits() -> None:
    calls: list[int] = []

    class Hearing(StageClock):
        def advance(self, units: int = 1) -> None:
            calls.append(units)

    with ExitStack() as stages:
        relay = Relay(Hearing(), stages)
        relay.tell(JobProgress())
        relay.tell(JobProgress())
    assert calls == [0, 0], "it stops its job only when it is called"
