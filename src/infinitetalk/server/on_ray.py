"""The API as a Ray Serve deployment, in front of a queue whose videos a cluster makes."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from infinitetalk.cluster.connection import connected, import_ray
from infinitetalk.cluster.maker import ClusterMaker
from infinitetalk.cluster.pool import Pool
from infinitetalk.cluster.vault import Vault
from infinitetalk.core.errors import MachineError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.record import JobState
from infinitetalk.jobs.tidy import tidied
from infinitetalk.server.app import create_app
from infinitetalk.server.logs import log_to_stderr
from infinitetalk.server.metrics import Metrics
from infinitetalk.server.run import Place, listen
from infinitetalk.server.settings import ServerSettings

log = logging.getLogger(__name__)

APPLICATION = "infinitetalk"
_MOST_QUEUES = 60
_COUNT_EVERY = 1.0
# Where this machine reaches what listens everywhere.
_NEAR = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_LATEST = 60.0
"""Seconds within which the proxy must know the application."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """All that a replica is made from, on whichever node."""

    store: str
    place: Place
    settings: ServerSettings
    device: str
    memory: MemorySettings | None


class Replica:
    """The application with its queues; they are open between the server's startup and shutdown."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open = ExitStack()
        self._app: ASGIApp | None = None

    def start(self) -> None:
        """Opens the queues and begins to work.

        Raises:
            InfiniteTalkError: a store, folder or database that cannot be used.
        """
        service, metrics = self._service, Metrics()
        vault = Vault(service.store)
        pool = self._open.enter_context(Pool(vault, service.device, service.memory))
        maker = ClusterMaker(pool, vault)

        def queue() -> JobQueue:
            limits, database = service.settings.limits, service.place.database
            return JobQueue(service.place.folder, maker, database=database, limits=limits, observer=metrics)

        first = self._open.enter_context(queue())
        self._open.enter_context(tidied(first, service.settings.limits.keep_days))
        self._open.enter_context(Hands(first, pool, queue))
        self._app = create_app(first, service.settings, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "lifespan":
            assert self._app is not None
            await self._app(scope, receive, send)
            return
        from anyio import to_thread

        await receive()
        await to_thread.run_sync(self.start)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await to_thread.run_sync(self._open.close)
        await send({"type": "lifespan.shutdown.complete"})


class Hands:
    """More queues on the same jobs, each with a worker that waits for the cluster: one more than it has room for, so
    that Ray hears of what waits."""

    def __init__(self, first: JobQueue, pool: Pool, queue: Callable[[], JobQueue]) -> None:
        self._first, self._pool, self._queue = first, pool, queue
        self._more: list[JobQueue] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hands", daemon=True)

    def __enter__(self) -> "Hands":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for queue in self._more:
            queue.close()

    def _run(self) -> None:
        while not self._over.wait(_COUNT_EVERY):
            try:
                counts = self._first.store.counts()
                have = 1 + len(self._more)
                busy = counts[JobState.QUEUED] and counts[JobState.RUNNING] >= have
                if busy and have <= min(self._pool.room, _MOST_QUEUES - 1):
                    queue = self._queue()
                    queue.start()
                    self._more.append(queue)
            except Exception:
                log.exception("the job store or the cluster does not answer")


def application(service: Service, address: str) -> Any:
    """The application for `ray.serve.run`; its replica stays on the node with this address, as its files do."""
    from ray import serve

    def build() -> ASGIApp:
        log_to_stderr()
        return Replica(service)

    here = {"num_cpus": 0, "resources": {f"node:{address}": 0.001}}
    # One replica: it has the folder. Events and uploads wait in it, so it takes many requests at the same time.
    options = serve.deployment(name="api", num_replicas=1, max_ongoing_requests=1000, ray_actor_options=here)
    return options(serve.ingress(build)()).bind()


def deploy(service: Service, address: str, port: int) -> None:
    """Runs the application behind Ray's proxy on a port, and returns when it answers there.

    Raises:
        MachineError: it does not within a minute.
    """
    from ray import serve

    serve.run(application(service, address), name=APPLICATION, route_prefix="/")
    host, until = _NEAR.get(service.place.host, service.place.host), time.monotonic() + _LATEST
    # Ray's proxy hears of the route a moment after the deployment is ready, and knows nothing of it until then.
    while _asked(host, port) == HTTPStatus.NOT_FOUND:
        if time.monotonic() > until:
            raise MachineError(f"Ray's proxy on port {port} does not pass on what it is asked; see `serve status`")
        time.sleep(0.1)


def _asked(host: str, port: int) -> int:
    """The status of the answer whether the service lives."""
    with closing(HTTPConnection(host, port, timeout=_LATEST)) as connection:
        connection.request("GET", "/healthz")
        return connection.getresponse().status


def serve_on_ray(address: str, service: Service, ready: Callable[[str], None]) -> None:
    """Serves until Ctrl-C or SIGTERM; jobs that are unfinished then go on the next time.

    Args:
        address: of the cluster, as `connected` takes it.
        service: what is served.
        ready: called with the service's URL when connections are taken.

    Raises:
        InfiniteTalkError: no cluster answers, or a port, device, store, folder or database that cannot be used.
    """
    ray = import_ray()
    try:
        from ray import serve
    except ImportError as error:
        raise MachineError(f"the service on a cluster needs Ray Serve ({error}): pip install 'ray[serve]'") from error
    place = service.place
    with listen(place.host, place.port) as bound:
        port = bound.getsockname()[1]
    with connected(address):
        serve.start(http_options={"host": place.host, "port": port})
        try:
            deploy(service, ray.util.get_node_ip_address(), port)
            ready(place.url(port))
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        finally:
            serve.shutdown()
