"""`infinitetalk generate --input-json`: a job file of the reference implementation becomes a video."""

import json
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.cli.demo import INPUTS
from infinitetalk.cli.main import main
from tests.faces.conftest import Voice


@pytest.fixture
def job(tmp_path: Path, make_voice: Voice) -> Path:
    """Two people at a picture's halves, as the reference's own example has them, with boxes."""
    people = {f"person{number}": str(make_voice(f"{number}.wav", 0.2)) for number in (1, 2)}
    boxes = {"person1": [40, 20, 250, 180], "person2": [40, 200, 250, 380]}
    content = {"prompt": "Two people talk.", "cond_video": str(INPUTS / "pair.png"), "audio_type": "add",
               "cond_audio": people, "bbox": boxes}  # fmt: skip
    path = tmp_path / "job.json"
    path.write_text(json.dumps(content))
    return path


def test_a_job_file_becomes_a_video(job: Path, tiny_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    words = ["--model", str(tiny_folder), "--steps", "1", "--device", "cpu", "--quiet", "--output", str(output)]
    assert main(["generate", "--input_json", str(job), *words]) == 0
    told: dict[str, Any] = json.loads((tmp_path / "talk.mp4.json").read_text())
    request = told["request"]
    assert told["frames"] == 10, "one after the other"
    assert request["boxes"] == [[20, 40, 180, 250], [200, 40, 380, 250]], "columns first"
    assert (request["prompt"], request["voices"], request["steps"]) == ("Two people talk.", "sequence", 1)


def test_flags_win_and_two_files_are_refused(job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--output", str(tmp_path / "a.mp4")]
    assert main(["generate", "--input-json", str(job), "--steps", "0", *words]) == 2
    assert "steps = 0" in capsys.readouterr().err
    assert main(["generate", "--input-json", str(job), "--request", str(job), *words]) == 2
    assert "give --request or --input-json, not both" in capsys.readouterr().err


def test_people_shows_a_job_file(job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["people", "--input-json", str(job), "--output", str(tmp_path / "people.png")]) == 0
    captured = capsys.readouterr()
    assert "--box 20,40,180,250 --box 200,40,380,250" in captured.out
    assert captured.err.startswith("note: the model nano reads no prompt, so that of ")
