"""Advice after a job: each line where it applies, and nothing about good inputs."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.core.defaults import ModelFacts, resolve
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLE_RATE, Pixels
from infinitetalk.media import advice, files
from infinitetalk.media.advice import advise
from infinitetalk.media.hearing import for_speech
from infinitetalk.media.inputs import Picture, Waveform
from infinitetalk.media.shots import find_cuts
from infinitetalk.media.sound import read_sound
from infinitetalk.media.video import VideoSource
from infinitetalk.weights.locate import ASSETS

DEMO = ASSETS / "demo"
VOICE, PORTRAIT, PAIR = DEMO / "voice_1.flac", DEMO / "portrait_1.png", DEMO / "pair.png"


def told(facts: ModelFacts, **values: object) -> str:
    """The advice on a request, in one text."""
    values = {"audio": (VOICE,), "size": "256x256", **values}
    if "video" not in values:
        values = {"image": PORTRAIT, **values}
    request = TalkRequest(**values)  # type: ignore[arg-type]
    return "\n".join(advise(request, resolve(request, facts, Pixels(512, 512)), facts))


def sound(path: Path, samples: Waveform) -> Path:
    soundfile.write(path, samples, SAMPLE_RATE)
    return path


def chords(seconds: float) -> Waveform:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    even = np.floor(times * 2) % 2 == 0
    pitches = np.where(even[:, None], [220, 277, 330], [196, 247, 294])
    return np.asarray(0.1 * np.sin(2 * np.pi * pitches * times[:, None]).sum(1), np.float32)


def test_good_inputs_need_none(facts: ModelFacts) -> None:
    assert told(facts) == ""
    assert told(facts, image=PAIR, audio=(VOICE, DEMO / "voice_2.flac")) == ""


def test_small_faces(facts: ModelFacts, tmp_path: Path) -> None:
    wide = Image.new("RGB", (1800, 1800), "gray")
    wide.paste(Image.open(PORTRAIT), (600, 600))
    wide.save(tmp_path / "far.png")
    assert "pixels high in the video" not in told(facts, image=tmp_path / "far.png", size="512x512")
    assert "pixels high in the video: cut the picture closer" in told(facts, image=tmp_path / "far.png", size="128x128")


def test_no_face(facts: ModelFacts, tmp_path: Path) -> None:
    Image.new("RGB", (200, 200), "gray").save(tmp_path / "wall.png")
    assert "no face was found" in told(facts, image=tmp_path / "wall.png")


def test_profile(facts: ModelFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "SIDEWAYS", 0.001)  # nothing here is rendered from the side
    assert "seen from the side" in told(facts)


def test_more_faces_than_voices(facts: ModelFacts) -> None:
    assert "2 faces and one voice" in told(facts, image=PAIR)
    boxes = ((0, 0.1, 0.5, 0.9), (0.5, 0.1, 1, 0.9))
    assert told(facts, image=PAIR, boxes=boxes) == ""


def test_noise_music_and_silence(facts: ModelFacts, tmp_path: Path) -> None:
    clean = for_speech(read_sound(VOICE))
    level = float(np.sqrt(np.square(clean).mean()))
    hiss = np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32) * level * 0.5
    assert "the sound seems noisy" in told(facts, audio=(sound(tmp_path / "noisy.wav", clean + hiss),))
    music = chords(len(clean) / SAMPLE_RATE)[: len(clean)]
    mixed = clean + music * level / float(np.sqrt(np.square(music).mean()))
    assert "seems to hold music" in told(facts, audio=(sound(tmp_path / "mixed.wav", mixed),))
    assert "seems to hold music" in told(facts, audio=(sound(tmp_path / "music.wav", music),))
    both = (VOICE, sound(tmp_path / "still.wav", np.zeros(16000, np.float32)))
    assert told(facts, image=PAIR, audio=both) == "voice 2 is silent"


def test_a_cut_within_a_window(facts: ModelFacts, tmp_path: Path) -> None:
    face = np.asarray(Image.open(PORTRAIT).convert("RGB"))
    shots = [face] * 30 + [255 - np.roll(face, 90, axis=1)] * 30
    cut, still = video(tmp_path / "cut.mp4", shots), video(tmp_path / "still.mp4", shots[:30])
    assert "the source cuts at about 1.1 s within a window" in told(facts, video=cut, cuts="ignore")
    assert "cuts" not in told(facts, video=cut), "a window begins there"
    assert "cuts" not in told(facts, video=still, cuts="ignore")


def test_a_source_is_looked_at_forwards_also_on_its_way_back(
    facts: ModelFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step back would start from the source's beginning; and of a long one a minute is looked at."""
    asked, until, frame_at = list[float](), list[float](), VideoSource.frame_at

    def noted(self: VideoSource, seconds: float) -> Picture:
        asked.append(seconds)
        return frame_at(self, seconds)

    def searched(path: Path, end: float) -> tuple[int, ...]:
        until.append(end)
        return find_cuts(path, end)

    monkeypatch.setattr(VideoSource, "frame_at", noted)
    monkeypatch.setattr(files, "find_cuts", searched)
    face = np.asarray(Image.open(PORTRAIT).convert("RGB"))
    shots = [face] * 30 + [255 - np.roll(face, 90, axis=1)] * 30
    cut = video(tmp_path / "cut.mp4", shots)
    longer = sound(tmp_path / "long.wav", np.tile(for_speech(read_sound(VOICE)), 12))
    assert "the source cuts" not in told(facts, video=cut, audio=(longer,), source_end="ping-pong")
    assert until == [60]
    asked.clear()
    assert "the source cuts" in told(facts, video=cut, source_end="ping-pong", cuts="ignore", window_frames=41)
    assert sum(after < before for before, after in pairwise(asked)) <= 2, "windows that look back"


def video(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_another_encoder_than_the_model_was_trained_on(facts: ModelFacts, tmp_path: Path) -> None:
    other = replace(facts, encoder_doubt="voices were heard with another encoder")
    assert told(other) == told(other, audio=(tmp_path / "gone.wav",)) == "voices were heard with another encoder"


def test_inputs_that_are_gone_spoil_nothing(facts: ModelFacts, tmp_path: Path) -> None:
    assert told(facts, audio=(tmp_path / "gone.wav",)) == ""
