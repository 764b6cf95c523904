"""What every request passes: size, headers, log line; and who it is from, how often."""

import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infinitetalk.server.failures import RefusedError, answer
from infinitetalk.server.settings import Users

log = logging.getLogger(__name__)

HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Sent with every answer: nothing of the API is a page, and nothing is kept."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Seen = Callable[[str, str, int], None]


class Guard:
    """ASGI middleware: refuses bodies that are too large, adds headers, logs one line for each request.

    Args:
        app: what is guarded.
        most: bytes of a body.
        seen: called with method, route and status of each answer.
    """

    def __init__(self, app: ASGIApp, most: int, seen: Seen) -> None:
        self._app, self._most, self._seen = app, most, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, read = time.perf_counter(), 500, 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message)
            await send(message)

        async def count() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise self._too_large()
            return message

        try:
            if _length(scope) > self._most:
                await answer(self._too_large())(scope, receive, tell)
            else:
                await self._app(scope, count, tell)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._seen(method, route, status)
            facts = {"method": method, "route": route, "status": status}
            owner = scope.get("state", {}).get("owner")
            log.info("request", extra=facts | {"owner": owner, "seconds": round(time.perf_counter() - started, 4)})

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the request is too large; up to {self._most / 1e6:g} MB would work")


def _length(scope: Scope) -> int:
    given = dict(scope["headers"]).get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0


def _add_headers(message: MutableMapping[str, Any]) -> None:
    there = {name.lower() for name, _ in message["headers"]}
    new = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in there]
    message["headers"] = [*message["headers"], *new]


class RateLimit:
    """So many requests a minute for each user; as many at once, then evenly."""

    def __init__(self, rate: int, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = rate, now
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, user: str) -> None:
        """Counts a request.

        Raises:
            RefusedError: there were too many.
        """
        now = self._now()
        left, since = self._left.get(user, (float(self._rate), now))
        left = min(float(self._rate), left + (now - since) * self._rate / 60)
        if left < 1:
            wait = max(1, round((1 - left) * 60 / self._rate))
            told = f"more than {self._rate} requests a minute; wait {wait} s"
            raise RefusedError(429, told, {"Retry-After": f"{wait}"})
        self._left[user] = (left - 1, now)


def user_of(header: str | None, users: Users) -> str:
    """Whose request it is, by its header `Authorization`.

    Raises:
        RefusedError: nobody's.
    """
    kind, _, token = (header or "").partition(" ")
    user = users.find(token.strip()) if kind.lower() == "bearer" else None
    if user is None:
        told = "a valid token is needed; send the header Authorization: Bearer TOKEN"
        raise RefusedError(401, told, {"WWW-Authenticate": "Bearer"})
    return user
