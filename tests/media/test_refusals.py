"""Every input that is refused: one line that names it and says what would work, in little time."""

import random
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.errors import InfiniteTalkError, MediaError, RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.media.files import FileMedia, check
from infinitetalk.media.picture import read_picture
from infinitetalk.media.sound import read_sound
from infinitetalk.media.video import VideoSource

from .conftest import FIXTURES

VOICE = FIXTURES / "s16.wav"
PORTRAIT = FIXTURES / "bitmap.bmp"


def refusal(request: TalkRequest, facts: ModelFacts, output: Path | None = None) -> str:
    """The one line with which a request is refused, by the check and when it is opened."""
    started = time.perf_counter()
    with pytest.raises(InfiniteTalkError) as caught:
        check(request, facts, output)
    assert time.perf_counter() - started < 5
    assert caught.value.exit_code == 2
    line = str(caught.value)
    assert "\n" not in line
    assert 20 < len(line) < 400
    if output is None:
        with pytest.raises(InfiniteTalkError) as again:
            FileMedia().open(request)
        assert str(again.value) == line
    return line


def _empty(folder: Path) -> Path:
    (folder / "empty.bin").touch()
    return folder / "empty.bin"


def _noise(folder: Path) -> Path:
    (folder / "noise.bin").write_bytes(b"".join(zlib.crc32(bytes([index])).to_bytes(4) for index in range(256)) * 20)
    return folder / "noise.bin"


def _text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("This is a text and nothing else. " * 50)
    return folder / "notes.txt"


# Paths that hold nothing to decode, whatever they are given as: file → words of the refusal.
UNUSABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "none.bin", "no such file"),
    "empty": (_empty, "empty"),
    "folder": (lambda folder: folder, "is a folder"),
    "device": (lambda _: Path("/dev/null"), "not a regular file"),
    "noise": (_noise, ""),
    "text": (_text, ""),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("field", ["image", "video", "audio", "masks"])
def test_paths_that_hold_nothing_usable(kind: str, field: str, tmp_path: Path, facts: ModelFacts) -> None:
    make, told = UNUSABLE[kind]
    path = make(tmp_path)
    fields: dict[str, object] = {"image": PORTRAIT, "audio": (VOICE,)}
    if field == "video":
        fields = {"video": path, "audio": (VOICE,)}
    else:
        fields[field] = path if field == "image" else (path,)
    line = refusal(TalkRequest(**fields), facts)  # type: ignore[arg-type]
    assert str(path) in line
    assert told in line


@pytest.mark.parametrize("name", ["stereo.flac", "aac.m4a", "25.mp4", "cmyk.tiff", "turned.jpg", "moving.gif"])
def test_files_cut_to_a_quarter(name: str, tmp_path: Path, facts: ModelFacts) -> None:
    """Damaged beyond use, or read as far as they go: never anything but one of the two."""
    data = (FIXTURES / name).read_bytes()
    cut = tmp_path / name
    cut.write_bytes(data[: len(data) // 4])
    field = {"flac": "audio", "m4a": "audio", "mp4": "video"}.get(Path(name).suffix[1:], "image")
    fields: dict[str, object] = {"image": PORTRAIT, "audio": (VOICE,)}
    if field == "video":
        fields = {"video": cut, "audio": (VOICE,)}
    else:
        fields[field] = (cut,) if field == "audio" else cut
    try:
        check(TalkRequest(**fields), facts)  # type: ignore[arg-type]
    except MediaError as error:
        assert str(cut) in str(error)
        assert "\n" not in str(error)


def test_video_without_sound_as_a_voice(facts: ModelFacts) -> None:
    line = refusal(TalkRequest(image=PORTRAIT, audio=(FIXTURES / "25.mp4",)), facts)
    assert "no sound" in line


def test_sound_as_a_video(facts: ModelFacts) -> None:
    for name in ("s16.wav", "cover.mp3"):
        line = refusal(TalkRequest(video=FIXTURES / name, audio=(VOICE,)), facts)
        assert "no video" in line


def test_an_unknown_codec(tmp_path: Path, facts: ModelFacts) -> None:
    data = bytearray(VOICE.read_bytes())
    data[20:22] = b"\x34\x12"
    (tmp_path / "odd.wav").write_bytes(data)
    assert "codec" in refusal(TalkRequest(image=PORTRAIT, audio=(tmp_path / "odd.wav",)), facts)


def _wave(path: Path, samples: list[float], kind: str = "f", rate: int = 8000) -> Path:
    data = struct.pack(f"<{len(samples)}{kind}", *samples)
    width = struct.calcsize(kind)
    form = struct.pack("<HHIIHH", 3, 1, rate, rate * width, width, width * 8)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([], "no samples"),
        ([0.1], "0.000 s long"),
        ([0.1] * 799, "0.100 s long; 0.1 s or more would work"),
        ([0.1] * 4000 + [float("nan")] + [0.1] * 4000, "not finite"),
        ([0.1] * 4000 + [float("-inf")] + [0.1] * 4000, "not finite"),
    ],
)
def test_sounds(samples: list[float], told: str, tmp_path: Path, facts: ModelFacts) -> None:
    path = _wave(tmp_path / "voice.wav", samples)
    line = refusal(TalkRequest(image=PORTRAIT, audio=(path,)), facts)
    assert str(path) in line
    assert told in line


def test_the_second_voice_is_looked_at_too(tmp_path: Path, facts: ModelFacts) -> None:
    bad = _wave(tmp_path / "voice.wav", [0.1] * 10)
    boxes = (Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1))
    assert str(bad) in refusal(TalkRequest(image=PORTRAIT, audio=(VOICE, bad), boxes=boxes), facts)


def _png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that says its size and has nothing behind it: whoever decodes it fails otherwise."""
    chunk = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(head + struct.pack(">I", 100) + b"IDAT")
    return path


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [
        (1, 1, "1x1; 16x16"),
        (15, 200, "15x200; 16x16"),
        (200, 15, "200x15; 16x16"),
        (10_001, 10_000, "100.01 megapixels; up to 100 megapixels"),
        (15_000, 10_000, "150 megapixels; up to 100"),
        (30_000, 20_000, "600 megapixels; up to 100"),
        (2**31 - 1, 1, "megapixels; up to 100"),
    ],
)
def test_picture_sizes_are_refused_by_the_header(
    width: int, height: int, told: str, tmp_path: Path, facts: ModelFacts
) -> None:
    path = _png_header(tmp_path / "picture.png", width, height)
    line = refusal(TalkRequest(image=path, audio=(VOICE,)), facts)
    assert str(path) in line
    assert told in line


def test_a_video_too_small(tmp_path: Path, facts: ModelFacts) -> None:
    Image.new("RGB", (12, 40)).save(tmp_path / "small.gif")
    assert "12x40; 16x16" in refusal(TalkRequest(video=tmp_path / "small.gif", audio=(VOICE,)), facts)


def test_empty_masks(tmp_path: Path, facts: ModelFacts) -> None:
    Image.new("L", (64, 48)).save(tmp_path / "mask.png")
    line = refusal(TalkRequest(image=PORTRAIT, audio=(VOICE,), masks=(tmp_path / "mask.png",)), facts)
    assert "mask is empty; paint white" in line


def test_masks_of_another_shape(tmp_path: Path, facts: ModelFacts) -> None:
    Image.new("L", (48, 64), 255).save(tmp_path / "mask.png")
    line = refusal(TalkRequest(image=PORTRAIT, audio=(VOICE,), masks=(tmp_path / "mask.png",)), facts)
    assert "48x64, the picture 64x48" in line


@pytest.mark.parametrize("box", [Box(70, 0, 90, 20), Box(0, 0, 65, 48), Box(0, 0, 10, 49), Box(0, 0, 1.5, 500)])
def test_boxes_beyond_the_picture(box: Box, facts: ModelFacts) -> None:
    line = refusal(TalkRequest(image=PORTRAIT, audio=(VOICE,), boxes=(box,)), facts)
    assert "x up to 64 and y up to 48 would work" in line


def test_places_that_nothing_is_left_of(facts: ModelFacts) -> None:
    """A speck, and a place that the crop to a square cuts off."""
    for box, size in ((Box(30, 0, 32, 2), "64x48"), (Box(0, 0, 7, 48), "48x48")):
        request = TalkRequest(image=PORTRAIT, audio=(VOICE, VOICE), boxes=(Box(20, 0, 64, 48), box), size=size)
        with pytest.raises(RequestError, match="nothing of it is left"):
            check(request, facts)


def test_a_place_for_a_single_voice(facts: ModelFacts) -> None:
    with pytest.raises(RequestError, match="needs no place"):
        check(TalkRequest(image=PORTRAIT, audio=(VOICE,), boxes=(Box(0, 0, 1, 1),)), facts)


@pytest.mark.parametrize("start", [0.25, 0.3, 100.0])
def test_a_start_beyond_the_sound(start: float, facts: ModelFacts) -> None:
    line = refusal(TalkRequest(image=PORTRAIT, audio=(VOICE,), start=start), facts)
    assert line == f"start = {start}: the sound is 0.30 s long; up to 0.2 would work"


def test_what_the_model_cannot_do(facts: ModelFacts) -> None:
    boxes = (Box(0, 0, 0.3, 1), Box(0.3, 0, 0.6, 1), Box(0.6, 0, 1, 1))
    with pytest.raises(RequestError, match="voice 2 at most"):
        check(TalkRequest(image=PORTRAIT, audio=(VOICE,) * 3, boxes=boxes), facts)
    with pytest.raises(RequestError, match="no text part"):
        check(TalkRequest(image=PORTRAIT, audio=(VOICE,), prompt="hello"), facts)


def _folder_that_takes_no_files(folder: Path) -> Path:
    # On Linux /proc refuses new files even to root, which permission bits do not.
    if Path("/proc/self").exists():
        return Path("/proc/video.mp4")
    (folder / "closed").mkdir(mode=0o500)
    return folder / "closed" / "video.mp4"


def _named_like_a_video(folder: Path) -> Path:
    (folder / "x.mp4").mkdir()
    return folder / "x.mp4"


def _folder_for_the_settings(folder: Path) -> Path:
    (folder / "y.mp4.json").mkdir()
    return folder / "y.mp4"


OUTPUTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no folder": (lambda folder: folder / "none" / "video.mp4", "there is no folder"),
    "a file as folder": (lambda folder: _empty(folder) / "video.mp4", "there is no folder"),
    "not writable": (_folder_that_takes_no_files, "cannot be written"),
    "a folder": (_named_like_a_video, "is a folder"),
    "nothing": (lambda _: Path(), "is a folder: video.mp4 would work"),
    "a folder where the settings go": (_folder_for_the_settings, "needs"),
    "a name too long with the settings": (lambda folder: folder / ("x" * 250 + ".mp4"), "cannot be written there"),
    "another format": (lambda folder: folder / "video.mkv", "video.mp4 would work"),
    "no extension": (lambda folder: folder / "video", "video.mp4 would work"),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs(kind: str, tmp_path: Path, facts: ModelFacts) -> None:
    make, told = OUTPUTS[kind]
    path = make(tmp_path)
    line = refusal(TalkRequest(image=PORTRAIT, audio=(VOICE,)), facts, path)
    assert line.startswith(f"output = {path}: ")
    assert told in line


def test_an_output_that_is_an_input(tmp_path: Path, facts: ModelFacts) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes((FIXTURES / "talking.mp4").read_bytes())
    line = refusal(TalkRequest(video=film, audio=(VOICE,)), facts, film)
    assert "one of the inputs" in line


@pytest.mark.parametrize("name", ["film.part.mp4", "film.done.mp4"])
def test_an_input_that_would_be_overwritten_on_the_way(name: str, tmp_path: Path, facts: ModelFacts) -> None:
    """What a killed job leaves, made longer with the very name that it had."""
    (tmp_path / name).write_bytes((FIXTURES / "talking.mp4").read_bytes())
    line = refusal(TalkRequest(video=tmp_path / name, audio=(VOICE,)), facts, tmp_path / "film.mp4")
    assert f"would overwrite {tmp_path / name}, one of the inputs" in line


def test_playlists_cannot_reach_other_files(tmp_path: Path, facts: ModelFacts) -> None:
    """A file that tells FFmpeg to open others is no sound: a page that takes uploads must not read the disk."""
    playlist = tmp_path / "voice.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{FIXTURES / 'adts.aac'}\n#EXT-X-ENDLIST\n")
    concat = tmp_path / "voice.ffconcat"
    concat.write_text(f"ffconcat version 1.0\nfile '{VOICE}'\n")
    for path in (playlist, concat):
        assert str(path) in refusal(TalkRequest(image=PORTRAIT, audio=(path,)), facts)


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    """Bytes changed and ends cut at random: every reader gives content or a MediaError in one line."""
    chance = random.Random(5)
    files = sorted(FIXTURES.iterdir())
    for turn in range(60):
        name = chance.choice(files)
        data = bytearray(name.read_bytes())
        if turn % 3:
            for _ in range(chance.choice((1, 5, 40))):
                data[chance.randrange(len(data) if turn % 2 else min(len(data), 400))] = chance.randrange(256)
        else:
            del data[chance.randrange(1, len(data)) :]
        damaged = tmp_path / f"{turn}{name.suffix}"
        damaged.write_bytes(data)
        for read in (read_sound, read_picture, _first_frames):
            try:
                read(damaged)
            except MediaError as error:
                assert "\n" not in str(error)


def _first_frames(path: Path) -> None:
    with VideoSource(path) as source:
        source.frame_at(0.1)
        source.frame_index(0)
