"""Makes a queue's videos on a cluster: what `jobs.queue` calls a maker, in place of a `Workshop`."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace

from infinitetalk.cluster.orders import Ended, order_of, shape_of
from infinitetalk.cluster.pool import Pool
from infinitetalk.cluster.tickets import Ticket
from infinitetalk.cluster.vault import OWN, Vault
from infinitetalk.core.errors import DeviceLostError, MachineError
from infinitetalk.core.stages import Stage
from infinitetalk.engine.board import State
from infinitetalk.engine.job import Job, Made, Stopped
from infinitetalk.engine.progress import Progress
from infinitetalk.jobs.record import JobProgress
from infinitetalk.media.hls import fresh
from infinitetalk.media.paths import sidecar_path

_LOOK_EVERY = 0.25


class ClusterMaker:
    """Safe for many threads, each with a job of its own: a queue for every worker keeps all of them busy."""

    def __init__(self, pool: Pool, vault: Vault) -> None:
        self._pool, self._vault = pool, vault

    def make(self, job: Job, listener: Progress | None = None) -> Made:
        """Makes a video on some worker, or goes on with one; it is copied to the job's output.

        Raises:
            Stopped: the listener stopped it; finished windows are a video, and the cluster goes on from them.
            MachineError: it cannot be made.
            DeviceLostError: no video can be made: the cluster does not answer, or its workers cannot work.
        """
        output = f"{OWN}/served/{job.output.parent.name}.mp4"
        order = order_of(job, self._vault, output, inputs=f"{OWN}/served/{job.output.parent.name}", preview=True)
        ticket = self._pool.submit(order, shape_of(job))
        ended, stopped = self._watched(ticket, job, listener)
        if ended.state == "lost" and not stopped:
            raise DeviceLostError(f"{ended.error}; start the service again")
        if ended.state == "failed" and not stopped:
            raise MachineError(ended.error or "the cluster failed")
        made = self._fetched(ended, job, order.output)
        if stopped or made is None:
            raise Stopped(made or _nothing(job))
        for name in (order.ledger, output, f"{output}.json", f"{OWN}/served/{job.output.parent.name}"):
            self._vault.remove(name)
        return made

    def _watched(self, ticket: Ticket, job: Job, listener: Progress | None) -> tuple[Ended, bool]:
        """How an order ended, and whether the listener stopped it."""
        stopped = False
        with ExitStack() as stages:
            relay = None if listener is None else Relay(listener, stages)
            shown = 0
            try:
                while True:
                    ended, windows = ticket.wait(_LOOK_EVERY), ticket.progress.windows
                    try:
                        if relay is not None and not stopped:
                            relay.tell(ticket.progress, ticket.notes)
                    except KeyboardInterrupt:
                        stopped = True
                        ticket.stop()
                    if windows != shown or ended is not None:
                        shown = windows
                        self._show(ticket, job)
                    if ended is not None:
                        return ended, stopped
            except BaseException:
                ticket.stop()  # nobody would hear of it any more
                raise

    def _show(self, ticket: Ticket, job: Job) -> None:
        """Copies what is new of the preview to this machine."""
        if job.hls is None or ticket.order.preview is None:
            return
        job.hls.mkdir(exist_ok=True)
        for name in fresh(self._vault.names(ticket.order.preview), {path.name for path in job.hls.iterdir()}):
            here = job.hls / name
            arriving = here.with_name(f"{name}.new")
            self._vault.get(f"{ticket.order.preview}/{name}", arriving)
            arriving.replace(here)

    def _fetched(self, ended: Ended, job: Job, output: str) -> Made | None:
        if ended.made is None:
            return None
        self._vault.get(output, job.output)
        self._vault.get(f"{output}.json", sidecar_path(job.output))
        return replace(ended.made, video=job.output, sidecar=sidecar_path(job.output))


def _nothing(job: Job) -> Made:
    """What there is of a video that was stopped before its first window."""
    return Made(
        video=job.output, sidecar=sidecar_path(job.output), complete=False, size=job.settings.output_size, frames=0,
        fps=job.settings.rate, windows=0, planned=0, wall=0.0, stages={}, skipped=frozenset(),
    )  # fmt: skip


class Relay:
    """Tells a listener of progress elsewhere, which is looked at from time to time, as if it were here.

    Args:
        listener: hears of it.
        stages: where the stage at work stays entered.
    """

    def __init__(self, listener: Progress, stages: ExitStack) -> None:
        self._listener, self._stages = listener, stages
        self._seen = JobProgress()
        self._notes = set[str]()

    def tell(self, progress: JobProgress, more: Iterable[str] = ()) -> None:
        """Tells what is new; the listener may raise, and is called even if nothing is."""
        if progress.planned and not self._seen.planned:
            self._listener.plan({Stage(stage.name): stage.total for stage in progress.stages})
        if progress.stage != self._seen.stage:
            self._stages.close()
            if progress.stage is not None:
                self._stages.enter_context(self._listener.stage(Stage(progress.stage)))
        before, self._seen = self._seen, progress
        done = {stage.name: stage.done for stage in before.stages}
        skipped = {stage.name for stage in before.stages if stage.state == State.SKIPPED.value}
        for note in (*progress.notes, *more):
            if note not in self._notes:
                self._notes.add(note)
                self._listener.note(note)
        for stage in progress.stages:
            if stage.state == State.SKIPPED.value and stage.name not in skipped:
                self._listener.skip(Stage(stage.name))
            if units := stage.done - done.get(stage.name, 0):
                with self._listener.stage(Stage(stage.name)):
                    self._listener.advance(units)
        self._listener.advance(0)  # a listener stops its job only when it is called
