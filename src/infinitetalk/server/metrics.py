"""Prometheus metrics, all of them named infinitetalk_*."""

import sys
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infinitetalk.engine.job import Made
from infinitetalk.jobs.record import JobRecord, JobState
from infinitetalk.jobs.store import JobStore
from infinitetalk.runtime.platform import available_memory, peak_memory

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)


class Metrics:
    """What happens, counted; an `Observer` of the queue's worker."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._jobs = Counter("infinitetalk_jobs", "Jobs that are over", ["state"], registry=registry)
        self._failures = Counter("infinitetalk_failures", "Jobs that failed", registry=registry)
        self._frames = Counter("infinitetalk_frames", "Frames of finished windows", registry=registry)
        self._video = Counter("infinitetalk_video_seconds", "Seconds of video made", registry=registry)
        self._stages = Counter("infinitetalk_stage_seconds", "Seconds of work", ["stage"], registry=registry)
        self._waited = Histogram("infinitetalk_wait_seconds", "From request to the beginning of work", buckets=_SECONDS,
                                 registry=registry)  # fmt: skip
        self._worked = Histogram("infinitetalk_job_seconds", "From the beginning of work to its end", buckets=_SECONDS,
                                 registry=registry)  # fmt: skip
        self._requests = Counter("infinitetalk_requests", "Answers", ["method", "route", "status"], registry=registry)
        for state in JobState:
            if state.over:
                self._jobs.labels(state.value)

    def watch(self, store: JobStore) -> None:
        """Adds what the store knows: jobs in the queue and at work."""
        self.registry.register(_Now(store))

    def began(self, record: JobRecord) -> None:
        """Work on a job begins."""
        if record.attempts == 1 and not record.progress.windows:
            self._waited.observe(max(0.0, time.time() - record.created))

    def ended(self, record: JobRecord, made: Made | None) -> None:
        """A job is over."""
        self._jobs.labels(record.state.value).inc()
        if record.state is JobState.FAILED:
            self._failures.inc()
        if record.started is not None and record.ended is not None:
            self._worked.observe(max(0.0, record.ended - record.started))
        if made is not None:
            self._frames.inc(made.frames)
            self._video.inc(made.seconds)
            for stage, seconds in made.stages.items():
                self._stages.labels(stage.value).inc(max(0.0, seconds))

    def seen(self, method: str, route: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(method, route, f"{status}").inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Now(Collector):
    """What is so at this moment."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        """Nothing: the store is not asked before metrics are."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Queue and memory."""
        up = GaugeMetricFamily("infinitetalk_store_up", "Whether the job store answers")
        queue = GaugeMetricFamily("infinitetalk_queue", "Jobs that are not over", labels=["state"])
        try:
            counts = self._store.counts()
        except Exception:  # noqa: BLE001 - that it does not answer is what is told
            up.add_metric([], 0)
        else:
            up.add_metric([], 1)
            for state in (JobState.QUEUED, JobState.RUNNING):
                queue.add_metric([state.value], counts[state])
        yield from (up, queue, _memory())


def _memory() -> Metric:
    memory = GaugeMetricFamily("infinitetalk_memory_bytes", "Memory", labels=["kind"])
    memory.add_metric(["peak"], peak_memory())
    memory.add_metric(["available"], available_memory())
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        memory.add_metric(["gpu_allocated"], torch.cuda.memory_allocated())
        memory.add_metric(["gpu_peak"], torch.cuda.max_memory_allocated())
    return memory
