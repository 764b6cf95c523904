"""A hub on loopback that speaks what huggingface_hub asks for, and that can break in the ways that networks do.

Repositories hold files at one commit for each revision. Large ones are served as the hub serves LFS files: the address
under `/resolve/` tells hash and size and redirects to a second server, as the hub redirects to its storage.
"""

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from infinitetalk.core.presets import HubFile

LARGE = 1_000
"""Bytes from which a file counts as large."""
PIECE = 8_192
NOTHING: Mapping[str, str] = {}


@dataclass
class Content:
    """A file: its bytes, or only its size and hash, as is enough for those who only ask for sizes."""

    data: bytes = b""
    size: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        self.size = self.size or len(self.data)
        self.sha256 = self.sha256 or hashlib.sha256(self.data).hexdigest()

    @property
    def large(self) -> bool:
        return self.size >= LARGE

    @property
    def blob_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % self.size + self.data, usedforsecurity=False).hexdigest()


@dataclass
class Commit:
    """A revision of a repository."""

    sha: str
    files: dict[str, Content] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a client asked, for tests to look at."""

    method: str
    server: str
    path: str
    headers: Mapping[str, str]


@dataclass
class FakeHub:
    """The content of the hub, its faults, and what it was asked."""

    repositories: dict[str, dict[str, Commit]] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    token: str | None = None
    """Asked for by every repository, if set."""
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """File → after how many bytes its next answers break off."""
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """File → states of its next answers."""
    lies: dict[str, bytes] = field(default_factory=dict)
    """File → what is sent instead of its content."""
    slow: dict[str, float] = field(default_factory=dict)
    """File → seconds that each 8 kB of it take."""
    ranges: bool = True
    endpoint: str = ""
    storage: str = ""

    def add(self, repository: str, name: str, content: Content | bytes, revision: str = "main") -> Content:
        """Puts a file into a repository."""
        revisions = self.repositories.setdefault(repository, {})
        sha = hashlib.sha1(f"{repository}@{revision}".encode(), usedforsecurity=False).hexdigest()
        commit = revisions.setdefault(revision, Commit(sha))
        commit.files[name] = content if isinstance(content, Content) else Content(content)
        return commit.files[name]

    def add_file(self, file: HubFile, content: Content | bytes) -> Content:
        """Puts a preset's file in; a pattern gets one name that matches it."""
        return self.add(file.repository.name, file.name.replace("*", "tokenizer.json"), content, file.revision)

    def commit(self, repository: str, revision: str) -> Commit | None:
        """A revision by its name or by its commit."""
        revisions = self.repositories.get(repository, {})
        found = (commit for commit in revisions.values() if commit.sha == revision)
        return revisions.get(revision) or next(found, None)

    def bodies(self, name: str) -> list[Request]:
        """Requests for the bytes of a file, wherever they are served."""
        served = [one for one in self.asked if one.method == "GET" and one.path.endswith(name)]
        return [one for one in served if one.server == "storage" or "/resolve/" in one.path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: FakeHub
    name = "hub"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _note(self) -> str:
        path = unquote(urlsplit(self.path).path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.hub.asked.append(Request(self.command, self.name, path, headers))
        return path

    def _say(self, status: int, headers: Mapping[str, str] = NOTHING, data: bytes = b"", *, body: bool = True) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _refuse(self, status: int, code: str, *, body: bool) -> None:
        self._say(status, {"X-Error-Code": code, "X-Error-Message": code}, body=body)

    def _answer(self, *, body: bool) -> None:
        path = self._note()
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401, "RepoNotFound", body=body)
        elif match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3], body=body)
        else:
            self._say(404, body=body)

    def _info(self, repository: str, revision: str) -> None:
        commit = self.hub.commit(repository, revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound" if repository in self.hub.repositories else "RepoNotFound", body=True)
            return
        siblings = []
        for name, content in commit.files.items():
            lfs = {"sha256": content.sha256, "size": content.size, "pointerSize": 130} if content.large else None
            told = {"rfilename": name, "size": content.size, "blobId": content.blob_id}
            siblings.append(told | ({"lfs": lfs} if lfs else {}))
        licence = self.hub.licences.get(repository)
        card = {"license": licence} if licence else {}
        told_info = {"id": repository, "sha": commit.sha, "tags": [], "siblings": siblings, "cardData": card}
        self._say(200, {"Content-Type": "application/json"}, json.dumps(told_info).encode())

    def _resolve(self, repository: str, revision: str, name: str, *, body: bool) -> None:
        commit = self.hub.commit(repository, revision)
        content = commit.files.get(name) if commit else None
        if commit is None or content is None:
            self._refuse(404, "EntryNotFound" if commit else "RepoNotFound", body=body)
            return
        headers = {"X-Repo-Commit": commit.sha}
        if content.large:
            linked = {"X-Linked-Size": str(content.size), "X-Linked-ETag": f'"{content.sha256}"'}
            place = {"Location": f"{self.hub.storage}/store/{repository}/{name}"}
            self._say(302, headers | linked | place, body=body)
        else:
            send_file(self, name, content, headers | {"ETag": f'"{content.blob_id}"'}, body=body)


def send_file(handler: _Handler, name: str, content: Content, headers: Mapping[str, str], *, body: bool) -> None:
    """Sends a file or the part that was asked for, with the faults that are planned for it."""
    hub = handler.hub
    if body and hub.statuses.get(name):
        handler._say(hub.statuses[name].pop(0))
        return
    data = hub.lies.get(name, content.data)
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "")) if hub.ranges else None
    start = int(match[1]) if match else 0
    if match and start >= len(data):
        handler._say(416)
        return
    part = data[start:]
    ranged = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if match else {}
    handler.send_response(206 if match else 200)
    for key, value in {**headers, **ranged, "Content-Length": str(len(part))}.items():
        handler.send_header(key, value)
    handler.end_headers()
    if not body:
        return
    cut = hub.cuts.get(name, [])
    if cut:
        handler.wfile.write(part[: cut.pop(0)])
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        return
    for place in range(0, len(part), PIECE):
        time.sleep(hub.slow.get(name, 0.0))
        handler.wfile.write(part[place : place + PIECE])


class _Storage(_Handler):
    """The second server; it never wants to see a token."""

    name = "storage"

    def _answer(self, *, body: bool) -> None:
        path = self._note()
        if "Authorization" in self.headers:
            self._say(400)
            return
        _, _, owner, repository, name = path.split("/", 4)
        commits = self.hub.repositories[f"{owner}/{repository}"].values()
        content = next(commit.files[name] for commit in commits if name in commit.files)
        send_file(self, name, content, {}, body=body)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that hang up."""


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Runs both servers while the block runs."""
    servers = []
    for kind in (_Handler, _Storage):
        server = _Server(("127.0.0.1", 0), type(kind.__name__, (kind,), {"hub": hub}))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
    # Another host, as the hub's storage is: clients must not take their token there.
    names = ("127.0.0.1", "localhost")
    hub.endpoint, hub.storage = (
        f"http://{name}:{server.server_port}" for name, server in zip(names, servers, strict=True)
    )
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
