"""Tasks for the other processes, which find them by the name of this module."""

import os
import signal
from dataclasses import dataclass

import torch

from infinitetalk.engine.tasks import Station


@dataclass(frozen=True)
class Probe:
    """Who shares the networks, and how many tokens fall to a process."""

    count: int

    def run(self, station: Station) -> tuple[int, int, slice]:
        sharing = station.model.dit.parallel
        assert station.model.vae.parallel.size == sharing.size
        return sharing.rank, sharing.size, sharing.span(self.count)


@dataclass(frozen=True)
class FewFrames:
    """Lets blocks take so many latent frames at once."""

    frames: int | None

    def run(self, station: Station) -> None:
        station.model.dit.frames_at_once = self.frames


@dataclass(frozen=True)
class Trouble:
    """Something happens to one process while all others wait for it in an exchange."""

    rank: int
    kind: str

    def run(self, station: Station) -> None:
        assert station.all is not None
        if station.all.rank == self.rank:
            if self.kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has none left.")
            raise ValueError("two\nlines")
        station.all.total(torch.ones(3))
