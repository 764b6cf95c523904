"""The work of one group of GPUs: takes orders, keeps each finished window in the store. Knows nothing of Ray."""

import logging
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infinitetalk.cluster.ledger import Ledger
from infinitetalk.cluster.orders import Ended, Order, moved
from infinitetalk.cluster.scratch import Scratch
from infinitetalk.cluster.vault import Vault
from infinitetalk.core.errors import DeviceLostError, InfiniteTalkError, RequestError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.planner import Plan
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.telemetry import switch_off
from infinitetalk.engine.board import Board
from infinitetalk.engine.job import Job, Stopped, Workshop, prepare
from infinitetalk.jobs.listener import Interrupted, Listener
from infinitetalk.jobs.record import JobProgress
from infinitetalk.media.hls import fresh
from infinitetalk.media.paths import job_path, sidecar_path
from infinitetalk.media.sidecar import tells_whole
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.hub.recipe import with_lora

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where a station is."""

    host: str
    process: int
    device: str
    """The GPU's name, or `cpu`."""
    memory: int
    """Bytes of one GPU, or of main memory where there is none."""
    scratch: str


class Station:
    """Makes one video at a time.

    Args:
        store: URL of the store.
        probe: name of a file that is in it.
        device: as `Workshop` takes it.
        memory: what it may take, how many GPUs among it.
    """

    def __init__(self, store: str, probe: str, device: str, memory: MemorySettings | None) -> None:
        switch_off()
        self._store, self._probe, self._device = store, probe, device
        self._workshop = Workshop(device, memory)
        self._scratch = Scratch()
        self._board: Board | None = None
        self._stop = threading.Event()

    def facts(self) -> Facts | str:
        """Where it is, and on what; or why nothing can be made here. Asked first."""
        from infinitetalk.runtime.device import Device

        host = socket.gethostname()
        try:
            self._vault = Vault(self._store)
            if self._vault.read(self._probe) is None:
                return f"{self._store} is not seen from {host}; give a --store that all nodes reach"
            device = Device.choose(self._device)
        except InfiniteTalkError as error:
            return f"{host}: {error}"
        memory = device.main_memory if device.memory is None else device.memory
        scratch = str(self._scratch.folder)
        return Facts(host=host, process=os.getpid(), device=device.name, memory=memory, scratch=scratch)

    def plans(self, orders: Sequence[Order]) -> list[Plan | str]:
        """For each order how it would be done here, or why it does not fit."""
        return [self._plan(order) for order in orders]

    def _plan(self, order: Order) -> Plan | str:
        try:
            folder, request = _opened(order)
            job = Job(request=request, output=Path(order.output), folder=folder, settings=order.settings, checked_in=0)
            return self._workshop.check_fit(job)
        except InfiniteTalkError as error:
            return str(error)

    def look(self) -> dict[str, Any]:
        """How far the order at work is, as `JobProgress.to_json`."""
        board = self._board
        return (JobProgress() if board is None else JobProgress.of(board)).to_json()

    def stop(self) -> None:
        """Stops the order at work after the step at work; finished windows stay in the store."""
        self._stop.set()

    def make(self, order: Order) -> Ended:
        """Makes an order's video and puts it to the store; goes on with one that another station began.

        Raises:
            DeviceLostError: only another process can go on.
        """
        self._stop.clear()
        self._board = Board()
        ledger = Ledger(self._vault, order.ledger, order.attempt)
        room = self._scratch.room("job")
        try:
            return replace(self._made(order, ledger, room), progress=JobProgress.of(self._board))
        except DeviceLostError:
            raise
        except InfiniteTalkError as error:
            return Ended(state="failed", error=str(error).replace(f"{room}/", ""))
        except Exception as error:
            log.exception("order %s failed unexpectedly", order.id)
            where = f"the log of the worker on {socket.gethostname()} says more"
            return Ended(state="failed", error=f"something unexpected happened ({type(error).__name__}); {where}")
        finally:
            self._scratch.clear("job")

    def _made(self, order: Order, ledger: Ledger, room: Path) -> Ended:
        job = self._job(order, ledger, room)
        resumed = ledger.fetch(job_path(job.output))
        assert self._board is not None
        listener = Listener(self._board, self._stop.is_set)
        try:
            try:
                made = self._workshop.make(job, listener)
            except RequestError as error:
                if error.field != "output" or not resumed:
                    raise
                # Another version of a library, say: the windows so far cannot be continued.
                self._board.note(f"begun anew: {error.need}")
                ledger.forget()
                resumed, made = 0, self._workshop.make(replace(job, restart=True), listener)
        except (Stopped, Interrupted) as stop:
            made_so_far = stop.made if isinstance(stop, Stopped) and stop.made.windows else None
            if made_so_far is not None:
                self._deliver(order, job)
            return Ended(state="stopped", made=made_so_far, resumed=resumed)
        self._deliver(order, job)
        if order.preview is None:
            ledger.clear()
        return Ended(state="done", made=made, resumed=resumed)

    def _job(self, order: Order, ledger: Ledger, room: Path) -> Job:
        told = TalkRequest.from_json(order.request)
        places = {}
        for path, name in order.staged.items():
            places[path] = room / name.rpartition("/")[2]
            self._vault.get(name, places[path])
        back = {str(here): Path(path) for path, here in places.items()}
        output = room / "talking.mp4"
        preview = None if order.preview is None else room / "preview"
        job = prepare(moved(told, places), output, hls=preview, named=lambda request: moved(request, back))

        def keep(journal: Path) -> None:
            ledger.keep(journal)
            self._show(order, preview)

        # Where GPUs differ, a video with two roundings is better than windows made twice.
        return replace(job, anywhere=True, kept=keep)

    def _show(self, order: Order, preview: Path | None) -> None:
        """Copies what is new of the preview; the playlist last, so that it names nothing that is not there."""
        if preview is None or order.preview is None or not preview.exists():
            return
        known = set(self._vault.names(order.preview))
        for name in fresh((path.name for path in preview.iterdir()), known):
            self._vault.put(preview / name, f"{order.preview}/{name}")

    def _deliver(self, order: Order, job: Job) -> None:
        """Puts the video to the store, and the file beside it last: where that is, the video is."""
        self._show(order, job.hls)
        self._vault.put(job.output, order.output)
        self._vault.put(sidecar_path(job.output), sidecar_path(Path(order.output)).as_posix())

    def close(self) -> None:
        """Deletes what it has on this machine."""
        self._scratch.close()


def _opened(order: Order) -> tuple[ModelFolder, TalkRequest]:
    request = TalkRequest.from_json(order.request)
    folder = ModelFolder.open(request.model, request.encoder)
    return folder, with_lora(request, folder.facts)


def complete(vault: Vault, output: str, digest: str) -> bool:
    """Whether a whole video, made by the same settings, is in the store."""
    return tells_whole(vault.read(f"{output}.json"), digest) and vault.has(output)
