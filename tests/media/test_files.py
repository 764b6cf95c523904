"""Requests with files, opened and checked."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.errors import MediaError, RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.files import FileMedia, check, input_paths, output_sound
from infinitetalk.media.loudness import LOUDNESS, loudness
from infinitetalk.media.sound import collected, read_sound
from infinitetalk.media.video import VideoSource

from .conftest import FIXTURES, assert_upright


def test_a_picture_and_a_voice(portrait: Path, voice: Path) -> None:
    inputs = FileMedia().open(TalkRequest(image=portrait, audio=(voice,)))
    assert inputs.source.size == Pixels(48, 64)
    assert tuple(inputs.source.frame_at(1.0)[0, 0]) == (200, 150, 120)
    assert inputs.voices[0][:].shape == (4800,)
    assert loudness(inputs.voices[0]) == pytest.approx(LOUDNESS, abs=0.1)
    assert inputs.masks == ()


def test_a_video_and_two_voices_with_masks(tmp_path: Path) -> None:
    for name, box in (("left.png", (0, 0, 32, 48)), ("right.png", (32, 0, 64, 48))):
        mask = Image.new("L", (64, 48))
        mask.paste(255, box)
        mask.save(tmp_path / name)
    inputs = FileMedia().open(
        TalkRequest(
            video=FIXTURES / "25.mp4",
            audio=(FIXTURES / "s16.wav", FIXTURES / "mulaw.wav"),
            masks=(tmp_path / "left.png", tmp_path / "right.png"),
            start=0.2,
        )
    )
    assert isinstance(inputs.source, VideoSource)
    assert_upright(inputs.source.frame_at(0.08), 80, 3)
    assert [len(voice) for voice in inputs.voices] == [1600, 1600]
    np.testing.assert_array_equal(inputs.masks[0].mask_at(0), ~inputs.masks[1].mask_at(1))
    with inputs.files:
        pass


def test_a_video_is_closed_with_its_inputs_and_when_they_are_refused(
    voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[VideoSource] = []

    def close(source: VideoSource) -> None:
        closed.append(source)

    monkeypatch.setattr(VideoSource, "close", close)
    inputs = FileMedia().open(TalkRequest(video=FIXTURES / "25.mp4", audio=(voice,)))
    assert closed == []
    with inputs.files:
        pass
    assert closed == [inputs.source]
    (tmp_path / "no.wav").write_text("no sound")
    with pytest.raises(MediaError):
        FileMedia().open(TalkRequest(video=FIXTURES / "25.mp4", audio=(tmp_path / "no.wav",)))
    assert len(closed) == 2


def test_a_voice_that_is_over_is_silent(portrait: Path) -> None:
    inputs = FileMedia().open(
        TalkRequest(
            image=portrait,
            audio=(FIXTURES / "opus.opus", FIXTURES / "shortest.wav"),
            boxes=(Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)),
            start=0.2,
        )
    )
    assert len(inputs.voices[0]) == 3200
    assert not inputs.voices[1][:].any()


def test_check_gives_the_settings(portrait: Path, voice: Path, facts: ModelFacts, tmp_path: Path) -> None:
    request = TalkRequest(image=portrait, audio=(voice,), size="64x48", steps=3)
    settings = check(request, facts, tmp_path / "video.mp4")
    assert (settings.size, settings.steps) == (Pixels(48, 64), 3)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["portrait.png"], "the check leaves nothing behind"


def test_check_needs_no_output(portrait: Path, voice: Path, facts: ModelFacts) -> None:
    assert check(TalkRequest(image=portrait, audio=(voice,)), facts).window_frames == 81


def test_output_sound_keeps_rate_and_channels(portrait: Path) -> None:
    path = FIXTURES / "5.1.ac3"
    sound = collected(output_sound(TalkRequest(image=portrait, audio=(path,), start=0.1, duration=0.2)))
    assert (sound.rate, sound.channels) == (48000, 6)
    np.testing.assert_array_equal(sound.samples, read_sound(path).samples[:, 4800:14400])


def test_output_sound_has_all_voices(portrait: Path) -> None:
    request = TalkRequest(
        image=portrait,
        audio=(FIXTURES / "s16.wav", FIXTURES / "stereo.flac"),
        boxes=(Box(0, 0, 10, 10), Box(20, 0, 30, 10)),
    )
    sound = collected(output_sound(request))
    assert (sound.rate, sound.channels) == (22050, 2)
    assert sound.seconds == pytest.approx(0.3, abs=0.001)
    middle = slice(1000, 3000)
    assert np.abs(sound.samples[0, middle]).max() == pytest.approx(0.5, rel=0.05)


def test_a_soundtrack_replaces_the_voices_from_its_beginning(portrait: Path, voice: Path) -> None:
    path = FIXTURES / "5.1.ac3"
    request = TalkRequest(image=portrait, audio=(voice,), soundtrack=path, start=0.1)
    sound, own = collected(output_sound(request)), read_sound(path)
    assert (sound.rate, sound.layout) == (own.rate, own.layout)
    np.testing.assert_array_equal(sound.samples, own.samples)
    short = collected(output_sound(TalkRequest(image=portrait, audio=(voice,), soundtrack=path, duration=0.2)))
    np.testing.assert_array_equal(short.samples, own.samples[:, : own.rate // 5])
    assert list(input_paths(request)) == [portrait, voice, path]


@pytest.mark.parametrize(
    ("name", "told"),
    [("none.wav", "no such file"), ("portrait.png", "no sound in it|cannot be decoded"), ("text.mp3", "be decoded")],
)
def test_a_soundtrack_is_checked_like_any_sound(name: str, told: str, portrait: Path, facts: ModelFacts) -> None:
    track = portrait.with_name(name)
    if name == "text.mp3":
        track.write_text("no sound")
    with pytest.raises(MediaError, match=told) as caught:
        check(TalkRequest(image=portrait, audio=(FIXTURES / "s16.wav",), soundtrack=track), facts)
    assert str(caught.value).startswith(str(track))


def test_a_soundtrack_is_not_overwritten(portrait: Path, voice: Path, facts: ModelFacts, tmp_path: Path) -> None:
    track = tmp_path / "talk.mp4"
    track.write_bytes((FIXTURES / "talking.mp4").read_bytes())
    with pytest.raises(RequestError, match="would overwrite"):
        check(TalkRequest(image=portrait, audio=(voice,), soundtrack=track), facts, track)
