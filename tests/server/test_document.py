"""Every endpoint is documented by a curl line, and every line works."""

import json
import os
import re
import subprocess
from pathlib import Path

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


def test_every_endpoint_has_a_line_and_every_line_works(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    lines = CURL.findall(DOCUMENT.read_text(encoding="utf-8"))
    with files_of(folder) as place, serve(places=(place,)) as server:
        for path, name in ((server.picture, "face.png"), (server.voice, "voice.wav")):
            (folder / name).write_bytes(path.read_bytes())
        environment = os.environ | {"SERVER": server.url, "TOKEN": TOKENS["anna"], "FILES": place}
        for line in lines:
            done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            if called(line) == ("POST", "/v1/jobs") and "JOB" not in environment:
                environment["JOB"] = json.loads(done.stdout)["id"]
                server.done(environment["JOB"])
        with server.http() as client:
            described = client.get("/openapi.json").json()["paths"]
    routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert routes <= {called(line) for line in lines}
    assert {called(line) for line in lines} - routes == {("GET", "/openapi.json")}
    assert (folder / "talk.mp4").stat().st_size > 1000
    assert (folder / "window.jpg").read_bytes().startswith(b"\xff\xd8")
