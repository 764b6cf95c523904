"""Requests made from the schema, by schemathesis: a valid token, links from answer to answer, nothing breaks."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infinitetalk.core.serving import ServiceLimits
from tests.server.conftest import TOKENS, Serve, files_of

HOOKS = Path(__file__).parent / "fuzzing.py"


@pytest.mark.parametrize(("examples", "least"), [(4, 60), pytest.param(150, 1000, marks=pytest.mark.full)])
def test_no_request_breaks_the_service(examples: int, least: int, serve: Serve, tmp_path: Path) -> None:
    limits = ServiceLimits(rate=1_000_000, max_jobs_each=1_000_000, max_waiting=1_000_000)
    with files_of(tmp_path / "own") as place, serve(limits=limits, places=(place,)) as server:
        environment = os.environ | {
            "FUZZING_FOLDER": str(server.picture.parent),
            "FUZZING_PLACE": place,
            "PYTHONPATH": os.pathsep.join([str(HOOKS.parent), os.environ.get("PYTHONPATH", "")]),
            "SCHEMATHESIS_HOOKS": "fuzzing",
        }
        words = ["--phases", "fuzzing,stateful", "--checks", "not_a_server_error", "--max-examples", str(examples)]
        words += ["--seed", "1", "--no-shrink", "--suppress-health-check", "all", "--request-timeout", "60"]
        program = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
        done = subprocess.run(
            [*program, *words, "-H", f"Authorization: Bearer {TOKENS['anna']}"], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        told = server.metrics.text().decode()
        assert server.done(server.post().json()["id"])["state"] == "done"
    pattern = r'^infinitetalk_requests_total\{method="(\w+)",route="([^"]+)",status="(\d+)"\} ([\d.]+)$'
    seen = [(status, float(count)) for _, _, status, count in re.findall(pattern, told, re.MULTILINE)]
    total = sum(count for _, count in seen)
    good = sum(count for status, count in seen if status.startswith("2"))
    logging.getLogger(__name__).info("%d requests, %d answers 2xx", total, good)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert total >= least, done.stdout[-3000:]
    assert not [one for one in seen if one[0].startswith("5")], told
    assert good >= 0.25 * total, (good, total, told)
    routes = {route for _, route, _, _ in re.findall(pattern, told, re.MULTILINE)}
    assert {"/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/events", "/v1/jobs/{job_id}/video"} <= routes
