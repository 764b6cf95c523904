"""From conditions to a finished latent: the network's passes, their guidance and the sampler, for one window."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import torch
from torch import Tensor

from infinitetalk.core.caching import StepCache
from infinitetalk.core.defaults import Settings
from infinitetalk.core.request import TalkRequest
from infinitetalk.diffusion.caching import Course, taylorseer, teacache
from infinitetalk.diffusion.guidance import AdaptiveGuidance, Branch, branches, combine
from infinitetalk.diffusion.sampler import SCHEDULERS, Velocity, renoise
from infinitetalk.diffusion.schedule import STEPS_OF_TRAINING, level_timesteps, partial_timesteps
from infinitetalk.engine.spread import Spread
from infinitetalk.models.dit import Added, AudioDiT, Prepared, Words
from infinitetalk.models.dit import Branch as Told

_NUMBERS = count()

FEW = 8
"""Steps of the networks that were distilled."""

LARGE = 614_400
"""Pixels between the size tables 480 and 720."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the network is told of one window."""

    condition: Tensor
    """Mask and latents of the reference picture, [20, T, h, w]."""
    motion: Tensor
    """Clean latents of the first frames, [16, t, h, w]."""
    audio: Tensor
    """Features around every frame, [people, frames, width, layers, channels]."""
    places: Tensor | None
    """Where the people are, [people + 1, h, w], if there are several."""
    prompt: Tensor | None
    """[tokens, text_dim], if the network reads."""
    negative: Tensor | None
    clip: Tensor | None
    """[1, tokens, clip_dim], if the network looks."""
    source: Tensor | None = None
    """Clean latents of the source's own frames, [16, T, h, w], if denoising starts from them."""


def passes(request: TalkRequest, settings: Settings) -> tuple[Branch, ...]:
    """The passes of the network that each step of a job needs."""
    return branches(settings.text_scale, settings.audio_scale, reference=request.reference)


class Script:
    """What the network has been told in a job, prepared: texts for the whole video, a picture for as long as it stays.

    Keys and values of cross-attention do not depend on the step, so each block's are made once and asked often. Which
    steps ask the blocks is chosen once, too.
    """

    def __init__(self, dit: AudioDiT, number: int | None = None) -> None:
        self.dit = dit
        self.number = next(_NUMBERS) if number is None else number
        """That of the job, by which all processes that share its work know it."""
        self.spread = Spread()
        """Which branches are asked here."""
        self._texts: tuple[Tensor | None, Tensor | None, Mapping[bool, Words | None]] | None = None
        self._picture: tuple[Tensor | None, Prepared | None] | None = None
        self._course: tuple[Settings, Course] | None = None

    def course(self, settings: Settings) -> Course:
        """Which steps of a window ask the network's blocks, and how the others do without."""
        if self._course is None or self._course[0] != settings:
            self._course = settings, self._choose(settings)
        return self._course[1]

    def _choose(self, settings: Settings) -> Course:
        levels = _times(settings)[:-1]
        if settings.cache_threshold is not None:
            large = settings.size.height * settings.size.width > LARGE
            return teacache(changes(self.dit, levels), settings.cache_threshold, large=large)
        if settings.cache_interval is not None:
            return taylorseer(levels, settings.cache_interval)
        return (None,) * len(levels)

    def branches(self, wanted: Sequence[Branch], told: Conditions) -> list[Told]:
        """The inputs of the wanted passes for one window."""
        texts = self._read(wanted, told)
        if self._picture is None or self._picture[0] is not told.clip:
            self._picture = told.clip, self.dit.prepare_picture(told.clip)
        heard = sorted({branch.hears for branch in wanted})
        sounds = [(told.audio if hears else silence(told.audio), told.places) for hears in heard]
        grid = self.dit.grid(told.condition[None])
        silent = [number for number, hears in enumerate(heard) if not hears]
        by_sound = dict(zip(heard, self.dit.prepare_sounds(sounds, grid, silent=silent), strict=True))
        return [Told(texts[branch.reads], self._picture[1], by_sound[branch.hears]) for branch in wanted]

    def _read(self, wanted: Sequence[Branch], told: Conditions) -> Mapping[bool, Words | None]:
        """Prompt and negative prompt, by whether a branch reads; only those that the passes need."""
        if self._texts is None or self._texts[0] is not told.prompt or self._texts[1] is not told.negative:
            read = sorted({branch.reads for branch in wanted})
            texts = [told.prompt if reads else told.negative for reads in read]
            made = self.dit.prepare_texts([None if text is None else text[None] for text in texts])
            self._texts = told.prompt, told.negative, dict(zip(read, made, strict=True))
        return self._texts[2]


def denoise(
    script: Script, noise: Tensor, told: Conditions, request: TalkRequest, settings: Settings
) -> Iterator[Tensor]:
    """Yields the latent [16, T, h, w] float32 after each step.

    With a source, as SDEdit does: from its latents with as much noise as the first step that is made expects.
    """
    scheduler = SCHEDULERS[settings.scheduler]
    times = _times(settings)
    start = noise if told.source is None else noised(told.source, noise, times[0])
    yield from scheduler(guided(script, told, request, settings), start, times, told.motion)


def renoised(
    script: Script, noise: Tensor, told: Conditions, request: TalkRequest, settings: Settings
) -> Iterator[Tensor]:
    """The same for a chunk of a live talk: after each step comes fresh noise, of `noise` [steps, 16, T, h, w]."""
    velocity = guided(script, told, request, settings)
    yield from renoise(velocity, noise, level_timesteps(settings.steps, settings.shift), told.motion)


def _times(settings: Settings) -> list[float]:
    return partial_timesteps(settings.steps, settings.shift, settings.first_step, settings.strength)


def noised(clean: Tensor, noise: Tensor, timestep: float) -> Tensor:
    """Latents as they are at a noise level of the schedule: on the line from clean (0) to noise (1000)."""
    level = timestep / STEPS_OF_TRAINING
    return (1 - level) * clean + level * noise


def guided(script: Script, told: Conditions, request: TalkRequest, settings: Settings) -> Velocity:
    """The network's guided answer for one window, which a sampler asks once per step, in order."""
    guide = AdaptiveGuidance(settings.text_scale, settings.audio_scale, request.apg_momentum, request.apg_threshold)
    wanted = passes(request, settings)
    branches = script.branches(script.spread.mine(wanted), told)
    course = iter(script.course(settings))
    kept = StepCache(settings.step_cache).kept
    added = Added(kept) if kept else None

    exactly = iter(exact_blocks(script.dit.config.num_layers, len(_times(settings)) - 1))

    def velocity(latent: Tensor, timestep: float) -> Tensor:
        found = ask(
            script.dit, latent, timestep, told, branches,
            added=added, ahead=next(course), exact_blocks=next(exactly),
        )  # fmt: skip
        answers = dict(zip(wanted, script.spread.exchange(found), strict=True))
        if request.apg:
            return guide(answers)
        return combine(answers, settings.text_scale, settings.audio_scale)

    return velocity


def exact_blocks(layers: int, steps: int) -> Iterator[int]:
    """How many of the first blocks attend exactly in each step, where the others attend in 8 bits.

    In few steps the first block, from which all others go on. In more, all blocks of the first and of the last step:
    one decides what there will be to see, and nothing mends the other.
    """
    for step in range(steps):
        yield (layers if step in (0, steps - 1) else 0) if steps > FEW else 1


def ask(
    dit: AudioDiT,
    latent: Tensor,
    timestep: float,
    told: Conditions,
    branches: Sequence[Told],
    *,
    added: Added | None = None,
    ahead: float | None = None,
    exact_blocks: int = 1,
) -> list[Tensor]:
    """One step's passes of the network: a velocity [16, T, h, w] float32 per branch."""
    time = torch.full((), timestep, device=latent.device)  # made there: a copy would wait for the device
    answers = dit.evaluate(
        latent[None], time, condition=told.condition[None], branches=branches, added=added, ahead=ahead,
        exact_blocks=exact_blocks,
    )  # fmt: skip
    return [velocity[0] for velocity in answers]


def changes(dit: AudioDiT, levels: Sequence[float]) -> list[float]:
    """How much a network's modulation changes from each noise level to the next: relative mean absolute difference."""
    time = torch.tensor(levels, device=dit.patch_embedding.weight.device)
    all_of_them = dit.modulations(time).cpu()
    return [float((after - before).abs().mean() / before.abs().mean()) for before, after in pairwise(all_of_them)]


def silence(audio: Tensor) -> Tensor:
    """The sound of a pass without sound: one voice of zeros, however many people talk, as the network was trained."""
    return torch.zeros_like(audio[-1:])
