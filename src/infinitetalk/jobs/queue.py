"""The queue: what faces give jobs to. See the package's docstring for how it is used."""

import hashlib
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.serving import ServiceLimits
from infinitetalk.core.units import GIB
from infinitetalk.engine.job import Job, prepare
from infinitetalk.jobs.errors import QueueFullError, StillAtWorkError
from infinitetalk.jobs.files import JobFiles
from infinitetalk.jobs.record import JobRecord, JobState
from infinitetalk.jobs.store import JobStore, new_id
from infinitetalk.jobs.worker import Maker, Observer, Worker
from infinitetalk.media.voices import arranged
from infinitetalk.runtime.platform import held

log = logging.getLogger(__name__)

_PROCESSES = 64
"""How many processes may share a folder."""


WAITING, SPARE_DISK = 1000, 1.0
"""Jobs that may wait, and GiB of the disk that stay free, where no limits are given."""


class JobQueue:
    """Jobs of one folder, their store, and a worker that makes them; see the package's docstring.

    Args:
        folder: of all jobs' files; made if it is not there. Processes that share a database share the folder.
        maker: makes videos: a `Workshop`. Its videos are made one after the other.
        database: as `JobStore`; default: SQLite in the folder.
        limits: what it takes; default: videos of any length and size.
        observer: hears of every job.

    Raises:
        RequestError: no URL of a database.
        MachineError: the database does not answer, or the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        maker: Maker,
        *,
        database: str | None = None,
        limits: ServiceLimits | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.limits = limits
        self.spare_disk = SPARE_DISK if limits is None else limits.spare_disk
        try:
            (self.folder / "workers").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"{folder}: no folder for jobs can be made there ({error.strerror})") from error
        self.store = JobStore(database or f"sqlite:///{self.folder / 'jobs.sqlite'}")
        self._place, name = self._take_place()
        self._news = threading.Condition()
        self._submitting = threading.Lock()
        self._worker = Worker(name, self.store, maker, files=self.files, changed=self._tell, observer=observer)
        # What this place's process, which is dead, had begun.
        self.store.release(name)

    def start(self) -> None:
        """Begins to work."""
        self._worker.start()

    def close(self, timeout: float | None = 60.0) -> None:
        """Stops after the step at work; what is unfinished goes on when a queue is opened here again."""
        self._worker.close(timeout)
        self._tell()
        self._place.__exit__(None, None, None)
        self.store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def failure(self) -> str | None:
        """Why nothing is made now; None if all is well."""
        return self._worker.failure if self._worker.is_alive() else "the worker is not at work"

    def files(self, job: str) -> JobFiles:
        """A job's folder."""
        return JobFiles(job, self.folder / "files" / job)

    def room(self) -> JobFiles:
        """A new job's folder, for `submit`; a face that does not submit it removes it.

        Raises:
            MachineError: the disk is full or gone.
        """
        free = shutil.disk_usage(self.folder).free / GIB
        if free < self.spare_disk:
            need = f"{self.spare_disk:g} GiB must stay free"
            raise MachineError(f"the server's disk is full ({free:.1f} GiB free, {need}); delete old jobs or try later")
        files = self.files(new_id())
        files.make()
        return files

    def submit(
        self, request: TalkRequest, owner: str = "", *, key: str | None = None, digest: str | None = None,
        room: JobFiles | None = None,
    ) -> JobRecord:  # fmt: skip
        """Checks a request and queues it; its media files are copied to the job's folder.

        Args:
            request: what to make.
            owner: who may see it.
            key: asked again with the same key, this gives the same job.
            digest: what the key stands for; default: the request.
            room: a folder of `room` that holds inputs already.

        Raises:
            QueueFullError: as many jobs wait as may.
            KeyReusedError: the key stands for another request.
            InfiniteTalkError: what is wrong with the request, and what would work.
        """
        files = room or self.room()
        digest = digest or hashlib.sha256(json.dumps(request.to_json(), sort_keys=True).encode()).hexdigest()
        taken = False
        try:
            if key is not None and (known := self.store.keyed(owner, key, digest)) is not None:
                return known
            self._require_place(owner)
            request = files.adopt(request)
            self._require_size(prepare(request, files.video, hls=files.preview))
            with self._submitting:
                self._require_place(owner)
                added = self.store.add(files.id, owner, request.to_json(), key=key, digest=digest)
            taken = added.fresh
        finally:
            if not taken:
                files.remove()
        if taken:
            log.info("job is queued", extra={"job": files.id, "owner": owner})
            self._worker.wake()
            self._tell()
        return added.record

    def get(self, job: str, owner: str = "") -> JobRecord:
        """One job.

        Raises:
            UnknownJobError: the owner has no such job.
        """
        return self.store.get(job, owner)

    def records(self, owner: str = "", limit: int = 100) -> list[JobRecord]:
        """An owner's jobs, newest first."""
        return self.store.records(owner, limit)

    def watch(self, job: str, owner: str = "") -> Iterator[JobRecord]:
        """A job now and after every change, until it is over. The thread that asks waits.

        Raises:
            UnknownJobError: the owner has no such job.
        """
        seen = -1
        while True:
            record = self.get(job, owner)
            if record.version != seen:
                seen = record.version
                yield record
                if record.state.over:
                    return
                continue
            with self._news:
                self._news.wait(1.0)

    def cancel(self, job: str, owner: str = "") -> JobRecord:
        """Takes a job that waits out of the queue, or stops it after the step at work; finished windows stay a video.

        A job that is over stays as it is.

        Raises:
            UnknownJobError: the owner has no such job.
        """
        record = self.store.cancel(job, owner)
        self._tell()
        return record

    def go_on(self, job: str, owner: str = "") -> JobRecord:
        """Queues a job again that was cancelled or failed, or made its first window only; it goes on where it stopped.

        Raises:
            UnknownJobError: the owner has no such job.
            QueueFullError: as many jobs wait as may.
        """
        self.get(job, owner)
        self._require_place(owner)
        record = self.store.again(job, owner)
        self._worker.wake()
        self._tell()
        return record

    def remove(self, job: str, owner: str = "") -> None:
        """Deletes a job that is over, with all its files.

        Raises:
            UnknownJobError: the owner has no such job.
            StillAtWorkError: it is not over.
        """
        record = self.get(job, owner)
        if not record.state.over:
            raise StillAtWorkError(job)
        self.store.remove(job)
        self.files(job).remove()

    def prune(self, days: float) -> int:
        """Deletes what has been over for so many days, whoever's it is; gives how many jobs."""
        old = self.store.ended_before(time.time() - days * 86_400)
        for record in old:
            self.remove(record.id, record.owner)
        return len(old)

    def _require_place(self, owner: str) -> None:
        waiting = self.store.counts()[JobState.QUEUED]
        if waiting >= (WAITING if self.limits is None else self.limits.max_waiting):
            raise QueueFullError(f"{waiting} jobs are waiting, and no more are taken; try again later")
        if self.limits is None:
            return
        mine = self.store.unfinished(owner)
        if mine >= self.limits.max_jobs_each:
            raise QueueFullError(f"{mine} of your jobs are waiting, and no more are taken; wait until one is over")

    def _require_size(self, job: Job) -> None:
        """Refuses a video that is larger or longer than the limits.

        Raises:
            RequestError: it is.
        """
        if self.limits is None:
            return
        size, most = job.settings.output_size, self.limits.max_pixels
        if size.height * size.width > most * 1e6:
            raise RequestError("size", f"{size}", f"has too many pixels; up to {most:g} million would work")
        request, longest = job.request, self.limits.max_seconds
        if request.duration is not None and request.duration <= longest:
            return
        if request.duration is not None or max(voice.end for voice in arranged(request)) - request.start > longest:
            shown = request.duration if request.duration is not None else "as long as the sound"
            raise RequestError("duration", shown, f"is too long; up to {longest:g} s would work")

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def _take_place(self) -> tuple[AbstractContextManager[Any], str]:
        """A name for this process's worker, which nobody else has while it lives."""
        for number in range(_PROCESSES):
            name = f"{socket.gethostname()}:{self.folder}:{number}"[-200:]
            place = held(self.folder / "workers" / f"{socket.gethostname()}-{number}.lock")
            try:
                place.__enter__()
            except (BlockingIOError, PermissionError):
                continue
            return place, name
        raise MachineError(f"{self.folder}: {_PROCESSES} processes work here already")
