"""`infinitetalk live` with `tiny`: from a file and from standard input to a playable video."""

import io
import json
import sys
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from infinitetalk.cli.main import main

RATE = 16_000


@pytest.fixture
def samples() -> Any:
    """1.4 seconds of 16-bit noise that swells: 35 frames, a chunk of 28 and one of 7."""
    count = round(1.4 * RATE)
    return (np.random.default_rng(3).standard_normal(count) * np.linspace(0, 6000, count)).astype("<i2")


@pytest.fixture
def words(tiny_folder: Path, tmp_path: Path) -> list[object]:
    blocks = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(tmp_path / "portrait.png")
    image = tmp_path / "portrait.png"
    return ["--model", tiny_folder, "--image", image, "--device", "cpu", "--steps", 1, "--output", tmp_path / "o.mp4"]


def live(*words: object) -> int:
    return main(["live", *map(str, words)])


def say(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


@pytest.fixture
def no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input that ends at once."""
    say(monkeypatch, b"")


def sound_file(path: Path, samples: Any, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def decoded(path: Path) -> tuple[Any, Any]:
    """Pictures [F, H, W, 3] and samples [n]."""
    with av.open(str(path)) as container:
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(path)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return pictures, heard


def test_file_and_stream_make_the_same_video(
    words: list[object],
    samples: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert live(*words, "--audio", sound_file(tmp_path / "voice.wav", samples)) == 0
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["chunk 0: 28 frames from 0.00 s", "chunk 1: 7 frames from 1.12 s"]
    assert all("latency" in line and line.endswith("x real time") for line in lines)
    assert "1.4 s, 35 frames; median latency" in told.out
    pictures, heard = decoded(tmp_path / "o.mp4")
    say(monkeypatch, samples.tobytes() + b"\0")  # a sample cut in half at the end
    assert live(*words, "--audio", "-", "--quiet") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'o.mp4'}\n"
    again, streamed = decoded(tmp_path / "o.mp4")
    assert len(pictures) == 35
    np.testing.assert_array_equal(pictures, again)
    np.testing.assert_allclose(heard, streamed, atol=1e-6)
    swell = [float(np.abs(part).mean()) for part in np.array_split(streamed[: len(samples)], 4)]
    assert swell == sorted(swell)
    assert swell[-1] > 3 * swell[0] > 0


def test_json_tells_each_chunk(
    words: list[object], samples: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, samples.tobytes())
    assert live(*words, "--audio", "-", "--rate", 8000, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["chunk", "chunk", "chunk", "done"]
    assert [event["frames"] for event in events[:-1]] == [28, 28, 14]
    assert all(event["latency_seconds"] > 0 and event["real_time_factor"] > 0 for event in events[:-1])
    assert events[-1]["frames"] == 70
    assert events[-1]["seconds"] == 2.8


def test_ctrl_c_leaves_what_was_made(
    words: list[object],
    samples: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Stopping(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise KeyboardInterrupt
            return data

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Stopping(samples.tobytes())))
    assert live(*words, "--audio", "-", "--json") == 130
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["chunk", "stopped"]
    assert len(decoded(tmp_path / "o.mp4")[0]) == 28


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--audio", "-", "--rate", 17_000], "rate = 17000: must be one of 8000, 11025"),
        (["--audio", "missing.wav"], "missing.wav: no such file"),
        (["--audio", "-", "--motion-frames", 25, "--window-frames", 25], "motion_frames = 25: must be fewer"),
        (["--audio", "-", "--duration", 3], "--duration is not known here"),
        (["--audio", "-", "--audio", "-"], "live talk is for one person"),
        (["--audio", "-"], "audio = -: no sample arrived; send signed 16-bit mono samples"),
    ],
)
@pytest.mark.usefixtures("no_sound")
def test_refuses_in_one_line(
    words: list[object], more: list[object], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert live(*words, *more) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert line in told
    assert not (tmp_path / "o.mp4").exists()
