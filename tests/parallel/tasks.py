"""Tasks for the other processes, which find them by the name of this module."""

import os
import signal
from dataclasses import dataclass

import torch

from infinitetalk.engine.tasks import Station
from infinitetalk.ops.attention_eight import EightAttention, emulated


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


@dataclass(frozen=True)
class AttendInEight:
    """Attention of so many tokens in 8 bits, shared; answers of all tokens."""

    count: int
    heads: int

    def given(self) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(self.count)
        parts = torch.randn(3, 1, self.count, self.heads, 16, generator=generator) + torch.tensor([0, 2, 0]).view(
            3, 1, 1, 1, 1
        )
        return parts.bfloat16().unbind()

    def run(self, station: Station) -> torch.Tensor:
        sharing = station.model.dit.parallel
        q, k, v = (part[:, sharing.span(self.count)] for part in self.given())
        kernel = EightAttention(emulated, least=0)
        answer, _ = sharing.attend(q, k, v, count=self.count, kernel=kernel, in_place=False, look=None)
        return sharing.gather(answer, 1, self.count)
