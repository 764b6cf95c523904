"""A photographed person: no training picture is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.evaluate import speech, sync
from infinitetalk.evaluate.series import Floats
from infinitetalk.media.faces import find_faces
from infinitetalk.media.inputs import Picture
from infinitetalk.media.loudness import speech_gain
from training.evaluate import sheets
from training.evaluate.bench import ADDED, WINDOW, Bench
from training.evaluate.report import Check
from training.evaluate.scenes import samples_of
from training.evaluate.videos import Video
from training.nano.voices import frames_of

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
    """The photographed person says every LibriVox clip, of at most so many windows, usually moving and not moving."""
    if bench.portrait is None:
        return [Check("photograph: there is none (--portrait, or the package scikit-image)", np.nan)]
    picture = cut(np.array(Image.open(bench.portrait).convert("RGB")))
    voices = [samples_of(clip) for clip in bench.studio.real]
    longest = WINDOW + (windows - 1) * ADDED
    checks, rows = list[Check](), list[sheets.Row]()
    for strength in (None, 0.0):
        still = strength is not None
        said = [
            _say(bench, f"photo-{index}-{longest}", picture, voice[: longest * SAMPLES_PER_FRAME], strength)
            for index, voice in enumerate(voices)
        ]
        rows += [sheets.Row([picture, *one.shown], "still" if still else "photo") for one in said[:2]]
        what = "photograph, motion strength 0" if still else "photograph"
        bench.details[what] = [{"identity": one.identity, "sync": one.sync} for one in said]
        checks += _judged(what, said, judged=not still)
    sheets.save(bench.out / "photo.jpg", rows, cell=128, margin=60)
    return checks


@dataclass(frozen=True, slots=True)
class Said:
    """One clip that a photographed person said."""

    identity: float
    sync: float
    """Correlation without a lag."""
    chance: float
    """Its peak with the sound in another order."""
    shown: Video
    """Twelve frames for the eye."""


def _say(bench: Bench, name: str, picture: Picture, voice: Floats, strength: float | None) -> Said:
    """Makes a video as long as the voice, of whole latent frames."""
    name += "" if strength is None else "-still"
    length = (frames_of(len(voice)) - 1) // 4 * 4 + 1
    video = bench.camera.shoot(name, picture, voice, length, motion=strength)
    found = sync.measure(bench.openness(name, video), speech.openness(voice * np.float32(speech_gain(voice)), length))
    together, chance = (np.nan, np.nan) if found is None else (found.together, found.control)
    said = Said(bench.identity("photo", picture, video[4::11]), together, chance, video[:: max(1, length // 12)][:12])
    bench.say(f"{name}: {length} frames, identity {said.identity:.3f}, sync {together:.3f}, by chance {chance:.3f}")
    return said


def _judged(what: str, said: Sequence[Said], *, judged: bool) -> list[Check]:
    """Rows of a photograph that says several clips, with bounds where it is to be judged."""
    syncs, identities = [one.sync for one in said], [one.identity for one in said]
    told = f"lowest {np.min(syncs):.2f}; by chance {np.mean([one.chance for one in said]):.2f}"
    return [
        Check(f"{what}: identity, dlib L2", float(np.mean(identities)), "<=" if judged else "", 0.35,
              f"{len(said)} clips, highest {max(identities):.2f}"),
        Check(f"{what}: sync correlation, median", float(np.median(syncs)), ">=" if judged else "", 0.5, told),
    ]  # fmt: skip
