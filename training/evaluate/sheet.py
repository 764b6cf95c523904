"""Draws the README's picture of nano: `python -m training.evaluate.sheet MODEL CORPUS OUT docs/images/nano.jpg`.

For each of three held-out people: the portrait, frames under the phones that are being said, and the same moments when
the person is given somebody else's sound. OUT keeps scenes and videos, as for `training.evaluate.nano`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from training.evaluate.scenes import SHEET, Scene, Studio
from training.evaluate.sheets import Row, save
from training.evaluate.videos import Camera
from training.heads.tracks import FRAME_RATE
from training.heads.visemes import PHONE_CLASSES, SILENCE, Segment
from training.nano.settings import EDITIONS

FRAMES, SHOWN = 81, 8
APART: Final = 4
"""Frames between two pictures, at least."""
GROUPS: Final = (("P", "B", "M"), ("AA", "AE", "AY", "AW", "AH"), ("UW", "OW", "W", "AO", "UH"), ("F", "V"),
                 ("IY", "EY", "EH", "IH"), ("SH", "CH", "JH", "R"), ("S", "Z", "T", "D", "N", "L"))  # fmt: skip
"""Phones that look alike; a row shows as many groups as it can."""


def moments(segments: Sequence[Segment], frames: int = FRAMES, count: int = SHOWN) -> list[int]:
    """Frames in the middle of phones that look different, in order of time; pauses fill what is left."""
    middles = [(int((item.start + item.end) / 2 * FRAME_RATE), PHONE_CLASSES[item.phone]) for item in segments]
    inside = [(frame, name) for frame, name in middles if APART <= frame < frames and name != SILENCE]
    chosen: list[int] = []
    for group in GROUPS * count:
        fitting = [frame for frame, name in inside
                   if name in group and all(abs(frame - other) >= APART for other in chosen)]  # fmt: skip
        if fitting and len(chosen) < count:
            chosen.append(fitting[0])
    while len(chosen) < count:
        chosen.append(
            max(range(APART, frames), key=lambda frame: min((abs(frame - other) for other in chosen), default=0))
        )
    return sorted(chosen)


def phone_at(segments: Sequence[Segment], frame: int) -> str:
    """What is said in the middle of a frame, in ARPAbet, or "pause"."""
    time = (frame + 0.5) / FRAME_RATE
    names = [PHONE_CLASSES[item.phone] for item in segments if item.start <= time < item.end]
    return "pause" if not names or names[0] == SILENCE else names[0].lower()


def rows(camera: Camera, scenes: Sequence[Scene], spoken: Sequence[Sequence[Segment]]) -> Iterator[Row]:
    """Two rows for each person: with the own sound, and with the next one's."""
    for index, scene in enumerate(scenes):
        other = (index + 1) % len(scenes)
        when = moments(spoken[index])
        for sound, title in ((index, "own\nsound"), (other, "another's\nsound")):
            video = camera.shoot(f"sheet-{index}-{sound}", scene.picture, scenes[sound].voice, FRAMES)
            labels = ["portrait" if sound == index else "", *(phone_at(spoken[sound], frame) for frame in when)]
            yield Row([scene.picture if sound == index else None, *video[when]], title, labels)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="1", help="whose people and size of pictures")
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--first", type=int, default=SHEET, help="number of the first held-out person")
    parser.add_argument("--cell", type=int, default=112)
    options = parser.parse_args()
    studio = Studio.open(options.out / "scenes", options.corpus, EDITIONS[options.edition])
    numbers = range(options.first, options.first + options.people)
    scenes = list(studio.scenes("sheet", options.first, options.people, FRAMES))
    spoken = [studio.spoken(number, FRAMES) for number in numbers]
    drawn = list(rows(Camera(options.model, options.out / "videos"), scenes, spoken))
    save(options.picture, drawn, cell=options.cell, margin=76, quality=88)


if __name__ == "__main__":
    main()
