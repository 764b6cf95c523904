"""Stores on both databases, and a queue that makes videos with `tiny`."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.job import Workshop
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.store import JobStore
from tests.faces.conftest import write_portrait, write_voice

POSTGRES = "INFINITETALK_TEST_POSTGRES"


def fresh_database(kind: str, folder: Path) -> str:
    """The URL of an empty database."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'jobs.sqlite'}"
    url = os.environ.get(POSTGRES)
    if url is None:
        pytest.skip(f"NOT RUN: no PostgreSQL in {POSTGRES}; tools/with_postgres.sh starts one")
    name = f"test_{os.getpid()}_{abs(hash(folder)) % 10**12}"
    server = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.dispose()
    return f"{url.rpartition('/')[0]}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return fresh_database(request.param, tmp_path)


@pytest.fixture
def store(database: str) -> Iterator[JobStore]:
    opened = JobStore(database)
    yield opened
    opened.close()


@pytest.fixture
def queue(database: str, tmp_path: Path) -> Iterator[JobQueue]:
    """A queue that is at work, on each kind of database."""
    with JobQueue(tmp_path / "jobs", Workshop("cpu"), database=database) as opened:
        yield opened


MakeRequest = Callable[..., TalkRequest]


def request_maker(model: Path, folder: Path) -> MakeRequest:
    """Gives `make_request(seconds=0.5, **fields)`, which writes its inputs to a folder."""
    picture = write_portrait(folder / "Портрет; rm -rf.png")

    def make(seconds: float = 0.5, **fields: object) -> TalkRequest:
        voice = write_voice(folder / f"voice-{seconds}.wav", seconds)
        usual = {"model": str(model), "image": picture, "audio": (voice,), "steps": 2, "provenance": False}
        return TalkRequest(**{**usual, **fields})  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_request(tiny_folder: Path, tmp_path: Path) -> MakeRequest:
    """Makes requests for `tiny`."""
    return request_maker(tiny_folder, tmp_path)
