"""All measures of a video, in one pass over its frames."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from infinitetalk.core.errors import InfiniteTalkError, MediaError
from infinitetalk.core.sizes import FPS
from infinitetalk.core.version import own_version
from infinitetalk.evaluate import color, detail, likeness, lips, motion, speech, steadiness, sync
from infinitetalk.evaluate.clip import Clip, fitted, open_pictures, same_shape, voice_of
from infinitetalk.evaluate.faces import Look, follow, look_at
from infinitetalk.evaluate.film import Film
from infinitetalk.evaluate.identity import (
    EVERY,
    NEED,
    Identity,
    Numbers,
    Recogniser,
    can_recognise,
    distances,
    identity,
    same_person,
)
from infinitetalk.evaluate.series import Floats, Series, mean
from infinitetalk.evaluate.syncnet import Listener, Lse, SyncNet
from infinitetalk.media.faces import find_faces
from infinitetalk.media.inputs import FrameSource, Picture, Wave
from infinitetalk.media.picture import StillSource

PEOPLE: Final = Path(__file__).parent.parent / "assets" / "demo"
OTHERS: Final = ("portrait_1.png", "portrait_2.png", "pair.png")
"""Pictures of the people who stand for anybody else."""
FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What shall be measured."""

    video: Path
    reference: Path | None = None
    """The picture or video of what the person should look like; None: what the file beside the video names, else the
    video's own first frame."""
    truth: Path | None = None
    """A video of what should be seen, frame by frame."""
    audio: Path | None = None
    """The sound that the lips should follow, in place of the video's own."""
    others: tuple[Path, ...] = ()
    """Pictures of other people, for the baseline; none: the demo's people."""
    face: int | None = None
    syncnet: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured."""

    facts: dict[str, Any]
    """JSON: see `docs/evaluate.md`."""
    series: Series
    """Numbers of each frame."""
    heard: np.ndarray[Any, np.dtype[np.float32]]
    """Openness that the sound asks for, (F,); (0,) without sound."""
    film: Film
    """Some of the frames, small."""


@dataclass(slots=True)
class _Bench:
    """The files of a job, opened, and what is gathered."""

    job: Job
    clip: Clip
    wave: Wave | None
    reference: FrameSource
    reference_name: str
    truth: FrameSource | None
    recogniser: Recogniser | None
    listener: Listener | None
    film: Film
    series: Series = field(default_factory=Series)
    faces: list[tuple[int, Numbers]] = field(default_factory=list)
    own: list[Numbers] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wanted: tuple[Picture, Floats] | None = None
    """The reference's last frame, and its colour."""


def evaluate(job: Job, progress: Callable[[int, int], None] | None = None) -> Result:
    """Measures a video. `progress` hears of the frames that were seen, and of how many there are.

    Raises:
        InfiniteTalkError: a file that cannot be used, or a machine that cannot find faces.
    """
    with ExitStack() as files:
        bench = _open(job, files)
        body = motion.Body()
        past: list[steadiness.Shades] = []
        for look in follow(bench.clip.pictures(), job.face):
            bench.series.add(_numbers(bench, look, body, past))
            if bench.listener is not None:
                bench.listener.see(look)
            bench.film.see(look)
            if progress is not None:
                progress(look.index + 1, bench.clip.frames)
        return _result(bench)


def _open(job: Job, files: ExitStack) -> _Bench:
    """Opens everything, and refuses what cannot be used before anything is measured."""
    network = None if job.syncnet is None else SyncNet.read(job.syncnet)
    clip = Clip.open(job.video)
    notes = list[str]()
    wave = _sound(job, clip, notes)
    truth = None if job.truth is None else _opened(job.truth, files)
    if truth is not None and job.truth is not None:
        same_shape(truth, clip, job.truth)
    reference, name = _reference(job, clip, files, notes)
    recogniser = Recogniser() if can_recognise() else None
    if recogniser is None:
        notes.append(NEED)
    if not clip.starts:
        notes.append("no file beside the video tells where its windows meet: seams are not measured")
    listener = None if network is None or wave is None else Listener(network, wave, clip.frames)
    return _Bench(job, clip, wave, reference, name, truth, recogniser, listener, Film(clip.frames), notes=notes)


def _sound(job: Job, clip: Clip, notes: list[str]) -> Wave | None:
    wave = voice_of(job.audio or job.video, clip.frames)
    if wave is None and job.audio is not None:
        raise MediaError(job.audio, "has no sound in it; give a file with a sound track, such as WAV or MP3")
    if wave is None:
        notes.append("the video has no sound: lip sync is not measured; --audio FILE would give it one")
    return wave


def _opened(path: Path, files: ExitStack) -> FrameSource:
    source = open_pictures(path)
    if close := getattr(source, "close", None):
        files.callback(close)
    return source


def _reference(job: Job, clip: Clip, files: ExitStack, notes: list[str]) -> tuple[FrameSource, str]:
    """What the person should look like, and its name."""
    if job.reference is not None:
        return _opened(job.reference, files), str(job.reference)
    named = None if clip.request is None else clip.request.image or clip.request.video
    if named is not None:
        try:
            return _opened(named, files), str(named)
        except InfiniteTalkError as error:
            notes.append(f"the picture that the video was made from is gone ({error})")
    notes.append("no reference was given: the video's own first frame stands for it")
    return StillSource(next(clip.pictures())), "the video's first frame"


def _numbers(bench: _Bench, look: Look, body: motion.Body, past: list[steadiness.Shades]) -> dict[str, float | None]:
    """The numbers of a frame. `past` holds the last two frames' shades."""
    seconds = look.index / FPS
    lab = color.mean_lab(look.picture)
    wanted = _wanted(bench, seconds)
    found: dict[str, float | None] = {
        "openness": None if look.points is None else float(lips.openness(look.points)),
        "sharpness": detail.of_face(look),
        **{f"own_{name}": float(value) for name, value in zip("lab", lab, strict=True)},
        **{f"wanted_{name}": float(value) for name, value in zip("lab", wanted, strict=True)},
        **motion.pose(look),
        "body": body.speed(look),
    }
    now = steadiness.shades(look.picture)
    found["change"] = steadiness.change(past[-1], now) if past else None
    # A frame's flicker is known when the next one has come: it is noted one frame late.
    found["late_flicker"] = steadiness.flicker(past[-2], past[-1], now) if len(past) == 2 else None
    past[:] = [*past[-1:], now]
    if bench.truth is not None:
        true = fitted(bench.truth.frame_at(seconds), bench.clip.size)
        found |= {"psnr": likeness.psnr(look.picture, true), "ssim": likeness.ssim(look.picture, true)}
    if bench.recogniser is not None and look.index % EVERY == 0:
        found["identity"] = _recognise(bench, bench.recogniser, look)
    return found


def _wanted(bench: _Bench, seconds: float) -> Floats:
    """The reference's colour; that of a picture is found once."""
    picture = bench.reference.frame_at(seconds)
    if bench.wanted is None or bench.wanted[0] is not picture:
        bench.wanted = picture, color.mean_lab(fitted(picture, bench.clip.size, _framing(bench.clip)))
    return bench.wanted[1]


def _framing(clip: Clip) -> str:
    return "crop" if clip.request is None else clip.request.framing


def _recognise(bench: _Bench, recogniser: Recogniser, look: Look) -> float | None:
    """The distance of a frame's face to the reference's."""
    if not bench.own:
        source = bench.reference
        times = (0.0,) if not hasattr(source, "close") else tuple(0.4 * count for count in range(5))
        found = [recogniser.describe(look_at(source.frame_at(seconds))) for seconds in times]
        bench.own += [numbers for numbers in found if numbers is not None]
    numbers = recogniser.describe(look)
    if numbers is None:
        return None
    bench.faces.append((look.index, numbers))
    return float(distances(bench.own, [(0, numbers)])[0]) if bench.own else None


def _people(recogniser: Recogniser, paths: Sequence[Path]) -> Iterator[Numbers]:
    """The numbers of everybody in some pictures."""
    for path in paths:
        with ExitStack() as files:
            picture = _opened(path, files).frame_at(0.0)
        for face in find_faces(picture):
            if (numbers := recogniser.describe(Look(0, picture, face, None))) is not None:
                yield numbers


def _identity(bench: _Bench) -> Identity | None:
    recogniser = bench.recogniser
    if recogniser is None:
        return None
    if not bench.own:
        bench.notes.append(f"no face was found in {bench.reference_name}: identity is not measured")
        return None
    own = np.mean(bench.own, axis=0)
    others = list(_people(recogniser, bench.job.others or [PEOPLE / name for name in OTHERS]))
    if not bench.job.others:  # the demo's own videos show one of them
        others = [numbers for numbers in others if float(np.linalg.norm(numbers - own)) > 0.2]
    same = same_person(recogniser, bench.reference.frame_at(0.0), own)
    return identity(bench.own, others, bench.faces, bench.clip.stretches(), same)


def _result(bench: _Bench) -> Result:
    clip, rows = bench.clip, bench.series
    count = len(rows)
    heard = np.zeros(0, np.float32) if bench.wave is None else speech.openness(bench.wave, count)
    quiet = None if bench.wave is None else speech.silent(speech.levels(bench.wave, count))
    shown = rows["openness"]
    facts: dict[str, Any] = {
        "format": FORMAT,
        "infinitetalk": own_version(),
        "video": str(bench.job.video),
        "reference": bench.reference_name,
        "size": str(clip.size),
        "seconds": round(count / FPS, 3),
        "windows": list(clip.starts),
        "faces_found": float(np.isfinite(shown).mean()),
        "sync": _plain(None if quiet is None or quiet.all() else sync.measure(shown, heard)),
        "silence": _plain(None if quiet is None else lips.in_silence(shown, quiet)),
        "syncnet": _plain(_lse(bench)),
        "identity": _plain(_identity(bench)),
        "color": _plain(_colors(bench)),
        "sharpness": _sharpness(bench),
        "steadiness": _plain(steadiness.steadiness(rows["change"], flickers(rows), clip.starts)),
        "motion": {
            "head": motion.head_motion({name: rows[name] for name in (*motion.AXES, "eyes")}),
            "body": mean(rows["body"]),
        },
        "truth": None if bench.truth is None else {name: mean(rows[name]) for name in ("psnr", "ssim")},
    }
    if facts["sync"] is None and bench.wave is not None:
        bench.notes.append("lip sync is not measured: it needs 1.6 s, a voice, and a face in half of the frames")
    return Result(facts | {"notes": bench.notes}, rows, heard, bench.film)


def _lse(bench: _Bench) -> Lse | None:
    return None if bench.listener is None else bench.listener.result()


def flickers(rows: Series) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The flicker of each frame, (F,)."""
    return np.append(rows["late_flicker"][1:], np.float32(np.nan))


def _colors(bench: _Bench) -> color.ColorDrift:
    own, wanted = (np.stack([bench.series[f"{whose}_{name}"] for name in "lab"], 1) for whose in ("own", "wanted"))
    return color.drift(own, wanted, bench.clip.stretches())


def _sharpness(bench: _Bench) -> dict[str, float | None]:
    """The mean, and the last window's and the reference's relative to it."""
    values, parts = bench.series["sharpness"], bench.clip.stretches()
    usual, first, last = mean(values), mean(values[parts[0]]), mean(values[parts[-1]])
    like = detail.of_face(look_at(fitted(bench.reference.frame_at(0.0), bench.clip.size, _framing(bench.clip))))
    return {
        "mean": usual,
        "last_to_first_window": None if not first or last is None else last / first,
        "to_reference": None if not like or usual is None else usual / like,
    }


def _plain(found: Any) -> dict[str, Any] | None:
    """A measure's figures as JSON has them."""
    if found is None:
        return None
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(found).items()}
