"""Windows that go on from what the network itself made, again and again, as those of a long video do.

A small mistake of one window is what the next one goes on from. So clips are made anew in pieces, one after the other:
each begins with the last frames of the piece before, decoded and encoded as the engine does, and is made by the network
as it is now, from the clip made noisy, so that heads stay where the clip has them. Batches that go on from there have
the clip itself as their aim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infinitetalk.diffusion.schedule import STEPS_OF_TRAINING
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE
from training.nano.flow import Batch, Kind, Levels, emphasis, noise_levels
from training.nano.latents import ClipLatents, condition
from training.nano.preview import Told, follow
from training.nano.settings import MOTION
from training.nano.train_vae import half
from training.nano.voices import VoiceBank

KEPT = (MOTION - 1) // 4 + 1
"""Latents that a window goes on from."""
PIECE = 2 * KEPT
"""Latents of a piece: its last frames, which the next one goes on from, are all made."""
LENGTH = PIECE + KEPT
"""Latents of the windows that are learned from."""
POOL, FRESH = 96, 12
"""Chains at once, and how many of them grow by a piece with each batch."""


def cut(latents: Tensor, places: Tensor, length: int) -> Tensor:
    """(B, C, T, h, w) → (B, C, length, h, w), each from its own place on."""
    rows = torch.arange(len(latents), device=latents.device)[:, None]
    return latents.movedim(2, 1)[rows, places[:, None] + torch.arange(length, device=latents.device)].movedim(1, 2)


@dataclass(slots=True)
class Chains:
    """Chains of pieces, each somewhere in a clip of one person."""

    clips: ClipLatents
    voices: VoiceBank
    vae: VideoVAE
    index: Tensor
    """(n,) clips"""
    place: Tensor
    """(n,) how many latents of the clip lie behind"""
    motion: Tensor
    """(n, 16, KEPT, h, w) what each goes on from"""
    turn: int = 0
    """Which chain grows next."""

    @staticmethod
    def begin(clips: ClipLatents, voices: VoiceBank, vae: VideoVAE, count: int = POOL) -> "Chains":
        """So many chains that nothing was added to."""
        nothing = torch.zeros(count, dtype=torch.long, device=clips.video.device)
        shape = (count, clips.video.shape[1], KEPT, *clips.video.shape[-2:])
        # Behind the end of their clips, so that they begin anew when they grow for the first time.
        return Chains(clips, voices, vae, nothing, nothing + clips.video.shape[2], clips.video.new_zeros(shape).float())

    @torch.no_grad()
    def grow(self, dit: AudioDiT, way: Sequence[float], generator: torch.Generator, count: int = FRESH) -> None:
        """The next `count` chains grow by a piece, made by `dit` along shares of noise that fall to 0."""
        some = (self.turn + torch.arange(count, device=self.index.device)) % len(self.index)
        self.turn = int(some[-1]) + 1
        self._restart(some, generator)
        index, place = self.index[some], self.place[some]
        video = cut(self.clips.video[index], place, PIECE).float()
        noise = torch.randn(video.shape, generator=generator, device=video.device)
        noisy = (1 - way[0]) * video + way[0] * noise
        times = [level * STEPS_OF_TRAINING for level in way]
        with torch.compiler.set_stance("force_eager"):
            made = follow(dit, self._told(index, place, PIECE, None), noisy, times, self.motion[some])
        with half(video.device):
            handed = self.vae.encode(self.vae.decode(made)[:, :, -MOTION:]).float()
        self.motion[some], self.place[some] = handed, place + KEPT

    def batch(
        self, kind: Kind, generator: torch.Generator, *, dropout: float = 0.12, levels: Levels = noise_levels
    ) -> Batch:
        """Windows of so many latents that go on from chains, at noise as `levels` says."""
        device = self.index.device
        grown = (self.place + kind.latents <= self.clips.video.shape[2]).nonzero().flatten()
        some = grown[torch.randint(len(grown), (kind.batch,), generator=generator, device=device)]
        index, place = self.index[some], self.place[some]
        video = cut(self.clips.video[index], place, kind.latents).float()
        level = levels(kind.batch, generator, device).view(-1, 1, 1, 1, 1)
        noise = torch.randn(video.shape, generator=generator, device=device)
        noisy = (1 - level) * video + level * noise
        noisy[:, :, :KEPT] = self.motion[some]
        told = self._told(index, place, kind.latents, generator)
        heard = torch.rand(kind.batch, generator=generator, device=device) >= dropout
        clean = (torch.arange(kind.latents, device=device) < KEPT).view(1, 1, -1, 1, 1)
        return Batch(
            noisy=noisy,
            timestep=level.flatten() * STEPS_OF_TRAINING,
            condition=told.condition,
            audio=told.audio * heard.view(-1, 1, 1, 1, 1, 1),
            masks=None,
            target=noise - video,
            weight=(~clean).float() * emphasis(self.clips, index),
        )

    def _told(self, index: Tensor, place: Tensor, length: int, generator: torch.Generator | None) -> Told:
        picture = self.clips.other[index, :, :length].float()
        start = self.clips.start[index, :1] + 4 * place[:, None]
        heard = self.voices.windows(self.clips.utterance[index, :1], start, 4 * length - 3, generator)
        return Told(condition(picture, self.clips.strength[index]), heard)

    def _restart(self, some: Tensor, generator: torch.Generator) -> None:
        """Those of these chains that came to their clips' ends begin another one: worn ones from what is worn."""
        alone = self.clips.of_people(1)
        fresh = alone[torch.randint(len(alone), some.shape, generator=generator, device=some.device)]
        begun = torch.where(
            self.clips.worn[fresh].view(-1, 1, 1, 1, 1),
            self.clips.rough[fresh, :, :KEPT],
            self.clips.video[fresh, :, :KEPT],
        )
        over = self.place[some] + KEPT + LENGTH > self.clips.video.shape[2]
        self.index[some] = torch.where(over, fresh, self.index[some])
        self.place[some] = torch.where(over, 0, self.place[some])
        self.motion[some] = torch.where(over.view(-1, 1, 1, 1, 1), begun.float(), self.motion[some])
