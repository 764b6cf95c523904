"""What the commands that serve the HTTP API have in common: its users, its database, places of inputs."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infinitetalk.server.settings import Users

TOKEN, DATABASE = "INFINITETALK_TOKEN", "INFINITETALK_DATABASE"
"""Environment variables, as flags can be seen by other users of a machine."""


def add_store_flags(section: argparse._ArgumentGroup) -> None:
    """Adds the flags of tokens and of the database."""
    section.add_argument(
        "--database",
        metavar="URL",
        help=f"of the jobs: postgresql://HOST/NAME, also in {DATABASE}; default: SQLite in the folder",
    )
    section.add_argument("--tokens", type=Path, metavar="FILE",
                         help=f"a line USER TOKEN for each user; default: one user, whose token is in {TOKEN}, or is "
                         "made and written to FOLDER/token")  # fmt: skip


def add_url_flag(section: argparse._ArgumentGroup) -> None:
    """Adds the flag of places that inputs may be fetched from."""
    section.add_argument("--allow-url", action="append", default=[], metavar="URL",
                         help="inputs may be fetched from there and below; once each (default: none)")  # fmt: skip


def database_of(given: str | None) -> str | None:
    """The database that was named by the flag or the environment."""
    return given or os.environ.get(DATABASE)


def users_of(tokens: Path | None) -> "tuple[Users | None, str]":
    """The API's users, by the flag or the environment, and where their tokens are; None if nobody named any.

    Raises:
        RequestError: tokens that cannot serve.
    """
    from infinitetalk.server.settings import Users

    if tokens is not None:
        return Users.read(tokens), f"{tokens}"
    if TOKEN in os.environ:
        return Users.of({"user": os.environ[TOKEN]}), TOKEN
    return None, ""
