"""Whether nano is as good as it was: `python -m training.evaluate.gate OUT`, with `--write` after a new training.

A few held-out people, voices and LibriVox clips (`tests/quality`) go through the engine; each figure may be at most
0.03 below the shipped weights' own (`tests/quality/shipped.json`). Minutes on two cores; `--small` takes one clip of
each kind.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from infinitetalk.evaluate import lips, speech, sync
from infinitetalk.evaluate.faces import Look, follow, look_at
from infinitetalk.evaluate.identity import Numbers, Recogniser, can_recognise, distances
from infinitetalk.evaluate.series import Floats, correlation, filled
from infinitetalk.media.loudness import speech_gain
from training.evaluate.held_out import FLITE, FOLDER, LIBRIVOX, HeldOut, read
from training.evaluate.videos import Camera

SHIPPED: Final = FOLDER / "shipped.json"
ROOM: Final = 0.03

Video = NDArray[np.uint8]
"""[F, height, width, 3]"""


class Maker(Protocol):
    """Makes the video of a clip; `voice` is the clip's own or another's."""

    def __call__(self, name: str, clip: HeldOut, voice: Floats, /) -> Video: ...


def kept_maker(camera: Camera) -> Maker:
    """Videos as long as the clips, which are kept in the camera's folder."""
    return lambda name, clip, voice: camera.shoot(name, clip.picture, voice, len(clip.truth))


def openness(video: Video) -> tuple[list[Look], Floats]:
    """Looks at all frames, and how far the lips are open, (F,)."""
    looks = list(follow(video))
    values = [np.nan if look.points is None else float(lips.openness(look.points)) for look in looks]
    return looks, filled(np.array(values, np.float32))


def judged(video: Video, clip: HeldOut, recogniser: Recogniser | None) -> tuple[dict[str, float], Numbers | None]:
    """The figures of one video, and its person's numbers."""
    looks, shown = openness(video)
    figures = {"jaw openness": correlation(shown, clip.truth)}
    sound = clip.voice * speech_gain(clip.voice)
    if (found := sync.measure(shown, speech.openness(sound, len(video)))) is not None:
        figures["sync correlation"] = found.together
    if recogniser is None or (own := recogniser.describe(look_at(clip.picture))) is None:
        return figures, None
    seen = [(look.index, numbers) for look in looks[4::11] if (numbers := recogniser.describe(look)) is not None]
    if seen:
        figures["identity: 1 - L2"] = 1 - float(distances([own], seen).mean())
    return figures, own


def measure(make: Maker, parts: Mapping[str, Sequence[HeldOut]], *, others: bool) -> dict[str, float]:
    """The figures of all clips: medians of each part's.

    Args:
        make: see `Maker`.
        parts: clips by the part's name.
        others: whether the first part's people also say what the next one says.
    """
    recogniser = Recogniser() if can_recognise() else None
    found: dict[str, float] = {}
    for part, clips in parts.items():
        rows = [judged(make(clip.name, clip, clip.voice), clip, recogniser)[0] for clip in clips]
        for name in sorted({name for row in rows for name in row}):
            found[f"{part}: {name}"] = float(np.median([row[name] for row in rows if name in row]))
    if others:
        first = next(iter(parts.values()))
        follow_other = [correlation(openness(make(f"swapped-{one.name[7:]}", one, other.voice))[1], other.truth)
                        for one, other in pairwise(first)]  # fmt: skip
        found["with another's sound: jaw openness"] = float(np.median(follow_other))
    return {name: round(value, 4) for name, value in found.items()}


def worse(found: Mapping[str, float], shipped: Mapping[str, float]) -> list[str]:
    """One line for each figure that is too far below the shipped weights'."""
    return [
        f"{name}: {found[name]:.3f}, the shipped weights' is {value:.3f}: at most {ROOM} less"
        for name, value in shipped.items()
        if name in found and not found[name] >= value - ROOM
    ]


def gate(model: str, out: Path, device: str = "auto", *, small: bool = False) -> dict[str, float]:
    """The figures of the whole set, or of one clip of each part; videos are kept in a folder."""
    files = {"flite": FOLDER / f"{FLITE}.npz", "LibriVox": FOLDER / f"{LIBRIVOX}.npz"}
    parts = {name: list(read(path))[: 1 if small else None] for name, path in files.items()}
    return measure(kept_maker(Camera(model, out, device)), parts, others=not small)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; 1 if a figure is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the videos")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="one clip of each kind")
    parser.add_argument("--write", action="store_true", help="these are the shipped figures from now on")
    given = parser.parse_args(words)
    form = "small" if given.small else "large"
    found = gate(given.model, given.out, given.device, small=given.small)
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8")) if SHIPPED.is_file() else {}
    if given.write:
        SHIPPED.write_text(json.dumps(shipped | {form: found}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    bad = worse(found, shipped.get(form, {})) if not given.write else []
    lines = [*(f"{name}: {value:.3f}" for name, value in found.items()), *(f"WORSE {line}" for line in bad)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
