"""A Ray cluster of two nodes on this machine, one processor and one pretended GPU each: lost workers, placement, faces.

One cluster for the whole module; each node's workers have their own folders and share nothing but the store.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

# This machine may be slow to start a process; Ray reads it when it is imported.
PATIENCE = {"RAY_raylet_start_wait_time_s": "240", "RAY_health_check_failure_threshold": "30"}
os.environ.update(PATIENCE)

ray = pytest.importorskip("ray", reason="NOT RUN: pip install 'infinitetalk[ray]'")

from infinitetalk.cli.main import main  # noqa: E402
from infinitetalk.cluster.connection import connected, uses_gpus  # noqa: E402
from infinitetalk.cluster.maker import ClusterMaker  # noqa: E402
from infinitetalk.cluster.orders import order_of, shape_of  # noqa: E402
from infinitetalk.cluster.pool import Pool  # noqa: E402
from infinitetalk.cluster.tickets import Ticket  # noqa: E402
from infinitetalk.cluster.vault import OWN, Vault  # noqa: E402
from infinitetalk.core.errors import MachineError  # noqa: E402
from infinitetalk.core.memory import MemorySettings  # noqa: E402
from infinitetalk.core.planner import Plan  # noqa: E402
from infinitetalk.engine.job import Job, Workshop  # noqa: E402
from infinitetalk.server.run import Place  # noqa: E402
from infinitetalk.server.settings import ServerSettings, Users  # noqa: E402
from tests.cluster.conftest import MakeJob  # noqa: E402
from tests.faces.conftest import write_portrait, write_voice  # noqa: E402
from tests.jobs.test_batch import LINES, table, write_jobs  # noqa: E402
from tests.resume.conftest import frames_of  # noqa: E402
from tests.server.conftest import TOKENS  # noqa: E402

PATIENT = 400
"""Seconds that a busy machine may take for what takes two."""

SMALL, LARGE = "NVIDIA GeForce RTX 4060", "NVIDIA H100 80GB HBM3"


def node_options(environment: dict[str, str], **resources: Any) -> dict[str, Any]:
    """A node of one processor. Where ports are left to its helpers, it waits no more than seconds for them."""
    found = []
    for _ in range(3):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            found.append(bound.getsockname()[1])
    ports = dict(
        zip(("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port"), found, strict=True)
    )
    return {"num_cpus": 1, "object_store_memory": 100 * 2**20, "env_vars": environment, **ports, **resources}


@dataclass(frozen=True)
class Nodes:
    """The cluster."""

    address: str
    cluster: Any


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster

    threads = os.environ.pop("OMP_NUM_THREADS", None)  # Ray gives each worker as many as it has processors
    small, large = (node_options({"INFINITETALK_PRETEND": card}, num_gpus=1) for card in ("rtx4060", "h100"))
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **small})
    cluster.add_node(**large)
    with connected(cluster.address):
        yield Nodes(cluster.address, cluster)
    cluster.shutdown()
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = threads


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray") / "store"


@pytest.fixture(scope="module")
def vault(store: Path) -> Vault:
    return Vault(str(store))


@pytest.fixture(scope="module")
def pool(nodes: Nodes, vault: Vault) -> Iterator[Pool]:
    """Workers on both nodes' processors; they go home when other tests want those."""
    assert nodes.address
    with Pool(vault, "cpu", keep=5) as opened:
        yield opened


def submitted(pool: Pool, vault: Vault, job: Job, output: str) -> Ticket:
    return pool.submit(order_of(job, vault, output), shape_of(job))


def until(what: str, true: Any) -> None:
    end = time.monotonic() + PATIENT
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def test_a_killed_worker_costs_at_most_one_window(pool: Pool, vault: Vault, make_job: MakeJob, store: Path) -> None:
    steps = 6
    jobs = [make_job(steps=steps), make_job(0.5, seed=2)]
    whole = Workshop("cpu").make(jobs[0])
    ticket, other = (submitted(pool, vault, job, f"{number}.mp4") for number, job in enumerate(jobs))
    until("three windows", lambda: ticket.progress.windows >= 3)
    assert ticket.facts is not None
    first, scratch = ticket.facts, Path(ticket.facts.scratch)
    assert scratch.is_dir()
    os.kill(first.process, signal.SIGKILL)
    until("its folder goes with it", lambda: not scratch.exists())
    ended, beside = ticket.wait(PATIENT), other.wait(PATIENT)
    assert ended is not None and beside is not None and beside.state == "done"
    assert (ended.state, ended.error) == ("done", None)
    assert ticket.facts is not None and ticket.facts.scratch != first.scratch
    assert len(ticket.notes) == 1 and "was lost" in ticket.notes[0]
    # Whatever the first one had begun beyond its last kept window was one window, not more.
    seen = max(stage.done for stage in ticket.before.stages if stage.name == "denoising (DiT)")
    assert ended.resumed >= 3 and -(-seen // steps) - ended.resumed <= 1
    assert (store / "0.mp4").read_bytes() == whole.video.read_bytes()


@pytest.mark.full
def test_two_workers_work_at_the_same_time(pool: Pool, vault: Vault, make_job: MakeJob) -> None:
    tickets = [submitted(pool, vault, make_job(4, seed=seed, steps=10), f"both-{seed}.mp4") for seed in range(4)]
    until("both work", lambda: len({one.facts.process for one in pool.at_work() if one.facts is not None}) == 2)
    assert all((ended := one.wait(PATIENT)) is not None and ended.state == "done" for one in tickets)


def test_a_queues_job_on_a_cluster_is_cancelled_and_goes_on(
    pool: Pool, vault: Vault, make_job: MakeJob, tmp_path: Path
) -> None:
    """The maker of `serve --ray`, behind the same queue as ever."""
    from infinitetalk.jobs.queue import JobQueue
    from infinitetalk.jobs.record import JobState

    request = make_job(8, steps=20).request  # long enough to be cancelled in its middle
    with JobQueue(tmp_path / "jobs", ClusterMaker(pool, vault)) as queue:
        job = queue.submit(request)
        for record in queue.watch(job.id):
            if record.progress.windows >= 1 and not record.cancelling:
                queue.cancel(job.id)
        assert record.state is JobState.CANCELLED and record.made is not None
        windows = record.made["windows"]
        assert 1 <= windows < record.made["windows_planned"]
        files = queue.files(job.id)
        assert len(frames_of(files.video)) == record.made["frames"] and files.playlist.is_file()
        queue.go_on(job.id)
        record = list(queue.watch(job.id))[-1]
        assert (record.state, record.error) == (JobState.DONE, None)
        assert f"resumed at window {windows}" in record.progress.notes
        assert record.progress.windows == record.progress.planned > windows
        assert len(frames_of(files.video)) == 200
        assert "#EXT-X-ENDLIST" in files.playlist.read_text()
        assert vault.names(f"{OWN}/served") == []


@pytest.mark.usefixtures("nodes")
def test_placement_by_memory(vault: Vault, make_job: MakeJob) -> None:
    """The plan of each card decides: what needs much goes to the large one, what does not leaves it free."""
    assert uses_gpus("auto") and not uses_gpus("cpu")
    small, large = make_job(0.5), make_job(0.5, size="2048x2048", window_frames=81, name="large")
    with Pool(vault, "auto", MemorySettings(ram=24)) as pool:
        alone = submitted(pool, vault, large, "alone.mp4")
        until("the second worker is hired for it", lambda: alone.facts is not None)
        assert alone.facts is not None and alone.facts.device == LARGE
        alone.stop()
        assert alone.wait(PATIENT) is not None
        plans = pool.survey(order_of(large, vault, "large.mp4"), shape_of(large))
        assert sorted(isinstance(plan, Plan) for plan in plans) == [False, True]
        assert any("NVIDIA GeForce RTX 4060" in f"{plan}" and "would fit" in f"{plan}" for plan in plans)
        tickets = [submitted(pool, vault, job, f"{job.output.name}") for job in (small, large)]
        until("both are at work", lambda: all(one.facts is not None for one in tickets))
        assert [one.facts.device for one in tickets if one.facts is not None] == [SMALL, LARGE]
        for ticket in tickets:
            ticket.stop()
        huge = make_job(0.5, size="4096x4096", window_frames=81, name="huge")
        ended = submitted(pool, vault, huge, "huge.mp4").wait(PATIENT)
        assert ended is not None and ended.state == "failed"
        assert ended.error is not None and ended.error.startswith("fits on no worker of the cluster: ")


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_batch_on_a_cluster(
    nodes: Nodes, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, again: bool
) -> None:
    (tmp_path / "in").mkdir()
    write_portrait(tmp_path / "in" / "face.png")
    write_voice(tmp_path / "in" / "a.wav", 0.5)
    write_voice(tmp_path / "in" / "b.wav", 1.0, 180)
    jobs = write_jobs(tmp_path / "jobs.jsonl", *LINES, {**LINES[0], "output": "/outside.mp4"})
    store = (tmp_path / "store").as_uri()
    words = ["batch", str(jobs), "--ray", nodes.address, "--store", store, "--model", str(tiny_folder), "--device",
             "cpu", "--steps", "2", "--no-provenance"]  # fmt: skip
    assert main([*words, "--dry-run", "--json"]) == 2
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["error"] is None for line in told[:-1]] == [True, True, False, False, True, False]
    assert told[1]["work_seconds"] > 0 and not (tmp_path / "store" / "first.mp4").exists()
    assert main([*words, "--json"]) == 2
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["made"]["video"] for one in told if one.get("made")} >= {f"{store}/first.mp4"}
    rows = table(jobs)
    assert [row["state"] for row in rows] == ["done", "done", "refused", "refused", "done", "refused"]
    assert rows[1]["output"] == f"{store}/job-0002.mp4" and "within the store" in rows[5]["error"]
    with (tmp_path / "store" / "jobs-results.csv").open() as file:
        assert [row["line"] for row in csv.DictReader(file)] == list("123456")
    assert len(frames_of(tmp_path / "store" / "job-0002.mp4")) == 25
    if not again:
        return
    assert main([*words, "--quiet"]) == 2
    states = ["before", "before", "refused", "refused", "before", "refused"]
    assert [row["state"] for row in table(jobs)] == states
    assert main([*words, "--restart", "--quiet"]) == 2
    assert [row["state"] for row in table(jobs)][:2] == ["done", "done"]


def test_the_api_as_a_serve_deployment(nodes: Nodes, tiny_folder: Path, make_job: MakeJob, tmp_path: Path) -> None:
    from ray import serve

    from infinitetalk.server.on_ray import Service, deploy
    from infinitetalk.server.run import listen

    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
    settings = ServerSettings(users=Users.of(TOKENS), models={"tiny": str(tiny_folder)})
    place = Place(folder=tmp_path / "jobs", port=port)
    service = Service(store=str(tmp_path / "store"), place=place, settings=settings, device="cpu", memory=None)
    request = make_job(1).request
    assert request.image is not None
    files = [("image", ("face.png", request.image.read_bytes())), ("audio", ("a.wav", request.audio[0].read_bytes()))]
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        deploy(service, nodes.cluster.head_node.node_ip_address, port)
        headers = {"Authorization": f"Bearer {TOKENS['anna']}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as http:
            assert http.get("/readyz").status_code == 200
            assert http.get("/v1/jobs", headers={"Authorization": "Bearer nobody-at-all-here"}).status_code == 401
            made = http.post("/v1/jobs", data={"steps": "2", "provenance": "false"}, files=files)
            assert made.status_code == 201, made.text
            job = made.json()["id"]
            with http.stream("GET", f"/v1/jobs/{job}/events") as events:
                text = "".join(events.iter_text())
            assert "event: done" in text and "event: progress" in text
            (tmp_path / "got.mp4").write_bytes(http.get(f"/v1/jobs/{job}/video").content)
            assert len(frames_of(tmp_path / "got.mp4")) == 25
            assert http.get(f"/v1/jobs/{job}/preview").text.startswith("#EXTM3U")
            assert "infinitetalk_frames_total 25.0" in http.get("/metrics").text
    finally:
        serve.shutdown()


@pytest.mark.full
def test_a_lost_node(nodes: Nodes, vault: Vault, make_job: MakeJob) -> None:
    """Not only a worker: all of a node, as when its machine is switched off."""
    added = nodes.cluster.add_node(**node_options({}))
    with Pool(vault, "cpu") as pool:
        tickets = [submitted(pool, vault, make_job(steps=6, seed=seed), f"{seed}.mp4") for seed in range(3)]
        until("all work", lambda: all(one.progress.windows >= 2 for one in tickets))
        nodes.cluster.remove_node(added, allow_graceful=False)
        assert all((ended := one.wait(PATIENT)) is not None and ended.state == "done" for one in tickets)
        assert sum(len(one.notes) for one in tickets) == 1


def test_what_is_no_cluster_or_no_store(
    nodes: Nodes, tmp_path: Path, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = write_jobs(tmp_path / "jobs.jsonl", {"image": str(make_job(0.5).request.image), "audio": "voice.wav"})
    assert main(["batch", str(jobs), "--store", "s3://bucket"]) == 2
    assert "give --ray as well" in capsys.readouterr().err
    with pytest.raises(MachineError, match="of this process alone"):
        Pool(Vault("memory://store"), "cpu")
    with pytest.raises(MachineError, match="Ray gives each worker its GPUs"):
        uses_gpus("cuda:1")
    assert nodes.address


ALONE = """
import os, sys
from infinitetalk.cli.main import main
code = main(sys.argv[1:])
from ray._common.usage.usage_lib import usage_stats_enabled
print(code, usage_stats_enabled(), os.environ["RAY_USAGE_STATS_ENABLED"])
"""

# Every process of Python that the program starts says whom it speaks to. A datagram socket that is connected sends
# nothing: so Ray asks the system for this machine's address. And whatever is switched off, Ray asks the cloud's own
# address within the machine's link which cloud this is.
WATCH = """
import socket, sys
own = ("127.", "::1", "0.0.0.0", "169.254.169.254", "metadata.google.internal", {address!r})
def watch(event, words):
    if event == "socket.getaddrinfo" and words[0]:
        host = words[0].decode() if isinstance(words[0], bytes) else str(words[0])
        if not host.startswith((*own, "localhost")):
            told(event, words)
    if event == "socket.connect" and isinstance(words[1], tuple) and words[0].type != socket.SOCK_DGRAM:
        if not str(words[1][0]).startswith(own):
            told(event, words)
def told(event, words):
    with open({log!r}, "a") as file:
        file.write(event + " " + str(words) + " " + " ".join(sys.argv)[:200] + chr(10))
sys.addaudithook(watch)
"""


def test_usage_statistics_are_off(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's would be on without a word."""
    from ray._common.usage.usage_lib import usage_stats_enabled

    from infinitetalk.cluster.connection import import_ray
    from infinitetalk.core.telemetry import OFF

    assert nodes.address
    for name in OFF:
        monkeypatch.delenv(name, raising=False)
    assert usage_stats_enabled()
    import_ray()
    assert not usage_stats_enabled() and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.full
def test_ray_tells_nobody_and_local_needs_no_cluster(tiny_folder: Path, tmp_path: Path, make_job: MakeJob) -> None:
    from infinitetalk.core.telemetry import OFF

    request = make_job(0.5).request
    jobs = write_jobs(tmp_path / "jobs.jsonl", {"image": str(request.image), "audio": str(request.audio[0])})
    log = tmp_path / "connections"
    watch = WATCH.format(log=str(log), address=ray.util.get_node_ip_address())
    (tmp_path / "sitecustomize.py").write_text(watch)
    environment = {name: value for name, value in os.environ.items() if name not in (*OFF, "RAY_ADDRESS")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), **PATIENCE}
    words = ["batch", str(jobs), "--ray", "local", "--output-folder", str(tmp_path / "out"), "--model",
             str(tiny_folder), "--device", "cpu", "--steps", "1", "--no-provenance"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", ALONE, *words], env=environment, capture_output=True, text=True,
                          check=False, cwd=tmp_path, timeout=400)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-3:] == ["0", "False", "0"], done.stdout + done.stderr
    assert (tmp_path / "out" / "job-0001.mp4").is_file()
    assert not log.exists(), log.read_text()
