"""A worker's state returns through the store alone: another one, with another folder, goes on at the next window."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infinitetalk.cluster.ledger import Ledger
from infinitetalk.cluster.orders import Order, order_of
from infinitetalk.cluster.station import Facts, Station, complete
from infinitetalk.cluster.vault import OWN, Vault
from infinitetalk.engine.job import Job, Workshop
from infinitetalk.media.sidecar import settings_hash
from tests.cluster.conftest import MakeJob
from tests.resume.conftest import frames_of


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    vault = Vault(str(tmp_path / "store"))
    vault.write("probe", b"seen")
    return vault


def station(vault: Vault) -> Station:
    made = Station(vault.url, "probe", "cpu", None)
    assert isinstance(made.facts(), Facts)
    return made


class DiedError(BaseException):
    """Stands for a worker that is killed: nothing of the program sees it."""


def killed(vault: Vault, order: Order, monkeypatch: pytest.MonkeyPatch, windows: int) -> None:
    """Lets a station die right after so many windows are in the store, and its folder with it."""
    worker, keep = station(vault), Ledger.keep

    def die(self: Ledger, journal: Path) -> None:
        keep(self, journal)
        if json.loads((journal / "journal.json").read_text())["windows"] == windows:
            raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "keep", die)
        with pytest.raises(DiedError):
            worker.make(order)
    worker.close()
    assert not worker._scratch.folder.exists()


def test_a_follower_goes_on_at_the_next_window(
    vault: Vault, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = make_job()
    whole = Workshop("cpu").make(job)
    order = order_of(job, vault, "anna/hello.mp4")
    killed(vault, order, monkeypatch, 5)
    assert Ledger.last(vault, order.ledger) == 1
    again = order_of(job, vault, "anna/hello.mp4")
    assert (again.id, again.attempt) == (order.id, 2)
    killed(vault, again, monkeypatch, 7)
    # A third one begins with what both have made.
    worker = station(vault)
    ended = worker.make(order_of(job, vault, "anna/hello.mp4"))
    assert (ended.state, ended.error, ended.resumed) == ("done", None, 7)
    assert ended.made is not None and ended.made.windows == whole.windows == 12
    video = tmp_path / "store" / "anna" / "hello.mp4"
    assert video.read_bytes() == whole.video.read_bytes()
    told, expected = (json.loads(path.with_name(f"{path.name}.json").read_text()) for path in (video, whole.video))
    for facts in (told, expected):
        del facts["stage_seconds"]
    assert told == expected, "inputs by the paths of whoever asked"
    assert complete(vault, "anna/hello.mp4", settings_hash(job.request, job.settings))
    assert not complete(vault, "anna/hello.mp4", "other") and not complete(vault, "anna/other.mp4", "other")
    assert vault.names(order.ledger) == [] and sorted(vault.names("")) == ["probe"]
    worker.close()


def test_a_worker_that_is_not_dead_spoils_nothing(
    vault: Vault, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It writes to its own folder, and nobody reads that any more once a follower has begun."""
    job = make_job(2)
    first = order_of(job, vault, "a.mp4")
    killed(vault, first, monkeypatch, 2)
    second = order_of(job, vault, "a.mp4")
    killed(vault, second, monkeypatch, 3)
    late = tmp_path / "late"
    ledger = Ledger(vault, first.ledger, 1)
    ledger.fetch(late)
    (late / "window-00002.mp4").write_bytes(b"something else")
    ledger.keep(late)
    ended = (worker := station(vault)).make(order_of(job, vault, "a.mp4"))
    worker.close()
    assert (ended.state, ended.resumed) == ("done", 3)
    assert len(frames_of(tmp_path / "store" / "a.mp4")) == 50


def test_another_kind_of_device_goes_on(vault: Vault, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from infinitetalk.runtime.device import Device

    job = make_job(2)
    killed(vault, order_of(job, vault, "a.mp4"), monkeypatch, 2)
    name = Device.choose("cpu").name
    choose = Device.choose.__func__  # type: ignore[attr-defined]

    def other(cls: type[Device], *words: str) -> Device:
        import dataclasses

        found: Device = choose(cls, *words)
        return dataclasses.replace(found, name=f"not {name}")

    monkeypatch.setattr(Device, "choose", classmethod(other))
    worker = station(vault)
    ended = worker.make(order_of(job, vault, "a.mp4"))
    worker.close()
    assert (ended.state, ended.error, ended.resumed) == ("done", None, 2)


def test_what_cannot_be_gone_on_with_is_begun_anew(
    vault: Vault, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    import infinitetalk.engine.journal as journals

    job = make_job(2)
    killed(vault, order_of(job, vault, "a.mp4"), monkeypatch, 2)
    monkeypatch.setattr(journals, "version", lambda _name: "another version")
    worker, kept = station(vault), list[dict[str, str]]()
    keep = Ledger.keep

    def noted(self: Ledger, journal: Path) -> None:
        keep(self, journal)
        kept.append(dict(self._files))

    monkeypatch.setattr(Ledger, "keep", noted)
    ended = worker.make(order_of(job, vault, "a.mp4"))
    assert (ended.state, ended.resumed) == ("done", 0)
    assert kept and all("/0002/" in place for files in kept for place in files.values()), "nothing of the old turn"
    assert "begun anew" in f"{worker.look()['notes']}"
    worker.close()


def test_stopping_keeps_what_is_finished(vault: Vault, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job, worker, keep = make_job(2), station(vault), Ledger.keep

    def stop(self: Ledger, journal: Path) -> None:
        keep(self, journal)
        worker.stop()

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "keep", stop)
        ended = worker.make(order_of(job, vault, "a.mp4"))
    assert ended.state == "stopped" and ended.made is not None and not ended.made.complete
    resumed = worker.make(order_of(job, vault, "a.mp4"))
    assert (resumed.state, resumed.resumed) == ("done", ended.made.windows)
    worker.close()


def test_a_failure_is_one_line_without_the_workers_folders(
    vault: Vault, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infinitetalk.core.errors import MachineError

    worker = station(vault)

    def fail(_self: Workshop, job: Job, _listener: object = None) -> None:
        raise MachineError(f"{job.output}: the disk is full")

    monkeypatch.setattr(Workshop, "make", fail)
    assert worker.make(order_of(make_job(0.5), vault, "a.mp4")).error == "talking.mp4: the disk is full"
    monkeypatch.setattr(Workshop, "make", lambda *_words: 1 / 0)
    assert "ZeroDivisionError" in (worker.make(order_of(make_job(0.5), vault, "a.mp4")).error or "")
    order = order_of(make_job(0.5, seed=9), vault, "a.mp4")
    Vault(str(tmp_path / "store")).remove(f"{OWN}/inputs")
    assert "cannot be read" in (worker.make(order).error or "")
    worker.close()


def test_a_store_that_a_worker_does_not_see(tmp_path: Path) -> None:
    worker = Station(str(tmp_path / "elsewhere"), "probe", "cpu", None)
    assert "is not seen from" in f"{worker.facts()}"
    worker.close()


WORKER = """
import sys, time
from infinitetalk.cluster.scratch import Scratch
print(Scratch().folder, flush=True)
time.sleep(60)
"""


def test_a_killed_workers_folder_goes(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True, env=environment) as worker:
        assert worker.stdout is not None
        folder = Path(worker.stdout.readline().strip())
        (folder / "window.mp4").write_bytes(b"1")
        assert folder.parent == tmp_path and folder.is_dir()
        worker.kill()
    for _ in range(200):
        if not folder.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{folder} is still there")
