"""Whatever is sent, the answer is one sentence that says what to do, and the service goes on."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infinitetalk.cli.main import main
from infinitetalk.core.errors import MachineError
from infinitetalk.core.serving import ServiceLimits
from tests.faces.conftest import write_voice
from tests.jobs.test_queue import Broken, Gate
from tests.server.conftest import TOKENS, Live, Serve, live_server


def sentence(answer: httpx.Response, status: int) -> str:
    """The sentence of a refusal."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "field"}
    told: str = answer.json()["error"]
    assert told and "\n" not in told and "Traceback" not in told
    assert "/tmp" not in told and "site-packages" not in told
    return told


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"steps": "0"}, "steps = 0: must be at least 1"),
        ({"steps": "many"}, "steps = many: is not a whole number"),
        ({"stesp": "3"}, "stesp = given: is no setting of a request"),
        ({"preview": "perhaps"}, "preview = perhaps: must be true or false"),
        ({"scheduler": "rk4"}, "scheduler = rk4: must be one of euler, ab2"),
        ({"boxes": "1,2,3"}, "box = 1,2,3: must be four numbers"),
        ({"text": "Hello."}, "give a text or sound (audio), not both"),
        ({"duration": "1e999"}, "duration = inf: must be a finite number"),
        ({"seed": "9" * 4000}, "must be"),
        ({"seed": "9" * 6000}, "is not a whole number"),
        ({"model": "/etc"}, "model = /etc: this server has tiny"),
        ({"model": "../../tiny"}, "this server has tiny"),
        ({"encoder": "/etc/passwd"}, "encoder = /etc/passwd: this server has none"),
        ({"loras": "../../face.safetensors"}, "this server has none"),
        ({"audio": "file:///etc/passwd"}, "this server fetches nothing"),
        ({"motion_frames": "25"}, "motion_frames"),
        ({"size": "100000x100000"}, "size"),
    ],
    ids=str,
)
def test_settings_that_cannot_work(fields: dict[str, Any], told: str, live: Live) -> None:
    assert told in sentence(live.post(**fields), 422)


def upload(live: Live, **files: Any) -> httpx.Response:
    sent = {"image": ("a.png", live.picture.read_bytes()), "audio": ("b.wav", live.voice.read_bytes())} | files
    with live.http() as http:
        return http.post("/v1/jobs", files=[(name, part) for name, part in sent.items() if part is not None])


def test_files_that_cannot_be_used(live: Live, tmp_path: Path) -> None:
    before = len(list((live.queue.folder / "files").iterdir()))
    assert "image-0.png: " in sentence(upload(live, image=("a.png", b"")), 422)
    assert "audio-0.wav: cannot be decoded" in sentence(upload(live, audio=("../../b.wav", b"RIFF" * 100)), 422)
    assert "image" in sentence(upload(live, image=None), 422)
    assert "is no setting" in sentence(upload(live, virus=("a.exe", b"MZ")), 422)
    assert "takes a value" in sentence(upload(live, prompt=("a.txt", b"hello")), 422)
    long = write_voice(tmp_path / "long.wav", 3.0).read_bytes()
    assert sentence(upload(live, start=(None, b"9")), 422).startswith("start = 9.0: the sound is 0.50 s long")
    assert upload(live, audio=("c.wav", long), duration=(None, b"0.5")).status_code == 201
    assert len(list((live.queue.folder / "files").iterdir())) == before + 1


@pytest.mark.parametrize(
    "name",
    ["../../../etc/cron.d/x.png", "..\\..\\x.png", "/etc/passwd", "C:\\x.png", "x.png\x00.sh", "-rf", "$(id).png",
     "a" * 5000 + ".png", ".", "..", "con.png", "x.PNG.exe;rm", "\u202egnp.exe", "'; DROP TABLE jobs;--.png"],
)  # fmt: skip
def test_hostile_names_are_not_used(name: str, live: Live) -> None:
    answer = upload(live, image=(name, live.picture.read_bytes()))
    if len(name) > 1000:  # longer than a form's header may be
        assert "the form cannot be read" in sentence(answer, 400)
        return
    assert answer.status_code == 201, answer.text
    files = live.queue.files(answer.json()["id"])
    assert {path.stem for path in files.inputs.iterdir()} == {"image-0", "audio-0"}
    assert all(path.suffix.isascii() and len(path.suffix) <= 9 for path in files.inputs.iterdir())
    with live.http() as http:
        http.delete(f"/v1/jobs/{answer.json()['id']}")


def test_bodies_of_other_kinds(live: Live) -> None:
    with live.http() as http:
        assert "send multipart/form-data" in sentence(http.post("/v1/jobs", content=b"x"), 415)
        json_type = {"Content-Type": "application/json"}
        for body, told in (
            (b"{", "is no JSON"),
            (b"[" * 100_000, "is no JSON"),
            (b"[]", "must be a JSON object"),
            (b'{"image": 5}', "image = 5: must be a URL"),
            (b'{"image": "http://x/a.png", "audio": "http://x/b.wav"}', "this server fetches nothing"),
            (b'{"steps": "x", "image": null}', "steps = x: is not a whole number"),
            (b'{"steps": {"a": 1}, "image": "http://x/a", "audio": "http://x/b"}', "steps = {"),
            (b'{"boxes": 5}', "boxes = 5: must be a list of boxes"),
            (b'{"prompt": "\\ud800", "image": "http://x/a", "audio": "http://x/b"}', "fetches nothing"),
        ):
            assert told in sentence(http.post("/v1/jobs", content=body, headers=json_type), 422)
        broken = {"Content-Type": "multipart/form-data"}
        assert sentence(http.post("/v1/jobs", content=b"--x", headers=broken), 400)
        broken = {"Content-Type": "multipart/form-data; boundary=x"}
        sentence(http.post("/v1/jobs", content=b"--x\r\nnonsense\r\n--x--", headers=broken), 400)


def test_limits(serve: Serve, tmp_path: Path) -> None:
    limits = ServiceLimits(max_upload=0.5, max_seconds=1, max_pixels=0.005, max_source_pixels=0.01, rate=1000)
    with serve(limits=limits) as server:
        large = ("a.wav", bytes(600_000))
        assert "up to 0.5 MB would work" in sentence(upload(server, audio=large), 413)

        def chunks() -> Iterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
            yield from (b"x" * 100_000 for _ in range(8))

        with server.http() as http:
            told = {"Content-Type": "multipart/form-data; boundary=x"}
            assert "up to 0.5 MB" in sentence(http.post("/v1/jobs", content=chunks(), headers=told), 413)
            told = {"Content-Type": "application/json"}
            assert "up to 0.5 MB" in sentence(http.post("/v1/jobs", content=chunks(), headers=told), 413)
        long = write_voice(tmp_path / "long.wav", 1.5).read_bytes()
        assert "up to 1 s would work" in sentence(upload(server, audio=("b.wav", long)), 422)
        assert "too many pixels; up to 0.005 million" in sentence(upload(server, size=(None, b"96x96")), 422)
        from tests.faces.conftest import write_portrait

        wide = write_portrait(tmp_path / "wide.png", 128).read_bytes()
        assert "128x128 are too many pixels" in sentence(upload(server, image=("a.png", wide)), 422)
        text = {"audio": None, "text": (None, b"word " * 100), "voice": (None, b"espeak:en")}
        assert "lasts longer than 1 s" in sentence(upload(server, **text), 422)


def test_a_full_queue_and_too_many_requests(serve: Serve) -> None:
    gate = Gate()
    limits = ServiceLimits(max_waiting=2, max_jobs_each=2, rate=30)
    with serve(maker=gate, limits=limits) as server:
        assert server.post().status_code == 201
        assert gate.begun.wait(60)
        assert server.post().status_code == 201
        answer = server.post()
        assert "2 of your jobs are waiting" in sentence(answer, 429) and answer.headers["retry-after"]
        assert server.post("bert").status_code == 201
        assert "2 jobs are waiting" in sentence(server.post("bert"), 429)
        with server.http() as http:
            answers = [http.get("/v1/jobs") for _ in range(60)]
            assert "more than 30 requests a minute" in sentence(answers[-1], 429)
            assert int(answers[-1].headers["retry-after"]) >= 1
        with server.http("bert") as http:
            assert http.get("/v1/jobs").status_code == 200
        gate.windows.release(100)


def test_a_client_that_leaves_in_the_middle_of_an_upload(live: Live) -> None:
    host, port = live.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKENS['anna']}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nabc'
    )
    before = len(list((live.queue.folder / "files").iterdir()))
    for _ in range(5):
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(head.encode())
    time.sleep(0.2)
    assert len(list((live.queue.folder / "files").iterdir())) == before
    assert live.done(live.post().json()["id"])["state"] == "done"


def test_a_full_disk(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(limits=ServiceLimits(spare_disk=1e6)) as server, server.http() as http:
        assert "disk is full" in sentence(server.post(), 503)
        assert "disk is full" in sentence(http.get("/readyz"), 503)
    with serve() as server:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("infinitetalk.server.reading.shutil.copyfileobj", full)
            assert "cannot store this now (No space left on device)" in sentence(server.post(), 507)
        assert list((server.queue.folder / "files").iterdir()) == []
        assert server.done(server.post().json()["id"])["state"] == "done"


def test_a_model_that_is_gone(tiny_folder: Path, tmp_path: Path) -> None:
    """Its folder is there when the service starts, and is missed when a job comes."""
    place = tmp_path / "model"
    place.symlink_to(tiny_folder)
    with live_server(tmp_path / "own", place) as server:
        place.unlink()
        told = sentence(server.post(), 503)
        assert told.startswith("model tiny: there is no such folder")
        assert list((server.queue.folder / "files").iterdir()) == []
        place.symlink_to(tiny_folder)
        assert server.done(server.post().json()["id"])["state"] == "done"


def test_a_gpu_out_of_memory(serve: Serve) -> None:
    error = MachineError("cuda:0 has too little memory for making a window of this size: a smaller size takes less")
    with serve(maker=Broken(error, ValueError("/secret/path"))) as server:
        first, second, third = (server.done(server.post().json()["id"]) for _ in range(3))
        assert (first["state"], first["error"]) == ("failed", str(error))
        assert second["state"] == "failed" and "ValueError" in second["error"] and "secret" not in second["error"]
        assert third["state"] == "done"
        with server.http() as http:
            assert "has no video: cuda:0 has too little" in sentence(http.get(f"/v1/jobs/{first['id']}/video"), 409)
            assert "infinitetalk_failures_total 2.0" in http.get("/metrics").text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "none-such"], "model none-such: there is no such folder"),
        (["--port", "99999"], "port = 99999: must be from 0 to 65535"),
        (["--max-seconds", "-1"], "max_seconds = -1.0: must be from 0.1 to"),
        (["--database", "redis://x"], "database = of kind redis"),
        (["--allow-url", "ftp://x/"], "allow_url = ftp://x/: must be like https://"),
        (["--tokens", "none.txt"], "tokens = none.txt: cannot be read"),
        (["--loras", "none"], "loras = none: is no folder"),
        (["--host", "203.0.113.7"], "cannot be served"),
        (["--device", "tpu"], "device = tpu"),
    ],
)
def test_serve_refuses_in_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("infinitetalk.server.logs.log_to_stderr", lambda: None)
    assert main(["serve", "--folder", str(tmp_path / "jobs"), "--port", "0", *words]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and error.count("\n") == 1
