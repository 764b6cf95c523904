"""Whether a strength of motion is obeyed, and how near the picture beside the mouth is to the truth without motion."""

from typing import Final

import numpy as np

from infinitetalk.evaluate.faces import Look
from infinitetalk.evaluate.motion import AXES, head_motion, pose
from training.evaluate import measures, sheets
from training.evaluate.bench import WINDOW, Bench
from training.evaluate.landmarks import Floats
from training.evaluate.report import Check
from training.evaluate.scenes import STILL
from training.evaluate.videos import Video

STRENGTHS: Final = (0.0, 1.0, 2.0)
CLOSED: Final = 0.85
"""Of the usual distance of the lids. Landmarks see lids that are closed at 0.60 to 0.78 of it, in true renders."""
_LIDS: Final = ((159, 145), (386, 374))


def head(track: Floats, video: Video) -> float:
    """How fast a head moves and turns, in distances of the eyes a second; not a number without a face."""
    looks = [Look(index, picture, None, points if np.isfinite(points).all() else None)
             for index, (picture, points) in enumerate(zip(video, track, strict=True))]  # fmt: skip
    found = [pose(look) for look in looks]
    poses = {axis: np.array([one.get(axis, np.nan) for one in found], np.float32) for axis in (*AXES, "eyes")}
    speed = head_motion(poses)
    return np.nan if speed is None else speed


def blinks(track: Floats) -> int:
    """How often the lids come together."""
    known = track[np.isfinite(track).all((1, 2))]
    if not len(known):
        return 0
    apart = np.mean([np.linalg.norm(known[:, up] - known[:, low], axis=-1) for up, low in _LIDS], 0)
    closed = apart < CLOSED * np.median(apart)
    return int((closed[1:] & ~closed[:-1]).sum() + closed[0])


def moving(bench: Bench, count: int) -> list[Check]:
    """The same people and words at three strengths, and the truth at the first."""
    if bench.camera.engine.model.facts.motion is None:
        return [Check("motion strength: this model was not told of any", np.nan)]
    rows, shown = [], []
    for index, scene in enumerate(bench.studio.scenes("still", STILL, count, WINDOW, truth=True, calm=0.0)):
        mouth = measures.inside(scene.mouth, scene.picture.shape[:2])
        row: dict[str, float] = {}
        for strength in STRENGTHS:
            name = f"moving-{index}-{strength:g}"
            # The truth begins with its own first frame, as the model's video must to be compared with it.
            video = bench.camera.shoot(name, scene.frames[0], scene.voice, WINDOW, motion=strength)
            track = bench.track(name, video)
            row |= {f"head at {strength:g}": head(track, video), f"blinks at {strength:g}": blinks(track)}
            if not strength:
                row["psnr"] = measures.psnr(video, scene.frames, ~mouth)
                row["psnr of the VAE"] = measures.psnr(bench.camera.through_vae(scene.frames), scene.frames, ~mouth)
            shown.append(sheets.Row([scene.frames[0], *video[::8]], f"motion {strength:g}"))
        rows.append(row)
        bench.say(f"moving {index}: { ({key: round(value, 3) for key, value in row.items()}) }")
    bench.details["moving"] = rows
    sheets.save(bench.out / "motion.jpg", shown, cell=112, margin=80)
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    heads, lids = ([mean[f"{what} at {strength:g}"] for strength in STRENGTHS] for what in ("head", "blinks"))
    told = "at 0, 1, 2: " + ", ".join(f"{value:.3f}" for value in heads) + " distances of the eyes a second"
    return [
        Check("motion 0: PSNR outside the mouth against the truth", mean["psnr"], ">=", 30,
              f"of {count}; the truth through the VAE {mean['psnr of the VAE']:.1f}"),
        Check("motion: head at 1 relative to 0", heads[1] / heads[0], ">=", 1.2, told),
        Check("motion: head at 2 relative to 1", heads[2] / heads[1], ">=", 1.2),
        Check("motion: blinks of a clip at 1 and 2 less those at 0", (lids[1] + lids[2]) / 2 - lids[0], ">=", 0.2,
              "at 0, 1, 2: " + ", ".join(f"{value:.1f}" for value in lids)),
    ]  # fmt: skip
