"""The preview: opened by a player while the job is at work, whole when it is over, and again after a kill."""

import os
import signal
import time
from pathlib import Path

import av
import numpy as np
import pytest

from infinitetalk.cli.main import main
from infinitetalk.media.hls import fresh
from tests.resume.conftest import WINDOWS, Case, frames_of
from tests.starting import Started, finished


def open_playlist(path: Path) -> tuple[np.ndarray, float]:
    """All frames, and seconds of sound."""
    with av.open(str(path)) as container:
        frames, heard = [], 0
        rate = container.streams.audio[0].rate
        for packet in container.demux():
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    frames.append(frame.to_ndarray(format="rgb24"))
                elif isinstance(frame, av.AudioFrame):
                    heard += frame.samples
        return np.stack(frames), heard / rate


def test_plays_while_the_job_runs_and_after_a_kill(case: Case, tmp_path: Path) -> None:
    output, folder = tmp_path / "video.mp4", tmp_path / "preview"
    playlist = folder / "index.m3u8"
    command = case.command(output, "--hls", folder)
    with Started(command, os.devnull, os.devnull) as process:
        while not (playlist.exists() and playlist.read_text().count("#EXTINF") >= 2):
            assert process.poll() is None
            time.sleep(0.002)
        process.send(signal.SIGSTOP)  # stopped, so that it is at work for as long as this looks
        text = playlist.read_text()
        windows = text.count("#EXTINF")
        assert 2 <= windows < WINDOWS and "#EXT-X-ENDLIST" not in text
        # A player waits for more; a closed copy of the list plays what is there.
        now = folder / "now.m3u8"
        now.write_text(text + "#EXT-X-ENDLIST\n")
        frames, heard = open_playlist(now)
        with av.open(str(playlist), options={"live_start_index": "0", "max_reload": "1"}) as growing:
            first = next(growing.decode(video=0)).to_ndarray(format="rgb24")
        now.unlink()
        assert process.poll() is None
        process.kill()
    count = 13 + 8 * (windows - 1)
    assert len(frames) == count
    np.testing.assert_array_equal(frames, case.frames[:count])
    np.testing.assert_array_equal(first, case.frames[0])
    assert count / 25 - 0.2 < heard <= count / 25 + 0.1
    done = finished(command)
    assert done.returncode == 0, done.stderr
    assert "resumed at window" in done.stdout
    assert playlist.read_text().endswith("#EXT-X-ENDLIST\n")
    assert playlist.read_text().count("#EXTINF") == WINDOWS
    frames, heard = open_playlist(playlist)
    np.testing.assert_array_equal(frames, case.frames)
    assert heard == pytest.approx(len(frames) / 25, abs=0.13)
    np.testing.assert_array_equal(frames_of(output), case.frames)


def test_a_folder_with_other_things_is_refused(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "holidays.jpg").write_bytes(b"")
    words = ["generate", *case.words, "--output", str(tmp_path / "video.mp4"), "--hls"]
    assert main([*words, str(tmp_path)]) == 2
    assert main([*words, str(tmp_path / "holidays.jpg")]) == 2
    assert main([*words, str(tmp_path / "none" / "preview")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "holds holidays.jpg" in lines[0]
    assert "is a file" in lines[1]
    assert "there is no folder" in lines[2]


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ([], ["watch.html", "window-00000.ts", "window-00001.ts", "index.m3u8", "now.m3u8"]),
        (["watch.html", "window-00000.ts"], ["window-00001.ts", "index.m3u8", "now.m3u8"]),
        # The newest segment is written once more, with the last of the sound.
        (["watch.html", "window-00000.ts", "window-00001.ts"], ["window-00001.ts", "index.m3u8", "now.m3u8"]),
    ],
)
def test_what_a_copy_of_a_growing_preview_fetches(known: list[str], wanted: list[str]) -> None:
    assert fresh(["window-00001.ts", "now.m3u8", "index.m3u8", "window-00000.ts", "watch.html"], known) == wanted
