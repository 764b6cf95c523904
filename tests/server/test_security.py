"""Attacks: paths, server-side requests, pickles, tokens; headers and logs."""

import http.server
import io
import json
import logging
import os
import pickle
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.core.errors import RequestError
from infinitetalk.server.fetching import allowed, fetch
from infinitetalk.server.guard import HEADERS
from infinitetalk.server.logs import JsonLines, without_secrets
from infinitetalk.server.settings import Users, own_token
from tests.server.conftest import TOKENS, Live, Serve

PLACES = ("https://files.example.com/voices/", "http://10.0.0.5:9000/in")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer wrong", f"Basic {TOKENS['anna']}", TOKENS["anna"],
     f"Bearer {TOKENS['anna']}x", f"Bearer {TOKENS['anna'][:-1]}", "Bearer ' OR 1=1--"],
)  # fmt: skip
def test_without_a_valid_token_nothing_is_there(header: str | None, live: Live) -> None:
    headers = {} if header is None else {"Authorization": header}
    with live.http(None) as client:
        for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", f"/v1/jobs/{'0' * 32}"),
                             ("DELETE", f"/v1/jobs/{'0' * 32}"), ("GET", "/metrics")):  # fmt: skip
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"


PATHS = (
    "/v1/jobs/../../etc/passwd",
    "/v1/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/v1/jobs/..%5c..%5cjobs.sqlite",
    "/v1/jobs/{job}/preview/..%2f..%2ftalking.mp4.json",
    "/v1/jobs/{job}/preview/%2fetc%2fpasswd",
    "/v1/jobs/{job}/preview/index.m3u8",
    "/v1/jobs/{job}/preview/window-00000.ts%00.txt",
    "/v1/jobs/{job}/../token",
    "/v1/jobs/%00",
    "/v1/jobs/{job}%00",
    "//etc/passwd",
    "/v1/jobs/{job}/inputs/image-0.png",
)


def test_paths_lead_nowhere(live: Live) -> None:
    job = live.post().json()["id"]
    live.done(job)
    with live.http() as client:
        for path in PATHS:
            answer = client.get(live.url + path.replace("{job}", job))
            assert answer.status_code in (404, 405), path
            assert b"root:" not in answer.content and b"SQLite" not in answer.content


@pytest.mark.parametrize(
    "url",
    ["http://files.example.com/voices/a.wav", "https://files.example.com/other/a.wav", "https://example.com/voices/a.wav",
     "https://files.example.com.evil.net/voices/a.wav", "https://files.example.com@evil.net/voices/a.wav",
     "https://evil.net#@files.example.com/voices/", "https://files.example.com:8443/voices/a.wav",
     "https://files.example.com/voices/../secret", "https://files.example.com/voices/%2e%2e/secret",
     "https://files.example.com/voices/..%2fsecret", "https://files.example.com/voices\\..\\secret",
     "https://files.example.com/voicesX/a.wav", "file:///etc/passwd", "gopher://files.example.com/voices/",
     "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1/", "http://[::1]/", "http://10.0.0.5:9000/other",
     "http://10.0.0.5/in/a", "https://files.example.com/voices/a\r\nX: y", "https://files.example.com:x/voices/a", "",
     "//", "https://files.example.com/voices/%00", "HTTPS://user:pw@files.example.com/voices/a"],
)  # fmt: skip
def test_other_places_are_not_fetched(url: str, tmp_path: Path) -> None:
    assert allowed(url, PLACES) is None
    with pytest.raises(RequestError, match="is in no place that may be fetched"):
        fetch("audio", url, PLACES, tmp_path / "x", most=10)


def test_allowed_places() -> None:
    for url in ("https://files.example.com/voices/a.wav?v=1", "http://10.0.0.5:9000/in", "http://10.0.0.5:9000/in/b"):
        assert allowed(url, PLACES) is not None


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "0.0.0.0", "100.64.0.1"]
)
def test_a_public_name_with_a_private_address_is_not_fetched(address: str, tmp_path: Path) -> None:
    for found in ([address], ["93.184.216.34", address], []):
        with pytest.raises(RequestError, match="has no public address"):
            fetch("audio", "https://files.example.com/voices/a", PLACES, tmp_path / "x", most=9,
                  resolve=lambda *_, found=found: found)  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of files, which also knows bad answers."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("secret")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words, directory=str(tmp_path))

        def do_GET(self) -> None:
            if self.path == "/in/redirect":
                self.send_response(302)
                self.send_header("Location", "/secret")
                self.end_headers()
            elif self.path == "/in/endless":
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):  # who reads goes away
                    while True:
                        self.wfile.write(bytes(10_000))
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/in/"
        server.shutdown()


def test_inputs_by_url(files: str, serve: Serve, tmp_path: Path) -> None:
    with serve(places=(files,)) as server, server.http() as client:
        for path in (server.picture, server.voice):
            (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
        (tmp_path / "in" / "voice.png").write_text("text")
        body = {"image": f"{files}face.png", "audio": [f"{files}voice.wav"], "steps": 2}
        answer = client.post("/v1/jobs", json=body)
        assert answer.status_code == 201, answer.text
        assert server.done(answer.json()["id"])["state"] == "done"
        form = {"image": f"{files}face.png", "audio": f"{files}voice.wav", "steps": "2"}
        assert client.post("/v1/jobs", data=form, files=[("masks", ("", b""))]).status_code == 201
        for bad, told in (
            ("redirect", "answers 302, not 200"),
            ("none.wav", "answers 404, not 200"),
            ("../secret", "in no place that may be fetched"),
            ("voice.png", "audio-0.png: has no sound in it"),
        ):
            answer = client.post("/v1/jobs", json=body | {"audio": [files + bad]})
            assert answer.status_code == 422 and told in answer.json()["error"], answer.text
            assert "secret" not in answer.text.replace("../secret", "")
    with pytest.raises(RequestError, match=r"is too large; up to 0\.1 MB"):
        fetch("audio", f"{files}endless", (files,), tmp_path / "x", most=100_000)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {os.environ['PICKLED']}",)


def test_pickles_and_archives_are_not_opened(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICKLED", str(tmp_path / "pickled"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("archive/data.pkl", pickle.dumps(Attack()))
        opened.writestr("../../../evil.py", b"x")
    with live.http() as client:
        for name in ("image", "audio", "masks", "soundtrack", "video"):
            for content in (pickle.dumps(Attack()), archive.getvalue()):
                sent = {"image": ("a.png", live.picture.read_bytes()), "audio": ("b.wav", live.voice.read_bytes())}
                if name == "video":
                    del sent["image"]
                answer = client.post("/v1/jobs", files=sent | {name: ("x.pth", content)})
                assert answer.status_code == 422, answer.text
        answer = client.post("/v1/jobs", files={"loras": ("x.pth", pickle.dumps(Attack()))})
        assert answer.status_code == 422 and "takes a value" in answer.json()["error"]
    assert not (tmp_path / "pickled").exists()


def test_loras_come_from_the_servers_folder_alone(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "face.safetensors").write_bytes(b"broken")
    (tmp_path / "loras" / "evil.pth").write_bytes(pickle.dumps(Attack.__name__))
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    with serve(loras=tmp_path / "loras") as server:
        for name in ("../outside", "evil.pth", "evil", "/etc/passwd", "..", "face/../../outside", "face\n../outside"):
            answer = server.post(loras=name)
            assert answer.status_code == 422 and "this server has face" in answer.json()["error"], answer.text
        answer = server.post(loras="face:0.5")
        assert answer.status_code in (422, 503) and "face" in answer.json()["error"]
        assert str(tmp_path) not in answer.text


def test_every_answer_has_the_headers(live: Live) -> None:
    with live.http() as client:
        answers = [client.get("/healthz"), client.get("/none"), client.get("/v1/jobs"), client.post("/v1/jobs"),
                   client.get("/openapi.json"), client.get("/metrics")]  # fmt: skip
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]


def test_logs_are_json_with_the_jobs_number_and_without_secrets(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "infinitetalk"):
        answer = live.post(prompt="my password=hunter2")
        job = answer.json()["id"]
        live.done(job)
        with live.http(None) as client:
            client.get("/v1/jobs?token=geheim", headers={"Authorization": "Bearer geheim-geheim"})
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    told = [line["message"] for line in lines if line.get("job") == job]
    assert told == ["job is queued", "job begins", "job is over"]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    posted = [line for line in lines if line.get("method") == "POST"]
    assert posted[0]["route"] == "/v1/jobs" and posted[0]["status"] == 201 and posted[0]["owner"] == "anna"
    text = json.dumps(lines)
    assert "geheim" not in text and "hunter2" not in text
    assert not any(token in text for token in TOKENS.values())


def test_secrets_are_taken_out_of_whatever_is_logged() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 1, "cannot reach postgresql://anna:geheim@host/db", None, None)
    assert "geheim" not in JsonLines().format(record)
    assert without_secrets("Bearer abc, token=def password: ghi") == "Bearer ***, token=*** password: ***"


def test_tokens(tmp_path: Path) -> None:
    token = own_token(tmp_path / "new")
    assert token == own_token(tmp_path / "new") and len(token) >= 32
    assert (tmp_path / "new" / "token").stat().st_mode & 0o077 == 0
    path = tmp_path / "tokens"
    path.write_text(f"anna {TOKENS['anna']}\n\nbert {TOKENS['bert']}\n")
    users = Users.read(path)
    assert (users.find(TOKENS["anna"]), users.find(TOKENS["bert"]), users.find("x")) == ("anna", "bert", None)
    assert not any(token in repr(users) for token in TOKENS.values())
    for content in ("", "anna", "anna short", "a b c", "an/na 0123456789abcdef", "anna 0123456789abcdef\x01"):
        path.write_text(content)
        with pytest.raises(RequestError) as caught:
            Users.read(path)
        assert "0123456789abcdef" not in str(caught.value)
