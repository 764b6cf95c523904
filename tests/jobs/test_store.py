"""The store, on SQLite and on PostgreSQL: the same tests."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.jobs.errors import KeyReusedError, UnknownJobError
from infinitetalk.jobs.record import JobProgress, JobRecord, JobState, StageProgress
from infinitetalk.jobs.store import LEASE, JobStore, new_id

REQUEST = {"image": "face.png", "audio": ["voice.wav"], "prompt": "a 'quoted' %s – \u5de5"}
HALFWAY = JobProgress(
    "denoising (DiT)", 0.5, 12.5, 3, 6, (StageProgress("assembly", "paused", 3, 6, 1.5),), ("a note",)
)


def add(store: JobStore, owner: str = "anna") -> JobRecord:
    return store.add(new_id(), owner, REQUEST).record


def test_a_job_comes_back_as_it_was_put_in(store: JobStore) -> None:
    record = add(store)
    assert (record.state, record.request, record.progress) == (JobState.QUEUED, REQUEST, JobProgress())
    assert store.get(record.id, "anna") == store.get(record.id) == record
    assert store.records("anna") == [record]


def test_another_owners_job_does_not_exist(store: JobStore) -> None:
    record = add(store)
    for ask in (store.get, store.cancel):
        with pytest.raises(UnknownJobError):
            ask(record.id, "bert")
    assert store.records("bert") == []
    assert store.get(record.id).state is JobState.QUEUED


def test_jobs_are_taken_in_their_order_and_told_of(store: JobStore) -> None:
    first, second = add(store), add(store)
    assert (store.ahead(first.id), store.ahead(second.id)) == (0, 1)
    claimed = store.claim("w")
    assert claimed is not None and claimed.id == first.id and claimed.state is JobState.RUNNING
    seen = store.renew(first.id, "w", HALFWAY)
    assert seen is not None and seen.progress == HALFWAY and seen.version > claimed.version
    assert store.finish(first.id, "w", JobState.DONE, HALFWAY.finished(), made={"windows": 6})
    done = store.get(first.id)
    assert (done.state, done.made, done.progress.fraction) == (JobState.DONE, {"windows": 6}, 1.0)
    assert done.ended is not None
    assert store.counts()[JobState.DONE] == store.counts()[JobState.QUEUED] == 1
    assert store.unfinished("anna") == 1


def test_nobody_gets_the_same_job_twice(store: JobStore) -> None:
    jobs = {add(store).id for _ in range(40)}
    barrier = threading.Barrier(8)

    def take(worker: int) -> list[str]:
        barrier.wait()
        taken = []
        while (record := store.claim(f"w{worker}")) is not None:
            taken.append(record.id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [job for found in pool.map(take, range(8)) for job in found]
    assert sorted(taken) == sorted(jobs)


def test_a_key_stands_for_one_job_of_one_owner(store: JobStore) -> None:
    first = store.add(new_id(), "anna", REQUEST, key="k", digest="d")
    again = store.add(new_id(), "anna", REQUEST, key="k", digest="d")
    other = store.add(new_id(), "bert", REQUEST, key="k", digest="d")
    assert (first.fresh, again.fresh, other.fresh) == (True, False, True)
    assert again.record.id == first.record.id != other.record.id
    with pytest.raises(KeyReusedError):
        store.add(new_id(), "anna", REQUEST, key="k", digest="e")


def test_a_key_that_many_use_at_once_makes_one_job(store: JobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.add(new_id(), "anna", REQUEST, key="k", digest="d"), range(16)))
    assert len({added.record.id for added in made}) == 1
    assert sum(added.fresh for added in made) == 1


def test_cancelling(store: JobStore) -> None:
    runs, waits = add(store), add(store)
    store.claim("w")
    assert store.cancel(waits.id, "anna").state is JobState.CANCELLED
    asked = store.cancel(runs.id, "anna")
    assert (asked.state, asked.cancelling) == (JobState.RUNNING, True)
    seen = store.renew(runs.id, "w")
    assert seen is not None and seen.cancelling
    assert store.finish(runs.id, "w", JobState.CANCELLED, JobProgress())
    assert store.cancel(runs.id, "anna") == store.get(runs.id)


def test_a_dead_workers_job_is_taken_again(database: str) -> None:
    clock = count(0.0, 1.0)
    now = [0.0]
    store = JobStore(database, now=lambda: now[0] + next(clock) / 1e6)
    record = add(store)
    store.claim("dead")
    store.renew(record.id, "dead", HALFWAY)
    assert store.claim("heir") is None
    now[0] = LEASE + 1
    taken = store.claim("heir")
    assert taken is not None and taken.id == record.id and taken.attempts == 1 and taken.progress.windows == 3
    assert store.renew(record.id, "dead") is None
    assert not store.finish(record.id, "dead", JobState.DONE, JobProgress())
    for attempt in (2, 3):
        assert store.release("heir") == 1
        again = store.claim("heir")
        assert again is not None and again.attempts == attempt
    store.close()


def test_what_is_over_can_be_forgotten(store: JobStore) -> None:
    record = add(store)
    store.remove(record.id)
    assert store.get(record.id).state is JobState.QUEUED
    store.cancel(record.id, "anna")
    assert [old.id for old in store.ended_before(1e12)] == [record.id]
    store.remove(record.id)
    with pytest.raises(UnknownJobError):
        store.get(record.id)


def test_jobs_are_there_when_the_store_is_opened_again(database: str) -> None:
    store = JobStore(database)
    record = add(store)
    store.close()
    again = JobStore(database)
    assert again.get(record.id) == record
    again.close()


@pytest.mark.parametrize("url", ["", "nonsense", "oracle9://x", "redis://secret@host/1"])
def test_other_urls_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(RequestError) as caught:
        JobStore(url)
    assert "secret" not in str(caught.value)
    assert "postgresql://USER:PASSWORD@HOST/NAME" in str(caught.value)


def test_a_database_that_is_away_is_told_without_its_password() -> None:
    with pytest.raises(MachineError) as caught:
        JobStore("postgresql://anna:geheim@127.0.0.1:1/none")
    assert "geheim" not in str(caught.value)
