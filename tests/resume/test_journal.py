"""What an unfinished job refuses, and what a stop and a full disk leave."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infinitetalk.cli.generate import free_name
from infinitetalk.cli.main import main
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.media.sidecar import absolute
from infinitetalk.media.writer import VideoWriter
from infinitetalk.runtime.platform import held
from tests.faces.conftest import write_portrait, write_voice
from tests.resume.conftest import WINDOWS, Case, frames_of
from tests.starting import finished

FINISHED = 3


@pytest.fixture
def inputs(case: Case, tmp_path: Path) -> list[str]:
    """The job's command line, its files copied to where a test may change them."""
    words = list(case.words)
    for place, flag in enumerate(case.words):
        if flag in ("--image", "--audio"):
            words[place + 1] = str(shutil.copy(case.words[place + 1], str(tmp_path)))
        elif flag == "--model":
            words[place + 1] = str(shutil.copytree(case.words[place + 1], tmp_path / "tiny"))
    return words


@pytest.fixture
def stopped(inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a job that Ctrl-C ended after three windows."""
    write = VideoWriter.write

    def stop_late(self: VideoWriter, frames: np.ndarray) -> None:
        if self.windows == FINISHED:
            raise KeyboardInterrupt
        write(self, frames)

    words = ["generate", *inputs, "--output", str(tmp_path / "video.mp4")]
    with monkeypatch.context() as patch:
        patch.setattr(VideoWriter, "write", stop_late)
        assert main(words) == 130
    return words


def test_ctrl_c_leaves_a_video_and_the_same_command_goes_on(
    stopped: list[str], case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.testing.assert_array_equal(frames_of(tmp_path / "video.mp4"), case.frames[: 13 + 8 * (FINISHED - 1)])
    before = json.loads((tmp_path / "video.mp4.json").read_text())["windows"]
    assert len(before) == FINISHED
    capsys.readouterr()
    assert main(stopped) == 0
    figures = json.loads((tmp_path / "video.mp4.json").read_text())["windows"]
    assert figures[:FINISHED] == before
    assert [window["window"] for window in figures] == list(range(WINDOWS))
    told = capsys.readouterr().err
    assert f"resumed at window {FINISHED}" in told
    assert f"window {FINISHED + 1} of {WINDOWS} done" in told
    np.testing.assert_array_equal(frames_of(tmp_path / "video.mp4"), case.frames)
    assert not (tmp_path / "video.mp4.job").exists()


def test_a_name_made_by_the_program_is_that_of_the_unfinished_job(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = TalkRequest(image=tmp_path / "portrait.png", audio=(tmp_path / "voice.wav",), model=inputs[1])
    other = replace(request, seed=7)
    assert free_name(request) == Path("portrait-talking.mp4")
    Path("portrait-talking.mp4.job").mkdir()
    journal = {"request": absolute(request).to_json()}
    Path("portrait-talking.mp4.job/journal.json").write_text(json.dumps(journal))
    for _ in range(2):
        assert free_name(request) == Path("portrait-talking.mp4")
        assert free_name(other) == Path("portrait-talking-2.mp4")
        Path("portrait-talking.mp4").write_bytes(b"its finished windows")


def test_the_job_of_a_single_speaker_with_a_box_is_known_again(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal holds the boxes of the others too."""
    monkeypatch.chdir(tmp_path)
    request = TalkRequest(
        image=tmp_path / "portrait.png", audio=(tmp_path / "voice.wav",), model=inputs[1], boxes=(Box(0, 0, 0.5, 1),)
    )
    begun = replace(request, boxes=(*request.boxes, Box(0.5, 0, 1, 1)))
    Path("portrait-talking.mp4.job").mkdir()
    journal = {"request": absolute(begun).to_json()}
    Path("portrait-talking.mp4.job/journal.json").write_text(json.dumps(journal))
    Path("portrait-talking.mp4").write_bytes(b"its finished windows")
    assert free_name(request) == free_name(begun) == Path("portrait-talking.mp4")
    assert free_name(replace(request, boxes=())) == Path("portrait-talking-2.mp4")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command is refused before a weight is loaded."""
    capsys.readouterr()
    assert main(words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("changed", ["seed", "picture", "sound", "model", "version", "threads"])
def test_another_job_is_refused(
    changed: str,
    stopped: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, expected = list(stopped), ""
    if changed == "seed":
        words, expected = [*stopped, "--seed", "7"], "the setting seed was 42, is 7"
    elif changed == "picture":
        write_portrait(tmp_path / "portrait.png", 98)
        expected = f"the file {tmp_path / 'portrait.png'} changed since"
    elif changed == "sound":
        write_voice(tmp_path / "voice.wav", 4, 121)
        expected = f"the file {tmp_path / 'voice.wav'} changed since"
    elif changed == "model":
        path = next((tmp_path / "tiny").glob("*vae*"), None) or next((tmp_path / "tiny").rglob("*VAE*"))
        content = bytearray(path.read_bytes())
        content[-200] ^= 1
        path.write_bytes(content)
        expected = f"the model file {path} changed since"
    else:
        path = tmp_path / "video.mp4.job" / "journal.json"
        journal = json.loads(path.read_text())
        name, old = ("torch", "0.1") if changed == "version" else ("threads", 99)
        journal["pins"][name] = old
        path.write_text(json.dumps(journal))
        expected = f"the machine's {name} was {json.dumps(old)}"
    monkeypatch.setattr("infinitetalk.engine.job.Workshop.engine", None)
    line = refused(words, capsys)
    assert expected in line
    assert line.endswith("repeat that job, choose another output, or start anew with --restart")


def test_restart_forgets_the_old_job(stopped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([*stopped, "--seed", "7", "--restart", "--duration", "0.8"]) == 0
    assert "resumed" not in capsys.readouterr().err
    assert len(frames_of(tmp_path / "video.mp4")) == 20
    assert not (tmp_path / "video.mp4.job").exists()


def test_a_journal_of_a_later_format_is_refused(
    stopped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "video.mp4.job" / "journal.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    assert "has the format 3, not 2" in refused(stopped, capsys)
    path.write_text("{")
    assert "is no journal that can be read" in refused(stopped, capsys)


@pytest.mark.parametrize("lost", ["window-00001.mp4", f"state-{FINISHED:05}.safetensors"])
def test_lost_files_are_told(lost: str, stopped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "video.mp4.job" / lost).write_bytes(b"nothing")
    assert "damaged; start anew with --restart" in refused(stopped, capsys)


def test_two_processes_do_not_share_a_job(
    stopped: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(tmp_path / "video.mp4.job" / "lock"):
        assert "another process makes this video now" in refused(stopped, capsys)


# No file may grow beyond a size: to whoever writes, that is a disk without room.
FULL_DISK = """
import resource, sys
from infinitetalk.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def test_a_full_disk_leaves_finished_windows_playable(case: Case, tmp_path: Path) -> None:
    output, room = tmp_path / "video.mp4", 400_000
    large = case.command(output, "--quality", 1)  # so that the video outgrows that, and what windows hand on does not
    died = finished([str(room), *large], FULL_DISK)
    assert died.returncode == 1, died.stdout
    lines = died.stderr.splitlines()
    assert len(lines) == 1, died.stderr
    folder = tmp_path / "video.mp4.job"
    windows = json.loads((folder / "journal.json").read_text())["windows"]
    assert 1 < windows < WINDOWS
    assert f"{windows} of {WINDOWS} windows are playable in {folder}; the same command goes on from there" in lines[0]
    shown = np.concatenate([frames_of(folder / f"window-{number:05}.mp4") for number in range(windows)])
    assert len(shown) == 13 + 8 * (windows - 1)
    again = finished(large)
    assert again.returncode == 0, again.stderr
    assert f"resumed at window {windows}" in again.stdout
    whole = frames_of(output)
    assert len(whole) == len(case.frames)
    np.testing.assert_array_equal(shown, whole[: len(shown)])
