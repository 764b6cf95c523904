"""Fifty jobs of twenty clients; and a service that is killed with jobs in its queue and started again."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

from infinitetalk.client import Client, RemoteJob
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.job import Workshop, prepare
from infinitetalk.jobs.record import JobState
from tests.faces.conftest import write_portrait, write_voice
from tests.resume.conftest import frames_of
from tests.server.conftest import TOKENS, Serve
from tests.starting import Started


@pytest.mark.parametrize(("clients", "jobs"), [(5, 10), pytest.param(20, 50, marks=pytest.mark.full)])
def test_many_jobs_of_many_clients(clients: int, jobs: int, serve: Serve, tiny_folder: Path, tmp_path: Path) -> None:
    """None is lost, none is made twice, and every client has the video that it asked for."""
    pictures = [write_portrait(tmp_path / f"{number}.png", 32 + 2 * number) for number in range(clients)]
    voices = [write_voice(tmp_path / f"{number}.wav", 0.2 + 0.04 * (number % 5), 80 + number) for number in range(jobs)]
    usual: dict[str, Any] = {"model": "tiny", "steps": 1, "provenance": False}

    def wanted(number: int) -> TalkRequest:
        return TalkRequest(**usual, image=pictures[number % clients], audio=(voices[number],), seed=number)

    with serve() as server:

        def work(client: int) -> list[tuple[int, RemoteJob]]:
            user = list(TOKENS)[client % 2]
            with Client(server.url, TOKENS[user], timeout=300) as http:
                mine = [(number, http.submit(wanted(number))) for number in range(client, jobs, clients)]
                over = [(number, list(http.watch(job.id))[-1]) for number, job in mine]
                for number, job in over:
                    http.download(job.id, tmp_path / f"{number}.mp4")
                return over

        with ThreadPoolExecutor(clients) as pool:
            over = [one for found in pool.map(work, range(clients)) for one in found]
        assert sorted(number for number, _ in over) == list(range(jobs))
        assert len({job.id for _, job in over}) == jobs
        for number, job in over:
            assert job.state is JobState.DONE, job.error
            assert job.settings["seed"] == number if number != 42 else "seed" not in job.settings
            assert len(frames_of(tmp_path / f"{number}.mp4")) == round((0.2 + 0.04 * (number % 5)) * 25)
        for user in TOKENS:
            with server.http(user) as http:
                listed = http.get("/v1/jobs?limit=100").json()["jobs"]
            own = [number for number in range(jobs) if list(TOKENS)[number % clients % 2] == user]
            assert sorted(job["settings"].get("seed", 42) for job in listed) == own
        text = server.metrics.text().decode()
        assert f'infinitetalk_jobs_total{{state="done"}} {jobs}.0' in text
    workshop = Workshop("cpu")
    for number in (0, jobs // 2 - 1, jobs - 1):
        alone = tmp_path / f"alone-{number}.mp4"
        workshop.make(prepare(replace(wanted(number), model=str(tiny_folder)), alone))
        np.testing.assert_array_equal(frames_of(alone), frames_of(tmp_path / f"{number}.mp4"))


@contextmanager
def started(folder: Path, model: Path) -> Iterator[tuple[Started, str]]:
    """The command `infinitetalk serve` and its URL."""
    words = ["serve", "--port", "0", "--folder", str(folder), "--model", f"tiny={model}", "--device", "cpu"]
    log, told = folder.with_suffix(".log"), folder.with_suffix(".told")
    told.unlink(missing_ok=True)
    process = Started(words, told, log, INFINITETALK_TOKEN=TOKENS["anna"])
    try:
        while process.poll() is None and not (told.exists() and "\n" in told.read_text()):
            time.sleep(0.02)
        line = told.read_text()
        assert line.startswith("Serving http://"), log.read_text()
        yield process, line.split()[1]
    finally:
        process.kill()


def wait_until(client: Client, job: str, windows: int) -> RemoteJob:
    """The job when so many windows are finished."""
    for found in client.watch(job):
        if found.progress.windows >= windows or found.state.over:
            return found
    raise AssertionError("the stream of events ended")


def test_a_service_that_is_killed_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    """By kill -9 in the middle of a job, and once more by SIGTERM: all finish, the one at its next window."""
    picture = write_portrait(tmp_path / "face.png")
    long, short = write_voice(tmp_path / "long.wav", 6), write_voice(tmp_path / "short.wav", 0.4)
    usual: dict[str, Any] = {"model": "tiny", "image": picture, "provenance": False}
    first = TalkRequest(**usual, audio=(long,), steps=6)
    others = [TalkRequest(**usual, audio=(short,), steps=1, seed=seed) for seed in range(3)]
    with started(tmp_path / "jobs", tiny_folder) as (process, url), Client(url, TOKENS["anna"]) as client:
        ids = [client.submit(request, key=f"key-{index}").id for index, request in enumerate([first, *others])]
        assert wait_until(client, ids[0], 2).state is JobState.RUNNING
        process.send(signal.SIGKILL)
        process.wait()
    with started(tmp_path / "jobs", tiny_folder) as (process, url), Client(url, TOKENS["anna"]) as client:
        assert client.submit(first, key="key-0").id == ids[0]
        again = wait_until(client, ids[0], 4)
        assert again.state is JobState.RUNNING
        process.send(signal.SIGTERM)
        assert process.wait(60) == 0
    with started(tmp_path / "jobs", tiny_folder) as (_, url), Client(url, TOKENS["anna"]) as client:
        over = [list(client.watch(job))[-1] for job in ids]
        assert [job.state for job in over] == [JobState.DONE] * 4, [job.error for job in over]
        notes = [note for note in over[0].progress.notes if note.startswith("resumed at window")]
        assert notes and int(notes[0].split()[-1]) >= 3
        assert {job.id for job in client.jobs()} == set(ids)
        client.download(ids[0], tmp_path / "talk.mp4")
    assert len(frames_of(tmp_path / "talk.mp4")) == 150
    log = (tmp_path / "jobs.log").read_text()
    assert TOKENS["anna"] not in log and "Traceback" not in log


@pytest.mark.full
@pytest.mark.parametrize(("clients", "jobs"), [(3, 6), (20, 50)])
def test_a_queue_of_many_clients_survives_a_kill(clients: int, jobs: int, tiny_folder: Path, tmp_path: Path) -> None:
    """By kill -9 while most of the jobs wait: each is made, once, for its own client."""
    picture, voice = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.4)
    usual: dict[str, Any] = {"model": "tiny", "image": picture, "audio": (voice,), "steps": 1, "provenance": False}
    with started(tmp_path / "jobs", tiny_folder) as (process, url):

        def submit(client: int) -> dict[int, str]:
            with Client(url, TOKENS["anna"], timeout=300) as http:
                mine = range(client, jobs, clients)
                return {number: http.submit(TalkRequest(**usual, seed=100 + number)).id for number in mine}

        with ThreadPoolExecutor(clients) as pool:
            ids = {number: job for found in pool.map(submit, range(clients)) for number, job in found.items()}
        process.send(signal.SIGKILL)
        process.wait()
    with started(tmp_path / "jobs", tiny_folder) as (_, url), Client(url, TOKENS["anna"], timeout=300) as client:
        waiting = sum(not client.job(job).state.over for job in ids.values())
        assert waiting >= 1, "killed before the queue was empty"
        over = {number: list(client.watch(job))[-1] for number, job in ids.items()}
        assert {job.state for job in over.values()} == {JobState.DONE}, [job.error for job in over.values()]
        assert [over[number].settings["seed"] for number in range(jobs)] == [100 + number for number in range(jobs)]
        assert {job.id for job in client.jobs(100)} == set(ids.values())
        assert len(ids) == jobs


def test_the_log_of_a_service_is_json(tiny_folder: Path, tmp_path: Path) -> None:
    with started(tmp_path / "jobs", tiny_folder) as (process, url):
        with urlopen(f"{url}/healthz", timeout=30) as answer:
            assert answer.status == 200
        process.send(signal.SIGINT)
        assert process.wait(60) == 0
    lines = [json.loads(line) for line in (tmp_path / "jobs.log").read_text().splitlines()]
    assert lines and all({"time", "level", "message"} <= set(line) for line in lines)
