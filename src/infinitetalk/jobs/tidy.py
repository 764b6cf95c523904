"""Old jobs are deleted once an hour while a service runs."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from infinitetalk.jobs.queue import JobQueue

log = logging.getLogger(__name__)

_HOUR = 3600.0


@contextmanager
def tidied(queue: JobQueue, days: float) -> Iterator[None]:
    """Deletes what has been over for so many days, at once and then every hour, while the block runs."""
    over = threading.Event()

    def tidy() -> None:
        while not over.is_set():
            try:
                queue.prune(days)
            except Exception:
                log.exception("old jobs could not be deleted")
            over.wait(_HOUR)

    threading.Thread(target=tidy, name="tidy", daemon=True).start()
    try:
        yield
    finally:
        over.set()
