"""Draw the package's demo portraits: people of the ``demo`` split, which no training or test clip shows.

python -m training.heads.demo src/infinitetalk/assets/demo
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from training.heads.blendshapes import BLENDSHAPES, shape_indices
from training.heads.dataset import ClipOptions, sample_clip
from training.heads.motion import Motion
from training.heads.render import ClipSpec, HeadRenderer, PersonSpec

SIZE: Final = 512
# File name -> number of people and index in the demo split.
PORTRAITS: Final = {"portrait_1.png": (1, 10), "portrait_2.png": (1, 6), "pair.png": (2, 2)}


def portrait(people: int, index: int) -> ClipSpec:
    """A still with closed, faintly smiling mouths, heads turned a little and eyes on the camera."""
    shares = (float(people == 1), float(people == 2), float(people == 3))
    silence = [np.zeros((2, len(BLENDSHAPES)), np.float32)]
    spec = sample_clip(silence, index, seed=0, split="demo", options=ClipOptions(frames=1, people=shares)).spec
    return replace(spec, people=tuple(_still(person) for person in spec.people))


def _still(person: PersonSpec) -> PersonSpec:
    weights = person.motion.weights[:1].copy()
    weights[:, shape_indices("eyeBlink")] = 0.0
    weights[:, shape_indices("mouthSmile")] = 0.12
    pose = person.motion.pose[:1] * np.float32(0.6)
    return replace(person, motion=Motion(weights, pose, np.zeros((1, 2), np.float32)))


def main() -> None:
    """Command line: the folder to write."""
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    renderer = HeadRenderer("cpu", size=2 * SIZE, frames_at_once=1)
    for name, (people, index) in PORTRAITS.items():
        picture = Image.fromarray(renderer.render(portrait(people, index)).frames[0].numpy())
        picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(folder / name, optimize=True)


if __name__ == "__main__":
    main()
