"""Inputs by URL, from places that the operator allows and from nowhere else."""

import ipaddress
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from infinitetalk.core.errors import MachineError, RequestError

_SECONDS = 60.0
"""That fetching one file may take."""

_HARMLESS = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@%-]*")
_CLIMBING = re.compile(r"(^|/)(\.|%2e){1,2}(/|$)|%2f|%5c|%25|%00|//", re.IGNORECASE)

Resolve = Callable[[str, int], Sequence[str]]


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host by its name.

    Raises:
        OSError: it has none.
    """
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def allowed(url: str, places: Sequence[str]) -> SplitResult | None:
    """The parts of a URL that is one of the places or lies below one; None for all others."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    path = parts.path or "/"
    if "@" in parts.netloc or parts.fragment or not _HARMLESS.fullmatch(path + parts.query) or _CLIMBING.search(path):
        return None
    for place in places:
        known = urlsplit(place)
        base = known.path or "/"
        same = (parts.scheme, parts.hostname, port) == (known.scheme, known.hostname, known.port)
        if same and (path == base or path.startswith(base if base.endswith("/") else f"{base}/")):
            return parts
    return None


def require_allowed(field: str, url: object, places: Sequence[str]) -> SplitResult:
    """The parts of a URL that may be fetched.

    Raises:
        RequestError: it may not.
    """
    parts = allowed(url, places) if isinstance(url, str) else None
    if parts is None:
        shown = str(url)[:80]
        if not places:
            raise RequestError(
                field, shown, "this server fetches nothing; send the file itself, as multipart/form-data"
            )
        raise RequestError(field, shown, f"is in no place that may be fetched; there are {', '.join(places)}")
    return parts


def _address(field: str, url: str, parts: SplitResult, resolve: Resolve) -> str:
    """The address to connect to, looked up once: what was checked is what is used.

    Raises:
        RequestError: a private address behind a public name, or none.
    """
    host = parts.hostname or ""
    try:
        found = resolve(host, parts.port or (443 if parts.scheme == "https" else 80))
    except OSError as error:
        raise RequestError(field, url[:80], "its host cannot be found; check the URL") from error
    named = _is_address(host) or host == "localhost"  # the operator allowed it in so many words
    if not found or not (named or all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found)):
        raise RequestError(field, url[:80], "its host has no public address; send the file itself")
    return found[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def fetch(field: str, url: str, places: Sequence[str], to: Path, *, most: int, resolve: Resolve = addresses_of) -> int:
    """Fetches a file; gives its size in bytes. Redirects are not followed.

    Raises:
        RequestError: a URL that may not be fetched, cannot be, or is too large.
        MachineError: `httpx` is not installed.
        OSError: the disk is full.
    """
    parts = require_allowed(field, url, places)
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MachineError("inputs by URL need httpx: pip install 'infinitetalk[serve]'") from error
    address = _address(field, url, parts, resolve)
    host = parts.hostname or ""
    asked = httpx.URL(url).copy_with(host=address)
    headers, extensions = {"Host": parts.netloc, "Accept-Encoding": "identity"}, {"sni_hostname": host}
    size = 0
    try:
        with (
            httpx.Client(follow_redirects=False, trust_env=False, timeout=10.0) as client,
            client.stream("GET", asked, headers=headers, extensions=extensions) as response,
            to.open("wb") as file,
        ):
            if response.status_code != 200:
                raise RequestError(field, url[:80], f"answers {response.status_code}, not 200; check the URL")
            for block in _in_time(field, url, response.iter_raw()):
                size += len(block)
                if size > most:
                    raise RequestError(field, url[:80], f"is too large; up to {most / 1e6:g} MB would work")
                file.write(block)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RequestError(field, url[:80], f"cannot be fetched ({type(error).__name__}); check the URL") from error
    return size


def _in_time(field: str, url: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    until = time.monotonic() + _SECONDS
    for block in blocks:
        if time.monotonic() > until:
            raise RequestError(field, url[:80], f"takes more than {_SECONDS:g} s to fetch; send the file itself")
        yield block
