"""Batches: every line is checked first, made whatever the others do, and made once."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.cli.main import main
from infinitetalk.core.errors import MachineError
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.job import Job, Made, Workshop
from infinitetalk.engine.readings import MOST, Readings
from infinitetalk.media.writer import VideoWriter
from infinitetalk.models.tokenizer import PromptEncoder
from tests.faces.conftest import write_portrait, write_voice
from tests.resume.conftest import frames_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture and two voices."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    write_portrait(inputs / "face.png")
    write_voice(inputs / "a.wav", 0.5)
    write_voice(inputs / "b.wav", 1.0, 180)
    return tmp_path


def write_jobs(path: Path, *lines: object) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def batch(jobs: Path, model: Path, *words: object) -> int:
    usual = ["--model", str(model), "--device", "cpu", "--steps", "2", "--no-provenance", "--quiet"]
    return main(["batch", str(jobs), "--output-folder", str(jobs.parent / "out"), *usual, *map(str, words)])


def table(jobs: Path) -> list[dict[str, str]]:
    with jobs.with_name(f"{jobs.stem}-results.csv").open() as file:
        return list(csv.DictReader(file))


LINES: list[dict[str, Any]] = [
    {"image": "in/face.png", "audio": "in/a.wav", "output": "first.mp4", "prompt": "one"},
    {"image": "in/face.png", "audio": ["in/b.wav"], "seed": 7, "steps": 1, "prompt": "one"},
    {"image": "in/none.png", "audio": "in/a.wav"},
    {"image": "in/face.png", "audio": "in/a.wav", "steps": 0},
    {"image": "in/face.png", "audio": "in/a.wav", "output": "deep/er/last.mp4", "prompt": "two"},
]


def test_a_batch_goes_on_after_failures_and_resumes(
    folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads, reads, make = [], [], Workshop.make
    load, encode = Engine.from_pretrained.__func__, PromptEncoder.encode  # type: ignore[attr-defined]
    broken = [True]

    def count_loads(*words: Any, **more: Any) -> Engine:
        loads.append(words)
        engine: Engine = load(*words, **more)
        return engine

    def count_reads(self: PromptEncoder, prompts: list[str]) -> list[Any]:
        reads.extend(prompts)
        return encode(self, prompts)

    def fail(self: Workshop, job: Job, listener: Any = None) -> Made:
        if job.output.name == "first.mp4" and broken.pop():
            raise MachineError("cuda:0 has too little memory")
        return make(self, job, listener)

    monkeypatch.setattr(Engine, "from_pretrained", classmethod(count_loads))
    monkeypatch.setattr(PromptEncoder, "encode", count_reads)
    monkeypatch.setattr(Workshop, "make", fail)
    jobs = write_jobs(folder / "jobs.jsonl", *LINES, "not json\n", [1])
    assert batch(jobs, tiny_folder) == 1
    rows = table(jobs)
    assert [row["state"] for row in rows] == ["failed", "done", "refused", "refused", "done", "refused", "refused"]
    assert [row["line"] for row in rows] == list("1234567")
    assert "too little memory" in rows[0]["error"] and "no such file" in rows[2]["error"]
    assert rows[3]["error"].startswith("steps = 0") and rows[5]["error"] == "line 6 is no JSON object"
    assert rows[1]["frames"] == "25" and float(rows[1]["denoising (DiT)"]) > 0
    assert len(frames_of(folder / "out" / "job-0002.mp4")) == 25
    made = json.loads((folder / "out" / "job-0002.mp4.json").read_text())["request"]
    assert (made["seed"], made["steps"]) == (7, 1)
    assert len(loads) == 1
    assert len(reads) == len(set(reads)) and {"one", "two"} <= set(reads)
    before = (folder / "out" / "job-0002.mp4").stat().st_mtime_ns
    broken.append(False)
    assert batch(jobs, tiny_folder) == 2
    assert [row["state"] for row in table(jobs)][:5] == ["done", "before", "refused", "refused", "before"]
    assert (folder / "out" / "job-0002.mp4").stat().st_mtime_ns == before
    capsys.readouterr()


def test_ctrl_c_and_the_same_command_again(
    folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = write_jobs(folder / "jobs.jsonl", LINES[0], LINES[1])
    write = VideoWriter.write

    def stop(self: VideoWriter, frames: Any) -> None:
        if self.windows == 1:
            raise KeyboardInterrupt
        write(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(VideoWriter, "write", stop)
        assert batch(jobs, tiny_folder) == 130
    assert "Stopped after 1 of 2 lines; the same command goes on." in capsys.readouterr().out
    assert [row["state"] for row in table(jobs)] == ["done"]
    assert batch(jobs, tiny_folder) == 0
    assert [row["state"] for row in table(jobs)] == ["before", "done"]
    assert not (folder / "out" / "job-0002.mp4.job").exists()


def test_a_dry_run_checks_all_and_makes_nothing(
    folder: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = write_jobs(folder / "jobs.jsonl", *LINES)
    assert batch(jobs, tiny_folder, "--dry-run", "--price", "3600000", "--json") == 2
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["error"] is None for line in told[:-1]] == [True, True, False, False, True]
    assert told[1]["seconds"] == pytest.approx(1.0) and told[1]["work_seconds"] > 0 and told[1]["ram"] > 0
    plan = told[-1]
    assert (plan["lines"], plan["refused"]) == (5, 2)
    assert plan["cost"] == pytest.approx(1000 * plan["work_seconds"])
    assert not list((folder / "out").rglob("*.mp4")) and not (folder / "jobs-results.csv").exists()
    assert batch(jobs, tiny_folder, "--dry-run") == 2
    shown = capsys.readouterr().out
    assert "3 of 5 lines can be made: 2.0 s of video" in shown and "steps = 0" in shown


def test_a_table_of_texts(folder: Path, tiny_folder: Path) -> None:
    rows = [
        "image,audio,output,seed,boxes,apg,audio_strength,duration",
        'in/face.png,in/a.wav;in/b.wav,two.mp4,3,"0,0,0.5,1; 0.5,0,1,1",yes,1:0.5;2:0.25@0-1,0.5',
        "in/face.png,in/a.wav,two.mp4,,,,,",
        "in/face.png,in/a.wav,three.mp4,x,,,,",
        "in/face.png,in/a.wav,four.mp4,1,,maybe,,,,,",
    ]
    jobs = write_jobs(folder / "jobs.csv", "\ufeff" + "\n".join(rows) + "\n")
    assert batch(jobs, tiny_folder) == 2
    found = table(jobs)
    assert [row["state"] for row in found] == ["done", "refused", "refused", "refused"]
    assert [row["line"] for row in found] == ["2", "3", "4", "5"]
    assert "line 2 writes it too" in found[1]["error"] and "is not a whole number" in found[2]["error"]
    assert "more cells than the header" in found[3]["error"]
    request = json.loads((folder / "out" / "two.mp4.json").read_text())["request"]
    assert (len(request["audio"]), len(request["boxes"]), request["apg"], request["seed"]) == (2, 2, True, 3)
    assert len(request["audio_strength"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.jsonl", None, "cannot be read"),
        ("jobs.txt", "x", "must be a .jsonl or .csv file"),
        ("jobs.jsonl", "\n\n", "holds no job"),
        ("jobs.csv", 'a,b\n"x', "is no CSV"),
    ],
)
def test_files_that_are_no_batch(
    name: str, content: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["batch", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_readings_are_remembered_up_to_a_number() -> None:
    import torch

    class Source:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def encode(self, prompts: list[str]) -> list[torch.Tensor]:
            self.asked += prompts
            return [torch.tensor([float(len(prompt))]) for prompt in prompts]

    source = Source()
    readings = Readings(source)  # type: ignore[arg-type]
    assert [float(tokens) for tokens in readings.encode(["a", "bb", "a"])] == [1, 2, 1]
    for number in range(MOST):
        readings.encode(["a", f"prompt {number}"])
    assert source.asked.count("a") == 1
    readings.encode(["bb"])
    assert source.asked.count("bb") == 2
