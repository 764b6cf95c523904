"""What several processes do together, or one of them for another: each task gives the same, whoever shares it."""

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from infinitetalk.core.configs import EVERY
from infinitetalk.core.defaults import Settings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import TEMPORAL_STRIDE, Latents, Pixels
from infinitetalk.engine.codec import decode, encode, encode_still, latent_count
from infinitetalk.engine.denoise import Conditions, Script, denoise, renoised
from infinitetalk.engine.model import Model
from infinitetalk.engine.spread import Spread
from infinitetalk.ops.parallel import ALONE
from infinitetalk.ops.ranks import Ranks


@dataclass(slots=True)
class Station:
    """What a process works with."""

    model: Model
    all: Ranks | None = None
    """Everybody; None for one process."""
    script: Script | None = None
    """Of the job that is under way, in a process that has no other one."""

    def share(self) -> None:
        """Lets everybody share the networks."""
        everybody = self.all or ALONE
        self.model.dit.parallel = self.model.vae.parallel = everybody

    def spread(self, groups: int) -> Spread:
        """Lets groups of processes share the DiT, each for some of the branches; all must do so together."""
        if self.all is None or groups == 1:
            self.model.dit.parallel = self.all or ALONE
            return Spread()
        name = f"{groups} groups"
        if name not in self.all.formed:
            from infinitetalk.runtime.group import split

            self.all.formed[name] = tuple(map(Ranks, split(groups)))
        own, across = self.all.formed[name]
        assert own is not None
        assert across is not None
        self.model.dit.parallel = own
        return Spread(groups, across.rank, across)


class Task(Protocol):
    """Work of all processes together, or of one."""

    def run(self, station: Station) -> Any:
        """Does it; the same in every process."""


@dataclass(frozen=True, slots=True)
class Encode:
    """Video [1, 3, F, H, W] → latents [1, 16, T, h, w]."""

    video: Tensor

    def run(self, station: Station) -> Tensor:
        """See `codec.encode`."""
        lodging = station.model.lodging
        with station.model.coding() as vae:
            return encode(vae, self.video, lodging.tile, lodging.coded_at_once)


@dataclass(frozen=True, slots=True)
class EncodeStill:
    """A picture [1, 3, 1, H, W] and grey frames after it, so many in all → latents [1, 16, T, h, w].

    For a model that is shown key frames at every latent frame, those of the picture alone, again and again.
    """

    picture: Tensor
    frames: int

    def run(self, station: Station) -> Tensor:
        """See `codec.encode_still`."""
        lodging = station.model.lodging
        with station.model.coding() as vae:
            if station.model.dit.config.key_frame == EVERY:
                latent = encode(vae, self.picture, lodging.tile, lodging.coded_at_once)
                return latent.repeat(1, 1, latent_count(self.frames), 1, 1)
            return encode_still(vae, self.picture, self.frames, lodging.tile, lodging.coded_at_once)


@dataclass(frozen=True, slots=True)
class EncodeAside:
    """The same by one process alone, for everybody: the others have something else to do."""

    video: Tensor
    rank: int

    def run(self, station: Station) -> Tensor:
        """See `codec.encode`."""
        everybody, vae, lodging = station.all, station.model.vae, station.model.lodging
        if everybody is None or everybody.rank == self.rank:
            before, vae.parallel = vae.parallel, ALONE
            try:
                with station.model.coding() as coder:
                    latent = encode(coder, self.video, lodging.tile, lodging.coded_at_once)
            finally:
                vae.parallel = before
        else:
            frames, height, width = self.video.shape[2:]
            size = Latents.of((latent_count(frames) - 1) * TEMPORAL_STRIDE + 1, Pixels(height, width))
            latent = self.video.new_empty(1, vae.config.z_dim, *size, dtype=torch.float32)
        return latent if everybody is None else everybody.share(latent.contiguous(), self.rank)


@dataclass(frozen=True, slots=True)
class Decode:
    """Latents [1, 16, T, h, w] → video [1, 3, F, H, W]."""

    latent: Tensor

    def run(self, station: Station) -> Tensor:
        """See `codec.decode`."""
        lodging = station.model.lodging
        with station.model.coding() as vae:
            return decode(vae, self.latent, lodging.tile, lodging.coded_at_once)


@dataclass(frozen=True, slots=True)
class Denoise:
    """All steps of one window, or of a chunk of a live talk."""

    job: int
    """Which job's window; see `Script.number`."""
    noise: Tensor
    told: Conditions
    request: TalkRequest
    settings: Settings
    groups: int
    """Groups of processes, each for its branches of guidance."""
    live: bool = False

    def steps(self, station: Station, script: Script) -> Iterator[Tensor]:
        """The latent [16, T, h, w] after each step."""
        script.spread = station.spread(self.groups)
        make = renoised if self.live else denoise
        yield from make(script, self.noise, self.told, self.request, self.settings)

    def run(self, station: Station) -> None:
        """The same for a process that has no use for the latent."""
        if station.script is None or station.script.number != self.job:
            station.script = Script(station.model.dit, self.job)
        for _ in self.steps(station, station.script):
            pass


@dataclass(frozen=True, slots=True)
class Read:
    """Prompts, by the one process that has the text encoder."""

    prompts: tuple[str, ...]

    def run(self, station: Station) -> list[Tensor]:
        """See `TextSource.encode`."""
        assert station.model.text is not None
        return [read.cpu() for read in station.model.text.encode(self.prompts)]


@dataclass(frozen=True, slots=True)
class Look:
    """A key frame [1, 3, 1, H, W], by the one process that has the picture encoder."""

    picture: Tensor

    def run(self, station: Station) -> Tensor:
        """See `VisionSource.encode`."""
        assert station.model.vision is not None
        return station.model.vision.encode(self.picture.to(station.model.device)).cpu()


class Parcel(NamedTuple):
    """A task without its tensors, which travel by the group."""

    content: bytes
    shapes: tuple[tuple[tuple[int, ...], torch.dtype] | None, ...]
    """Of the tensors in their order; None for one that was sent with the task of this kind before."""
    places: tuple[int, ...]
    """Of those that were sent before: their places among that task's."""
    kind: str


class Parcels:
    """Takes tasks apart and puts them together.

    A tensor that was part of the task of the same kind before stays the very same object at the other end, so that
    what was made of it is found again.
    """

    def __init__(self) -> None:
        self._last: dict[str, list[Tensor]] = {}

    def pack(self, task: Task) -> tuple[Parcel, list[Tensor]]:
        """A parcel, and the tensors to be sent after it."""
        found: list[Tensor] = []

        class Pickler(pickle.Pickler):
            def persistent_id(self, item: Any) -> int | None:
                if not isinstance(item, Tensor):
                    return None
                found.append(item)
                return len(found) - 1

        content, kind = io.BytesIO(), type(task).__name__
        Pickler(content).dump(task)
        last = self._last.get(kind, [])
        places = [next((place for place, old in enumerate(last) if old is item), None) for item in found]
        fresh = [item for item, place in zip(found, places, strict=True) if place is None]
        shapes = [(tuple(item.shape), item.dtype) if place is None else None
                  for item, place in zip(found, places, strict=True)]  # fmt: skip
        self._keep(kind, found)
        known = tuple(place for place in places if place is not None)
        return Parcel(content.getvalue(), tuple(shapes), known, kind), fresh

    def unpack(self, parcel: Parcel, fresh: Sequence[Tensor]) -> Task:
        """The task, with the tensors that were sent after it."""
        arrived, known = iter(fresh), iter(parcel.places)
        last = self._last.get(parcel.kind, [])
        found = [last[next(known)] if shape is None else next(arrived) for shape in parcel.shapes]

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, place: Any) -> Any:
                return found[place]

        task: Task = Unpickler(io.BytesIO(parcel.content)).load()
        self._keep(parcel.kind, found)
        return task

    def _keep(self, kind: str, found: list[Tensor]) -> None:
        # Videos are large, and none comes twice.
        if kind == Denoise.__name__:
            self._last[kind] = found
