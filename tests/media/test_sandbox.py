"""Files of strangers: decoded where they can do no harm, and refused in one line."""

import os
import pickle
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infinitetalk.core.errors import InfiniteTalkError, MediaError
from infinitetalk.media.sandbox import RefusedMediaError, Sandbox
from infinitetalk.media.video import shown_frames
from tests.faces.conftest import write_portrait, write_voice
from tests.media.moving import write_video as write_frames

SMALL = Sandbox(seconds=20, pixels=1_000_000, longest=5.0)


def write_video(path: Path, frames: int, height: int = 64, width: int = 64) -> Path:
    """A grey video of 25 frames a second."""
    return write_frames(path, [np.full((height, width, 3), 5 * number, np.uint8) for number in range(frames)])


def png(path: Path, width: int, height: int, rows: bytes) -> Path:
    """A picture of one bit a pixel, whatever its header says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {os.environ['PICKLED']}",)


def test_good_files_tell_what_they_hold(tmp_path: Path) -> None:
    picture, sound = write_portrait(tmp_path / "a.png"), write_voice(tmp_path / "b.wav", 1.2)
    video = write_video(tmp_path / "c.mp4", 10)
    facts = SMALL.decode([("picture", picture), ("sound", sound), ("video", video), ("mask", video), ("mask", picture)])
    assert facts[0] == facts[4] == {"width": 96, "height": 96}
    assert facts[1] == {"seconds": pytest.approx(1.2)}
    assert facts[2] == facts[3] and facts[2]["frames"] == len(list(shown_frames(video)))
    assert SMALL.decode([]) == []


def test_hostile_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICKLED", str(tmp_path / "pickled"))
    text, bomb, pickled, archive = (tmp_path / name for name in ("a.png", "b.png", "c.png", "d.wav"))
    text.write_text("<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>")
    png(bomb, 60_000, 60_000, zlib.compress(bytes(10_000_000)))
    pickled.write_bytes(pickle.dumps(Attack()))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("../../evil", bytes(10_000_000))
    playlist = tmp_path / "e.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    parts = tmp_path / "f.mp4"
    parts.write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    cases = [("picture", text), ("picture", bomb), ("picture", pickled), ("sound", archive), ("video", playlist)]
    for kind, path in [*cases, ("video", parts), ("mask", text), ("sound", text)]:
        with pytest.raises(RefusedMediaError) as caught:
            SMALL.decode([(kind, path)])
        assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "pickled").exists()


def test_too_large_and_too_long(tmp_path: Path) -> None:
    few = Sandbox(seconds=20, pixels=9_000, longest=1.0)
    for kind, path, told in (
        ("picture", write_portrait(tmp_path / "a.png"), "96x96 are too many pixels"),
        ("video", write_video(tmp_path / "b.mp4", 3, 128, 128), "too many pixels"),
        ("sound", write_voice(tmp_path / "c.wav", 1.2), "longer than 1 s"),
        ("video", write_video(tmp_path / "d.mp4", 40), "longer than 1 s"),
    ):
        with pytest.raises(RefusedMediaError, match=told):
            few.decode([(kind, path)])


@pytest.mark.parametrize(
    "harm",
    [
        "while True: pass",
        "x = [bytearray(2**26) for _ in range(10**6)]",
        "import os; os.kill(os.getpid(), 11)",
        "import os; os.write(os.open(words[0], os.O_WRONLY), b'x')",
        "import os; assert 'SECRET' in os.environ",
        "[open('/dev/null') for _ in range(1000)]",
    ],
)
def test_a_decoder_that_runs_wild_is_ended(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hostile file might do to a decoder, planted in the process that decodes."""
    planted = tmp_path / "harm"
    planted.mkdir()
    (planted / "infinitetalk_harm.py").write_text(
        "from infinitetalk.media import probe\n"
        "import sys\n"
        f"def wild(*words): exec({harm!r})\n"
        "probe._picture = wild\n"
        "sys.exit(probe.main())\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{planted}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("SECRET", "geheim")
    run = subprocess.run
    started: list[list[str]] = [[]]

    def instead(command: list[str], **more: Any) -> object:
        started[0] = command
        return run([*command[:2], "infinitetalk_harm"], **more)

    monkeypatch.setattr(subprocess, "run", instead)
    with pytest.raises(MediaError, match="re-save it, or send less"):
        Sandbox(seconds=1, memory=2**30).decode([("picture", write_portrait(tmp_path / "a.png"))])
    assert started[0][-1] == "infinitetalk.media.probe"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InfiniteTalkError, match="no such file"):
        SMALL.decode([("picture", tmp_path / "none.png")])
