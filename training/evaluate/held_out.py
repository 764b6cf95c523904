"""The held-out clips that nano's gate looks at, small enough to lie beside the tests.

`python -m training.evaluate.held_out CORPUS SCENES --edition 2` writes them anew, with an edition's people and size of
pictures; SCENES keeps what is drawn, as the folder `scenes` of `training.evaluate.nano` does.

`flite.npz`: people and a speech engine that no training clip has, with the true openness of the jaw. `librivox.npz`:
people who say LibriVox clips (public domain), with the openness that the phonemes ask for.
"""

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.evaluate.series import Floats
from training.nano.settings import EDITIONS

FOLDER: Final = Path(__file__).parents[2] / "tests" / "quality"
FLITE, LIBRIVOX = "flite", "librivox"
FRAMES: Final = 81
SHORTEST: Final = (1, 4)
"""Numbers of the LibriVox clips that take least room."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """A person who shall say something."""

    name: str
    picture: NDArray[np.uint8]
    """[height, width, 3]"""
    voice: Floats
    """16 kHz"""
    truth: Floats
    """Openness of the jaw, (F,)"""


def write(path: Path, clips: Sequence[HeldOut]) -> None:
    """Writes clips: pictures as lossless WebP and voices as FLAC, so that nothing changes."""
    import soundfile

    parts: dict[str, Any] = {"names": np.array(json.dumps([clip.name for clip in clips]))}
    for clip in clips:
        picture, voice = io.BytesIO(), io.BytesIO()
        Image.fromarray(clip.picture).save(picture, "WEBP", lossless=True, quality=100, method=6)
        soundfile.write(voice, clip.voice, 16_000, format="FLAC", subtype="PCM_16")
        parts |= {
            f"{clip.name} picture": np.frombuffer(picture.getvalue(), np.uint8),
            f"{clip.name} voice": np.frombuffer(voice.getvalue(), np.uint8),
            f"{clip.name} truth": clip.truth.astype(np.float16),
        }
    np.savez_compressed(path, **parts)


def read(path: Path) -> Iterator[HeldOut]:
    """Reads what `write` wrote."""
    import soundfile

    with np.load(path) as file:
        for name in json.loads(str(file["names"])):
            picture = np.array(Image.open(io.BytesIO(file[f"{name} picture"].tobytes())).convert("RGB"))
            voice, _ = soundfile.read(io.BytesIO(file[f"{name} voice"].tobytes()), dtype="float32")
            yield HeldOut(name, picture, voice, file[f"{name} truth"].astype(np.float32))


def main() -> None:
    """The command line."""
    # Drawing needs all of the training's packages, which reading does without.
    from training.evaluate.scenes import SINGLE, Studio

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="1")
    parser.add_argument("--count", type=int, default=4, help="clips of the engine that no training clip has")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    studio = Studio.open(options.scenes, options.corpus, EDITIONS[options.edition])
    drawn = enumerate(studio.scenes("single", SINGLE, options.count, FRAMES, truth=True))
    unseen = [HeldOut(f"single-{index}", scene.picture, scene.voice[: FRAMES * SAMPLES_PER_FRAME], scene.truth)
              for index, scene in drawn]  # fmt: skip
    real = [HeldOut(f"real-{index}", scene.picture, scene.voice, scene.truth)
            for index, scene in enumerate(studio.real_scenes(1 + max(SHORTEST))) if index in SHORTEST]  # fmt: skip
    for name, clips in ((FLITE, unseen), (LIBRIVOX, real)):
        write(options.out / f"{name}.npz", clips)


if __name__ == "__main__":
    main()
