"""What the notebook's cells do, without a notebook: the choice of a model, the place of results, the public page."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.core.errors import MachineError
from infinitetalk.media.paths import sidecar_path
from infinitetalk.media.sidecar import absolute
from infinitetalk.notebook import session
from infinitetalk.notebook.choice import PATIENCE, choose, expected, suggest
from infinitetalk.notebook.session import Session
from infinitetalk.runtime.device import Device


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    def card(name: str) -> Device:
        monkeypatch.setenv("INFINITETALK_PRETEND", name)
        return Device.choose()

    return card


@pytest.mark.parametrize(
    ("card", "model"),
    [
        ("", "nano"),
        ("t4", "t4"),
        ("l4", "distilled-4step"),
        ("a100-40gb", "distilled-4step"),
        ("a100", "distilled-4step"),
    ],
)
def test_the_machine_chooses(pretend: Any, card: str, model: str) -> None:
    device = pretend(card)
    assert suggest(device) == model
    if card:
        looks = expected(device)
        assert looks[model].fits
        assert card == "t4" or looks[model].seconds_per_second <= PATIENCE


def test_language_is_the_presets_encoder(pretend: Any) -> None:
    device = pretend("t4")
    assert choose("t4", "English", device) == "t4"
    assert choose("t4", "Chinese", device) == "t4-chinese"
    assert choose("t4-multi", "Chinese", device) == "t4-multi-chinese"
    assert choose("t4-chinese", "Chinese", device) == "t4-chinese"
    assert choose("nano", "English", device) == "nano"
    with pytest.raises(MachineError, match="needs a GPU"):
        choose("t4", "English", pretend(""))


def test_results_lie_in_drive_if_it_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert session.results_folder() == Path("results")
    drive = tmp_path / "MyDrive"
    drive.mkdir()
    monkeypatch.setattr(session, "DRIVE", drive)
    assert session.results_folder() == drive / "InfiniteTalk"
    assert (drive / "InfiniteTalk").is_dir()


def test_a_public_page_has_a_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Mapping[str, Any]] = []

    def launch(_model: str, *, share: bool, wait: bool, auth: str | None = None) -> None:
        asked.append({"share": share, "wait": wait, "auth": auth})

    monkeypatch.setattr("infinitetalk.app.app.launch", launch)
    Session("nano").studio(link=False)
    Session("nano").studio()
    local, public = asked
    assert local == {"share": False, "wait": True, "auth": None}
    user, _, password = public["auth"].partition(":")
    assert len(password) >= 12
    assert f"User: {user}   Password: {password}" in capsys.readouterr().out


def test_an_unfinished_video_is_not_shown_as_finished(
    tmp_path: Path, portrait: Path, voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = Session("nano")._prepare(
        str(portrait), str(voice), streaming=True, motion_frames=0, settings={"duration": 0.4}
    )
    video = tmp_path / "talk.mp4"
    video.touch()
    here = replace(job, output=tmp_path / "new.mp4")
    record = {"complete": False, "request": absolute(job.request).to_json()}
    sidecar = sidecar_path(video)
    sidecar.write_text(json.dumps(record))
    assert session.finished(here) is None
    sidecar.write_text(json.dumps(record | {"complete": True}))
    assert session.finished(here) == video
    other = absolute(replace(job.request, seed=7)).to_json()
    sidecar.write_text(json.dumps({"complete": True, "request": other}))
    assert session.finished(here) is None
