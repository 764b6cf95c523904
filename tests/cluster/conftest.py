"""Jobs of twelve windows with `tiny`, and what a cluster is asked to make of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.job import Job, prepare
from tests.jobs.conftest import request_maker

MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tiny_folder: Path, tmp_path: Path) -> MakeJob:
    """Gives `make_job(seconds=4, **fields)`: a checked job for `tiny`."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    make = request_maker(tiny_folder, inputs)

    def job(seconds: float = 4, name: str = "video", **fields: object) -> Job:
        request: TalkRequest = make(seconds, **fields)
        return prepare(request, tmp_path / f"{name}.mp4")

    return job
