"""The HTTP API in the studio's own process: one queue behind both, and neither one's keys open the other."""

import errno
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infinitetalk.app import app
from infinitetalk.app.beside import Service
from infinitetalk.app.door import COOKIE, Login
from infinitetalk.client import Client
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.serving import ServiceLimits
from infinitetalk.jobs.record import JobState
from infinitetalk.server.settings import Users
from tests.faces.conftest import write_portrait, write_voice
from tests.server.conftest import TOKENS, files_of
from tests.server.test_document import run_every_line

LOGIN = Login("carla", "correct-horse")


@dataclass(frozen=True)
class Both:
    """A page with a password, an API with tokens, and the folder of their jobs."""

    url: str
    jobs: Path
    inputs: Path
    files: str

    def http(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **more)

    def bearer(self, user: str) -> httpx.Client:
        return self.http(headers={"Authorization": f"Bearer {TOKENS[user]}"})

    def request(self, **more: Any) -> TalkRequest:
        usual: dict[str, Any] = {"model": "tiny", "steps": 1, "provenance": False}
        return TalkRequest(
            **usual, image=self.inputs / "face.png", audio=(self.inputs / "voice.wav",), **more
        )  # fmt: skip


@pytest.fixture(scope="module")
def both(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    (folder / "in").mkdir()
    write_portrait(folder / "in" / "face.png")
    write_voice(folder / "in" / "voice.wav", 0.5)
    with files_of(folder / "in") as files:
        service = Service(users=Users.of(TOKENS), places=(files,))
        with app.serving(
            str(tiny_folder), host="127.0.0.1", port=None, share=False, device="cpu", folder=folder / "jobs",
            protect=LOGIN, service=service,
        ) as page:  # fmt: skip
            yield Both(str(page.local_url).rstrip("/"), folder / "jobs", folder / "in", files)


def test_every_documented_line_works_beside_the_page_too(both: Both, tmp_path: Path) -> None:
    run_every_line(both.url, both.files, both.inputs, tmp_path)


def test_a_token_opens_the_api_alone_and_a_password_the_page_alone(both: Both) -> None:
    with both.http() as nobody:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert nobody.get(path).status_code == 200
        for path in ("/v1/jobs", "/metrics", "/config"):
            assert nobody.get(path).status_code == 401
    with both.http() as guest:
        form = {"username": LOGIN.user, "password": LOGIN.password}
        assert guest.get("/").status_code == 200
        assert COOKIE in guest.cookies
        assert guest.post("/login", data=form).status_code == 200
        assert guest.get("/config").status_code == 200
        for path in ("/v1/jobs", "/metrics"):
            assert guest.get(path).status_code == 401, "a cookie is sent by any page; it opens nothing of the API"
        assert guest.get("/v1/jobs", auth=(LOGIN.user, LOGIN.password)).status_code == 401
    with both.bearer("anna") as user:
        assert user.get("/v1/jobs").status_code == 200
        assert user.get("/config").status_code == 401


def test_jobs_of_the_api_are_in_the_pages_queue_and_are_their_users_alone(both: Both, tmp_path: Path) -> None:
    with Client(both.url, TOKENS["anna"]) as client:
        job = client.submit(both.request(seed=5))
        *_, over = client.watch(job.id)
        assert over.state is JobState.DONE
        client.download(job.id, tmp_path / "a.mp4")
    with closing(sqlite3.connect(both.jobs / "jobs.sqlite")) as store:
        (owner,) = store.execute("SELECT owner FROM infinitetalk_jobs WHERE id = ?", (job.id,)).fetchone()
    assert owner == "anna"
    with both.bearer("bert") as other, both.http() as guest:
        assert other.get(f"/v1/jobs/{job.id}").status_code == 404
        guest.get("/")
        assert guest.get(f"/studio/{job.id}/video").status_code == 404
    with both.bearer("anna") as user:
        text = user.get("/metrics").text
    assert 'infinitetalk_jobs_total{state="done"}' in text
    assert "infinitetalk_stage_seconds_total" in text


def test_what_is_refused_is_told_as_by_the_service_alone(both: Both) -> None:
    with both.bearer("anna") as user:
        answer = user.post("/v1/jobs", files=[("model", (None, b"/etc")), ("steps", (None, b"1"))])
        assert (answer.status_code, answer.json()["field"]) == (422, "model")
        assert "this server has tiny" in answer.json()["error"]
        assert user.get("/v1/none").json()["error"] == "Not Found"
        assert str(both.jobs) not in answer.text


def test_the_pages_answers_forbid_what_is_not_the_pages_own(both: Both) -> None:
    with both.http() as client:
        page, other = client.get("/"), client.get("/")
        asset = client.get("/static/js/iframeResizer.contentWindow.min.js")
        answers = [page, asset, client.get("/studio/0/video"), client.get("/none"), client.get("/healthz")]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] in ("same-origin", "no-referrer")
        told = answer.headers["content-security-policy"]
        assert "default-src 'none'" in told
        assert "frame-ancestors 'none'" in told
        assert "http" not in told and "*" not in told, "no place but the page's own"
    script = next(part for part in page.headers["content-security-policy"].split("; ") if part.startswith("script-src"))
    assert "'unsafe-inline'" not in script
    nonce = script.split("'nonce-")[1].split("'")[0]
    assert page.text.count(f'<script nonce="{nonce}"') == page.text.count("<script") > 1
    assert nonce not in other.text, "each answer has a number of its own"
    assert "script-src" not in client_policy(answers[2])


def client_policy(answer: httpx.Response) -> str:
    """Its content security policy."""
    return str(answer.headers["content-security-policy"])


def test_uploads_to_the_page_that_break_off_or_are_too_large(tiny_folder: Path, tmp_path: Path) -> None:
    """The service goes on; what is too large is refused in a sentence."""
    with app.serving(
        str(tiny_folder), host="127.0.0.1", port=None, share=False, device="cpu", folder=tmp_path / "jobs",
        limits=ServiceLimits(max_upload=0.1),
    ) as page:  # fmt: skip
        url = httpx.URL(str(page.local_url))
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="files"; filename="../../a.png"\r\n\r\nabc'
        )
        for _ in range(5):
            with socket.create_connection((url.host, url.port or 80)) as leaving:
                leaving.sendall(head.encode())
        with httpx.Client(base_url=url, timeout=60) as client:
            client.get("/")
            large = client.post("/gradio_api/upload", files={"files": ("a.wav", bytes(300_000))})
            assert large.status_code == 413
            assert "maximum" in large.text.lower()
            hostile = client.post("/gradio_api/upload", files={"files": ("../../evil.png", b"abc")})
            assert hostile.status_code == 200
            assert ".." not in hostile.json()[0]
            assert not (tmp_path / "evil.png").exists()
            assert client.get("/healthz").status_code == 200


def test_an_upload_to_a_full_disk_is_one_sentence(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with both.http() as guest:
        assert guest.post("/login", data={"username": LOGIN.user, "password": LOGIN.password}).status_code == 200
        with monkeypatch.context() as patch:
            patch.setattr("gradio.routes.GradioMultiPartParser.parse", full)
            answer = guest.post("/gradio_api/upload", files={"files": ("a.png", b"abc")})
        assert answer.status_code == 507
        assert answer.text.startswith("the server cannot store this now (No space left on device); free its disk")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert guest.post("/gradio_api/upload", files={"files": ("a.png", b"abc")}).status_code == 200


def test_without_tokens_one_is_made_and_kept(tiny_folder: Path, tmp_path: Path) -> None:
    with app.serving(
        str(tiny_folder), host="127.0.0.1", port=None, share=False, device="cpu", folder=tmp_path / "jobs"
    ) as page:
        token = (tmp_path / "jobs" / "token").read_text().strip()
        with Client(str(page.local_url), token) as client:
            assert client.jobs() == []
        started = time.perf_counter()
        with httpx.stream("GET", f"{page.local_url}v1/jobs/{'0' * 32}/events") as answer:
            assert answer.status_code == 401
        assert time.perf_counter() - started < 10
