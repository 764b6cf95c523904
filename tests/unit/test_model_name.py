"""`--model`: a name, a path, or several paths with commas between them."""

import os
from pathlib import Path

import pytest

from infinitetalk.core.model_name import absolute_model, split_model


def test_commas_part_paths_but_not_the_name_of_one(tmp_path: Path) -> None:
    assert split_model("nano") == ("nano",)
    assert split_model("a.gguf, b.safetensors,") == ("a.gguf", "b.safetensors")
    odd = tmp_path / "one,two"
    odd.mkdir()
    assert split_model(str(odd)) == (str(odd),)


def test_a_repeated_job_finds_its_model_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.gguf", "b.safetensors"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    there = tmp_path.as_posix()
    assert absolute_model("a.gguf,b.safetensors") == f"{there}/a.gguf,{there}/b.safetensors"
    assert absolute_model("a.gguf") == f"{there}/a.gguf"
    assert absolute_model("nano") == "nano"
    os.chdir("/")
    assert absolute_model("a.gguf,b.safetensors") == "a.gguf,b.safetensors"
