"""The settings beside a video, and the request read back from them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.core.defaults import ModelFacts, resolve
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.paths import sidecar_path
from infinitetalk.media.sidecar import read_request, write_sidecar


@pytest.fixture
def request_of_two(portrait: Path, voice: Path) -> TalkRequest:
    return TalkRequest(
        image=portrait, audio=(voice, voice), boxes=(Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)), seed=7, audio_scale=2.5
    )


def _write(tmp_path: Path, request: TalkRequest, facts: ModelFacts) -> Path:
    return write_sidecar(
        tmp_path / "video.mp4",
        request,
        settings=resolve(request, facts, Pixels(48, 64)),
        stage_seconds={"denoising (DiT)": 1.23456},
        frames=25,
        complete=True,
    )


def test_the_request_comes_back(tmp_path: Path, request_of_two: TalkRequest, facts: ModelFacts) -> None:
    path = _write(tmp_path, request_of_two, facts)
    assert path == tmp_path / "video.mp4.json" == sidecar_path(tmp_path / "video.mp4")
    assert read_request(path) == request_of_two
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["portrait.png", "video.mp4.json"]


def test_what_it_holds(tmp_path: Path, request_of_two: TalkRequest, facts: ModelFacts, voice: Path) -> None:
    content = json.loads(_write(tmp_path, request_of_two, facts).read_text())
    assert content["frames"] == 25
    assert content["complete"] is True
    assert content["settings"]["size"] == "704x576"
    assert content["settings"]["steps"] == 40
    assert content["stage_seconds"] == {"denoising (DiT)": 1.235}
    assert [Path(entry["path"]).name for entry in content["inputs"]] == ["portrait.png", "s16.wav"]
    assert content["inputs"][1]["bytes"] == voice.stat().st_size
    assert content["inputs"][1]["sha256"] == hashlib.sha256(voice.read_bytes()).hexdigest()


def test_paths_are_made_absolute(
    tmp_path: Path, portrait: Path, voice: Path, facts: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    request = TalkRequest(model="model", image=Path(portrait.name), audio=(voice,))
    again = read_request(_write(tmp_path, request, facts))
    assert again.image == portrait
    assert again.model == (tmp_path / "model").as_posix()


def test_what_keeps_it_from_being_written_is_one_line(
    tmp_path: Path, request_of_two: TalkRequest, facts: ModelFacts, portrait: Path
) -> None:
    (tmp_path / "video.mp4.json.part").mkdir()
    with pytest.raises(MachineError, match=r"video\.mp4\.json: cannot be written: Is a directory"):
        _write(tmp_path, request_of_two, facts)
    portrait.unlink()
    with pytest.raises(MachineError, match=r"No such file or directory \(.*portrait\.png\)"):
        _write(tmp_path, request_of_two, facts)


def test_names_that_are_no_text_come_back(tmp_path: Path, portrait: Path, facts: ModelFacts) -> None:
    """On Linux a file's name may hold any bytes; a prompt in another alphabet stays readable."""
    odd = portrait.rename(tmp_path / "gr\udcf6\udcdfe.png")
    request = TalkRequest(image=odd, audio=(odd,), prompt="Grüße")
    path = _write(tmp_path, request, replace(facts, has_text=True))
    assert "Grüße" in path.read_text(encoding="utf-8")
    assert read_request(path) == request


def test_a_bare_request_is_read_too(tmp_path: Path, request_of_two: TalkRequest) -> None:
    (tmp_path / "request.json").write_text(json.dumps(request_of_two.to_json()))
    assert read_request(tmp_path / "request.json") == request_of_two


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "No such file"), ("nonsense", "not JSON"), ("[1, 2]", "no request"), ('{"request": 3}', "no request"),
     ('{"request": {"sede": 3}}', "sede"), ('{"request": {"seed": "x"}}', "seed"), ("\xff\xfe", "not JSON"),
     ("[" * 100_000, "not JSON"), ('{"start": 1%s}' % ("0" * 400), "start = inf: must be a finite number")],
)  # fmt: skip
def test_what_is_no_request(tmp_path: Path, content: str | None, told: str) -> None:
    path = tmp_path / "request.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RequestError, match=told) as caught:
        read_request(path)
    assert "\n" not in str(caught.value)
