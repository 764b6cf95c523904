"""Who comes in: sessions by cookie, the password of the page, and the addresses of a job's files."""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infinitetalk.app.tickets import Ticket
from infinitetalk.core.errors import RequestError
from infinitetalk.jobs.errors import UnknownJobError
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.media.hls import PLAYLIST, closed

COOKIE = "infinitetalk_studio"
AUTH_VARIABLE = "INFINITETALK_AUTH"
_YEAR = 365 * 24 * 3600
_SEGMENT = re.compile(r"window-\d{5,}\.ts")


class Login(NamedTuple):
    """Name and password that open the page."""

    user: str
    password: str
    made: bool = False
    """Whether nobody gave them, so that they must be told."""


def login(given: str | None, *, share: bool) -> Login | None:
    """What protects the page: as given, else as the environment says, else made for a page that is shared.

    >>> login("anna:secret", share=False)
    Login(user='anna', password='secret', made=False)

    Raises:
        RequestError: not USER:PASSWORD. The value is not repeated, since it may be a password.
    """
    text = given if given is not None else os.environ.get(AUTH_VARIABLE)
    if text is None:
        return Login("studio", secrets.token_urlsafe(9), made=True) if share else None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise RequestError("auth", "(hidden)", "must be USER:PASSWORD such as anna:correct-horse")
    return Login(user, password)


def owner_of(cookies: Mapping[str, str], session: str | None) -> str:
    """Whose an event is: the browser's, by its cookie, or without one the open page's."""
    secret = cookies.get(COOKIE) or f"page:{session}"
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


class Sessions:
    """Gives every browser a cookie of its own, which no script can read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the app does, with a cookie for who comes to the page without one."""
        if scope["type"] != "http" or scope["path"] not in ("/", "/login/") or _has_cookie(scope):
            await self._app(scope, receive, send)
            return

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                value = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; Max-Age={_YEAR}; HttpOnly; SameSite=Lax"
                MutableHeaders(scope=message).append("set-cookie", value)
            await send(message)

        await self._app(scope, receive, with_cookie)


_STORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What a disk says that is full or gone."""


class FullDisk:
    """Says in one sentence that an upload cannot be stored; the page shows it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the app does, unless the disk is full or gone before it has begun to."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except OSError as error:
            if begun or scope["type"] != "http" or error.errno not in _STORE:
                raise
            line = f"the server cannot store this now ({error.strerror}); free its disk, or try again later"
            await PlainTextResponse(line, status_code=507)(scope, receive, send)


def _has_cookie(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                return COOKIE in SimpleCookie(value.decode("latin-1"))
            except CookieError:
                return False
    return False


def routes(queue: JobQueue) -> list[Route]:
    """Addresses of jobs' files: `/studio/KEY/video`, `/settings` and `/live/NAME`, for the job's own session."""

    def ticket_of(request: Request) -> Ticket | None:
        try:
            key = request.path_params["key"]
            return Ticket(queue.get(key, owner_of(request.cookies, None)), queue.files(key))
        except UnknownJobError:
            return None

    def video(request: Request) -> Response:
        ticket = ticket_of(request)
        if ticket is None or not ticket.has_video:
            return _missing()
        name = "talking.mp4" if "download" in request.query_params else None
        return FileResponse(ticket.files.video, media_type="video/mp4", filename=name, headers=_PRIVATE)

    def settings(request: Request) -> Response:
        ticket = ticket_of(request)
        if ticket is None or not ticket.files.sidecar.is_file():
            return _missing()
        content = shown(json.loads(ticket.files.sidecar.read_text(encoding="utf-8")), ticket.names)
        headers = {**_PRIVATE, "content-disposition": 'attachment; filename="talking.mp4.json"'}
        return JSONResponse(content, headers=headers)

    def live(request: Request) -> Response:
        ticket = ticket_of(request)
        return _missing() if ticket is None else _segment(ticket, request.path_params["name"])

    return [
        Route("/studio/{key}/video", video),
        Route("/studio/{key}/settings", settings),
        Route("/studio/{key}/live/{name}", live),
    ]


def _segment(ticket: Ticket, name: str) -> Response:
    """A window of a video that is being made, or the list of those that are finished."""
    if not (name == PLAYLIST or _SEGMENT.fullmatch(name)):
        return _missing()
    try:
        content = (ticket.files.preview / name).read_bytes()
    except OSError:
        return _missing()  # not there yet, or written anew at this moment
    if name != PLAYLIST:
        return Response(content, media_type="video/mp2t", headers=_PRIVATE)
    # Chromium does not play lists that may grow while they are short: the page asks anew for longer ones.
    return Response(closed(content.decode("ascii")), media_type="application/vnd.apple.mpegurl", headers=_PRIVATE)


_PRIVATE = {"cache-control": "private, no-cache", "x-content-type-options": "nosniff"}


def _missing() -> Response:
    return PlainTextResponse("there is no such file, or it is another session's\n", status_code=404)


def shown(value: Any, names: Mapping[str, str]) -> Any:
    """Settings for their user: files are called as the user calls them, without this machine's folders."""
    if isinstance(value, dict):
        return {name: shown(part, names) for name, part in value.items()}
    if isinstance(value, list):
        return [shown(part, names) for part in value]
    if isinstance(value, str) and value.startswith("/") and PurePath(value).is_absolute():
        return names.get(value, Path(value).name)
    return value
