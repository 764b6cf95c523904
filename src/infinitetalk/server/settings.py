"""Who may use a service, and what of the server's own its users may name."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.files import durable
from infinitetalk.core.serving import ServiceLimits

_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_LEAST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Users:
    """Users by their tokens, of which only digests are kept."""

    digests: Mapping[str, str]
    """SHA-256 of a token → user."""

    @classmethod
    def of(cls, tokens: Mapping[str, str]) -> Self:
        """Users by name, each with a token.

        Raises:
            RequestError: a name or token that cannot serve.
        """
        for user, token in tokens.items():
            if not _USER.fullmatch(user):
                raise RequestError("tokens", user[:40], "a user's name is made of letters, digits and . _ @ -")
            if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
                like = secrets.token_urlsafe(12)
                need = f"the token must be {_LEAST_TOKEN} or more printable characters; {like} would work"
                raise RequestError("tokens", f"of {user}", need)
        return cls({_digest(token): user for user, token in tokens.items()})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file with a line `USER TOKEN` for each user.

        Raises:
            RequestError: it cannot be read, or holds something else.
        """
        try:
            lines = [tuple(line.split()) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise RequestError(
                "tokens", path, "cannot be read; give a file with a line USER TOKEN for each user"
            ) from error
        if not lines or any(len(line) != 2 for line in lines):
            raise RequestError("tokens", path, "must hold a line USER TOKEN for each user, and nothing else")
        return cls.of({line[0]: line[1] for line in lines})

    def find(self, token: str) -> str | None:
        """Whose token this is."""
        given = _digest(token)
        # All are compared, so that the time tells nothing.
        found = [user for digest, user in self.digests.items() if hmac.compare_digest(digest, given)]
        return found[0] if found else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def own_token(folder: Path) -> str:
    """The token of a folder's only user, made the first time and readable by the server's user alone.

    Raises:
        MachineError: it can be neither read nor written.
    """
    path = folder / "token"
    try:
        if path.exists():
            return path.read_text(encoding="ascii").strip()
        folder.mkdir(parents=True, exist_ok=True)
        token = secrets.token_urlsafe(24)
        with durable(path) as fresh:
            fresh.touch(mode=0o600)
            fresh.write_text(token + "\n", encoding="ascii")
    except (OSError, ValueError) as error:
        raise MachineError(f"{path}: a token can be neither read nor written there; give one by --tokens") from error
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What a service offers."""

    users: Users
    models: Mapping[str, str] = field(default_factory=lambda: {"nano": "nano"})
    """Name that requests use → model as `TalkRequest.model` names it; the first is the default."""
    encoders: tuple[str, ...] = ()
    """Speech encoders that requests may name."""
    loras: Path | None = None
    """Folder of the LoRAs that requests may name."""
    places: tuple[str, ...] = ()
    """URLs that inputs may be fetched from: they and what lies below them. Empty: none."""
    limits: ServiceLimits = field(default_factory=ServiceLimits)

    def __post_init__(self) -> None:
        for place in self.places:
            parts = urlsplit(place)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
                raise RequestError("allow_url", place, "must be like https://files.example.com/voices/")

    def model(self, path: object) -> str:
        """The name of a model, by what a stored request holds."""
        return next((name for name, own in self.models.items() if own == path), "")
