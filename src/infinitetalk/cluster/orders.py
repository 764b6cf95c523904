"""What a worker is asked to make, with nothing in it that only one machine has."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infinitetalk.cluster.ledger import Ledger
from infinitetalk.cluster.vault import OWN, Vault
from infinitetalk.core.defaults import Settings
from infinitetalk.core.files import digest
from infinitetalk.core.knobs import CONTROLS, Kind, with_files
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.job import Job, Made
from infinitetalk.engine.planning import work_of
from infinitetalk.jobs.record import JobProgress
from infinitetalk.media.sidecar import absolute, settings_hash

_ROUGH = 256
"""Tokens of a prompt are counted in such steps where memory is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One job of a cluster."""

    id: str
    """The same for the same request and output, whoever asks."""
    request: Mapping[str, Any]
    """As `TalkRequest.to_json`, paths where their owner has them."""
    staged: Mapping[str, str] = field(default_factory=dict)
    """Path of an input → its name in the store. LoRAs and models are found on every node by their own path."""
    settings: Settings
    output: str
    """The video's name in the store."""
    preview: str | None = None
    """Folder of the store for a preview that plays meanwhile."""
    attempt: int = 1

    @property
    def ledger(self) -> str:
        """Folder of the store for finished windows."""
        return f"{OWN}/jobs/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an order ended at a worker."""

    state: str
    """`done`, `stopped`, `failed`, or `lost`: nothing can be made now, whatever it is."""
    made: Made | None = None
    """Its paths are the worker's."""
    error: str | None = None
    resumed: int = 0
    """Windows that were finished before."""
    progress: JobProgress | None = None
    """How far it was at its end."""


def order_of(job: Job, vault: Vault, output: str, *, inputs: str = f"{OWN}/inputs", preview: bool = False) -> Order:
    """The order of a checked job; its inputs are copied to the store unless they are there.

    Args:
        output: the video's name in the store.
        inputs: folder of the store for inputs.
        preview: whether to keep a preview in the store as well.

    Raises:
        MachineError: the store cannot be used.
    """
    request = absolute(job.request)
    name = hashlib.sha256(f"{output}\n{settings_hash(job.request, job.settings)}".encode()).hexdigest()[:24]
    staged = {str(path): _stage(path, vault, inputs) for path in media_paths(request)}
    folder = f"{OWN}/jobs/{name}"
    order = Order(
        id=name, request=request.to_json(), staged=staged, settings=job.settings, output=output,
        preview=f"{folder}/preview" if preview else None,
    )  # fmt: skip
    if job.restart:
        vault.remove(order.ledger)
    return replace(order, attempt=1 + Ledger.last(vault, order.ledger))


def shape_of(job: Job) -> str:
    """What a job's memory depends on: jobs of one shape fit on the same GPUs."""
    work = work_of(job.request, job.settings)
    if work.words is not None:
        prompt, negative = (-(-words // _ROUGH) * _ROUGH for words in work.words)
        work = replace(work, words=(prompt, negative))
    loras = [str(lora.path) for lora in job.request.loras]
    return json.dumps([f"{job.request.model}", job.request.encoder, loras, repr(work)])


def media_paths(request: TalkRequest) -> list[Path]:
    """Pictures, videos, sounds and masks that a request names."""
    found: list[Path] = []
    for control in CONTROLS:
        value = getattr(request, control.name)
        if control.kind is Kind.FILE and value is not None:
            found.append(value)
        elif control.kind is Kind.FILES:
            found += value
    return list(dict.fromkeys(found))


def moved(request: TalkRequest, places: Mapping[str, Path]) -> TalkRequest:
    """A request with some of its pictures, videos, sounds and masks elsewhere."""
    return with_files(request, lambda _field, _number, path: places.get(str(path), path))


def _stage(path: Path, vault: Vault, folder: str) -> str:
    name = f"{folder}/{digest(path)}{path.suffix.lower()}"
    if not vault.has(name):
        vault.put(path, name)
    return name
