"""What browsers are told with every answer of the page: nothing from elsewhere, no script but the page's own."""

import re
import secrets
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PAGES = frozenset({"/", "/login", "/login/"})
_SCRIPT = re.compile(rb"<script(?=[\s>])")

_PAGE = (
    "default-src 'none'; script-src 'self' {nonce}'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; manifest-src 'self'; object-src 'none'; frame-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""For pages and their workers. Gradio compiles the scripts of its components in the browser, and sets styles."""

_FILE = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""For all else, should a browser open it by itself: no script at all."""

_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), geolocation=(), microphone=(self)",
}


def policy(path: str, nonce: str | None = None) -> str:
    """The content security policy of an answer.

    >>> "unsafe-eval" in policy("/studio/1/video")
    False
    """
    if nonce is not None:
        return _PAGE.format(nonce=f"'nonce-{nonce}' ")
    return _PAGE.format(nonce="") if path.startswith(("/assets/", "/static/")) else _FILE


class SafeHeaders:
    """ASGI middleware: adds the headers, and marks the page's own scripts so that no other one runs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the app does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] in _PAGES and scope["method"] == "GET":
            await self._app(scope, receive, _Marked(send))
        else:

            async def with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _add(MutableHeaders(scope=message), policy(scope["path"]))
                await send(message)

            await self._app(scope, receive, with_headers)


class _Marked:
    """Sends a page whose scripts carry a number that was made for this answer alone."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: dict[str, Any] = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = dict(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        nonce = secrets.token_urlsafe(16)
        body = _SCRIPT.sub(f'<script nonce="{nonce}"'.encode(), bytes(self._body))
        headers = MutableHeaders(scope=self._start)
        headers["content-length"] = f"{len(body)}"
        _add(headers, policy("/", nonce))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _add(headers: MutableHeaders, content: str) -> None:
    headers["content-security-policy"] = content
    for name, value in _ALWAYS.items():
        headers[name] = value
