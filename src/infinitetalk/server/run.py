"""Serves the API until Ctrl-C."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from infinitetalk.core.errors import MachineError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine.job import Workshop
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.tidy import tidied
from infinitetalk.server.app import create_app
from infinitetalk.server.metrics import Metrics
from infinitetalk.server.settings import ServerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service listens, and where its jobs are."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    database: str | None = None

    def url(self, port: int) -> str:
        """Where it answers, on the port that it got."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}"


@contextmanager
def opened_queue(place: Place, settings: ServerSettings, metrics: Metrics, device: str,
                 memory: MemorySettings | None) -> Iterator[JobQueue]:  # fmt: skip
    """A queue at work, whose old jobs are deleted once an hour.

    Raises:
        InfiniteTalkError: a device, folder or database that cannot be used.
    """
    workshop = Workshop(device, memory)
    with (
        JobQueue(place.folder, workshop, database=place.database, limits=settings.limits, observer=metrics) as queue,
        tidied(queue, settings.limits.keep_days),
    ):
        yield queue


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, so that a port that is taken is told before anything is loaded.

    Raises:
        MachineError: it is taken, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(1024)  # who comes before the service is ready waits
    except OSError as error:
        bound.close()
        problem = "it is taken, or is no address of this machine"
        raise MachineError(f"{host}:{port} cannot be served: {problem}; give another --port or --host") from error
    return bound


def serve(
    place: Place,
    settings: ServerSettings,
    *,
    device: str = "auto",
    memory: MemorySettings | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serves until Ctrl-C or SIGTERM; jobs that are unfinished then go on the next time.

    Args:
        place: where.
        settings: for whom, and what.
        device: on which videos are made.
        memory: how much of it they may take.
        ready: called with the service's URL when connections are taken.

    Raises:
        InfiniteTalkError: a port, device, folder or database that cannot be used.
    """
    with listen(place.host, place.port) as bound:
        metrics = Metrics()
        # A signal may come before uvicorn listens for it.
        with opened_queue(place, settings, metrics, device, memory) as queue, suppress(KeyboardInterrupt):
            ready(place.url(bound.getsockname()[1]))
            run_app(create_app(queue, settings, metrics), bound)


def run_app(app: ASGIApp, bound: socket.socket) -> None:
    """Runs an application on a socket until a signal comes."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_keep_alive=30,
        timeout_graceful_shutdown=5, limit_concurrency=1000,
    )  # fmt: skip
    # uvicorn raises the signal that ended it once more, and the queue is to be closed all the same.
    signal.signal(signal.SIGTERM, _interrupt)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[bound])


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
