"""A model that several processes share: each loads the networks that all need, and the encoders that fall to it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from infinitetalk.core.errors import RequestError
from infinitetalk.core.loras import Lora
from infinitetalk.core.memory import Lodging, MemorySettings
from infinitetalk.core.ranks import crew_size, started_by_torchrun
from infinitetalk.engine.crew import Crew, Source
from infinitetalk.engine.model import ALL_PARTS, Model, Parts, load_model
from infinitetalk.engine.planning import check_crew, plan_folder
from infinitetalk.engine.progress import Progress
from infinitetalk.engine.tasks import Look, Read
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import ModelFolder


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A model folder, as one of the processes loads it."""

    folder: ModelFolder
    loras: tuple[Lora, ...]
    memory: MemorySettings
    lodging: Lodging
    parts: Parts
    progress: Progress | None = None

    def load(self, device: Device) -> Model:
        """See `load_model`."""
        return load_model(
            self.folder, device, self.progress, self.loras, memory=self.memory, lodging=self.lodging, parts=self.parts
        )


BRANCHES = (1, 2, 3)
"""Of guidance, that a job may have."""

READER, LOOKER = 1, 2
"""The processes with the text encoder and the picture encoder; the latter one is the first process' where only two are.
The first one hears."""


@dataclass(slots=True)
class FarText:
    """The text encoder of another process, as a `TextSource` that can be asked ahead of need."""

    crew: Crew
    rank: int
    device: torch.device
    _begun: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def begin(self, prompts: Sequence[str]) -> None:
        """Lets them be read while others work; `encode` then waits for it."""
        self._begun = {tuple(prompts): self.crew.ask(self.rank, Read(tuple(prompts)))}

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """See `TextSource`."""
        if tuple(prompts) not in self._begun:
            self.begin(prompts)
        read: list[Tensor] = self._begun.pop(tuple(prompts))()
        return [tokens.to(self.device) for tokens in read]


@dataclass(slots=True)
class FarVision:
    """The picture encoder of another process, as a `VisionSource` that can be asked ahead of need."""

    crew: Crew
    rank: int
    device: torch.device
    _begun: tuple[Tensor, Any] | None = None

    def begin(self, picture: Tensor) -> None:
        """Lets it be seen while others work; `encode` then waits for it."""
        self._begun = picture, self.crew.ask(self.rank, Look(picture.cpu()))

    def encode(self, picture: Tensor) -> Tensor:
        """See `VisionSource`."""
        if self._begun is None or self._begun[0] is not picture:
            self.begin(picture)
        assert self._begun is not None
        seen: Tensor = self._begun[1]()
        self._begun = None
        return seen.to(self.device)


def load_shared(
    folder: ModelFolder,
    device: Device,
    progress: Progress | None = None,
    loras: Sequence[Lora] = (),
    *,
    memory: MemorySettings | None = None,
    lodging: Lodging | None = None,
) -> Model:
    """`load_model` on as many devices as the settings name; the other processes are started here.

    Raises:
        RequestError: more devices than there are, or a number that does not divide.
        MachineError: also a process that does not start or fails.
    """
    wanted, place = memory or MemorySettings(), started_by_torchrun()
    size = crew_size(wanted.gpus, place)
    _check(folder, device, wanted)
    if size == 1:
        return load_model(folder, device, progress, loras, memory=memory, lodging=lodging)
    lodging = lodging or plan_folder(folder, device, memory, loras).lodging
    whole = FolderSource(folder, tuple(loras), wanted, lodging, ALL_PARTS)

    def source(rank: int) -> FolderSource:
        parts = Parts(speech=rank == 0, text=rank == READER, vision=rank == LOOKER % size)
        return replace(whole, parts=parts, progress=None if rank else progress)

    crew = Crew.start(size, device, place)
    model, where = with_others(source, crew, device), device.torch_device
    return replace(
        model,
        guidance_split=wanted.guidance_split,
        text=FarText(crew, READER, where) if folder.text else None,
        vision=FarVision(crew, LOOKER, where) if folder.vision and size > LOOKER else model.vision,
    )


def with_others(source: Callable[[int], Source], crew: Crew, device: Device) -> Model:
    """The model that all processes load at once, each from its own source; ends them if one cannot."""
    try:
        loaded = crew.load(source)
        with crew.watching():
            model = source(0).load(device)
        loaded()
    except BaseException:
        crew.abandon()
        raise
    return replace(model, crew=crew)


def _check(folder: ModelFolder, device: Device, memory: MemorySettings) -> None:
    """Refuses a number of devices that can share no job of this model."""
    for branches in BRANCHES:
        with suppress(RequestError):
            check_crew(device, memory, folder.dit.config.num_heads, branches)
            return
    check_crew(device, memory, folder.dit.config.num_heads, 1)
