"""`infinitetalk people`: the preview of places and crop."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinitetalk.cli.main import main
from infinitetalk.weights.locate import ASSETS

DEMO = ASSETS / "demo"
PAIR = ("--image", DEMO / "pair.png", "--audio", DEMO / "voice_1.flac", "--audio", DEMO / "voice_2.flac")


def people(*words: object) -> int:
    return main(["people", *map(str, words)])


def test_faces_are_shown_and_named_as_boxes(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "people.png"
    assert people("--model", tiny_folder, *PAIR, "--output", output, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["boxes"]) == 2
    pixels = np.asarray(Image.open(output)).astype(int)
    assert pixels.shape[0] == 512
    video = pixels[:, -512:]
    plain = np.asarray(Image.open(DEMO / "pair.png").convert("RGB").resize((512, 512))).astype(int)
    redder = (video - plain)[..., 0] - (video - plain)[..., 2]
    assert redder[220:300, 100:180].mean() > 40, "the left one is red"
    assert redder[220:300, 340:420].mean() < -40, "the right one is blue"
    assert abs(redder[440:, 236:276].mean()) < 20, "nobody stands between"
    # The boxes may be given as they were told, and the further one is of somebody silent.
    again = [word for box in told["boxes"] for word in ("--box", box)]
    assert people("--model", tiny_folder, *PAIR[:4], *again, "--output", output) == 0
    assert f"--box {told['boxes'][0]}" in capsys.readouterr().out


def test_what_is_cut_is_dark(tiny_folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (300, 100), "white").save(tmp_path / "wide.png")
    words = ("--model", tiny_folder, "--image", tmp_path / "wide.png", "--audio", DEMO / "voice_1.flac")
    assert people(*words, "--size", "64x64", "--output", tmp_path / "people.png") == 0
    row = np.asarray(Image.open(tmp_path / "people.png").convert("L"))[256, : 3 * 512]
    assert row[256] < 100
    assert row[768] == 255
    assert row[1280] < 100


@pytest.mark.parametrize(
    "case",
    [
        (("--output", "people.mp4"), "people.png would work"),
        (("--output", "none/people.png"), "there is no folder none"),
        (("--box", "0,0,1,1"), "must be one per voice: 2 would work"),
        (("--box", "0,0,.5,1", "--box", "0,0,.5,1"), "lies over the place of person 1"),
    ],
)
def test_refusals(
    case: tuple[tuple[str, ...], str],
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, line = case
    monkeypatch.chdir(tmp_path)
    assert people("--model", tiny_folder, *PAIR, *words) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
    assert not any(tmp_path.iterdir())
