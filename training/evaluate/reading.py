"""What is read from nano's mouths: shapes, against the truth, and phones, as well as on true renders or not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.evaluate.series import correlation
from training.evaluate.bench import WINDOW, Bench
from training.evaluate.landmarks import Floats
from training.evaluate.mouth_net import MouthReader
from training.evaluate.probes import COLUMNS, GROUPS, SHAPES, balanced, classifier, features, labels, recalls
from training.evaluate.report import Check
from training.evaluate.scenes import SINGLE
from training.evaluate.videos import Video

TRUE_FRAMES: Final = 72
"""Frames of each LibriVox clip that are rendered."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A true render, and the video of the same person who says the same."""

    frames: Video
    track: Floats
    """Landmarks (F, 468, 2)."""
    said: NDArray[np.int64]
    weights: Floats
    """(F, 52)"""
    video: Video
    made: Floats
    """Its landmarks."""
    made_said: NDArray[np.int64]
    """LibriVox's videos are longer than their renders."""


def singles(bench: Bench) -> Iterator[Drawn]:
    """The clips of one window, which were looked at before."""
    for index, scene in enumerate(bench.studio.scenes("single", SINGLE, bench.singles, WINDOW, truth=True)):
        said = labels(bench.studio.spoken(SINGLE + index, WINDOW), WINDOW)
        video = bench.camera.shoot(f"single-{index}", scene.picture, scene.voice, WINDOW)
        weights = bench.studio.mouth(SINGLE + index, WINDOW)
        track, made = bench.track(f"truth-{index}", scene.frames), bench.track(f"single-{index}", video)
        yield Drawn(scene.frames, track, said, weights, video, made, said)


def real(bench: Bench, count: int) -> Iterator[Drawn]:
    """The LibriVox clips, and renders of how they begin."""
    for index, scene in enumerate(bench.studio.real_scenes(count)):
        truth, segments, weights = bench.studio.real_truth(index, TRUE_FRAMES)
        video = bench.camera.shoot(f"real-{index}", scene.picture, scene.voice, scene.length)
        track, made = bench.track(f"drawn-{index}", truth.frames), bench.track(f"real-{index}", video)
        said = labels(bench.studio.real[index].segments, scene.length)
        yield Drawn(truth.frames, track, labels(segments, truth.length), weights, video, made, said)


def mouths(bench: Bench, count: int) -> list[Check]:
    """Shapes, and phones by probes that were fitted on the true renders of all clips but the one that is read."""
    alike = list(singles(bench))
    return [*(shapes(bench, alike, MouthReader.load()) if alike else []), *phones(alike, list(real(bench, count)))]


def shapes(bench: Bench, clips: Sequence[Drawn], reader: MouthReader) -> list[Check]:
    """Mouth shapes of videos and of true renders, by a network that knows neither."""
    rows = []
    for own in clips:
        truth = own.weights[:, COLUMNS].T
        video, render = reader(own.made, own.video).T, reader(own.track, own.frames).T
        rows.append([[correlation(*pair) for pair in zip(one, two, strict=True)]
                     for one, two in ((video, truth), (render, truth), (video, render))])  # fmt: skip
    jaws, true_jaws = np.median(np.asarray(rows)[:, :2, 0], 0)
    videos, renders, each_other = np.mean(rows, 0)
    bench.details["shapes"] = {name: [round(float(value), 3) for value in values]
                               for name, *values in zip(SHAPES, videos, renders, each_other, strict=True)}  # fmt: skip
    note = ", ".join(f"{name[5:].removesuffix('Left')} {value:.2f}"
                     for name, value in zip(SHAPES[1:], videos[1:], strict=True))  # fmt: skip
    return [
        Check("jaw openness with the truth, unseen voices, read by the network, median r", float(jaws), ">=",
              bench.wanted.jaw, f"of {len(clips)}; the network on true renders {true_jaws:.2f}"),
        Check("five further mouth shapes with the truth, by a network, mean r", float(videos[1:].mean()), ">=", 0.8,
              f"{note}; the network on true renders {renders[1:].mean():.2f}"),
        Check("the same shapes with what the network reads on true renders", float(each_other[1:].mean())),
    ]  # fmt: skip


def phones(common: Sequence[Drawn], clips: Sequence[Drawn]) -> list[Check]:
    """Whether what is said on LibriVox can be read from the videos; `common` helps to fit."""
    known = [(clip, features(clip.track), clip.said) for clip in (*common, *clips)]
    on_renders, on_videos = list[tuple[int, bool]](), list[tuple[int, bool]]()
    for own in clips:
        others = [other for other in known if other[0] is not own]
        probe = classifier(
            np.concatenate([other[1] for other in others]), np.concatenate([other[2] for other in others])
        )
        on_renders += recalls(probe, [(features(own.track), own.said)])
        on_videos += recalls(probe, [(features(own.made), own.made_said)])
    renders, videos = balanced(on_renders), balanced(on_videos)
    note = f"balanced accuracy {videos:.2f}; true renders {renders:.2f}; chance {1 / len(GROUPS):.2f}"
    return [Check("LibriVox: phone groups read from the videos, share of renders'", videos / renders, ">=", 0.6, note)]
