"""What is evaluated: portraits of people and voices of speech engines that no training clip has, with the truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.heads.blendshapes import JAW_OPEN
from training.heads.dataset import ClipOptions, SampledClip, sample_clip
from training.heads.motion import Motion
from training.heads.render import Clip, HeadRenderer
from training.heads.tracks import FRAME_RATE, openness, tracks
from training.heads.visemes import Segment
from training.nano.make_data import mouth_tracks
from training.nano.settings import EDITIONS, Edition
from training.nano.voices import SAMPLES_PER_FRAME, frames_of
from training.speech.corpus import Utterance, load

Floats = NDArray[np.float32]

UNSEEN_ENGINE, REAL_SPEECH = "flite", "librivox"
ALONE: Final = (1.0, 0.0, 0.0)
SINGLE, DOUBLE, CHAIN, REAL, SHEET, STILL = 1000, 2000, 3000, 4000, 5000, 6000
"""Where each kind of scene begins among the held-out people."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One person who shall say something."""

    picture: NDArray[np.uint8]
    """(size, size, 3) the portrait that is given"""
    person: NDArray[np.bool_]
    """(size, size) where the person is in it"""
    voice: Floats
    """16 kHz, from the first frame on, up to the end of the stream"""
    truth: Floats
    """(F,) how far the jaw should be open"""
    frames: NDArray[np.uint8]
    """(F, size, size, 3) the rendered truth; (0, ...) where it was not asked for"""
    mouth: Floats
    """(4,) box around the lips over all of `frames`, in pixels"""

    @property
    def length(self) -> int:
        """Video frames."""
        return len(self.truth)

    def answers(self, order: "Order") -> bool:
        """Whether it has as many frames as are asked for, and their renders if those are."""
        return self.length == order.frames and (len(self.frames) == order.frames or not order.truth)

    def save(self, path: Path) -> None:
        """Writes everything to one file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @staticmethod
    def load(path: Path) -> "Scene":
        """Reads what `save` wrote."""
        with np.load(path) as file:
            return Scene(**dict(file))


@dataclass(frozen=True, slots=True)
class Order:
    """What a scene shall be."""

    index: int
    """Number of the held-out person."""
    frames: int
    truth: bool = False
    """Whether all frames are rendered, and not the portrait alone."""
    calm: float = 1.0
    real: int | None = None
    """Number of the LibriVox clip that is said; None for the unseen engine."""


@dataclass(frozen=True, slots=True)
class Studio:
    """Draws scenes, and keeps them in a folder, as drawing takes seconds."""

    folder: Path
    unseen: Sequence[Utterance]
    """Of the engine that no training clip used."""
    real: Sequence[Utterance]
    mouths: Sequence[Floats]
    """How the mouth moves in each of `unseen`."""
    edition: Edition = EDITIONS["1"]
    """Whose people and size of pictures are drawn."""

    @staticmethod
    def open(folder: Path, corpus: Path, edition: Edition = EDITIONS["1"]) -> "Studio":
        """Reads the corpus's test split."""
        folder.mkdir(parents=True, exist_ok=True)
        everything = load(corpus, ("test",))
        unseen, real = ([item for item in everything if item.engine == engine]
                        for engine in (UNSEEN_ENGINE, REAL_SPEECH))  # fmt: skip
        return Studio(folder, unseen, real, mouth_tracks(unseen, seed=1), edition)

    def scenes(
        self, name: str, first: int, count: int, frames: int, *, truth: bool = False, calm: float = 1.0
    ) -> Iterator[Scene]:
        """Scenes of held-out people from number `first` on, each of so many frames; `calm` 0 keeps heads still."""
        for index in range(first, first + count):
            yield self._kept(f"{name}-{index}", Order(index, frames, truth=truth, calm=calm))

    def real_scenes(self, count: int) -> Iterator[Scene]:
        """Held-out people who say the LibriVox clips; the truth is what their phonemes ask of the jaw."""
        for index, item in enumerate(self.real[:count]):
            scene = self._kept(f"real-{REAL + index}", Order(REAL + index, 5))
            frames = frames_of(len(item.audio))
            track = openness(tracks(item.segments, frames, np.random.default_rng(0)))
            yield replace(scene, voice=samples_of(item), truth=track)

    def real_truth(self, index: int, frames: int) -> tuple[Scene, list[Segment], Floats]:
        """The render of such a person who says some frames of a LibriVox clip, their phones and ARKit weights."""
        item = self.real[index]
        length = min(frames, frames_of(len(item.audio)))
        order = Order(REAL + index, length, truth=True, real=index)
        scene = self._kept(f"truth-{REAL + index}", order)
        sampled = self._sampled(order)
        return scene, _from(sampled.start[0], item.segments), sampled.spec.people[0].motion.weights[:-1]

    def spoken(self, index: int, frames: int) -> list[Segment]:
        """The phones of the scene of a number, in seconds from its first frame."""
        sampled = self._sampled(Order(index, frames))
        return _from(sampled.start[0], self.unseen[sampled.utterance[0]].segments)

    def speech(self, frames: int) -> tuple[Floats, Floats]:
        """So many frames of the unseen engine's clips one after the other, and how far the jaw should be open."""
        voices, jaws = list[Floats](), list[Floats]()
        for item, mouth in zip(self.unseen, self.mouths, strict=True):
            samples = samples_of(item)[: len(mouth) * SAMPLES_PER_FRAME]
            voices.append(np.pad(samples, (0, len(mouth) * SAMPLES_PER_FRAME - len(samples))))
            jaws.append(mouth[:, JAW_OPEN])
        return np.concatenate(voices)[: frames * SAMPLES_PER_FRAME], np.concatenate(jaws)[:frames]

    def mouth(self, index: int, frames: int) -> Floats:
        """ARKit weights (F, 52) of the scene of a number."""
        return self._sampled(Order(index, frames)).spec.people[0].motion.weights[:-1]

    def _sampled(self, order: Order) -> SampledClip:
        options = ClipOptions(frames=order.frames, people=ALONE, varied=self.edition.varied, calm=order.calm)
        mouths = self.mouths if order.real is None else mouth_tracks([self.real[order.real]], seed=1)
        return sample_clip(mouths, order.index, seed=0, split="heldout", options=options)

    def _kept(self, name: str, order: Order) -> Scene:
        path = self.folder / f"{name}.npz"
        if path.exists() and (scene := Scene.load(path)).answers(order):
            return scene
        scene = self._draw(order)
        scene.save(path)
        return scene

    def _draw(self, order: Order) -> Scene:
        sampled = self._sampled(order)
        clip = _render(sampled, self.edition.size, whole=order.truth)
        pictures, boxes = clip.frames.numpy(), clip.mouth_boxes[:, 0].numpy()
        jaw = sampled.spec.people[0].motion.weights[:-1, JAW_OPEN]
        item = self.unseen[sampled.utterance[0]] if order.real is None else self.real[order.real]
        voice = samples_of(item)[sampled.start[0] * SAMPLES_PER_FRAME :]
        mouth = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
        return Scene(pictures[-1], clip.person_map[-1].numpy() > 0, voice, jaw, pictures[:-1], mouth)


def _from(frame: int, segments: Sequence[Segment]) -> list[Segment]:
    """Phones from a frame on, in seconds from there."""
    begin = frame / FRAME_RATE
    return [Segment(item.phone, item.start - begin, item.end - begin) for item in segments if item.end > begin]


def samples_of(utterance: Utterance) -> Floats:
    """What is heard, (N,) at 16 kHz from -1 to 1."""
    return utterance.audio.astype(np.float32) / np.float32(32768)


def _render(sampled: SampledClip, size: int, *, whole: bool) -> Clip:
    """All of a clip, or only its last frame, the reference picture."""
    kept = slice(None) if whole else slice(-1, None)
    people = tuple(replace(person, motion=_part(person.motion, kept)) for person in sampled.spec.people)
    return HeadRenderer("cpu", size=size).render(replace(sampled.spec, people=people))


def _part(motion: Motion, kept: slice) -> Motion:
    return Motion(motion.weights[kept], motion.pose[kept], motion.sway[kept])
