"""Where jobs are kept: one SQLAlchemy code for SQLite and PostgreSQL."""

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, CursorResult, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from infinitetalk.jobs.errors import KeyReusedError, UnknownJobError
from infinitetalk.jobs.record import JobProgress, JobRecord, JobState
from infinitetalk.jobs.tables import JobRow, open_database

_NAME = re.compile(r"[0-9a-f]{32}")

LEASE = 60.0
"""Seconds after which a worker that was not heard of is taken for dead."""


class Added(NamedTuple):
    """What `JobStore.add` found or made."""

    record: JobRecord
    fresh: bool
    """Whether the job is new; else the key was known."""


def new_id() -> str:
    """A job's name, which nobody can guess: 32 hexadecimal digits."""
    return secrets.token_hex(16)


class JobStore:
    """Jobs in a database. Every change is one transaction; safe for many threads and processes.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.
        now: seconds since 1970.

    Raises:
        RequestError: no URL of a database.
        MachineError: the database does not answer.
    """

    def __init__(self, url: str, now: Callable[[], float] = time.time) -> None:
        self._engine = open_database(url)
        self._now = now

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def add(
        self, job: str, owner: str, request: Mapping[str, Any], *, key: str | None = None, digest: str = ""
    ) -> Added:
        """Queues a job; with a key that the owner used before, gives that job instead.

        Raises:
            KeyReusedError: the key stands for something of another digest.
        """
        row = JobRow(id=job, owner=owner, key=key, digest=digest, state=JobState.QUEUED.value, created=self._now(),
                     request=json.dumps(request), progress="{}", version=0, attempts=0, windows=0,
                     cancelling=False)  # fmt: skip
        try:
            with Session(self._engine) as session, session.begin():
                session.add(row)
                session.flush()
                return Added(_record(row), fresh=True)
        except IntegrityError:
            known = None if key is None else self.keyed(owner, key, digest)
            if known is None:
                raise
            return Added(known, fresh=False)

    def keyed(self, owner: str, key: str, digest: str) -> JobRecord | None:
        """The job of an owner's key, if there is one.

        Raises:
            KeyReusedError: it is of another digest.
        """
        with Session(self._engine) as session:
            row = session.scalar(select(JobRow).where(JobRow.owner == owner, JobRow.key == key))
        if row is not None and row.digest != digest:
            raise KeyReusedError(key)
        return None if row is None else _record(row)

    def get(self, job: str, owner: str | None = None) -> JobRecord:
        """One job, of this owner if one is named.

        Raises:
            UnknownJobError: there is none.
        """
        if not _NAME.fullmatch(job):  # PostgreSQL refuses some texts before it looks
            raise UnknownJobError(job)
        mine = [] if owner is None else [JobRow.owner == owner]
        with Session(self._engine) as session:
            row = session.scalar(select(JobRow).where(JobRow.id == job, *mine))
        if row is None:
            raise UnknownJobError(job)
        return _record(row)

    def records(self, owner: str, limit: int = 100) -> list[JobRecord]:
        """An owner's jobs, newest first."""
        query = select(JobRow).where(JobRow.owner == owner).order_by(JobRow.number.desc()).limit(limit)
        with Session(self._engine) as session:
            return [_record(row) for row in session.scalars(query)]

    def ended_before(self, moment: float) -> list[JobRecord]:
        """Jobs that were over before a moment, whoever's they are."""
        with Session(self._engine) as session:
            return [_record(row) for row in session.scalars(select(JobRow).where(JobRow.ended < moment))]

    def counts(self) -> dict[JobState, int]:
        """How many jobs stand where."""
        with Session(self._engine) as session:
            found = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state)).all()
        return dict.fromkeys(JobState, 0) | {JobState(row[0]): row[1] for row in found}

    def unfinished(self, owner: str) -> int:
        """How many jobs of an owner are not over."""
        open_ones = [state.value for state in JobState if not state.over]
        query = select(func.count()).where(JobRow.owner == owner, JobRow.state.in_(open_ones))
        with Session(self._engine) as session:
            return session.scalar(query) or 0

    def ahead(self, job: str) -> int:
        """How many jobs will be taken before this one."""
        mine = select(JobRow.number).where(JobRow.id == job).scalar_subquery()
        query = select(func.count()).where(JobRow.state == JobState.QUEUED.value, JobRow.number < mine)
        with Session(self._engine) as session:
            return session.scalar(query) or 0

    def claim(self, worker: str) -> JobRecord | None:
        """Takes the oldest job that nobody works on, if there is one."""
        now = self._now()
        dead = (JobRow.state == JobState.RUNNING.value) & (JobRow.lease < now)
        free: ColumnElement[bool] = or_(JobRow.state == JobState.QUEUED.value, dead)
        while True:
            with Session(self._engine) as session:
                row = session.scalar(select(JobRow).where(free).order_by(JobRow.number).limit(1))
            if row is None:
                return None
            progress = _progress(row)
            taken = {
                "state": JobState.RUNNING.value,
                "worker": worker,
                "lease": now + LEASE,
                "started": row.started or now,
                "attempts": row.attempts + 1 if progress.windows == row.windows else 1,
                "windows": progress.windows,
            }
            # Whoever changes the row first has it; the others look for the next one.
            if self._change(row.id, free, JobRow.version == row.version, **taken):
                return self.get(row.id)

    def renew(self, job: str, worker: str, progress: JobProgress | None = None) -> JobRecord | None:
        """Says that a worker is still at it, and how far it is; None if it is not its job any more."""
        told = {} if progress is None else {"progress": json.dumps(progress.to_json())}
        if not self._change(job, *_worked_on(worker), lease=self._now() + LEASE, **told):
            return None
        return self.get(job)

    def finish(
        self,
        job: str,
        worker: str,
        state: JobState,
        progress: JobProgress,
        *,
        made: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """Ends a job; false if it is not this worker's any more."""
        # No database takes lone surrogates, and PostgreSQL no zeros.
        clean = None if error is None else error.encode("utf-8", "backslashreplace").decode().replace("\0", "")
        told = {"made": None if made is None else json.dumps(made), "error": clean, "lease": None, "worker": None}
        shown = json.dumps(progress.to_json())
        return self._change(job, *_worked_on(worker), state=state.value, ended=self._now(), progress=shown, **told)

    def release(self, worker: str) -> int:
        """Puts all jobs of a worker that is gone back to their places in the queue; gives how many."""
        change = update(JobRow).where(*_worked_on(worker)).values(
            state=JobState.QUEUED.value, worker=None, lease=None, version=JobRow.version + 1
        )  # fmt: skip
        with Session(self._engine) as session, session.begin():
            return _changed(session, change)

    def cancel(self, job: str, owner: str) -> JobRecord:
        """Cancels a job that waits, and asks the worker of one that runs to stop; one that is over stays as it is.

        Raises:
            UnknownJobError: there is none.
        """
        self.get(job, owner)
        waits, runs = (JobRow.state == state.value for state in (JobState.QUEUED, JobState.RUNNING))
        if not self._change(job, waits, state=JobState.CANCELLED.value, ended=self._now()):
            self._change(job, runs, cancelling=True)
        return self.get(job, owner)

    def again(self, job: str, owner: str) -> JobRecord:
        """Puts a job that was cancelled or failed back to its place in the queue; any other stays as it is.

        One that made its first window only is to make all of them from now on.

        Raises:
            UnknownJobError: there is none.
        """
        record = self.get(job, owner)
        if record.begun or record.state in (JobState.CANCELLED, JobState.FAILED):
            request = {**record.request, "preview": False} if record.begun else record.request
            self._change(job, JobRow.owner == owner, JobRow.version == record.version, state=JobState.QUEUED.value,
                         ended=None, cancelling=False, error=None, attempts=0, request=json.dumps(request))  # fmt: skip
        return self.get(job, owner)

    def remove(self, job: str) -> None:
        """Forgets a job that is over."""
        over = [state.value for state in JobState if state.over]
        with Session(self._engine) as session, session.begin():
            session.execute(delete(JobRow).where(JobRow.id == job, JobRow.state.in_(over)))

    def _change(self, job: str, *conditions: ColumnElement[bool], **values: Any) -> bool:
        """Changes a job if the conditions hold; gives whether they did."""
        change = update(JobRow).where(JobRow.id == job, *conditions).values(version=JobRow.version + 1, **values)
        with Session(self._engine) as session, session.begin():
            return _changed(session, change) == 1


def _changed(session: Session, change: Any) -> int:
    result = session.execute(change, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)
    return int(result.rowcount)


def _worked_on(worker: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return JobRow.state == JobState.RUNNING.value, JobRow.worker == worker


def _progress(row: JobRow) -> JobProgress:
    return JobProgress.from_json(json.loads(row.progress))


def _record(row: JobRow) -> JobRecord:
    return JobRecord(
        id=row.id,
        owner=row.owner,
        state=JobState(row.state),
        request=json.loads(row.request),
        created=row.created,
        started=row.started,
        ended=row.ended,
        cancelling=row.cancelling,
        progress=_progress(row),
        error=row.error,
        made=None if row.made is None else json.loads(row.made),
        attempts=row.attempts,
        worker=row.worker,
        version=row.version,
    )
