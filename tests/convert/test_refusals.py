"""What cannot be converted is one clear line, with its exit code, and nothing is written."""

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from infinitetalk.cli.main import main
from tests.weights.loose import make_loose

Refuse = Callable[..., str]


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Runs `convert`, which must refuse, and gives the line that it says."""

    def run(code: int, *words: str) -> str:
        output = tmp_path / "out" / "made"
        assert main(["convert", *words, "--output", str(output), "--device", "cpu"]) == code
        told = capsys.readouterr()
        assert told.err.count("\n") == 1, told.err
        assert not output.exists()
        assert not output.parent.exists(), "nothing may be written"
        return told.err

    return run


def test_not_enough_disk(refuse: Refuse, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 10**8))
    line = refuse(1, str(tiny_folder))
    assert "0.3 GB are needed, and its disk has 0.1 GB left: make 0.2 GB free" in line


def test_no_permission(refuse: Refuse, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "nothing may be written to" in refuse(1, str(tiny_folder))


def test_a_file_where_the_folder_should_go(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["convert", str(tiny_folder), "--output", str(tmp_path / "file" / "made"), "--device", "cpu"]) == 1
    assert "nothing may be written to" in capsys.readouterr().err
    assert main(["convert", str(tiny_folder), "--output", str(tmp_path / "file"), "--device", "cpu"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_an_unknown_kind(refuse: Refuse, tiny_folder: Path) -> None:
    assert "invalid choice: 'q3'" in refuse(2, str(tiny_folder), "--kind", "q3")


def test_no_output(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tiny_folder)]) == 2
    assert "--output FOLDER says where" in capsys.readouterr().err


def test_a_base_without_an_adapter(
    refuse: Refuse, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    loose = make_loose(tiny_folder, tmp_path / "loose")
    shutil.rmtree(loose / "InfiniteTalk")
    assert "lacking: an InfiniteTalk adapter" in refuse(2, str(loose))


def test_a_manifest_that_lists_a_base_alone(refuse: Refuse, tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bare"
    shutil.copytree(tiny_folder, copy)
    manifest = json.loads((copy / "model.json").read_text())
    manifest["parts"]["dit"]["files"].remove("infinitetalk.safetensors")
    (copy / "model.json").write_text(json.dumps(manifest))
    assert "missing (audio_proj" in refuse(2, str(copy))


def test_a_lora_that_does_not_fit(refuse: Refuse, tiny_folder: Path, tmp_path: Path) -> None:
    other = {"diffusion_model.blocks.0.ffn.0.lora_down.weight": torch.ones(2, 96),
             "diffusion_model.blocks.0.ffn.0.lora_up.weight": torch.ones(256, 2)}  # fmt: skip
    save_file(other, tmp_path / "other.safetensors")
    line = refuse(2, str(tiny_folder), "--lora", str(tmp_path / "other.safetensors"))
    assert "is for another model" in line
    assert "there is no such" in refuse(2, str(tiny_folder), "--lora", str(tmp_path / "none.safetensors"))


def test_a_damaged_file(refuse: Refuse, tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(tiny_folder, copy)
    path = copy / "infinitetalk.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "infinitetalk.safetensors" in refuse(2, str(copy))


def test_a_text_kind_without_a_text_encoder(refuse: Refuse) -> None:
    assert "has no text encoder" in refuse(2, "nano", "--text-kind", "int8")


def test_numbers_that_are_not_finite_or_too_large(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "large"
    shutil.copytree(tiny_folder, copy)
    state = load_file(copy / "infinitetalk.safetensors")
    for value, kind, told in ((1e5, "fp16", "beyond float16's 65504"), (float("nan"), "fp8", "not finite")):
        state["blocks.0.norm_x.weight"] = torch.full_like(state["blocks.0.norm_x.weight"], value)
        save_file(state, copy / "infinitetalk.safetensors")
        output = str(tmp_path / kind)
        assert main(["convert", str(copy), "--output", output, "--kind", kind, "--device", "cpu"]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "blocks.0.norm_x.weight" in line
        assert told in line


def test_another_version_of_the_format_is_refused(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made"
    assert main(["convert", str(tiny_folder), "--output", str(output), "--kind", "fp8", "--device", "cpu"]) == 0
    path = output / "dit.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"infinitetalk_format":"1"', b'"infinitetalk_format":"9"', 1))
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 2
    assert "has the format 9; this version reads format 1" in capsys.readouterr().err


def test_json_and_text_tell_of_progress(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", str(tiny_folder), "--kind", "int8", "--device", "cpu", "--output"]
    assert main([*words, str(tmp_path / "one"), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["begin", "done"]
    last = [event for event in events if event["event"] == "progress"][-1]
    assert last["done"] == last["total"] == events[0]["total"]
    assert last["seconds_left"] == 0
    assert events[-1]["folder"] == str(tmp_path / "one")
    assert main([*words, str(tmp_path / "two")]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("writing ")
    assert "--model" in told.out
    assert main(["models", str(tmp_path), "--json"]) == 0
    listed = [model for model in json.loads(capsys.readouterr().out) if model["path"] == str(tmp_path / "one")]
    assert [model["whole"] for model in listed] == [True]
