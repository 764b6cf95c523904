"""A service on a port of this machine, with `tiny`, for two users."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from infinitetalk.client import Client
from infinitetalk.core.serving import ServiceLimits
from infinitetalk.engine.job import Workshop
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.worker import Maker
from infinitetalk.server.app import create_app
from infinitetalk.server.metrics import Metrics
from infinitetalk.server.run import listen
from infinitetalk.server.settings import ServerSettings, Users
from tests.faces.conftest import write_portrait, write_voice
from tests.jobs.conftest import MakeRequest, request_maker

TOKENS = {"anna": "anna-token-0123456789", "bert": "bert-token-0123456789"}


@dataclass(frozen=True)
class Live:
    """A service at work."""

    url: str
    queue: JobQueue
    settings: ServerSettings
    metrics: Metrics
    picture: Path
    voice: Path
    owned: list[str] = field(default_factory=list)

    def http(self, user: str | None = "anna") -> httpx.Client:
        """Speaks HTTP as a user, or as nobody."""
        headers = {} if user is None else {"Authorization": f"Bearer {TOKENS[user]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def client(self, user: str = "anna") -> Client:
        """The typed client of a user."""
        return Client(self.url, TOKENS[user])

    def post(self, user: str = "anna", headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """Queues a job of half a second; a field that is None is left out."""
        files = [("image", ("face.png", self.picture.read_bytes())), ("audio", ("a.wav", self.voice.read_bytes()))]
        usual: dict[str, Any] = {"steps": "2", "provenance": "false"}
        values = {name: value for name, value in {**usual, **fields}.items() if value is not None}
        with self.http(user) as http:
            return http.post("/v1/jobs", data=values, files=files, headers=headers)

    def done(self, job: str, user: str = "anna") -> dict[str, Any]:
        """A job when it is over."""
        with self.http(user) as http:
            for _ in range(1200):
                answer: dict[str, Any] = http.get(f"/v1/jobs/{job}").json()
                if answer["state"] not in ("queued", "running"):
                    return answer
                time.sleep(0.05)
        raise AssertionError(answer)


@contextmanager
def live_server(
    folder: Path, model: Path, *, maker: Maker | None = None, limits: ServiceLimits | None = None, **more: Any
) -> Iterator[Live]:
    """Serves while the block runs."""
    folder.mkdir(exist_ok=True)
    settings = ServerSettings(
        users=Users.of(TOKENS), models={"tiny": str(model)}, limits=limits or ServiceLimits(rate=100_000), **more
    )
    metrics = Metrics()
    queue = JobQueue(folder / "jobs", maker or Workshop("cpu"), limits=settings.limits, observer=metrics)
    with queue, listen("127.0.0.1", 0) as bound:
        server = uvicorn.Server(uvicorn.Config(create_app(queue, settings, metrics), log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        picture, voice = write_portrait(folder / "face.png"), write_voice(folder / "voice.wav", 0.5)
        try:
            yield Live(f"http://127.0.0.1:{bound.getsockname()[1]}", queue, settings, metrics, picture, voice)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def live(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One service for all tests that change nothing of it."""
    with live_server(tmp_path_factory.mktemp("live"), tiny_folder) as server:
        yield server


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def files_of(folder: Path) -> Iterator[str]:
    """The URL of a folder's files while the block runs."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


Serve = Callable[..., Any]


@pytest.fixture
def serve(tiny_folder: Path, tmp_path: Path) -> Serve:
    """Gives `serve(**settings)`, a context manager with a service of its own."""
    return lambda **more: live_server(tmp_path / "own", tiny_folder, **more)


@pytest.fixture
def make_request(tiny_folder: Path, tmp_path: Path) -> MakeRequest:
    """Makes requests for `tiny`."""
    return request_maker(tiny_folder, tmp_path)
