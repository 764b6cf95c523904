"""Clips for training: random people who speak given tracks, in batches on the device, with all ground truth.

Clip ``index`` of a split depends on (split, seed, index) alone, so that any part can be made again anywhere.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.heads.blendshapes import BLENDSHAPES, shape_indices
from training.heads.identity import random_identity
from training.heads.motion import Motion, random_motion, varied_motion
from training.heads.posing import from_picture, from_portrait
from training.heads.render import Clip, ClipSpec, HeadRenderer, PersonSpec
from training.heads.scene import MAX_PEOPLE, random_background, random_light, random_places
from training.heads.varied import (
    kept_turn,
    varied_background,
    varied_grade,
    varied_identity,
    varied_light,
    varied_places,
)

Floats = NDArray[np.float32]
Split = Literal["train", "heldout", "demo"]

_SPLITS: Final[tuple[Split, ...]] = ("train", "heldout", "demo")
SILENT: Final = -1
NOBODY: Final = -2
_FROM_START: Final = 0.15  # share of clips that begin with the speech itself
_FROM_PICTURE: Final = 0.5  # share of other clips than portraits' that begin with the mouth of the reference picture
_BLINK: Final = shape_indices("eyeBlink")
_LOOK: Final = shape_indices("eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeLookDown")


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """What is drawn: frames per clip at 25 fps, shares of one, two and three people, how lively they are."""

    frames: int = 81
    people: tuple[float, float, float] = (0.80, 0.15, 0.05)
    listening: float = 0.4  # chance that a second or third person is silent
    calm: float = 1.0  # scale of head movement
    varied: bool = False  # the second edition's people, rooms, light, cameras and poses
    portraits: float = 0.0  # chance that somebody's varied clip begins as portraits look, see ``posing``; 0: none does

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames = {self.frames}: at least 1")
        if not 0 <= self.portraits <= 1:
            raise ValueError(f"portraits = {self.portraits}: a chance from 0 to 1")
        if min(self.people) < 0 or abs(sum(self.people) - 1) > 1e-6:
            raise ValueError(f"people = {self.people}: shares of one, two and three people must sum to 1")


@dataclass(frozen=True)
class SampledClip:
    """A clip before it is drawn. Its motion has one frame more than asked for: the reference picture, last."""

    spec: ClipSpec
    utterance: tuple[int, ...]  # index into the speech tracks, or SILENT
    start: tuple[int, ...]  # first frame within the track
    strength: float = 1.0  # how much people move beside their speech, 0 to 2


@dataclass(frozen=True)
class ClipBatch:
    """n clips of F frames. Absent people have zeros, and NOBODY as utterance; boxes are x0 y0 x1 y1 pixels."""

    frames: Tensor  # [n, F, S, S, 3] uint8
    reference: Tensor  # [n, S, S, 3] uint8: the same people in another pose, mouths closed half of the time
    person_map: Tensor  # [n, 2, S, S] uint8 of frame 0 and of the reference: 0 background, 1.. people from the left
    people: Tensor  # [n] int64
    weights: Tensor  # [n, 3, F + 1, 52] applied ARKit weights; the last frame is the reference
    mouth_boxes: Tensor  # [n, 3, F + 1, 4] float32
    eye_boxes: Tensor  # [n, 3, F + 1, 2, 4]
    face_boxes: Tensor  # [n, 3, F + 1, 4]
    utterance: Tensor  # [n, 3] int64: which speech track, SILENT or NOBODY
    start: Tensor  # [n, 3] int64: its frame under frame 0 of the clip
    strength: Tensor  # [n] how much people move beside their speech; 1 is usual


def sample_clip(
    speech: Sequence[Floats], index: int, *, seed: int, split: Split = "train", options: ClipOptions | None = None
) -> SampledClip:
    """Draw clip ``index``: who, where, and which part of which speech track ``[T, 52]`` each person speaks."""
    options = options or ClipOptions()
    rng = np.random.default_rng([_SPLITS.index(split), seed, index])
    count = 1 + int(rng.choice(MAX_PEOPLE, p=options.people))
    places = random_places(rng, count)
    speaker = int(rng.integers(count))
    people, utterances, starts = [], [], []
    for position in range(count):
        identity = random_identity(rng)
        silent = position != speaker and rng.random() < options.listening
        utterance, start = (SILENT, 0) if silent else _choose_speech(speech, options.frames, rng)
        motion = _motion(speech, utterance, start, options, rng)
        people.append(PersonSpec(identity=identity, motion=motion, place=places[position]))
        utterances.append(utterance)
        starts.append(start)
    spec = ClipSpec(people=tuple(people), light=random_light(rng), background=random_background(rng))
    sampled = SampledClip(spec, tuple(utterances), tuple(starts))
    return _varied(sampled, options, rng) if options.varied else sampled


def _varied(sampled: SampledClip, options: ClipOptions, rng: np.random.Generator) -> SampledClip:
    """The same people and words as the second edition shows them, moving as much as a number between 0 and 2 says."""
    strength = float(rng.choice((0.0, 1.0, 2.0), p=(0.15, 0.6, 0.25)) if rng.random() < 0.7 else rng.uniform(0, 2))
    alone = len(sampled.spec.people) == 1
    turns = [kept_turn(rng) if alone else float(rng.normal() * 0.12) for _ in sampled.spec.people]
    places = varied_places(tuple(person.place for person in sampled.spec.people), turns[0], rng)
    people = tuple(
        replace(
            person,
            identity=varied_identity(person.identity, rng),
            motion=varied_motion(person.motion, strength, turn, rng, options.calm),
            place=place,
        )
        for person, place, turn in zip(sampled.spec.people, places, turns, strict=True)
    )
    spec = ClipSpec(people=people, light=varied_light(rng), background=varied_background(rng), grade=varied_grade(rng))
    # Last, so that clips without it are what they always were.
    if options.portraits:
        spec = replace(spec, people=tuple(_posed(person, options, rng) for person in spec.people))
    return replace(sampled, spec=spec, strength=strength)


def _posed(person: PersonSpec, options: ClipOptions, rng: np.random.Generator) -> PersonSpec:
    """Somebody in a clip as it begins where it is made of a picture, whose mouth was anywhere."""
    if rng.random() < options.portraits:
        return replace(person, motion=from_portrait(person.motion, rng))
    return replace(person, motion=from_picture(person.motion, rng)) if rng.random() < _FROM_PICTURE else person


def _choose_speech(speech: Sequence[Floats], frames: int, rng: np.random.Generator) -> tuple[int, int]:
    """A track in proportion to how much of it can be used, and the first frame of a random window of it."""
    room = np.array([max(0, len(track) - frames + 1) for track in speech], np.float64)
    if not room.any():
        longest = max((len(track) for track in speech), default=0)
        raise ValueError(f"frames = {frames}: the longest of {len(speech)} speech tracks has only {longest}")
    utterance = int(rng.choice(len(room), p=room / room.sum()))
    start = 0 if rng.random() < _FROM_START else int(rng.integers(int(room[utterance])))
    return utterance, start


def _motion(
    speech: Sequence[Floats], utterance: int, start: int, options: ClipOptions, rng: np.random.Generator
) -> Motion:
    """Motion of the clip and, as one more frame, of the reference picture: open eyes, a pose close to the clip's."""
    mouth = np.zeros((options.frames + 1, len(BLENDSHAPES)), np.float32)
    if utterance != SILENT:
        track = speech[utterance]
        mouth[:-1] = track[start : start + options.frames]
        if rng.random() < 0.5:
            mouth[-1] = track[rng.integers(len(track))]
    # What varies the motion later makes it calm, too.
    motion = random_motion(mouth, rng, 1.0 if options.varied and options.calm else options.calm)
    like = int(rng.integers(options.frames))
    motion.weights[-1, _LOOK] = motion.weights[like, _LOOK]
    motion.weights[-1, _BLINK] = 0.0
    motion.pose[-1] = motion.pose[like] + rng.normal(size=3) * (0.04, 0.02, 0.01)
    return motion


def make_clips(
    count: int,
    speech: Sequence[Floats],
    device: str | torch.device = "cpu",
    seed: int = 0,
    *,
    split: Split = "train",
    options: ClipOptions | None = None,
    first: int = 0,
    indices: Sequence[int] | None = None,
    batch: int = 16,
    workers: int = 0,
    renderer: HeadRenderer | None = None,
) -> Generator[ClipBatch, None, None]:
    """Render clips ``first`` to ``first + count`` of a split, ``batch`` at a time.

    Args:
        speech: mouth tracks ``[T, 52]`` at 25 fps (see ``tracks``), one per utterance or stream.
        device: where pictures are drawn and stay; ignored when a ``renderer`` is given.
        indices: render these clips instead.
        workers: processes that draw identities and motion ahead; 0 does it in this process. Workers are spawned, so
            the calling script needs the usual ``if __name__ == "__main__"``.
    """
    options = options or ClipOptions()
    renderer = renderer or HeadRenderer(device)
    sampled = _sampled(indices or range(first, first + count), _Sampler(speech, seed, split, options), workers)
    while items := list(islice(sampled, batch)):
        yield collect([(item, renderer.render(item.spec)) for item in items])


def collect(items: Sequence[tuple[SampledClip, Clip]]) -> ClipBatch:
    """Drawn clips of the same length and size as a batch."""
    clips = [clip for _, clip in items]
    device = clips[0].frames.device
    utterance = [[*item.utterance, *[NOBODY] * (MAX_PEOPLE - len(item.utterance))] for item, _ in items]
    start = [[*item.start, *[0] * (MAX_PEOPLE - len(item.start))] for item, _ in items]
    return ClipBatch(
        frames=torch.stack([clip.frames[:-1] for clip in clips]),
        reference=torch.stack([clip.frames[-1] for clip in clips]),
        person_map=torch.stack([clip.person_map[[0, -1]] for clip in clips]),
        people=torch.tensor([len(item.utterance) for item, _ in items], device=device),
        weights=torch.stack([_per_person(clip.weights) for clip in clips]),
        mouth_boxes=torch.stack([_per_person(clip.mouth_boxes) for clip in clips]),
        eye_boxes=torch.stack([_per_person(clip.eye_boxes) for clip in clips]),
        face_boxes=torch.stack([_per_person(clip.face_boxes) for clip in clips]),
        utterance=torch.tensor(utterance, device=device),
        start=torch.tensor(start, device=device),
        strength=torch.tensor([item.strength for item, _ in items], device=device),
    )


def _per_person(values: Tensor) -> Tensor:
    """``[F, P, ...]`` to ``[MAX_PEOPLE, F, ...]``, zeros for absent people."""
    padded = values.new_zeros(MAX_PEOPLE, len(values), *values.shape[2:])
    padded[: values.shape[1]] = values.transpose(0, 1)
    return padded


def sampled_clips(
    indices: Sequence[int], speech: Sequence[Floats], *, seed: int, split: Split, options: ClipOptions, workers: int = 0
) -> Iterator[SampledClip]:
    """Clips as ``make_clips`` draws them, but without their pictures: what a store of rendered clips leaves out."""
    return _sampled(indices, _Sampler(speech, seed, split, options), workers)


class _Sampler:
    """``sample_clip`` with its arguments bound."""

    def __init__(self, speech: Sequence[Floats], seed: int, split: Split, options: ClipOptions) -> None:
        self._speech, self._seed, self._split, self._options = speech, seed, split, options

    def __call__(self, index: int) -> SampledClip:
        return sample_clip(self._speech, index, seed=self._seed, split=self._split, options=self._options)


_worker_sampler: _Sampler | None = None  # one copy of the tracks per worker process


def _start_worker(sampler: _Sampler) -> None:
    global _worker_sampler  # noqa: PLW0603 (the only way to keep state in a pool's worker)
    _worker_sampler = sampler
    torch.set_num_threads(1)


def _sample_in_worker(index: int) -> SampledClip:
    assert _worker_sampler is not None
    return _worker_sampler(index)


def _sampled(indices: Sequence[int], sampler: _Sampler, workers: int) -> Iterator[SampledClip]:
    """Clips in order of their indices, drawn here or ahead in worker processes."""
    if workers == 0:
        yield from map(sampler, indices)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(sampler,)) as pool:
        pending: deque[Future[SampledClip]] = deque()
        for index in indices:
            pending.append(pool.submit(_sample_in_worker, index))
            if len(pending) >= 16 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
