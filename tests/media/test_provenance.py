"""Manifests: signed, altered, lost; certificates made, given and refused."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from infinitetalk.cli.main import main
from infinitetalk.core.errors import MediaError, RequestError
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.certificate import credentials
from infinitetalk.media.provenance import AI_GENERATED, Seal, Verdict, check_media
from infinitetalk.media.video import VideoSource
from infinitetalk.media.writer import VideoWriter
from tests.faces.conftest import write_portrait, write_voice

from .conftest import sine

SIZE = Pixels(48, 64)
HASH = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config" / "signing"


def make(path: Path, seal: Seal | None, *, stop: bool = False) -> Path:
    """A video of 9 frames with sound; with `stop`, Ctrl-C comes after them."""
    frames = np.random.default_rng(0).integers(0, 255, (9, *SIZE, 3), dtype=np.uint8)
    try:
        with VideoWriter(path, SIZE, sound=sine(16000, 0.5, 0.25), sign=None if seal is None else seal.sign) as writer:
            writer.write(frames)
            if stop:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert stop
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


@pytest.mark.parametrize("stop", [False, True])
def test_a_video_says_what_it_is_and_stays_the_same_video(folder: Path, tmp_path: Path, stop: bool) -> None:
    signed = make(tmp_path / "signed.mp4", Seal.open(folder, "tiny", HASH), stop=stop)
    plain = make(tmp_path / "plain.mp4", None)
    checked = check_media(signed)
    assert checked.verdict is Verdict.UNTRUSTED
    assert (checked.ai_generated, checked.model, checked.settings_sha256) == (True, "tiny", HASH)
    assert check_media(signed, folder / "authority.pem").verdict is Verdict.TRUSTED
    assert check_media(plain).verdict is Verdict.NONE
    np.testing.assert_array_equal(frames_of(signed), frames_of(plain))
    with VideoSource(signed) as source:
        assert source.size == SIZE
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["plain.mp4", "signed.mp4"]


def test_the_manifest_names_the_source_type(folder: Path, tmp_path: Path) -> None:
    import c2pa

    video = make(tmp_path / "video.mp4", Seal.open(folder, "tiny", HASH))
    with video.open("rb") as file, c2pa.Reader("video/mp4", file) as reader:
        told = json.dumps(json.loads(reader.json()))
    assert AI_GENERATED in told
    assert "c2pa.created" in told
    assert str(tmp_path) not in told


def test_every_kind_of_tampering_shows(folder: Path, tmp_path: Path) -> None:
    """A byte of the picture, of the sound's and pictures' index, and of what is signed."""
    whole = make(tmp_path / "video.mp4", Seal.open(folder, "tiny", HASH)).read_bytes()
    places = {name: whole.index(name.encode()) for name in ("mdat", "moov", "trainedAlgorithmicMedia", HASH)}
    places["end"] = len(whole) - 8
    for name, place in places.items():
        changed = bytearray(whole)
        changed[place + 6] ^= 1
        path = tmp_path / "changed.mp4"
        path.write_bytes(changed)
        assert check_media(path, folder / "authority.pem").verdict is Verdict.ALTERED, name


def test_anothers_authority_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    video = make(tmp_path / "video.mp4", Seal.open(folder, "tiny", HASH))
    Seal.open(tmp_path / "other", "tiny", HASH)
    assert check_media(video, tmp_path / "other" / "authority.pem").verdict is Verdict.UNTRUSTED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
def test_a_certificate_is_made_once_for_its_owner_alone(folder: Path) -> None:
    first = credentials(folder)
    assert credentials(folder) == first
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert [path.name for path in folder.parent.iterdir()] == ["signing"]


def test_certificates_that_cannot_sign_are_refused_before_anything_is_made(folder: Path, tmp_path: Path) -> None:
    credentials(folder)
    credentials(tmp_path / "other")
    key = (folder / "key.pem").read_bytes()
    (folder / "key.pem").write_bytes((tmp_path / "other" / "key.pem").read_bytes())
    with pytest.raises(RequestError, match=r"key\.pem is not the key of certificate\.pem; --no-provenance"):
        Seal.open(folder, "tiny", HASH)
    (folder / "key.pem").write_bytes(b"no key")
    with pytest.raises(RequestError, match="no PEM without a password"):
        Seal.open(folder, "tiny", HASH)
    (folder / "key.pem").unlink()
    with pytest.raises(RequestError, match=r"must hold certificate\.pem and key\.pem, or not be there"):
        Seal.open(folder, "tiny", HASH)
    (folder / "key.pem").write_bytes(key)
    Seal.open(folder, "tiny", HASH)


def test_files_that_cannot_be_checked_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.xyz"
    text.write_text("hello")
    with pytest.raises(MediaError, match="carry no C2PA manifest"):
        check_media(text)
    with pytest.raises(MediaError, match="no such file"):
        check_media(tmp_path / "none.mp4")
    video = make(tmp_path / "video.mp4", None)
    with pytest.raises(RequestError, match="holds no PEM certificates"):
        check_media(video, text)


def test_commands_sign_and_check(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face, voice = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.5)
    words = ["generate", "--model", tiny_folder, "--image", face, "--audio", voice, "--steps", 1, "--device", "cpu"]
    for name, more in (("signed.mp4", []), ("plain.mp4", ["--no-provenance"])):
        assert main([str(word) for word in (*words, "--output", tmp_path / name, "--quiet", *more)]) == 0
    capsys.readouterr()
    assert main(["verify-media", str(tmp_path / "signed.mp4"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    beside = json.loads((tmp_path / "signed.mp4.json").read_text())
    assert told["verdict"] == "intact, signer not trusted"
    assert told["settings_sha256"] == beside["settings_sha256"]
    assert told["ai_generated"] is True
    assert main(["verify-media", str(tmp_path / "plain.mp4")]) == 1
    assert capsys.readouterr().out == "none\n"
    changed = bytearray((tmp_path / "signed.mp4").read_bytes())
    changed[-9] ^= 1
    (tmp_path / "signed.mp4").write_bytes(changed)
    assert main(["verify-media", str(tmp_path / "signed.mp4")]) == 1
    assert capsys.readouterr().out.startswith("altered\n")


def test_starting_imports_neither_c2pa_nor_cryptography() -> None:
    program = (
        "import sys; from infinitetalk.cli.main import main; main(['generate', '--help']);"
        "import infinitetalk.engine.job; print({'c2pa', 'cryptography'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("set()")
