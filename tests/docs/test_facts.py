"""What the documents say of files, flags and numbers is what the product has."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.cli.command import command_parser
from infinitetalk.cli.generate import COMMAND
from infinitetalk.cli.main import main
from infinitetalk.core.defaults import ModelDefaults
from infinitetalk.core.presets import PLAIN, PRESETS
from infinitetalk.core.recipes import RECIPES
from infinitetalk.diffusion.guidance import branches
from tests.docs.conftest import ROOT
from tests.faces.conftest import write_portrait, write_voice


def document(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of all tables' rows."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]


def test_keys_of_the_file_beside_a_video_are_listed(tiny_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    portrait, voice = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.2)
    words = ["--model", str(tiny_folder), "--image", str(portrait), "--audio", str(voice), "--output", str(output)]
    assert main(["generate", *words, "--steps", "1", "--duration", "0.2", "--quiet"]) == 0
    part = document("formats.md").partition("`talk.mp4.json`")[2].partition("talk.mp4.job")[0]
    listed = [row[0].strip("`") for row in rows(part)][1:]
    assert listed == list(json.loads((tmp_path / "talk.mp4.json").read_text(encoding="utf-8")))


def test_flags_that_take_the_place_of_the_references_exist() -> None:
    parser = command_parser(COMMAND)
    table = document("migration.md").partition("| `generate_infinitetalk.py`")[2].partition("**What comes out")[0]
    flags = {flag for row in rows(table) for flag in re.findall(r"--[\w-]+", row[1])}
    assert len(flags) > 25
    assert flags <= set(parser._option_string_actions)


def test_a_migrated_settings_name_is_one_of_the_nodes() -> None:
    from infinitetalk.core.knobs import CONTROLS

    known = {control.name for control in CONTROLS} | {"memory", "files below", "images", "euler", "ab2"}
    table = document("migration.md").partition("| kijai's WanVideoWrapper")[2].partition("Without ComfyUI")[0]
    theirs = {"frame_window_size", "motion_frame", "colormatch", "cfg", "audio_cfg_scale"}
    named = {name for row in rows(table) for name in re.findall(r"`([^`]+)`", row[1])}
    assert named - theirs <= known


@pytest.mark.parametrize(
    ("name", "field", "recipe"), [("--audio-scale", "audio_scale", 2.0), ("--text-scale", "text_scale", 1.0)]
)
def test_scales_are_the_models_own_and_the_recipes(name: str, field: str, recipe: float) -> None:
    (row,) = (row for row in rows(document("results.md")) if row[0] == f"`{name}`")
    assert row[1].split()[0] == f"{getattr(ModelDefaults(), field):g}"
    assert row[2] == f"{recipe:g}"
    assert {RECIPES[few].settings[field] for few in ("draft", "fast")} == {recipe}


def test_passes_of_a_window_are_steps_times_branches() -> None:
    own: dict[str, Any] = asdict(ModelDefaults())
    text = document("results.md").partition("## Which preset")[2]
    told = {name: row[2] for row in rows(text) for name in re.findall(r"`([\w-]+)`", row[1]) if name in PRESETS}
    assert set(told) == set(PLAIN)
    for name, words in told.items():
        settings = own | dict(PRESETS[name].defaults)
        passes = settings["steps"] * len(branches(settings["text_scale"], settings["audio_scale"]))
        assert words == f"{settings['steps']} steps, {passes} passes", name


def test_presets_of_the_quick_start_exist() -> None:
    for page in (ROOT / "docs" / "start").glob("*.md"):
        for name in re.findall(r"(?:--model|download) ([a-z][\w-]+)", page.read_text(encoding="utf-8")):
            assert name in PRESETS, f"{page.name}: {name}"
