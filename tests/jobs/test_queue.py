"""The queue: jobs are made, watched, cancelled, and go on after a stop; nothing of one owner is another's."""

import json
import threading
import time
from pathlib import Path

import pytest

from infinitetalk.core.errors import DeviceLostError, MachineError, MediaError, RequestError
from infinitetalk.core.serving import ServiceLimits
from infinitetalk.engine.job import Job, Made, Workshop, prepare
from infinitetalk.engine.progress import Progress
from infinitetalk.jobs.errors import KeyReusedError, QueueFullError, StillAtWorkError, UnknownJobError
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.record import JobRecord, JobState
from tests.jobs.conftest import MakeRequest
from tests.resume.conftest import frames_of


def last(queue: JobQueue, record: JobRecord, owner: str = "") -> JobRecord:
    return list(queue.watch(record.id, owner))[-1]


class Gate:
    """A workshop that waits before every window until it may go on."""

    def __init__(self) -> None:
        self.workshop = Workshop("cpu")
        self.windows = threading.Semaphore(0)
        self.begun = threading.Event()

    def make(self, job: Job, listener: Progress | None = None) -> Made:
        assert listener is not None
        skip = listener.skip
        self.begun.set()
        engine = self.workshop.engine(job.folder, None, job.request.loras)
        make = engine._make

        def wait(*words: object) -> object:
            assert self.windows.acquire(timeout=60)
            return make(*words)  # type: ignore[arg-type]

        engine._make = wait  # type: ignore[method-assign,assignment]
        try:
            assert skip is not None
            return self.workshop.make(job, listener)
        finally:
            engine._make = make  # type: ignore[method-assign]


def test_a_job_is_made_and_watched(queue: JobQueue, make_request: MakeRequest) -> None:
    request = make_request(1.0)
    record = queue.submit(request, "anna")
    seen = list(queue.watch(record.id, "anna"))
    assert seen[-1].state is JobState.DONE and seen[-1].made is not None
    assert [one.version for one in seen] == sorted({one.version for one in seen})
    assert any(one.state is JobState.RUNNING and one.progress.stage for one in seen)
    assert seen[-1].progress.windows == seen[-1].progress.planned == seen[-1].made["windows"] > 1
    files = queue.files(record.id)
    assert len(frames_of(files.video)) == 25
    assert files.playlist.read_text().endswith("#EXT-X-ENDLIST\n")
    assert json.loads(files.sidecar.read_text())["complete"] is True
    assert {path.name for path in files.inputs.iterdir()} == {"image-0.png", "audio-0.wav"}
    assert queue.records("anna") == [seen[-1]]
    queue.remove(record.id, "anna")
    assert not files.folder.exists() and queue.records("anna") == []


def test_a_request_that_cannot_work_is_refused_at_once_and_leaves_nothing(
    queue: JobQueue, make_request: MakeRequest, tmp_path: Path
) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound at all")
    for audio in ("none.wav", "empty.wav", "text.wav"):
        with pytest.raises(MediaError):
            queue.submit(make_request(audio=(tmp_path / audio,)), "anna")
    with pytest.raises(RequestError, match="motion_frames"):
        queue.submit(make_request(motion_frames=25), "anna")
    assert queue.records("anna") == []
    assert list((queue.folder / "files").iterdir()) == []


def test_owners_do_not_see_each_other(queue: JobQueue, make_request: MakeRequest) -> None:
    record = queue.submit(make_request(), "anna")
    for ask in (queue.get, queue.cancel, queue.remove):
        with pytest.raises(UnknownJobError):
            ask(record.id, "bert")
    assert last(queue, record, "anna").state is JobState.DONE


def test_a_key_makes_one_job(queue: JobQueue, make_request: MakeRequest) -> None:
    request = make_request()
    first, again = (queue.submit(request, "anna", key="k") for _ in range(2))
    assert first.id == again.id
    assert [path.name for path in (queue.folder / "files").iterdir()] == [first.id]
    with pytest.raises(KeyReusedError):
        queue.submit(make_request(seed=7), "anna", key="k")


def test_a_full_queue_and_a_full_disk_take_no_more(tmp_path: Path, make_request: MakeRequest) -> None:
    limits = ServiceLimits(max_waiting=2, max_jobs_each=1)
    queue = JobQueue(tmp_path / "jobs", Workshop("cpu"), limits=limits)  # not at work
    queue.submit(make_request(), "anna")
    with pytest.raises(QueueFullError, match="of your jobs"):
        queue.submit(make_request(), "anna")
    queue.submit(make_request(), "bert")
    with pytest.raises(QueueFullError, match="2 jobs are waiting"):
        queue.submit(make_request(), "cecil")
    assert len(list((queue.folder / "files").iterdir())) == 2
    queue.close()
    full = JobQueue(tmp_path / "full", Workshop("cpu"), limits=ServiceLimits(spare_disk=1e6))
    with pytest.raises(MachineError, match="disk is full"):
        full.submit(make_request())
    full.close()


def test_what_is_too_long_or_too_large_is_refused(tmp_path: Path, make_request: MakeRequest) -> None:
    queue = JobQueue(tmp_path / "jobs", Workshop("cpu"), limits=ServiceLimits(max_seconds=1, max_pixels=0.005))
    with pytest.raises(RequestError, match="duration = as long as the sound: is too long; up to 1 s would work"):
        queue.submit(make_request(1.2))
    with pytest.raises(RequestError, match="duration = 2"):
        queue.submit(make_request(1.2, duration=2.0))
    with pytest.raises(RequestError, match="too many pixels"):
        queue.submit(make_request(1.2, duration=1.0, size="96x96"))
    assert queue.submit(make_request(1.2, duration=1.0)).state is JobState.QUEUED
    queue.close()


def test_cancelling_keeps_what_is_finished(tmp_path: Path, make_request: MakeRequest) -> None:
    gate = Gate()
    with JobQueue(tmp_path / "jobs", gate) as queue:
        runs, waits = queue.submit(make_request(2.0)), queue.submit(make_request())
        assert queue.cancel(waits.id).state is JobState.CANCELLED
        gate.windows.release()
        for record in queue.watch(runs.id):
            if record.progress.windows == 1:
                break
        with pytest.raises(StillAtWorkError):
            queue.remove(runs.id)
        assert queue.cancel(runs.id).cancelling
        gate.windows.release(100)
        record = last(queue, runs)
        assert record.state is JobState.CANCELLED and record.made is not None
        assert 1 <= record.made["windows"] < record.made["windows_planned"]
        assert len(frames_of(queue.files(runs.id).video)) == record.made["frames"]
        assert not queue.files(waits.id).video.exists()


def test_a_closed_queue_goes_on_at_the_next_window(tmp_path: Path, make_request: MakeRequest) -> None:
    gate = Gate()
    request = make_request(2.0)
    with JobQueue(tmp_path / "whole", Workshop("cpu")) as queue:
        whole = queue.submit(request)
        assert last(queue, whole).state is JobState.DONE
        frames = frames_of(queue.files(whole.id).video)
    queue = JobQueue(tmp_path / "jobs", gate)
    queue.start()
    job = queue.submit(request)
    gate.windows.release()
    for record in queue.watch(job.id):
        if record.progress.windows == 1:
            break
    queue._worker._closing.set()
    gate.windows.release(100)
    queue.close()
    with JobQueue(tmp_path / "jobs", Workshop("cpu")) as again:
        record = last(again, job)
        assert record.state is JobState.DONE
        assert any(note.startswith("resumed at window") for note in record.progress.notes)
        assert (frames_of(again.files(job.id).video) == frames).all()


class Broken:
    """Fails as machines and programs do."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.workshop = Workshop("cpu")

    def make(self, job: Job, listener: Progress | None = None) -> Made:
        if self.errors:
            raise self.errors.pop(0)
        return self.workshop.make(job, listener)


def test_a_failure_is_told_in_one_line_and_the_next_job_is_made(tmp_path: Path, make_request: MakeRequest) -> None:
    place = tmp_path / "jobs" / "files"
    maker = Broken(MachineError(f"cuda:0 has too little memory\n for {place}"), ValueError("secret"))
    with JobQueue(tmp_path / "jobs", maker) as queue:
        records = [last(queue, queue.submit(make_request())) for _ in range(3)]
    assert [record.state for record in records] == [JobState.FAILED, JobState.FAILED, JobState.DONE]
    assert records[0].error is not None and records[0].error.startswith("cuda:0 has too little memory for")
    assert records[1].error is not None and "ValueError" in records[1].error and "secret" not in records[1].error


def test_a_lost_device_fails_no_job(tmp_path: Path, make_request: MakeRequest) -> None:
    """Jobs wait for the program to be started again, and are made then."""
    with JobQueue(
        tmp_path / "jobs", Broken(DeviceLostError("cuda:0 stopped working; start the program again"))
    ) as queue:
        jobs = [queue.submit(make_request()) for _ in range(2)]
        states: set[JobState] = set()
        for _ in range(1200):
            if queue.failure is not None and states == {JobState.QUEUED}:
                break
            time.sleep(0.05)
            states = {queue.get(job.id).state for job in jobs}
        assert queue.failure == "cuda:0 stopped working; start the program again"
        assert states == {JobState.QUEUED}
    with JobQueue(tmp_path / "jobs", Workshop("cpu")) as queue:
        assert [last(queue, job).state for job in jobs] == [JobState.DONE] * 2


def test_a_job_that_ends_its_process_again_and_again_is_given_up(tmp_path: Path, make_request: MakeRequest) -> None:
    queue = JobQueue(tmp_path / "jobs", Workshop("cpu"))
    job = queue.submit(make_request())
    for _ in range(3):
        assert queue.store.claim("dead") is not None
        queue.store.release("dead")
    with queue:
        record = last(queue, job)
    assert record.state is JobState.FAILED and record.error is not None
    assert "stopped 3 times at window 1" in record.error


def test_two_queues_share_a_folder(tmp_path: Path, make_request: MakeRequest) -> None:
    with JobQueue(tmp_path / "jobs", Workshop("cpu")) as one, JobQueue(tmp_path / "jobs", Workshop("cpu")) as two:
        jobs = [(one, two)[number % 2].submit(make_request()) for number in range(4)]
        assert all(last(two, job).state is JobState.DONE for job in jobs)


def test_old_jobs_are_pruned(queue: JobQueue, make_request: MakeRequest) -> None:
    job = queue.submit(make_request())
    last(queue, job)
    assert queue.prune(1.0) == 0
    assert queue.prune(-1.0) == 1
    assert not queue.files(job.id).folder.exists()


def test_a_first_window_is_the_beginning_of_the_whole(
    queue: JobQueue, make_request: MakeRequest, tmp_path: Path
) -> None:
    """It is made once: the job goes on from there, and ends in the same frames as one that was made at once."""
    first = last(queue, queue.submit(make_request(1.0, preview=True), "anna"), "anna")
    assert first.state is JobState.DONE and first.begun and first.made is not None
    assert first.made["windows"] == 1 < first.made["windows_planned"]
    assert first.progress.windows == first.progress.planned == 1 and first.progress.fraction == 1.0
    beginning = frames_of(queue.files(first.id).video)
    assert len(beginning) == 13
    with pytest.raises(UnknownJobError):
        queue.go_on(first.id, "bert")
    queue.go_on(first.id, "anna")
    whole = last(queue, first, "anna")
    assert whole.state is JobState.DONE and whole.made is not None and whole.made["complete"] and not whole.begun
    assert "resumed at window 1" in whole.progress.notes
    frames = frames_of(queue.files(first.id).video)
    assert len(frames) == 25
    assert (frames[:13] == beginning).all()
    at_once = tmp_path / "at-once.mp4"
    Workshop("cpu").make(prepare(make_request(1.0), at_once))
    assert (frames_of(at_once) == frames).all()
    assert queue.go_on(first.id, "anna").state is JobState.DONE, "a whole video has nothing to go on with"


def test_a_first_window_that_is_all_is_a_whole_video(queue: JobQueue, make_request: MakeRequest) -> None:
    record = last(queue, queue.submit(make_request(0.5, preview=True)))
    assert record.state is JobState.DONE and record.made is not None and record.made["complete"]
    assert not record.begun
