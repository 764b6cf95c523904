"""A contact sheet of what the generator makes.

    python -m training.heads.sheet OUT.png --clips 24 --seed 0

Each clip shows its reference picture and a few of its frames.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.heads.dataset import ClipOptions, Split, sample_clip
from training.heads.example import babble_tracks
from training.heads.render import ClipSpec, HeadRenderer


def contact_sheet(
    renderer: HeadRenderer,
    clips: int,
    seed: int,
    split: Split,
    *,
    shown: int = 4,
    across: int = 2,
    varied: bool = False,
) -> NDArray[np.uint8]:
    """Rows of ``across`` clips, each its reference and ``shown`` frames a third of a second apart: ``[H, W, 3]``."""
    speech = babble_tracks(4, 10.0, seed=seed + 1)
    options = ClipOptions(frames=8 * shown, varied=varied)
    strips = []
    for index in range(clips):
        spec = sample_clip(speech, index, seed=seed, split=split, options=options).spec
        frames = renderer.render(every(spec, 8)).frames.cpu().numpy()
        strips.append(np.concatenate([frames[-1], *frames[:-1]], 1))
    blank = np.zeros_like(strips[0])
    strips += [blank] * (-len(strips) % across)
    return np.concatenate([np.concatenate(strips[i : i + across], 1) for i in range(0, len(strips), across)], 0)


def every(spec: ClipSpec, step: int) -> ClipSpec:
    """The same clip with only every ``step``-th frame and the last one."""

    def thin(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([values[:-1][::step], values[-1:]])

    people = [
        replace(
            person,
            motion=replace(
                person.motion,
                weights=thin(person.motion.weights),
                pose=thin(person.motion.pose),
                sway=thin(person.motion.sway),
            ),
        )
        for person in spec.people
    ]
    return replace(spec, people=tuple(people))


def main() -> None:
    """Command line."""
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "heldout", "demo"), default="train")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--varied", action="store_true", help="as the second edition's training sees people")
    parser.add_argument("--shown", type=int, default=4, help="frames of each clip beside its reference picture")
    parser.add_argument("--across", type=int, default=2, help="clips in a row")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    renderer = HeadRenderer(arguments.device, size=arguments.size)
    sheet = contact_sheet(
        renderer,
        arguments.clips,
        arguments.seed,
        arguments.split,
        shown=arguments.shown,
        across=arguments.across,
        varied=arguments.varied,
    )
    Image.fromarray(sheet).save(arguments.out)


if __name__ == "__main__":
    main()
