"""Do the figures of `infinitetalk evaluate` go with what is wrong? `python -m benchmarks.validate_metrics CORPUS OUT`.

Clips are spoilt on purpose, more and more, and each measure must follow: the figure is Spearman's rank correlation of
the measure with the strength, within each clip. Clips are rendered heads with the voices of a speech engine (of the
corpus's test split), whose truth is known, and nano's own videos. OUT keeps them, so that a second run only measures;
`validate_metrics.json` is written anew after each degradation. About a quarter of an hour on two cores.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.quantisation import put
from infinitetalk.core.sizes import SAMPLE_RATE, SAMPLES_PER_FRAME
from infinitetalk.evaluate import color, detail, likeness, lips, motion, speech, steadiness, sync
from infinitetalk.evaluate.faces import Look, follow, look_at
from infinitetalk.evaluate.identity import Recogniser, distances
from infinitetalk.evaluate.series import Floats, Series, filled, mean, spearman

Video = NDArray[np.uint8]
"""[F, height, width, 3]"""

LEAST: Final = 0.9
MARKS: Final = "validation"
BORDER: Final = 40
"""Frame at which a window is said to begin."""
EVERY: Final = 8
"""Frames between two whose face is recognised."""


@dataclass(frozen=True)
class Sample:
    """A clip to be spoilt."""

    name: str
    frames: Video
    voice: Floats
    """16 kHz, as long as the frames."""
    other_voice: Floats
    """What somebody else says, as long."""
    other_frames: Video
    """Somebody else."""

    @cached_property
    def looks(self) -> list[Look]:
        """Faces of all frames."""
        return list(follow(self.frames))

    @cached_property
    def openness(self) -> Floats:
        """Of the lips, (F,)."""
        return openness_of(self.looks)

    @cached_property
    def rng(self) -> np.random.Generator:
        """Its own dice."""
        return np.random.default_rng(sum(map(ord, self.name)))


def openness_of(looks: Sequence[Look]) -> Floats:
    """Openness of the lips, (F,)."""
    return np.array(
        [np.nan if look.points is None else float(lips.openness(look.points)) for look in looks], np.float32
    )


Spoil = Callable[[Sample, float], Mapping[str, float]]
"""A clip and a strength → values of measures."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """Something that may be wrong with a video, and the measures that must tell."""

    name: str
    strengths: tuple[float, ...]
    spoil: Spoil
    rising: Mapping[str, int]
    """Measure → 1 if it must rise with the strength, -1 if it must fall."""


# --- sound ---------------------------------------------------------------------------------------------------------


def _heard(sample: Sample, voice: Floats) -> sync.Sync:
    said = speech.openness(voice, len(sample.frames))
    found = sync.measure(sample.openness, said)
    assert found is not None, f"{sample.name} is too short"
    return found


def moved(voice: Floats, milliseconds: float) -> Floats:
    """A sound that comes later (or earlier, below 0), as long as before; silence fills the gap."""
    by = round(milliseconds * SAMPLE_RATE / 1000)
    out = np.zeros_like(voice)
    if by >= 0:
        out[by:] = voice[: len(voice) - by]
    else:
        out[:by] = voice[-by:]
    return out


def late_sound(sample: Sample, strength: float) -> Mapping[str, float]:
    """The sound comes too late: lips are early, below 0."""
    return {"sync offset": -_heard(sample, moved(sample.voice, strength)).offset_ms}


def early_sound(sample: Sample, strength: float) -> Mapping[str, float]:
    """The sound comes too early."""
    return {"sync offset": _heard(sample, moved(sample.voice, -strength)).offset_ms}


def other_speaker(sample: Sample, strength: float) -> Mapping[str, float]:
    """For a share of the time somebody else is heard."""
    voice = sample.voice.copy()
    count = round(strength * len(voice))
    voice[:count] = sample.other_voice[:count]
    found = _heard(sample, voice)
    return {"sync correlation": found.together}


def lips_in_silence(sample: Sample, strength: float) -> Mapping[str, float]:
    """Nobody speaks in the second half, and the lips go on moving for a share of it."""
    half = len(sample.frames) // 2
    voice = sample.voice.copy()
    voice[half * SAMPLES_PER_FRAME :] = 0
    shown = filled(sample.openness).copy()
    still = half + round(strength * (len(shown) - half))
    shown[still:] = shown[min(still, len(shown) - 1)]
    quiet = speech.silent(speech.levels(voice, len(shown)))
    quiet[:half] = False
    return {"lips in silence": lips.in_silence(shown, quiet).moving_silent or 0.0}


# --- pictures ------------------------------------------------------------------------------------------------------


def tint(sample: Sample, strength: float) -> Mapping[str, float]:
    """Redder and less blue."""
    gains = np.array([1 + strength, 1, 1 - strength], np.float32)
    frames = np.clip(sample.frames[::EVERY] * gains, 0, 255).astype(np.uint8)
    own = np.stack([color.mean_lab(frame) for frame in frames])
    found = color.drift(own, color.mean_lab(sample.frames[0]), [slice(0, len(own))])
    return {"colour drift": found.largest}


def blur(sample: Sample, strength: float) -> Mapping[str, float]:
    """A Gaussian blur of so many pixels."""
    made = [_blurred(frame, strength) for frame in sample.frames[::EVERY]]
    looks = [replace(look, picture=frame) for look, frame in zip(sample.looks[::EVERY], made, strict=True)]
    truth = sample.frames[::EVERY]
    return {
        "sharpness": float(np.mean([detail.of_face(look) for look in looks])),
        **_like(made, truth),
    }


def _blurred(frame: NDArray[np.uint8], pixels: float) -> NDArray[np.uint8]:
    return frame if not pixels else np.asarray(cv2.GaussianBlur(frame, (0, 0), pixels), np.uint8)


def _like(made: Sequence[NDArray[np.uint8]], truth: Video) -> dict[str, float]:
    pairs = list(zip(made, truth, strict=True))
    return {
        "PSNR": float(np.mean([likeness.psnr(one, two) for one, two in pairs])),
        "SSIM": float(np.mean([likeness.ssim(one, two) for one, two in pairs])),
    }


def noise(sample: Sample, strength: float) -> Mapping[str, float]:
    """Noise of so many shades."""
    truth = sample.frames[::EVERY]
    grain = np.random.default_rng(0).normal(size=truth.shape) * strength
    return _like([*np.clip(truth + grain, 0, 255).astype(np.uint8)], truth)


def steady(frames: Video, starts: Sequence[int]) -> steadiness.Steadiness:
    """Steadiness of frames in memory."""
    parts = [steadiness.shades(frame) for frame in frames]
    nothing = np.float32(np.nan)
    changes = [nothing, *(steadiness.change(one, two) for one, two in pairwise(parts))]
    jumps = [steadiness.flicker(*three) for three in zip(parts, parts[1:], parts[2:], strict=False)]
    return steadiness.steadiness(
        np.array(changes, np.float32), np.array([nothing, *jumps, nothing], np.float32), starts
    )


def repeated(sample: Sample, strength: float) -> Mapping[str, float]:
    """A share of the frames is shown twice."""
    again = np.random.default_rng(1).random(len(sample.frames)) < strength
    frames = sample.frames.copy()
    for index in np.flatnonzero(again[1:]) + 1:
        frames[index] = frames[index - 1]
    return {"repeated frames": steady(frames, ()).repeated}


def trembling(sample: Sample, strength: float) -> Mapping[str, float]:
    """Brightness trembles by so many shades."""
    gains = np.random.default_rng(2).normal(size=len(sample.frames)) * strength
    frames = np.clip(sample.frames + gains[:, None, None, None], 0, 255).astype(np.uint8)
    return {"flicker": steady(frames, ()).flicker or 0.0}


def seam(sample: Sample, strength: float) -> Mapping[str, float]:
    """From a border on the picture is brighter by so many shades."""
    frames = sample.frames.astype(np.float32)
    frames[BORDER:] += strength
    found = steady(np.clip(frames, 0, 255).astype(np.uint8), (0, BORDER))
    return {"seam": max(found.seams, default=0.0), "seam flicker": max(found.seam_flicker, default=0.0)}


def swaying(sample: Sample, strength: float) -> Mapping[str, float]:
    """Everything moves and turns, by so many pixels and half as many degrees."""
    height, width = sample.frames.shape[1:3]
    time = np.arange(len(sample.frames)) / 25
    made = []
    for frame, wave, other in zip(sample.frames, np.sin(2.5 * time), np.sin(1.7 * time + 1), strict=True):
        move = cv2.getRotationMatrix2D((width / 2, height / 2), 0.5 * strength * wave, 1.0)
        move[:, 2] = move[:, 2] + strength * np.array([other, 0.5 * wave])
        made.append(np.asarray(cv2.warpAffine(frame, move, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8))
    rows, body = Series(), motion.Body()
    for look in follow(made):
        rows.add({**motion.pose(look), "body": body.speed(look)})
    found = {"head motion": motion.head_motion({name: rows[name] for name in (*motion.AXES, "eyes")}) or 0.0}
    below = mean(rows["body"])
    return found if below is None else found | {"body motion": below}


DEGRADATIONS: Final = (
    Degradation("sound late, ms", (40, 80, 120, 160, 200, 240, 320, 400), late_sound, {"sync offset": 1}),
    Degradation("sound early, ms", (40, 80, 120, 160, 200, 240, 320, 400), early_sound, {"sync offset": 1}),
    Degradation("another's voice, share", (0, 0.25, 0.5, 0.75, 1), other_speaker, {"sync correlation": -1}),
    Degradation("lips move in silence, share", (0, 0.25, 0.5, 0.75, 1), lips_in_silence, {"lips in silence": 1}),
    Degradation("tint, gain", (0, 0.02, 0.05, 0.1, 0.15, 0.2), tint, {"colour drift": 1}),
    Degradation("blur, pixels", (0, 0.5, 0.8, 1.2, 1.8, 2.6), blur, {"sharpness": -1, "PSNR": -1, "SSIM": -1}),
    Degradation("noise, shades", (1, 2, 4, 8, 16), noise, {"PSNR": -1, "SSIM": -1}),
    Degradation("repeated frames, share", (0, 0.1, 0.2, 0.4, 0.6, 0.8), repeated, {"repeated frames": 1}),
    Degradation("trembling light, shades", (0, 1, 2, 4, 8), trembling, {"flicker": 1}),
    Degradation("seam, shades", (0, 2, 4, 8, 16), seam, {"seam": 1, "seam flicker": 1}),
    Degradation("swaying, pixels", (0, 1, 2, 4, 8), swaying, {"head motion": 1, "body motion": 1}),
)


class Strangers:
    """Another person comes in."""

    def __init__(self) -> None:
        self._recogniser = Recogniser()
        self._known: dict[bytes, NDArray[np.float64] | None] = {}

    def _describe(self, frame: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """The numbers of a frame's face, found once."""
        mark = hashlib.sha256(frame.tobytes()).digest()
        if mark not in self._known:
            self._known[mark] = self._recogniser.describe(look_at(frame))
        return self._known[mark]

    def far(self, own: NDArray[np.uint8], frames: Sequence[NDArray[np.uint8]]) -> float:
        """Mean distance of the faces of some frames to the one of a picture."""
        reference = self._describe(own)
        found = [self._describe(frame) for frame in frames]
        seen = [(index, numbers) for index, numbers in enumerate(found) if numbers is not None]
        return float("nan") if reference is None or not seen else float(distances([reference], seen).mean())

    def share(self, sample: Sample, strength: float) -> Mapping[str, float]:
        """In a share of the frames somebody else is seen."""
        places = range(EVERY // 2, len(sample.frames), EVERY)
        change = round(strength * len(places))
        frames = [(sample.other_frames if number < change else sample.frames)[place]
                  for number, place in enumerate(places)]  # fmt: skip
        return {"identity": self.far(sample.frames[0], frames)}

    def degradation(self) -> Degradation:
        """For any clips."""
        return Degradation("another person, share of frames", (0, 0.25, 0.5, 0.75, 1), self.share, {"identity": 1})


# --- figures -------------------------------------------------------------------------------------------------------


def judge(degradation: Degradation, samples: Sequence[Sample]) -> dict[str, Any]:
    """Each measure's values [clip][strength], and their Spearman correlations with the strength."""
    values: dict[str, list[list[float]]] = {name: [] for name in degradation.rising}
    for sample in samples:
        found = [degradation.spoil(sample, strength) for strength in degradation.strengths]
        for name, rows in values.items():
            if all(name in row for row in found):
                rows.append([row[name] for row in found])
    measures = {
        name: figures(degradation.strengths, rows, degradation.rising[name]) for name, rows in values.items() if rows
    }
    return {"strengths": list(degradation.strengths), "measures": measures}


def figures(strengths: Sequence[float], rows: Sequence[Sequence[float]], sign: int) -> dict[str, Any]:
    """Spearman's correlations within each clip, and over all clips at once."""
    each = [sign * spearman(strengths, row) for row in rows]
    pooled = sign * spearman([*strengths] * len(rows), [value for row in rows for value in row])
    return {
        "clips": len(rows),
        "spearman": round(float(np.mean(each)), 4),
        "lowest": round(min(each), 4),
        "pooled": round(pooled, 4),
        "passed": bool(np.mean(each) >= LEAST),
        "medians": [round(float(value), 4) for value in np.median(np.array(rows), axis=0)],
    }


def lines(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    """What one degradation has shown."""
    for measure, row in found["measures"].items():
        verdict = "pass" if row["passed"] else "FAIL"
        beside = f"lowest {row['lowest']:.2f}, pooled {row['pooled']:.2f}, {row['clips']} clips"
        yield f"{name:34s} {measure:18s} {row['spearman']:.3f} ({beside}) {verdict}  medians {row['medians']}"


def table(report: Mapping[str, Any]) -> str:
    """The results as a table of `docs/evaluate.md`."""
    kinds = list(report["kinds"])
    rows = ["| spoilt by | measure | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]
    names = dict.fromkeys(name for kind in kinds for name in report["kinds"][kind])
    for name in names:
        found = [report["kinds"][kind].get(name, {"measures": {}})["measures"] for kind in kinds]
        for measure in dict.fromkeys(measure for some in found for measure in some):
            cells = [f"{some[measure]['spearman']:.2f}" if measure in some else "" for some in found]
            rows.append(f"| {name} | {measure} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


# --- clips ---------------------------------------------------------------------------------------------------------


def cyclic(names: Sequence[str], videos: Sequence[Video], voices: Sequence[Floats]) -> list[Sample]:
    """Samples, each with the next one as the other person. Voices are cut or filled to the videos' lengths."""
    fitted = []
    for video, voice in zip(videos, voices, strict=True):
        wanted = len(video) * SAMPLES_PER_FRAME
        fitted.append(np.pad(voice[:wanted], (0, max(0, wanted - len(voice)))))
    samples = []
    for index, name in enumerate(names):
        other = (index + 1) % len(names)
        voice = np.resize(fitted[other], len(fitted[index]))
        samples.append(Sample(name, videos[index], fitted[index], voice, np.resize(videos[other], videos[index].shape)))
    return samples


def rendered(studio: Any, folder: Path, count: int) -> list[Sample]:
    """Rendered heads whose lips follow the phones of what they say."""
    from benchmarks.heads import speaker
    from training.evaluate.bench import ADDED, WINDOW

    videos, voices = list[Video](), list[Floats]()
    for index in range(count):
        path = folder / f"speaker-{index}.npz"
        if not path.exists():
            frames, track, start = speaker(studio.mouths, index, WINDOW + ADDED)
            np.savez(path, frames=frames, track=track, start=start)
            sys.stderr.write(f"drawn: {index + 1} of {count}\n")
        with np.load(path) as file:
            videos.append(file["frames"])
            sound = studio.unseen[int(file["track"])].audio[int(file["start"]) * SAMPLES_PER_FRAME :]
        voices.append(sound.astype(np.float32) / np.float32(32768))
    return cyclic([f"rendered {index}" for index in range(count)], videos, voices)


def made(studio: Any, camera: Any, count: int) -> list[Sample]:
    """nano's videos of two windows."""
    from training.evaluate.bench import ADDED, WINDOW
    from training.evaluate.scenes import DOUBLE

    scenes = list(studio.scenes("double", DOUBLE, count, WINDOW + ADDED))
    videos = [camera.shoot(f"double-{index}", scene.picture, scene.voice, WINDOW + ADDED)
              for index, scene in enumerate(scenes)]  # fmt: skip
    return cyclic([f"nano {index}" for index in range(count)], videos, [scene.voice for scene in scenes])


def morphed(studio: Any, count: int, strangers: Strangers) -> dict[str, Any]:
    """Rendered heads that turn into somebody else, feature by feature: the strength is how far."""
    from benchmarks.heads import SHARES, morph

    rows = []
    for index in range(count):
        pictures = [morph(studio.mouths, index, share) for share in SHARES]
        rows.append([strangers.far(pictures[0][0], [*frames[1:]]) for frames in pictures])
    return {"strengths": list(SHARES), "measures": {"identity": figures(SHARES, rows, 1)}}


def main(words: Sequence[str] | None = None) -> int:
    """The command line; 1 if a measure does not follow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--table", type=Path, metavar="FILE", help="document whose table is renewed at the end")
    parser.add_argument("--clips", type=int, default=12, help="of each kind")
    given = parser.parse_args(words)
    from training.evaluate.scenes import Studio
    from training.evaluate.videos import Camera

    given.out.mkdir(parents=True, exist_ok=True)
    studio, camera = Studio.open(given.out / "scenes", given.corpus), Camera(given.model, given.out / "videos")
    strangers = Strangers()
    report: dict[str, Any] = {"clips": given.clips, "least": LEAST, "kinds": {}}

    def note(kind: str, name: str, found: Mapping[str, Any]) -> None:
        report["kinds"].setdefault(kind, {})[name] = found
        (given.out / "validate_metrics.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        for line in lines(name, found):
            sys.stderr.write(f"{kind}: {line}\n")

    everything = {
        "rendered": rendered(studio, given.out / "scenes", given.clips),
        "nano": made(studio, camera, given.clips),
    }
    for kind, samples in everything.items():
        for degradation in (*DEGRADATIONS, strangers.degradation()):
            note(kind, degradation.name, judge(degradation, samples))
    note("rendered", "another identity, how far", morphed(studio, given.clips, strangers))
    if given.table is not None:
        text = given.table.read_text(encoding="utf-8")
        given.table.write_text(put(text, MARKS, table(report)), encoding="utf-8")
    every = [row for kind in report["kinds"].values() for found in kind.values() for row in found["measures"].values()]
    return 0 if all(row["passed"] for row in every) else 1


if __name__ == "__main__":
    sys.exit(main())
