"""A photographed person: no training picture is one."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from infinitetalk.evaluate import speech, sync
from infinitetalk.evaluate.series import Floats
from infinitetalk.media.faces import find_faces
from infinitetalk.media.inputs import Picture
from infinitetalk.media.loudness import speech_gain
from training.evaluate import sheets
from training.evaluate.bench import ADDED, WINDOW, Bench
from training.evaluate.report import Check

_AROUND = 2.0
"""Edge of what is cut out, in heights of the face: its share of the picture is what nano learned from."""


def known_portrait() -> Path | None:
    """NASA's portrait of Eileen Collins (public domain), which the package scikit-image carries; None without it."""
    spec = find_spec("skimage")
    places = (
        [Path(place) / "data" / "astronaut.png" for place in (spec.submodule_search_locations or [])] if spec else []
    )
    return next((path for path in places if path.is_file()), None)


def cut(picture: Picture) -> Picture:
    """A square around the largest face: its head and shoulders.

    Raises:
        ValueError: no face is found.
    """
    faces = find_faces(picture)
    if not faces:
        raise ValueError("no face is found in the photograph")
    face = max(faces, key=lambda one: one.height)
    height, width = picture.shape[:2]
    edge = round(min(_AROUND * face.height, height, width))
    left, top = (round(min(max(middle - edge / 2, 0), length - edge))
                 for middle, length in zip(face.middle, (width, height), strict=True))  # fmt: skip
    return np.ascontiguousarray(picture[top : top + edge, left : left + edge])


def photographed(bench: Bench, windows: int) -> list[Check]:
    """Windows of the photographed person who says the longest LibriVox clip, with the usual motion and with none."""
    if bench.portrait is None:
        return [Check("photograph: there is none (--portrait, or the package scikit-image)", np.nan)]
    picture = cut(np.array(Image.open(bench.portrait).convert("RGB")))
    clip = max(bench.studio.real, key=lambda item: len(item.audio))
    voice: Floats = clip.audio.astype(np.float32) / np.float32(32768)
    length = WINDOW + (windows - 1) * ADDED
    asked = speech.openness(voice * np.float32(speech_gain(voice)), length)
    checks, rows = list[Check](), list[sheets.Row]()
    for strength in (None, 0.0):
        still = strength is not None
        name = f"photo-{windows}-still" if still else f"photo-{windows}"
        video = bench.camera.shoot(name, picture, voice, length, motion=strength)
        found = sync.measure(bench.openness(name, video), asked)
        identity = bench.identity("photo", picture, video[4::11])
        rows.append(sheets.Row([picture, *video[:: max(1, length // 12)]], "still" if still else "photo"))
        together = np.nan if found is None else found.together
        bench.details["photo, still" if still else "photo"] = {"identity": identity, "sync": together}
        told = f"peak {found.peak:.2f} at {found.offset_ms:.0f} ms; by chance {found.control:.2f}" if found else ""
        what = "photograph, motion strength 0" if still else "photograph"
        checks += [
            Check(f"{what}: identity, dlib L2", identity, "" if still else "<=", 0.35, f"{windows} windows"),
            Check(f"{what}: sync correlation", together, "" if still else ">=", 0.5, told),
        ]
    sheets.save(bench.out / "photo.jpg", rows, cell=128, margin=60)
    return checks
