"""A whole job at another frame rate than the model's."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.stages import Stage
from infinitetalk.engine.job import Workshop, prepare

VOICE = Path(__file__).parents[2] / "src" / "infinitetalk" / "assets" / "demo" / "voice_1.flac"


def _frames(path: Path) -> tuple[list[float], np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    return [float(frame.time or 0) for frame in decoded], np.stack(
        [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in decoded]
    )


@pytest.mark.parametrize("fps", [50, 60])
def test_the_file_has_the_wanted_rate(tiny_folder: Path, tmp_path: Path, fps: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(picture).save(tmp_path / "face.png")
    workshop, made = Workshop("cpu"), {}
    for rate in (25, fps):
        request = TalkRequest(
            model=str(tiny_folder),
            image=tmp_path / "face.png",
            audio=(VOICE,),
            size="64x64",
            steps=1,
            window_frames=9,
            motion_frames=5,
            duration=0.8,
            quality=1,
            fps=str(rate),
            provenance=False,
        )
        made[rate] = workshop.make(prepare(request, tmp_path / f"{rate}.mp4"))
    plain, fine = made[25], made[fps]
    assert (plain.windows, plain.seconds) == (fine.windows, fine.seconds)
    assert fine.windows > 1
    assert fine.stages[Stage.INTERPOLATION] > 0
    assert Stage.INTERPOLATION in plain.skipped
    assert Stage.INTERPOLATION not in fine.skipped
    (_, coarse), (times, shown) = _frames(plain.video), _frames(fine.video)
    assert np.allclose(times, np.arange(fine.frames) / fps, atol=1e-4)
    step = {50: (2, 1), 60: (12, 5)}[fps]
    there = shown[:: step[0]].astype(float)
    assert np.abs(there - coarse[:: step[1]][: len(there)]).mean() < 2, "frames that were there stay"
