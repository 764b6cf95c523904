"""A batch of jobs (`jobs.batch`) on a cluster: the same lines and outcomes, the work elsewhere."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infinitetalk.cluster.orders import Ended, Order, order_of, shape_of
from infinitetalk.cluster.pool import Pool
from infinitetalk.cluster.station import complete
from infinitetalk.cluster.tickets import Ticket
from infinitetalk.cluster.vault import Vault
from infinitetalk.core.errors import InfiniteTalkError, MachineError
from infinitetalk.core.planner import Plan
from infinitetalk.engine.job import Job
from infinitetalk.jobs import batch
from infinitetalk.jobs.batch import Line, Outcome
from infinitetalk.media.sidecar import settings_hash

_AHEAD = 256
"""Lines whose inputs are in the store before their turn, beyond what is at work."""


def check(lines: Sequence[Line], vault: Vault, *, restart: bool = False) -> list[Line]:
    """Looks at everything that can be refused before a weight is loaded, and whether videos are in the store already.

    Outputs are names in the store, so those that would lie outside of it are refused.
    """
    with tempfile.TemporaryDirectory(prefix="infinitetalk-check-") as folder:
        return [_checked(line, vault, Path(folder), restart=restart) for line in lines]


def _checked(line: Line, vault: Vault, folder: Path, *, restart: bool) -> Line:
    if line.request is None or line.error is not None:
        return line
    if line.output.is_absolute() or ".." in line.output.parts:
        return replace(line, error=f"output = {line.output}: must be a name within the store, such as anna/hello.mp4")
    # The checks want a place that can be written; the store was tried before.
    here = batch.check([replace(line, output=folder / line.output)], restart=restart)[0]
    checked = replace(here, output=line.output, error=here.error and here.error.replace(f"{folder}/", ""))
    if checked.job is None:
        return checked
    digest = settings_hash(checked.job.request, checked.job.settings)
    try:
        done = not restart and complete(vault, line.output.as_posix(), digest)
    except MachineError as error:
        return replace(checked, error=str(error))
    return replace(checked, done=done)


@dataclass(frozen=True, slots=True)
class Planner:
    """Tells how jobs would be done by the quickest worker on which they fit: for `jobs.batch.forecast`."""

    pool: Pool

    def check_fit(self, job: Job) -> Plan:
        """The plan of a job.

        Raises:
            MachineError: it fits on no worker.
        """
        order = Order(id="", request=job.request.to_json(), settings=job.settings, output=job.output.as_posix())
        told = self.pool.survey(order, shape_of(job))
        plans = [plan for plan in told if isinstance(plan, Plan)]
        if not plans:
            raise MachineError(f"fits on no worker of the cluster: {max((f'{why}' for why in told), key=len)}")
        return min(plans, key=lambda plan: plan.prediction.seconds_per_second)


def run(
    lines: Sequence[Line], pool: Pool, vault: Vault, told: Callable[[Line, str], None] = lambda _line, _text: None
) -> Iterator[Outcome]:
    """Makes checked lines on a pool, as many at once as it has workers; outcomes come as they end.

    Args:
        told: hears what the user should read of a line, such as that its worker was lost.
    """
    open_ones: dict[int, tuple[Line, Ticket, int]] = {}
    for line in batch.in_order(lines):
        if line.job is None or line.error is not None:
            yield Outcome(line=line, state="refused", error=line.error)
            continue
        if line.done:
            yield Outcome(line=line, state="before")
            continue
        try:
            ticket = pool.submit(order_of(line.job, vault, line.output.as_posix()), shape_of(line.job))
        except InfiniteTalkError as error:
            yield Outcome(line=line, state="failed", error=str(error))
            continue
        open_ones[line.number] = line, ticket, 0
        while len(open_ones) > _AHEAD:
            yield from _over(open_ones, vault, told)
    while open_ones:
        yield from _over(open_ones, vault, told)


def _over(
    open_ones: dict[int, tuple[Line, Ticket, int]], vault: Vault, told: Callable[[Line, str], None]
) -> Iterator[Outcome]:
    """Outcomes of lines that have ended, after a moment's wait for one."""
    next(iter(open_ones.values()))[1].wait(0.1)
    for number, (line, ticket, heard) in list(open_ones.items()):
        notes = list(ticket.notes)
        for note in notes[heard:]:
            told(line, note)
        open_ones[number] = line, ticket, len(notes)
        if ticket.ended is not None:
            del open_ones[number]
            yield _outcome(line, ticket.ended, vault)


def _outcome(line: Line, ended: Ended, vault: Vault) -> Outcome:
    if ended.state != "done" or ended.made is None:
        return Outcome(line=line, state="failed", error=ended.error or "was stopped")
    return Outcome(line=line, state="done", made=ended.made, url=vault.where(line.output.as_posix()))
