"""The routes, over HTTP: a job is queued, followed, watched while it grows, fetched, cancelled; keys; other users."""

import json
import re
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from infinitetalk.client import ApiError
from infinitetalk.core.errors import MachineError, MediaError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.jobs.record import JobState
from tests.jobs.conftest import MakeRequest
from tests.jobs.test_queue import Gate
from tests.resume.conftest import frames_of
from tests.server.conftest import Live, Serve


def test_a_job_from_upload_to_video(live: Live, tmp_path: Path) -> None:
    answer = live.post(seed="7", boxes=None)
    assert answer.status_code == 201, answer.text
    queued = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{queued['id']}"
    assert queued["settings"] == {
        "model": "tiny", "image": "image-0.png", "audio": ["audio-0.wav"], "seed": 7, "steps": 2, "provenance": False
    }  # fmt: skip
    done = live.done(queued["id"])
    assert done["state"] == "done" and done["error"] is None
    assert done["result"]["frames"] == 13 and done["result"]["complete"] is True
    assert done["progress"]["fraction"] == 1.0 and len(done["progress"]["stages"]) == 7
    assert done["created"] <= done["started"] <= done["ended"]
    assert str(live.queue.folder) not in json.dumps(done)
    with live.http() as http:
        video = http.get(done["links"]["video"])
        assert video.headers["content-type"] == "video/mp4"
        part = http.get(done["links"]["video"], headers={"Range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"ftyp")
        assert [job["id"] for job in http.get("/v1/jobs?limit=1").json()["jobs"]] == [queued["id"]]
    (tmp_path / "video.mp4").write_bytes(video.content)
    assert len(frames_of(tmp_path / "video.mp4")) == 13


def test_events_tell_every_step_until_the_end(live: Live) -> None:
    job = live.post().json()["id"]
    with live.http() as http:
        with http.stream("GET", f"/v1/jobs/{job}/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            text = "".join(response.iter_text())
        events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if block]
        assert [event["event"] for event in events][-1] == "done"
        assert {event["event"] for event in events[:-1]} <= {"progress"}
        numbers = [int(event["id"]) for event in events]
        assert numbers == sorted(set(numbers))
        assert json.loads(events[-1]["data"])["result"]["frames"] == 13
        again = http.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": events[-1]["id"]}).text
        assert again.count("event:") == 1


def test_the_preview_plays_while_the_video_is_made_and_a_cancelled_job_keeps_it(serve: Serve, tmp_path: Path) -> None:
    gate = Gate()
    with serve(maker=gate) as server, server.http() as http:
        job = http.post("/v1/jobs", data={"steps": "2"}, files=[("image", ("a.png", server.picture.read_bytes())),
                        ("audio", ("b.wav", long_voice(tmp_path)))]).json()["id"]  # fmt: skip
        assert http.get(f"/v1/jobs/{job}/preview").status_code == 409
        assert http.get(f"/v1/jobs/{job}/video").status_code == 409
        gate.windows.release()
        for record in server.queue.watch(job, "anna"):
            if record.progress.windows == 1:
                break
        playlist = http.get(f"/v1/jobs/{job}/preview")
        assert playlist.headers["content-type"] == "application/vnd.apple.mpegurl"
        segments = re.findall(r"^preview/window-\d+\.ts$", playlist.text, re.MULTILINE)
        assert len(segments) == 1 and "ENDLIST" not in playlist.text
        now = http.get(f"/v1/jobs/{job}/preview?show=now")
        assert now.headers["content-type"] == playlist.headers["content-type"]
        assert now.text == f"{playlist.text}#EXT-X-ENDLIST\n"
        segment = http.get(f"/v1/jobs/{job}/{segments[0]}")
        (tmp_path / "window.ts").write_bytes(segment.content)
        with av.open(str(tmp_path / "window.ts")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 13
        shown = http.get(f"/v1/jobs/{job}/preview?show=picture")
        (tmp_path / "shown.jpg").write_bytes(shown.content)
        assert Image.open(tmp_path / "shown.jpg").size == (64, 64)
        assert http.delete(f"/v1/jobs/{job}?files=true").status_code == 409
        cancelled = http.delete(f"/v1/jobs/{job}").json()
        assert cancelled["state"] == "running" and cancelled["cancelling"] is True
        gate.windows.release(100)
        over = server.done(job)
        assert over["state"] == "cancelled"
        assert 1 <= over["result"]["windows"] < over["result"]["windows_planned"]
        video = http.get(over["links"]["video"])
        (tmp_path / "part.mp4").write_bytes(video.content)
        assert len(frames_of(tmp_path / "part.mp4")) == over["result"]["frames"]
        assert http.delete(f"/v1/jobs/{job}").json()["state"] == "cancelled"
        assert http.delete(f"/v1/jobs/{job}?files=true").status_code == 200
        assert http.get(f"/v1/jobs/{job}").status_code == 404
        assert not server.queue.files(job).folder.exists()


def long_voice(folder: Path) -> bytes:
    from tests.faces.conftest import write_voice

    return write_voice(folder / "long.wav", 2.0).read_bytes()


def test_a_key_gives_the_same_job_and_refuses_another_request(live: Live) -> None:
    key = {"Idempotency-Key": "monday-1"}
    first, again = live.post(headers=key), live.post(headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = live.post(headers=key, seed="8")
    assert other.status_code == 409 and "given to another request" in other.json()["error"]
    assert live.post("bert", headers=key).status_code == 201
    assert live.post(headers={"Idempotency-Key": "a b"}).status_code == 422


def test_another_users_job_is_not_there(live: Live) -> None:
    job = live.post().json()["id"]
    live.done(job)
    with live.http("bert") as http:
        for path in ("", "/events", "/video", "/preview", "/preview/window-00000.ts"):
            answer = http.get(f"/v1/jobs/{job}{path}")
            assert (answer.status_code, answer.json()["error"]) == (404, f"there is no job {job}")
        assert http.delete(f"/v1/jobs/{job}").status_code == 404
        assert http.delete(f"/v1/jobs/{job}?files=true").status_code == 404
        assert job not in http.get("/v1/jobs?limit=100").text
    assert live.done(job)["state"] == "done"


def test_health_readiness_and_metrics(live: Live) -> None:
    live.done(live.post().json()["id"])
    with live.http(None) as http:
        assert http.get("/healthz").json() == http.get("/readyz").json() == {"status": "ok"}
        assert http.get("/metrics").status_code == 401
    with live.http() as http:
        text = http.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert all(line.split("{")[0].split(" ")[0].startswith("infinitetalk_") for line in values)
    assert float(values['infinitetalk_jobs_total{state="done"}']) >= 1
    assert float(values["infinitetalk_frames_total"]) >= 13
    assert float(values['infinitetalk_stage_seconds_total{stage="denoising (DiT)"}']) > 0
    assert float(values['infinitetalk_queue{state="queued"}']) == 0
    assert float(values['infinitetalk_memory_bytes{kind="peak"}']) > 1e6
    assert values["infinitetalk_store_up"] == "1.0"
    assert float(values["infinitetalk_failures_total"]) >= 0
    assert not any(token in text for token in ("anna", "bert"))


def test_readiness_tells_why_not(serve: Serve) -> None:
    with serve() as server, server.http(None) as http:
        server.queue._worker.close()
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()["error"]) == (
            503,
            "the worker is not at work; look at the server's log",
        )
        assert http.get("/healthz").status_code == 200


def test_the_typed_client(live: Live, make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(
        1.0, model="tiny", boxes=(Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)), audio_strength=("1:0.5@0-1",)
    )
    with live.client() as client:
        job = client.submit(request, key="once")
        assert client.submit(request, key="once").id == job.id
        *_, last = client.watch(job.id)
        assert last.state is JobState.DONE and last.video is not None and last.video.frames == 25
        assert last.settings["boxes"] == [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
        assert TalkRequest(**{**last.settings, "boxes": request.boxes}).audio_strength == request.audio_strength
        assert len(frames_of(client.download(job.id, tmp_path / "talk.mp4"))) == 25
        assert client.job(job.id) in client.jobs()
        assert client.cancel(job.id).state is JobState.DONE
        client.remove(job.id)
        with pytest.raises(ApiError, match="there is no job") as caught:
            client.job(job.id)
        assert caught.value.status == 404
        with pytest.raises(ApiError, match="there is no job"):
            next(client.watch(job.id))
        with pytest.raises(ApiError, match="there is no job"):
            client.download(job.id, tmp_path / "none.mp4")
        assert not (tmp_path / "none.mp4").exists()
        with pytest.raises(MediaError, match="cannot be read"):
            client.submit(make_request(audio=(tmp_path / "none.wav",)))
    with live.client() as client, pytest.raises(ApiError, match="this server has tiny"):
        client.submit(make_request(model="huge"))
    client = type(client)("http://127.0.0.1:9", "no-token")
    with pytest.raises(MachineError, match="cannot be reached"):
        client.jobs()


def test_the_same_video_as_without_a_server(live: Live, make_request: MakeRequest, tmp_path: Path) -> None:
    from infinitetalk.engine.job import Workshop, prepare

    request = make_request(0.5, prompt="a 'quoted' text; und Grüße", apg=True, start=0.04, text_scale=1.5)
    Workshop("cpu").make(prepare(request, tmp_path / "here.mp4"))
    with live.client() as client:
        from dataclasses import replace

        job = client.submit(replace(request, model="tiny"))
        *_, last = client.watch(job.id)
        assert last.state is JobState.DONE, last.error
        client.download(job.id, tmp_path / "there.mp4")
    np.testing.assert_array_equal(frames_of(tmp_path / "here.mp4"), frames_of(tmp_path / "there.mp4"))


def test_unknown_routes_and_methods_get_one_sentence(live: Live) -> None:
    with live.http() as http:
        for method, path, status in (("GET", "/", 404), ("GET", "/docs", 404), ("PUT", "/v1/jobs", 405)):
            answer: httpx.Response = http.request(method, path)
            assert answer.status_code == status and isinstance(answer.json()["error"], str)
        assert http.get("/v1/jobs?limit=0").status_code == 422
