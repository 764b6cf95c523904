"""The held-out clips that nano's gate looks at, small enough to lie beside the tests.

`flite.npz`: people and a speech engine that no training clip has, with the true openness of the jaw. `librivox.npz`:
people who say LibriVox clips (public domain), with the openness that the phonemes ask for.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.evaluate.series import Floats


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
    """Writes clips: pictures as PNG and voices as FLAC, so that nothing changes."""
    import soundfile

    parts: dict[str, Any] = {"names": np.array(json.dumps([clip.name for clip in clips]))}
    for clip in clips:
        picture, voice = io.BytesIO(), io.BytesIO()
        Image.fromarray(clip.picture).save(picture, "PNG", optimize=True)
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
