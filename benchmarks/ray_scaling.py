"""How two workers of a Ray cluster add up against one, and what a killed one costs: on the CPU, one thread each.

python -m benchmarks.ray_scaling --out benchmarks/results/ray_cpu.json        (two cores that do nothing else, minutes)

A cluster of two nodes with one processor each, on this machine. Each round makes the same videos twice: by one worker,
and by two; rounds alternate which comes first, and what is told is the median of the rounds' ratios. Workers are warm:
each has made a video before. Then a worker is killed in the middle, and windows that were made twice are counted.
Ratios are fair on an idle machine alone, so its load before and behind is told as well.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from infinitetalk.cluster.connection import connected
from infinitetalk.cluster.orders import order_of, shape_of
from infinitetalk.cluster.pool import Pool
from infinitetalk.cluster.tickets import Ticket
from infinitetalk.cluster.vault import Vault
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.job import Job, prepare
from infinitetalk.runtime.platform import processors, system_name
from infinitetalk.weights.locate import ASSETS

OBJECTS = 100 * 2**20
"""Bytes of a node's object store, which nothing here uses."""


@contextmanager
def cluster(nodes: int) -> Iterator[None]:
    """A cluster of nodes with one processor each, to which this process is connected."""
    from ray.cluster_utils import Cluster

    os.environ.pop("OMP_NUM_THREADS", None)  # Ray sets it for each worker, to its processors
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECTS}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=1, object_store_memory=OBJECTS)
        with connected(made.address):
            yield
    finally:
        made.shutdown()


def jobs_of(model: str, folder: Path, count: int, seconds: float, steps: int) -> list[Job]:
    """Checked jobs that differ in their seed alone."""
    jobs = []
    for seed in range(count):
        request = TalkRequest(
            model=model, image=ASSETS / "demo" / "portrait_1.png", audio=(ASSETS / "demo" / "voice_1.flac",),
            duration=seconds, steps=steps, seed=seed, provenance=False,
        )  # fmt: skip
        jobs.append(prepare(request, folder / f"{seed}.mp4"))
    return jobs


def submitted(pool: Pool, vault: Vault, jobs: Sequence[Job], label: str) -> list[Ticket]:
    """Tickets of jobs, whose videos go to names of their own."""
    made = enumerate(jobs)
    return [pool.submit(order_of(job, vault, f"{label}-{number}.mp4"), shape_of(job)) for number, job in made]


def finished(tickets: Sequence[Ticket]) -> None:
    """Waits for all.

    Raises:
        SystemExit: one failed.
    """
    for ticket in tickets:
        ended = ticket.wait()
        if ended is None or ended.state != "done":
            sys.exit(f"a job failed: {ended and ended.error}")


def timed(pool: Pool, vault: Vault, jobs: Sequence[Job], label: str, workers: int) -> float:
    """Seconds from the first job's submission to the last one's end, by so many warm workers."""
    began = time.perf_counter()
    if workers > 1:
        finished(submitted(pool, vault, jobs, label))
    else:
        for number, job in enumerate(jobs):  # the next one when the last one is done: the other worker has nothing
            finished(submitted(pool, vault, [job], f"{label}-{number}"))
    return time.perf_counter() - began


def scaling(pool: Pool, vault: Vault, jobs: Sequence[Job], rounds: int) -> dict[str, Any]:
    """Rounds of one worker against two."""
    finished(submitted(pool, vault, jobs[:2], "warm"))
    found: list[dict[str, float]] = []
    for number in range(rounds):
        order = (1, 2) if number % 2 == 0 else (2, 1)
        seconds = {workers: timed(pool, vault, jobs, f"{number}-{workers}", workers) for workers in order}
        found.append({"one": seconds[1], "two": seconds[2], "times": seconds[1] / seconds[2]})
        sys.stderr.write(f"round {number + 1}: {found[-1]}\n")
    return {"rounds": found, "times": statistics.median(one["times"] for one in found)}


def killed(pool: Pool, vault: Vault, job: Job) -> dict[str, Any]:
    """Kills a job's worker in the middle; windows that were begun twice."""
    (ticket,) = submitted(pool, vault, [job], "killed")
    while not ticket.progress.planned or ticket.progress.windows < ticket.progress.planned // 2:
        time.sleep(0.01)
    assert ticket.facts is not None
    os.kill(ticket.facts.process, signal.SIGKILL)
    lost = time.perf_counter()
    finished([ticket])
    assert ticket.ended is not None
    steps = next(stage for stage in ticket.before.stages if stage.name == "denoising (DiT)")
    begun = -(-steps.done * ticket.before.planned // max(1, steps.total))
    return {
        "windows": ticket.progress.planned,
        "kept_when_killed": ticket.ended.resumed,
        "begun_when_killed": begun,
        "windows_made_twice": max(0, begun - ticket.ended.resumed),
        "seconds_from_the_kill_to_the_end": time.perf_counter() - lost,
    }


def main(words: Sequence[str] | None = None) -> int:
    """Measures, and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--jobs", type=int, default=4, help="videos of a round")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each video")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(words)
    told: dict[str, Any] = {
        "machine": f"{system_name()}, {processors()} cores", "torch": torch.__version__, "model": arguments.model,
        "jobs": arguments.jobs, "seconds": arguments.seconds, "steps": arguments.steps,
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name, cluster(2):
        folder = Path(name)
        vault = Vault(str(folder / "store"))
        jobs = jobs_of(arguments.model, folder, arguments.jobs, arguments.seconds, arguments.steps)
        with Pool(vault, "cpu") as pool:
            for part in ("scaling", "killed"):
                told[part] = scaling(pool, vault, jobs, arguments.rounds) if part == "scaling" else killed(
                    pool, vault, jobs[0]
                )  # fmt: skip
                told["load_behind"] = [round(load, 2) for load in os.getloadavg()]
                arguments.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
