"""The HTTP API in the page's own process: one queue of jobs behind both, each with its own way of knowing its users."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from infinitetalk.core.serving import ServiceLimits
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.server.app import create_app
from infinitetalk.server.metrics import Metrics
from infinitetalk.server.settings import ServerSettings, Users, own_token
from infinitetalk.weights.folder import ModelFolder

_PATHS = re.compile(r"/(v1|healthz|readyz|metrics|openapi\.json)(/.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Who may use the API beside a page, and for what; the page's password and cookies open nothing of it."""

    users: Users | None = None
    """None: one user, whose token is made and kept in the jobs' folder."""
    places: tuple[str, ...] = ()
    """URLs that inputs may be fetched from."""
    database: str | None = None
    """Of the jobs, the page's as well; None: SQLite in their folder."""

    def settings(self, models: Sequence[str], folder: Path, limits: ServiceLimits | None) -> ServerSettings:
        """What the API offers.

        Args:
            models: as requests name them on this machine; the first is the default.
            folder: of the jobs.
            limits: the page's; the API always has some.

        Raises:
            ModelError: the first model cannot be used.
            MachineError: the token can be neither read nor written.
            RequestError: a place that is none.
        """
        return ServerSettings(
            users=self.users or Users.of({"user": own_token(folder)}),
            models={_name(model): model for model in models},
            places=self.places,
            limits=limits or ServiceLimits(),
        )


def _name(model: str) -> str:
    """What a request over HTTP calls a model: no path of this machine."""
    return model if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", model) else ModelFolder.open(model).facts.name


class Beside:
    """ASGI middleware: the API's addresses are answered by the API, all others by the page."""

    def __init__(self, page: ASGIApp, queue: JobQueue, settings: ServerSettings, metrics: Metrics) -> None:
        self._page, self._api = page, create_app(queue, settings, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        mine = scope["type"] == "http" and _PATHS.fullmatch(scope["path"])
        await (self._api if mine else self._page)(scope, receive, send)
