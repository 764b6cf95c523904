"""The mean of weights from several trainings."""

import json
from pathlib import Path

import pytest
import torch

from training.nano.soup import soup
from training.parts import load_parts, save_parts


def trained(folder: Path, value: float, **config: object) -> Path:
    """A folder with a network of three numbers in two files' worth of names."""
    folder.mkdir()
    save_parts({"one": torch.full((2,), value), "two": torch.tensor([10 * value])}, folder, "few")
    (folder / "few_config.json").write_text(json.dumps({"depth": 1, **config}))
    return folder


def test_weights_are_averaged_and_may_replace_one_of_them(tmp_path: Path) -> None:
    first, second = trained(tmp_path / "first", 1), trained(tmp_path / "second", 4)
    soup(second, "few", [first, first, second])
    assert {name: value.tolist() for name, value in load_parts(second, "few").items()} == {"one": [2, 2], "two": [20]}
    assert load_parts(first, "few")["two"].tolist() == [10]
    assert json.loads((second / "few_config.json").read_text()) == {"depth": 1}


def test_what_cannot_be_averaged_is_refused(tmp_path: Path) -> None:
    first = trained(tmp_path / "first", 1)
    with pytest.raises(ValueError, match="needs two folders"):
        soup(tmp_path / "out", "few", [first])
    with pytest.raises(ValueError, match="depth, key_frame differ"):
        soup(tmp_path / "out", "few", [first, trained(tmp_path / "second", 1, depth=2, key_frame="every")])
    with pytest.raises(FileNotFoundError, match="vae"):
        soup(tmp_path / "out", "vae", [first, first])
    assert not (tmp_path / "out").exists()
