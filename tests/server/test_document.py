"""Every endpoint is documented by a curl line, and every line works."""

import json
import os
import re
import subprocess
from pathlib import Path

import httpx

from infinitetalk.client import Client
from infinitetalk.jobs.record import JobState
from tests.server.conftest import TOKENS, Serve, files_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
CURL = re.compile(r"^curl .*$", re.MULTILINE)


def called(line: str) -> tuple[str, str]:
    """Method and path of a curl line, as OpenAPI writes them."""
    found = re.search(r'\$SERVER(/[^"?]*)', line)
    assert found is not None, line
    path = found[1].replace("$JOB", "{job_id}").replace("window-00000.ts", "{name}")
    method = "DELETE" if "-X DELETE" in line else "POST" if " -F " in line or " -d " in line else "GET"
    return method, path


def run_every_line(url: str, files: str, inputs: Path, folder: Path) -> None:
    """Runs the document's lines against a service, and asserts that they are all its endpoints.

    Args:
        url: of the service, which knows the tests' tokens.
        files: a place that it may fetch the inputs from.
        inputs: holds `face.png` and `voice.wav`.
        folder: where the lines are run.
    """
    lines = CURL.findall(DOCUMENT.read_text(encoding="utf-8"))
    for name in ("face.png", "voice.wav"):
        (folder / name).write_bytes((inputs / name).read_bytes())
    environment = os.environ | {"SERVER": url, "TOKEN": TOKENS["anna"], "FILES": files}
    for line in lines:
        done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        if called(line) == ("POST", "/v1/jobs") and "JOB" not in environment:
            environment["JOB"] = json.loads(done.stdout)["id"]
            with Client(url, TOKENS["anna"]) as client:
                *_, over = client.watch(environment["JOB"])
            assert over.state is JobState.DONE
    described = httpx.get(f"{url}/openapi.json").json()["paths"]
    routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert routes <= {called(line) for line in lines}
    assert {called(line) for line in lines} - routes == {("GET", "/openapi.json")}
    assert (folder / "talk.mp4").stat().st_size > 1000
    assert (folder / "window.jpg").read_bytes().startswith(b"\xff\xd8")


def test_every_endpoint_has_a_line_and_every_line_works(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "own").mkdir()
    with files_of(tmp_path / "own") as place, serve(places=(place,)) as server:
        run_every_line(server.url, place, tmp_path / "own", folder)
