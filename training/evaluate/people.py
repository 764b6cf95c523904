"""Measures who moves: `python -m training.evaluate.people MODEL OUT`.

Three rendered people of whom one has a voice, and portraits whose voice has strength 0. Motion energy is the mean
squared difference from frame to frame within the box of a mouth, which the landmarks give in the picture.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.control import Strength
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLE_RATE
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.protocols import Inputs, Picture, Waveform
from infinitetalk.media.faces import find_faces
from infinitetalk.media.hearing import for_speech
from infinitetalk.media.landmarks import FaceMesh, mouth_box
from infinitetalk.media.people import face_boxes
from infinitetalk.media.sound import read_sound
from infinitetalk.weights.locate import ASSETS
from training.evaluate import sheets
from training.evaluate.report import Check, write
from training.evaluate.videos import Still
from training.heads.blendshapes import BLENDSHAPES
from training.heads.dataset import ClipOptions, sample_clip
from training.heads.render import HeadRenderer

Box = tuple[float, float, float, float]
WINDOW = 81
FIRST = 7000
"""Where these scenes begin among the held-out people."""


@dataclass(frozen=True, slots=True)
class Group(Still):
    """A picture of several people, of whom one speaks."""

    speaker: int
    count: int

    def open(self, request: TalkRequest) -> Inputs:  # noqa: ARG002
        """The voice first, then silence for everybody else: the order of the request's boxes."""
        return Inputs(self, (self.voice, *(np.zeros_like(self.voice) for _ in range(self.count - 1))))


def draw(index: int, count: int) -> Picture:
    """A picture of so many held-out people with closed mouths."""
    shares = tuple(float(number == count) for number in (1, 2, 3))
    options = ClipOptions(frames=1, people=(shares[0], shares[1], shares[2]), calm=0.2)
    still = np.zeros((8, len(BLENDSHAPES)), np.float32)
    sampled = sample_clip([still], index, seed=0, split="heldout", options=options)
    return np.asarray(HeadRenderer("cpu").render(sampled.spec).frames[-1].numpy())


def mouths(picture: Picture, video: NDArray[np.uint8]) -> list[Box]:
    """Boxes of all mouths of the picture, from left to right, in the pixels of a video of it."""
    mesh, (height, width) = FaceMesh(), picture.shape[:2]
    down, across = video.shape[1] / height, video.shape[2] / width
    boxes = [mouth_box(mesh.points(picture, face)) for face in find_faces(picture)]
    return [(x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in boxes]


def energy(video: NDArray[np.uint8], box: Box) -> float:
    """Mean squared change from frame to frame within a box."""
    x0, y0, x1, y1 = (round(side) for side in box)
    part = video[:, max(0, y0) : y1, max(0, x0) : x1].astype(np.float32)
    return float(np.square(np.diff(part, axis=0)).mean())


def groups(engine: Engine, voice: Waveform, count: int, out: Path) -> Check:
    """Three people, each speaking once."""
    ratios: list[float] = []
    rows = []
    index = FIRST
    while len(ratios) < count:
        picture, index = draw(index, 3), index + 1
        faces = find_faces(picture)
        if len(faces) != 3:
            _say(f"scene {index - 1}: {len(faces)} faces found, left out")
            continue
        speaker = len(ratios) % 3
        boxes = face_boxes(faces, Still(picture, voice).size)
        order = (speaker, *(number for number in range(3) if number != speaker))
        request = TalkRequest(image=Path("picture"), audio=(Path("voice"),), duration=WINDOW / FPS,
                              boxes=tuple(boxes[number] for number in order))  # fmt: skip
        video = Engine(engine.model, media=Group(picture, voice, speaker, 3)).generate(request).rgb()
        found = [energy(video, box) for box in mouths(picture, video)]
        others = [value for number, value in enumerate(found) if number != speaker]
        ratios.append(found[speaker] / float(np.mean(others)))
        rows.append(sheets.Row([picture, *video[::8]], f"{ratios[-1]:.1f}"))
        _say(f"scene {index - 1}: person {speaker + 1} speaks, energies {np.round(found, 1).tolist()}")
    sheets.save(out / "three_people.jpg", rows, cell=96, margin=60)
    note = f"of {count}; lowest {min(ratios):.1f}"
    return Check("three people, one voice: energy of the speaking mouth to the others', median",
                 float(np.median(ratios)), ">=", 4, note)  # fmt: skip


def strengths(engine: Engine, voice: Waveform, count: int, out: Path) -> Check:
    """One person, with strength 1 and 0."""
    shares: list[float] = []
    rows = []
    for index in range(FIRST, FIRST + count):
        picture = draw(index, 1)
        made = []
        for strength in (1, 0):
            request = TalkRequest(image=Path("picture"), audio=(Path("voice"),), duration=WINDOW / FPS,
                                  audio_strength=(Strength(strength),))  # fmt: skip
            made.append(Engine(engine.model, media=Still(picture, voice)).generate(request).rgb())
            rows.append(sheets.Row([picture, *made[-1][::8]], f"strength {strength}"))
        (box,) = mouths(picture, made[0])
        loud, quiet = (energy(video, box) for video in made)
        shares.append(quiet / loud)
        _say(f"portrait {index}: energy {loud:.1f} at strength 1, {quiet:.1f} at 0")
    sheets.save(out / "strength.jpg", rows, cell=96, margin=90)
    note = f"of {count}; largest {max(shares):.3f}"
    return Check("strength 0: energy of the mouth relative to strength 1, median",
                 float(np.median(shares)), "<=", 0.2, note)  # fmt: skip


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=6)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    voice = for_speech(read_sound(ASSETS / "demo" / "voice_1.flac"))[: WINDOW * SAMPLE_RATE // FPS]
    engine = Engine.from_pretrained(options.model)
    checks = [make(engine, voice, options.count, options.out) for make in (groups, strengths)]
    write(options.out / "people.json", checks, {})


if __name__ == "__main__":
    main()
