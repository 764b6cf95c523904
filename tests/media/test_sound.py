"""Sounds of every container, codec, rate, channel count and sample format."""

import struct
import wave
from pathlib import Path

import av
import numpy as np
import pyloudnorm
import pytest
import soundfile

from infinitetalk.core.errors import MediaError
from infinitetalk.media.hearing import for_speech
from infinitetalk.media.long_sound import cut, mix
from infinitetalk.media.loudness import LOUDNESS, loudness
from infinitetalk.media.sound import Sound, collected, open_sound, read_sound

from .conftest import FIXTURES, sine

# file: rate, channels, seconds
SOUNDS = {
    "u8.wav": (8000, 1, 0.3),
    "s16.wav": (16000, 1, 0.3),
    "s24.wav": (22050, 1, 0.2),
    "s32.wav": (11025, 1, 0.2),
    "f32.wav": (16000, 1, 0.25),
    "f64.wav": (8000, 1, 0.25),
    "mulaw.wav": (8000, 2, 0.3),
    "alaw.au": (8000, 1, 0.3),
    "adpcm.wav": (16000, 1, 0.3),
    "be.aiff": (16000, 1, 0.3),
    "core.caf": (8000, 1, 0.3),
    "stereo.flac": (22050, 2, 0.2),
    "96k.wv": (96000, 2, 0.1),
    "shortest.wav": (8000, 1, 0.1),
    "alac.m4a": (22050, 2, 0.3),
    "aac.m4a": (44100, 2, 0.4),
    "adts.aac": (44100, 1, 0.4),
    "cover.mp3": (44100, 1, 0.4),
    "layer2.mp2": (44100, 1, 0.4),
    "vorbis.ogg": (44100, 2, 0.4),
    "opus.opus": (48000, 1, 0.4),
    "opus.webm": (48000, 2, 0.4),
    "5.1.ac3": (48000, 6, 0.4),
    "7.1.mka": (48000, 8, 0.3),
    "speech.spx": (8000, 1, 0.4),
    "speech.wma": (44100, 1, 0.4),
    "speech.g722": (16000, 1, 0.4),
    "talking.mp4": (44100, 1, 0.24),
}


def assert_sine(sound: Sound, channel: int, amplitude: float, loss: float = 0.15) -> None:
    """The middle of a channel is 440 Hz at an amplitude, within what lossy codecs keep."""
    samples = sound.samples[channel].astype(np.float64)
    part = samples[len(samples) // 5 : -len(samples) // 5]
    time = np.arange(len(part)) / sound.rate
    basis = np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 440 * time)])
    fit, *_ = np.linalg.lstsq(basis.T, part, rcond=None)
    assert np.hypot(*fit) == pytest.approx(amplitude, rel=loss)
    assert np.std(part - fit @ basis) < 0.35 * np.std(part)


@pytest.mark.parametrize("name", SOUNDS)
def test_every_format_reads(name: str) -> None:
    rate, channels, seconds = SOUNDS[name]
    sound = read_sound(FIXTURES / name)
    assert (sound.rate, sound.channels) == (rate, channels)
    assert sound.samples.dtype == np.float32
    assert sound.seconds == pytest.approx(seconds, abs=0.09)  # padding of codecs and containers
    assert_sine(sound, 0, 0.25)
    if channels > 1:
        assert_sine(sound, 1, 0.125)
    pieces = open_sound(FIXTURES / name)
    assert (pieces.rate, pieces.layout, pieces.channels, pieces.length) == (
        sound.rate, sound.layout, sound.channels, sound.length)  # fmt: skip
    np.testing.assert_array_equal(collected(pieces).samples, sound.samples)
    np.testing.assert_array_equal(collected(pieces).samples, sound.samples, "asked a second time")


def test_channels_stay_apart() -> None:
    sound = read_sound(FIXTURES / "7.1.mka")
    assert sound.layout == "7.1"
    assert_sine(sound, 2, 0.1)
    assert np.abs(sound.samples[3]).max() < 0.01
    assert_sine(sound, 7, 0.05)


@pytest.mark.parametrize("name", ["s16.wav", "s24.wav", "f32.wav", "f64.wav", "stereo.flac", "u8.wav", "mulaw.wav"])
def test_samples_are_those_of_libsndfile(name: str) -> None:
    expected, rate = soundfile.read(FIXTURES / name, dtype="float32", always_2d=True)
    sound = read_sound(FIXTURES / name)
    assert sound.rate == rate
    np.testing.assert_allclose(sound.samples, expected.T, atol=1e-7)


def test_wrong_extension(tmp_path: Path) -> None:
    odd = tmp_path / "a:b %03d.txt"
    odd.write_bytes((FIXTURES / "cover.mp3").read_bytes())
    assert read_sound(odd).rate == 44100


def test_a_phone_recording(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "call.amr"), "w") as container:
        stream = container.add_stream("libopencore_amrnb", rate=8000, layout="mono")
        stream.bit_rate = 12200
        frame = av.AudioFrame.from_ndarray(sine(8000, 0.5, 0.25).samples, "flt", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = read_sound(tmp_path / "call.amr")
    assert (sound.rate, sound.channels) == (8000, 1)
    assert_sine(sound, 0, 0.25, loss=0.3)


def _adts(path: Path, sound: Sound) -> bytes:
    with av.open(str(path), "w", format="adts") as container:
        stream = container.add_stream("aac", rate=sound.rate, layout=sound.layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.samples.T).reshape(1, -1), "flt", sound.layout)
        frame.sample_rate = sound.rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def test_a_format_that_changes_on_the_way(tmp_path: Path) -> None:
    """A broadcast recording: stereo at 44.1 kHz, then mono at 22.05 kHz."""
    first = _adts(tmp_path / "1.aac", sine(44100, 0.5, 0.25, 0.25, layout="stereo"))
    second = _adts(tmp_path / "2.aac", sine(22050, 0.5, 0.25))
    (tmp_path / "both.aac").write_bytes(first + second)
    sound = read_sound(tmp_path / "both.aac")
    assert (sound.rate, sound.layout) == (44100, "stereo")
    assert sound.seconds == pytest.approx(1.0, abs=0.15)
    assert_sine(Sound(sound.samples[:, 29000:], sound.rate, sound.layout), 0, 0.25, loss=0.35)


def test_a_part_that_cannot_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Chained Ogg whose second link has another format, which FFmpeg gives up on."""
    first, second = tmp_path / "1.ogg", tmp_path / "2.ogg"
    soundfile.write(first, sine(16000, 0.5, 0.25).samples.T, 16000, subtype="VORBIS")
    soundfile.write(second, sine(44100, 0.5, 0.25, 0.25).samples.T, 44100, subtype="VORBIS")
    (tmp_path / "both.ogg").write_bytes(first.read_bytes() + second.read_bytes())
    with caplog.at_level("WARNING", logger="infinitetalk"):
        sound = read_sound(tmp_path / "both.ogg")
    assert sound.seconds > 0.9 or "cannot be read to its end" in caplog.text


def test_many_channels(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "ten.wav"), "wb") as file:
        file.setnchannels(10)
        file.setsampwidth(2)
        file.setframerate(8000)
        levels = np.arange(10) * 1000
        file.writeframes(np.tile(levels, (2000, 1)).astype("<i2").tobytes())
    sound = read_sound(tmp_path / "ten.wav")
    np.testing.assert_allclose(sound.samples[:, 0] * 32768, levels)


def test_damaged_packets_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = bytearray((FIXTURES / "aac.m4a").read_bytes())
    middle = data.index(b"mdat") + 1500
    data[middle : middle + 300] = b"\xff" * 300
    (tmp_path / "damaged.m4a").write_bytes(data)
    with caplog.at_level("WARNING", logger="infinitetalk"):
        sound = read_sound(tmp_path / "damaged.m4a")
    assert 0.2 < sound.seconds < 0.42
    assert "left out" in caplog.text


@pytest.mark.parametrize("kind", ["f", "d"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, kind: str, bad: float) -> None:
    samples = [0.1] * 8000
    samples[4000] = bad
    data = struct.pack(f"<{len(samples)}{kind}", *samples)
    width = struct.calcsize(kind)
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 3, 1, 8000, 8000 * width,
                         width, width * 8, b"data", len(data))  # fmt: skip
    (tmp_path / "bad.wav").write_bytes(header + data)
    for read in (read_sound, open_sound):
        with pytest.raises(MediaError, match="not finite numbers, at about 0"):
            read(tmp_path / "bad.wav")


def test_speech_is_mono_16k_at_its_loudness() -> None:
    sound = sine(44100, 2.0, 0.5, 0.25, layout="stereo")
    heard = for_speech(sound)
    assert heard.dtype == np.float32
    assert heard.shape == (32000,)
    assert pyloudnorm.Meter(16000).integrated_loudness(heard.astype(np.float64)) == pytest.approx(LOUDNESS, abs=0.01)
    reference = pyloudnorm.normalize.loudness(
        sine(16000, 2.0, 1.0).samples[0], pyloudnorm.Meter(16000).integrated_loudness(sine(16000, 2.0, 1.0).samples[0]),
        LOUDNESS)  # fmt: skip
    np.testing.assert_allclose(heard[500:-500], reference[500:-500], atol=2e-3)


def test_speech_is_cut_after_its_loudness_is_known() -> None:
    loud, quiet = sine(16000, 1.0, 0.5), sine(16000, 1.0, 0.05)
    both = Sound(np.concatenate([loud.samples, quiet.samples], axis=1), 16000, "mono")
    whole = for_speech(both)
    np.testing.assert_array_equal(for_speech(both, 0.5), whole[8000:])
    assert len(for_speech(both, 1.9)) == 1600
    assert len(for_speech(both, 3.0)) == 0


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.39, 0.4, 3.0])
def test_silence_stays_silence(seconds: float) -> None:
    silence = sine(48000, seconds, 0.0, 0.0, layout="stereo")
    heard = for_speech(silence)
    assert loudness(heard) is None
    assert not heard.any()


def test_what_is_too_quiet_to_count_is_not_amplified() -> None:
    hiss = Sound(np.random.default_rng(0).normal(0, 2e-5, (1, 32000)).astype(np.float32), 16000, "mono")
    np.testing.assert_array_equal(for_speech(hiss), hiss.samples[0])


@pytest.mark.parametrize("seconds", [0.1, 0.15, 0.25])
def test_sounds_too_short_to_be_measured(seconds: float) -> None:
    short, long = for_speech(sine(16000, seconds, 0.5)), for_speech(sine(16000, 3.0, 0.5))
    assert np.abs(short).max() == pytest.approx(np.abs(long).max(), rel=0.02)


def test_mixing_voices() -> None:
    mono, stereo = sine(16000, 1.0, 0.25), sine(48000, 0.5, 0.125, 0.0, layout="stereo")
    mixed = mix([mono, stereo])
    assert (mixed.rate, mixed.channels, mixed.layout) == (48000, 2, "stereo")
    assert mixed.seconds == pytest.approx(1.0)
    early, late = collected(cut(mixed, 0, 0.5)), collected(cut(mixed, 0.5))
    assert_sine(early, 0, 0.375)
    assert_sine(early, 1, 0.25)
    assert_sine(late, 0, 0.25)
    assert mix([mono]) is mono


def test_a_file_that_changed_is_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    soundfile.write(path, sine(16000, 1.0, 0.25).samples.T, 16000)
    assert open_sound(path).seconds == 1.0
    soundfile.write(path, sine(8000, 0.5, 0.25).samples.T, 8000)
    assert (open_sound(path).rate, open_sound(path).seconds) == (8000, 0.5)
