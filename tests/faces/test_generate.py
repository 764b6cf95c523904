"""`infinitetalk generate` with `tiny`: all of a request through the terminal's door."""

import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.cli.main import main
from infinitetalk.core.stages import Stage
from infinitetalk.media.sound import read_sound
from tests.faces.conftest import write_portrait

MEDIA = Path(__file__).parents[1] / "media" / "fixtures"


def frames_of(video: Path) -> NDArray[np.uint8]:
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def generate(*words: object) -> int:
    return main(["generate", *map(str, words)])


@pytest.fixture
def job(tiny_folder: Path, portrait: Path, voice: Path) -> list[object]:
    """A short job with `tiny`."""
    return ["--model", tiny_folder, "--image", portrait, "--audio", voice, "--device", "cpu", "--steps", 2]


def test_terminal_text_says_where_the_video_is(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(*job, "--duration", 0.5) == 0
    captured = capsys.readouterr()
    assert "Video:   portrait-talking.mp4  (0.5 s, 64x64, 12 frames" in captured.out
    assert "generate --request portrait-talking.mp4.json" in captured.out
    assert all(stage.value in captured.err for stage in Stage)
    assert "skipped" in captured.err
    assert len(frames_of(tmp_path / "portrait-talking.mp4")) == 12


def test_json_is_all_there_is_and_stage_times_add_up(
    job: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.mp4"
    assert generate(*job, "--output", output, "--json") == 0
    captured = capsys.readouterr()
    events: list[dict[str, Any]] = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    assert {event["event"] for event in events} == {"progress", "done"}
    told = {event["stage"] for event in events if event["event"] == "progress"}
    assert told == {stage.value for stage in Stage} - {Stage.INTERPOLATION.value}
    done = events[-1]
    assert done["event"] == "done"
    assert done["video"] == str(output)
    assert done["frames"] == 30
    assert done["peak_memory_bytes"] > 2**26, "of this whole process, other tests included"
    assert done["stages_skipped"] == [Stage.INTERPOLATION.value]
    assert sum(done["stage_seconds"].values()) == pytest.approx(done["wall_seconds"], rel=0.05)
    assert all(spent > 0 for name, spent in done["stage_seconds"].items() if name != Stage.INTERPOLATION.value)


def test_request_file_repeats_the_video_and_flags_change_it(job: list[object], tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first.mp4", "again.mp4", "other.mp4"))
    words = ("--prompt", "a person sings", "--text-scale", 3, "--apg", "--seed", 5, "--quality", 10)
    assert generate(*job, *words, "--output", first, "--quiet") == 0
    sidecar = tmp_path / "first.mp4.json"
    assert generate("--request", sidecar, "--output", again, "--device", "cpu", "--quiet") == 0
    np.testing.assert_array_equal(frames_of(first), frames_of(again))
    repeated = json.loads((tmp_path / "again.mp4.json").read_text())
    assert repeated["request"] == json.loads(sidecar.read_text())["request"]
    assert generate("--request", sidecar, "--output", other, "--device", "cpu", "--quiet", "--seed", 6) == 0
    assert (frames_of(first) != frames_of(other)).any()


def test_a_soundtrack_is_heard_in_place_of_the_voice_and_then_silence(job: list[object], tmp_path: Path) -> None:
    track, plain, output, again = (
        MEDIA / "5.1.ac3",
        *(tmp_path / name for name in ("plain.mp4", "out.mp4", "again.mp4")),
    )
    assert generate(*job, "--output", plain, "--quiet") == 0
    assert generate(*job, "--soundtrack", track, "--output", output, "--quiet") == 0
    np.testing.assert_array_equal(frames_of(output), frames_of(plain))
    assert generate("--request", f"{output}.json", "--output", again, "--device", "cpu", "--quiet") == 0
    assert str(track.absolute()) in [entry["path"] for entry in json.loads(Path(f"{again}.json").read_text())["inputs"]]
    heard, repeated, meant = read_sound(output), read_sound(again), read_sound(track)
    assert (heard.rate, heard.channels) == (meant.rate, meant.channels) == (48_000, 6)
    assert heard.seconds == pytest.approx(1.2, abs=0.05), "30 frames"
    np.testing.assert_array_equal(heard.samples, repeated.samples)
    end, margin = meant.samples.shape[1], 2048  # AAC blurs borders by a frame or two
    middle = slice(margin, end - margin)
    loud = int(np.abs(meant.samples[:, middle]).mean(1).argmax())
    assert np.corrcoef(heard.samples[loud, middle], meant.samples[loud, middle])[0, 1] > 0.98
    assert np.abs(heard.samples[:, end + margin :]).max() < 1e-3


@pytest.mark.parametrize("places", ["boxes", "masks"])
def test_two_voices_with_a_prompt_three_branches_and_apg(
    places: str, job: list[object], tmp_path: Path, make_voice: Callable[..., Path]
) -> None:
    second, output = make_voice("second.wav", 0.6, pitch=200), tmp_path / "out.mp4"
    where = ["--box", "0,0,0.5,1", "--box", "0.5,0,1,1"]
    if places == "masks":
        where = [word for side in (0, 48) for word in ("--mask", str(half_mask(tmp_path / f"{side}.png", side)))]
    guided = ("--prompt", "two people talk", "--text-scale", 3, "--audio-scale", 2, "--apg")
    assert generate(*job, "--audio", second, *where, *guided, "--output", output, "--quiet") == 0
    assert len(frames_of(output)) == 30


def half_mask(path: Path, left: int) -> Path:
    mask = Image.new("L", (96, 96))
    mask.paste(255, (left, 0, left + 48, 96))
    mask.save(path)
    return path


@pytest.mark.parametrize("name", ["60.mkv", "variable.mkv", "turned90.mp4", "clear.webm", "one.mp4"])
def test_a_video_is_dubbed(name: str, tiny_folder: Path, voice: Path, tmp_path: Path) -> None:
    job = ("--model", tiny_folder, "--device", "cpu", "--steps", 1, "--video", MEDIA / name, "--audio", voice)
    assert generate(*job, "--duration", 0.6, "--output", tmp_path / "out.mp4", "--quiet") == 0
    assert len(frames_of(tmp_path / "out.mp4")) == 15


def test_the_least_picture_and_a_moment_of_silence_make_a_video(tiny_folder: Path, tmp_path: Path) -> None:
    Image.new("L", (16, 16), 90).save(tmp_path / "least.png")
    with wave.open(str(tmp_path / "silence.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    job = ("--model", tiny_folder, "--device", "cpu", "--steps", 1)
    files = ("--image", tmp_path / "least.png", "--audio", tmp_path / "silence.wav", "--output", tmp_path / "out.mp4")
    assert generate(*job, *files, "--quiet") == 0
    assert len(frames_of(tmp_path / "out.mp4")) == 3  # 0.1 s, rounded up


def test_preview_is_the_first_window_only(job: list[object], tmp_path: Path) -> None:
    whole, preview = tmp_path / "whole.mp4", tmp_path / "preview.mp4"
    assert generate(*job, "--output", whole, "--quality", 1, "--quiet") == 0
    assert generate(*job, "--output", preview, "--quality", 1, "--quiet", "--preview") == 0
    shown = frames_of(preview)
    assert len(shown) == 13
    np.testing.assert_array_equal(shown, frames_of(whole)[:13])


def test_quiet_prints_the_path_and_nothing_else(
    job: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.mp4"
    assert generate(*job, "--output", output, "--quiet", "--preview") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"{output}\n", "")


def test_ctrl_c_leaves_the_finished_windows(job: list[object], tmp_path: Path, make_voice: Callable[..., Path]) -> None:
    long, output = make_voice("long.wav", 20), tmp_path / "out.mp4"
    words = [*map(str, job), "--audio", str(long), "--output", str(output), "--box", "0,0,.5,1", "--box", ".5,0,1,1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "infinitetalk", "generate", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # A shell that runs the tests in the background would have its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "window 2 of" in line:
            process.send_signal(signal.SIGINT)
            break
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130, "".join(seen)
    assert out.startswith(f"Stopped: {output} holds")
    frames = frames_of(output)
    assert len(frames) % 8 == 5 and 21 <= len(frames) < 200
    assert json.loads((tmp_path / "out.mp4.json").read_text())["complete"] is False
    assert {path.name for path in tmp_path.glob("out*")} == {"out.mp4", "out.mp4.json", "out.mp4.job"}
    assert "Go on:   the same command" in out


@pytest.mark.parametrize("tier", ["auto", "pinned", "disk"])
def test_a_pretended_t4_makes_the_video_in_every_tier(
    tier: str, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFINITETALK_PRETEND", "t4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = tmp_path / "t4.mp4"
    assert generate(*job, "--device", "auto", "--memory", tier, "--duration", 0.5, "--output", output) == 0
    assert len(frames_of(output)) == 12


def test_several_seeds_go_on_where_they_were_stopped(
    job: list[object],
    portrait: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped behind the first of two videos: it is kept; and the names of videos that are there are taken."""
    monkeypatch.chdir(tmp_path)
    first, second = Path("portrait-talking-seed1.mp4"), Path("portrait-talking-seed2.mp4")
    words = [*job, "--duration", 0.2]
    assert generate(*words, "--seed", 1, "--output", first, "--quiet") == 0
    made = first.read_bytes()
    assert generate(*words, "--seeds", "1,2") == 0
    assert f"Kept:    {first}" in capsys.readouterr().out
    assert first.read_bytes() == made
    assert len(frames_of(second)) == 5
    assert generate(*words, "--seeds", "1,2", "--quiet") == 0
    assert capsys.readouterr().out.split() == [f"portrait-talking-2-seed{seed}.mp4" for seed in (1, 2)]
    portrait.touch()
    second.unlink()
    assert generate(*words, "--seeds", "1,2", "--output", "portrait-talking.mp4", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["event"] == "kept"
    write_portrait(portrait, 98)
    second.unlink()
    assert generate(*words, "--seeds", "1,2", "--output", "portrait-talking.mp4", "--quiet") == 0
    assert first.read_bytes() != made, "of another picture"


def test_several_seeds_make_several_videos(
    job: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "talk.mp4"
    assert generate(*job, "--duration", 0.5, "--seeds", "1,2", "--output", output, "--json") == 0
    done = [event for line in capsys.readouterr().out.splitlines() if (event := json.loads(line))["event"] == "done"]
    paths = [tmp_path / f"talk-seed{seed}.mp4" for seed in (1, 2)]
    assert [event["video"] for event in done] == [str(path) for path in paths]
    assert (frames_of(paths[0]) != frames_of(paths[1])).any()
    assert generate(*job, "--duration", 0.5, "--seed", 2, "--output", output, "--quiet") == 0
    np.testing.assert_array_equal(frames_of(output), frames_of(paths[1]))
    assert generate(*job, "--seeds", "1,2", "--seed", 3) == 2
    assert "not both" in capsys.readouterr().err
    assert generate(*job, "--seeds", "1,x") == 2
    assert "whole numbers such as 1,2,3" in capsys.readouterr().err
