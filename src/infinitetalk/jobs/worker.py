"""Works on queued jobs, one after the other, in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from infinitetalk.core.errors import DeviceLostError, InfiniteTalkError, RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.board import Board
from infinitetalk.engine.job import Job, Made, Stopped, prepare
from infinitetalk.engine.progress import Progress
from infinitetalk.jobs.files import JobFiles
from infinitetalk.jobs.listener import Interrupted, Listener
from infinitetalk.jobs.record import JobProgress, JobRecord, JobState
from infinitetalk.jobs.store import LEASE, JobStore

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
"""How often a job may end its process at the same window before it is given up."""

_TELL_EVERY = 0.5
_LOOK_EVERY = 1.0
"""Seconds after which the store is asked anew; other processes may have changed it."""


class Maker(Protocol):
    """What makes a job's video: a `Workshop`."""

    def make(self, job: Job, listener: Progress | None = None) -> Made:
        """Makes a video, or goes on with one."""
        ...


class Observer(Protocol):
    """Hears of every job of a worker, for metrics. Calls come from the worker's thread."""

    def began(self, record: JobRecord) -> None:
        """Work on a job begins."""
        ...

    def ended(self, record: JobRecord, made: Made | None) -> None:
        """A job is over; `made` is what there is of its video."""
        ...


class Worker(threading.Thread):
    """Makes the jobs of a store, oldest first, until it is told to stop.

    Args:
        name: of this worker, for the store.
        store: the jobs.
        maker: makes videos.
        files: gives a job's folder.
        changed: called after every change.
        observer: hears of every job.
    """

    def __init__(
        self,
        name: str,
        store: JobStore,
        maker: Maker,
        *,
        files: Callable[[str], JobFiles],
        changed: Callable[[], None],
        observer: Observer | None = None,
    ) -> None:
        super().__init__(name=f"jobs-{name}", daemon=True)
        self._worker, self._store, self._maker, self._files = name, store, maker, files
        self._changed, self._observer = changed, observer
        self._closing = threading.Event()
        self._waiting = threading.Event()
        self.failure: str | None = None
        """Why nothing can be made now: the store does not answer, or the device is lost; None if all is well."""
        self._lost = False

    def wake(self) -> None:
        """Says that there is something to do."""
        self._waiting.set()

    def close(self, timeout: float | None = None) -> None:
        """Stops after the step at work; the job goes back to its place in the queue."""
        self._closing.set()
        self.wake()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """Works until `close`."""
        while not self._closing.is_set():
            if self._lost:
                # Every job would fail; those that wait are made when the program is started again.
                self._closing.wait()
                return
            try:
                record = self._store.claim(self._worker)
                self.failure = None
            except Exception as error:  # noqa: BLE001 - a database may come back, and then the work goes on
                self.failure = f"the job store does not answer ({type(error).__name__})"
                log.warning("%s", self.failure)
                record = None
            if record is None:
                self._waiting.wait(_LOOK_EVERY)
                self._waiting.clear()
                continue
            try:
                self._work(record)
            except Exception:
                # The lease runs out, and the job is taken again.
                log.exception("work on a job broke off", extra={"job": record.id})

    def _work(self, record: JobRecord) -> None:
        log.info("job begins", extra={"job": record.id, "owner": record.owner, "attempt": record.attempts})
        if self._observer is not None:
            self._observer.began(record)
        with _Turn(self._store, self._worker, record, self._closing, self._changed) as turn:
            state, made, error = self._attempt(record, turn)
        if state is None:
            self._store.release(self._worker)
            log.info("job goes back to the queue", extra={"job": record.id})
            return
        progress = turn.progress()
        shown = progress.finished() if state is JobState.DONE else replace(progress, stage=None, seconds_left=None)
        result = None if made is None or not made.windows else made.to_json()
        if self._store.finish(record.id, self._worker, state, shown, made=result, error=error):
            facts = {"job": record.id, "state": state.value, "error": error}
            log.info("job is over", extra=facts)
            if self._observer is not None:
                self._observer.ended(self._store.get(record.id), made)
        self._changed()

    def _attempt(self, record: JobRecord, turn: "_Turn") -> tuple[JobState | None, Made | None, str | None]:
        """How a job ended, what came of it, and why it failed; no state at all if it is to go on later."""
        files = self._files(record.id)
        if record.attempts > MOST_ATTEMPTS:
            times = f"the server stopped {MOST_ATTEMPTS} times at window {record.progress.windows + 1}"
            return JobState.FAILED, None, f"{times} of this job; try fewer window frames or a smaller size"
        try:
            made = self._make(record, files, turn)
        except (Stopped, Interrupted) as stop:
            state = JobState.DONE if turn.listener.begun else turn.reason()
            return state, stop.made if isinstance(stop, Stopped) else None, None
        except DeviceLostError as error:
            log.error("the device is lost: %s", error, extra={"job": record.id})
            self.failure, self._lost = f"{told(error, files)}", True
            return None, None, None
        except InfiniteTalkError as error:
            log.warning("job failed: %s", error, extra={"job": record.id})
            return JobState.FAILED, None, told(error, files)
        except Exception as error:
            log.exception("job failed unexpectedly", extra={"job": record.id})
            name = type(error).__name__
            line = f"something unexpected happened ({name}); the server's log says more of job {record.id}"
            return JobState.FAILED, None, line
        return JobState.DONE, made, None

    def _make(self, record: JobRecord, files: JobFiles, turn: "_Turn") -> Made:
        # A first window is made as the beginning of the whole video, which can go on from there later.
        request = replace(TalkRequest.from_json(record.request), preview=False)
        job = prepare(request, files.video, hls=files.preview)
        try:
            return self._maker.make(job, turn.listener)
        except RequestError as error:
            if error.field != "output" or not files.journaled:
                raise
            # Another version of a library, say: the windows so far cannot be continued to the last bit.
            log.warning("job starts anew: %s", error, extra={"job": record.id})
            return self._maker.make(replace(job, restart=True), turn.listener)


def told(error: InfiniteTalkError, files: JobFiles) -> str:
    """An error's line without the server's folders."""
    return str(error).replace(f"{files.inputs}/", "").replace(f"{files.folder}/", "")


class _Turn:
    """A worker's time with one job: tells the store how far it is, and hears from it whether to stop."""

    def __init__(
        self, store: JobStore, worker: str, record: JobRecord, closing: threading.Event, changed: Callable[[], None]
    ) -> None:
        self._store, self._worker, self._record = store, worker, record
        self._closing, self._changed = closing, changed
        self._cancelled, self._lost, self._over = record.cancelling, False, threading.Event()
        self._board = Board(changed=self._moved)
        self._last = (0.0, -1)
        self._lock = threading.Lock()
        self._pulse = threading.Thread(target=self._live, name=f"pulse-{record.id[:8]}", daemon=True)
        self.listener = Listener(self._board, self._stop, first=bool(record.request.get("preview")))

    def __enter__(self) -> "_Turn":
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pulse.join()

    def progress(self) -> JobProgress:
        """How far the job is."""
        return JobProgress.of(self._board)

    def reason(self) -> JobState | None:
        """What a job that was stopped is now; None: it goes on later, here or elsewhere."""
        return JobState.CANCELLED if self._cancelled and not self._lost else None

    def _stop(self) -> bool:
        return self._cancelled or self._lost or self._closing.is_set()

    def _moved(self, board: Board) -> None:
        now, windows = time.monotonic(), board.windows[0]
        if windows == self._last[1] and now - self._last[0] < _TELL_EVERY:
            return
        self._last = (now, windows)
        self._tell(JobProgress.of(board))

    def _tell(self, progress: JobProgress | None) -> None:
        try:
            with self._lock:
                seen = self._store.renew(self._record.id, self._worker, progress)
        except Exception as error:  # noqa: BLE001 - the video goes on while the database is away
            log.warning("progress was not stored (%s)", type(error).__name__, extra={"job": self._record.id})
            return
        self._lost = seen is None
        self._cancelled = self._cancelled or (seen is not None and seen.cancelling)
        self._changed()

    def _live(self) -> None:
        while not self._over.wait(LEASE / 30):
            self._tell(None)
