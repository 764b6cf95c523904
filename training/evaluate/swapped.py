"""Whether lips follow the sound that they are given, and nothing of one that they are not: many clips, no renders."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Final

import numpy as np

from infinitetalk.evaluate.series import correlation
from training.evaluate.bench import WINDOW, Bench
from training.evaluate.landmarks import Floats
from training.evaluate.mouth_net import MouthReader
from training.evaluate.report import Check, median
from training.evaluate.scenes import SINGLE, Scene

SAME: Final = 0.95
"""Correlation of tracks from which on they are of one sentence."""
SURE: Final = NormalDist().inv_cdf(0.95)
"""Standard errors that 95 % of means stay below where there is no trace."""
FOUND: Final = SURE + NormalDist().inv_cdf(0.8)
"""Standard errors of a trace of which 80 % of means are above that."""
TRACE: Final = 0.05
"""Correlation with the old track, beyond what both share, that the clips must be many enough to find."""
WHAT: Final = "with another clip's sound"


def own(bench: Bench, count: int) -> list[Check]:
    """Mouths of many people who say their own words: a mean of few clips is mostly chance."""
    reader, rows = MouthReader.load(), []
    for index, scene in enumerate(bench.studio.scenes("single", SINGLE, count, WINDOW)):
        read, shown = _mouth(bench, reader, f"single-{index}", scene, scene)
        rows.append({"r": correlation(read, scene.truth), "r by landmarks": correlation(shown, scene.truth)})
        bench.say(f"own {index}: { ({key: round(value, 3) for key, value in rows[-1].items()}) }")
    bench.details["own"] = rows
    what = "jaw openness with the truth, unseen voices, no renders"
    lowest, wanted = min(row["r"] for row in rows), bench.wanted.jaw
    return [
        Check(f"{what}: median r", median(rows, "r"), ">=", wanted,
              f"of {count}, read by the network; lowest {lowest:.2f}"),
        Check(f"{what}: the same by landmarks", median(rows, "r by landmarks"), ">=", wanted),
    ]  # fmt: skip


def swapped(bench: Bench, count: int) -> list[Check]:
    """The same people with the neighbouring clip's sound: they must follow that one."""
    scenes = list(bench.studio.scenes("single", SINGLE, count, WINDOW))
    reader, rows = MouthReader.load(), []
    truths = [scene.truth for scene in scenes]
    for index, scene in enumerate(scenes):
        # The name tells whose sound it is: the last one's neighbour depends on how many there are.
        whose = neighbour(truths, index)
        other = scenes[whose]
        read, shown = _mouth(bench, reader, f"swapped-{index}-{whose}", scene, other)
        rows.append({
            "r": correlation(read, other.truth),
            "r by landmarks": correlation(shown, other.truth),
            "r with the old track": correlation(read, scene.truth),
            "by landmarks with the old track": correlation(shown, scene.truth),
            "common": correlation(scene.truth, other.truth),
            "unrelated": unrelated(read, truths, (whose, index)),
        })  # fmt: skip
        bench.say(f"swapped {index}: { ({key: round(value, 3) for key, value in rows[-1].items()}) }")
    bench.details["swapped"] = rows
    return [*_follows(rows, bench.wanted.swapped), *_forgets(rows)]


def _mouth(bench: Bench, reader: MouthReader, name: str, person: Scene, sound: Scene) -> tuple[Floats, Floats]:
    """How far somebody's jaw opens (F,) to a scene's sound, by the network and by landmarks; the lag is noted."""
    video = bench.camera.shoot(name, person.picture, sound.voice, WINDOW)
    shown = bench.openness(name, video)
    bench.sync(name, shown, sound.truth)
    return reader(bench.track(name, video), video)[:, 0], shown


def _follows(rows: Sequence[Mapping[str, float]], wanted: float) -> list[Check]:
    return [
        Check(f"{WHAT}: median r with that sound's track", median(rows, "r"), ">=", wanted,
              f"of {len(rows)}, read by the network"),
        Check(f"{WHAT}: the same by landmarks", median(rows, "r by landmarks"), ">=", wanted),
    ]  # fmt: skip


def _forgets(rows: Sequence[Mapping[str, float]]) -> list[Check]:
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    old, common = "with the old track", mean["common"]
    strange = f"with tracks that are neither's {mean['unrelated']:+.3f} of what they share"
    return [
        Check(f"{WHAT}: mean r {old}", mean[f"r {old}"], "<=", common, f"what both tracks share; {strange}"),
        Check(f"{WHAT}: the same by landmarks, {old}", mean[f"by landmarks {old}"], "<=", common),
        *trace([row[f"r {old}"] - row["common"] for row in rows], "read by the network"),
        *trace([row[f"by landmarks {old}"] - row["common"] for row in rows], "by landmarks"),
    ]


def trace(more: Sequence[float], reader: str) -> list[Check]:
    """Whether there is a trace of the old track, or too few clips to tell.

    A mean over clips is above nothing as often as below it where there is no trace, so one-sided statistics decide.

    Args:
        more: how much more each clip's correlation with its old track is than what both tracks share.
        reader: who read the videos.

    Returns:
        The lower end of the mean's one-sided 95 % interval, above zero where there is a trace, and the smallest mean
        that would be found with a probability of 80 %, which clips must be many enough to keep below `TRACE`.
    """
    count, mean = len(more), float(np.mean(more))
    error = float(np.std(more, ddof=1)) / count**0.5 if count > 1 else float("inf")
    note = f"{mean:+.3f} on average of {count}, standard error {error:.3f}; {reader}"
    return [
        Check(f"{WHAT}: a trace of the old track, lower 95 % end", mean - SURE * error, "<=", 0, note),
        Check(f"{WHAT}: smallest trace that would be found", FOUND * error, "<=", TRACE, reader),
    ]


def neighbour(truths: Sequence[Floats], index: int) -> int:
    """Number of the next clip that says something else: some say the same sentence.

    Raises:
        ValueError: all say the same.
    """
    for step in range(1, len(truths)):
        other = (index + step) % len(truths)
        if correlation(truths[other], truths[index]) < SAME:
            return other
    raise ValueError(f"no other of {len(truths)} clips says something else than clip {index}; take more")


def unrelated(read: Floats, truths: Sequence[Floats], known: tuple[int, int]) -> float:
    """How much more a video has in common with other clips' tracks than the track of its sound has: what chance gives.

    Args:
        read: openness of the video, (F,).
        known: numbers of the clips whose sound and whose person it has; others that say the same do not count.

    Returns:
        The mean difference of correlations; not a number if there are no such clips.
    """
    strange = [one for one in truths if all(correlation(one, truths[own]) < SAME for own in known)]
    more = [correlation(read, one) - correlation(truths[known[0]], one) for one in strange]
    return float(np.mean(more)) if more else np.nan
