"""The verifier: all golden cases pass, and whatever is no case fails with its reason."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from infinitetalk.core.errors import MediaError
from infinitetalk.core.input_json import legacy_box
from infinitetalk.engine.golden import check, verify
from infinitetalk.engine.golden_case import Case

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))


def test_all_kinds_are_there() -> None:
    assert len(CASES) == 15


@pytest.mark.parametrize("name", CASES)
def test_case_passes(name: str) -> None:
    result = check(GOLDEN / f"{name}.safetensors")
    assert result.passed, result
    assert 0 <= result.error <= result.bound


def test_folder_is_verified_in_order_of_names(tmp_path: Path) -> None:
    for name in ("guidance", "color"):
        (tmp_path / f"{name}.safetensors").write_bytes((GOLDEN / f"{name}.safetensors").read_bytes())
    assert [(result.case, result.passed) for result in verify(tmp_path)] == [("color", True), ("guidance", True)]


def test_a_changed_output_fails(tmp_path: Path) -> None:
    tensors = load_file(GOLDEN / "guidance.safetensors")
    tensors["apg2"] = tensors["apg2"] * 1.001
    save_file(tensors, tmp_path / "guidance.safetensors", {"meta": json.dumps(_meta("guidance"))})
    result = check(tmp_path / "guidance.safetensors")
    assert not result.passed
    assert result.note == "adaptive guidance, step 2"
    assert result.error == pytest.approx(1e-3, rel=0.01)


def test_not_a_number_fails(tmp_path: Path) -> None:
    tensors = load_file(GOLDEN / "color.safetensors")
    tensors["strength_1"] = torch.full_like(tensors["strength_1"], torch.nan)
    save_file(tensors, tmp_path / "color.safetensors", {"meta": json.dumps(_meta("color"))})
    assert not check(tmp_path / "color.safetensors").passed


def test_a_case_without_comparisons_fails(tmp_path: Path) -> None:
    tensors = {name: value for name, value in load_file(GOLDEN / "color.safetensors").items() if "strength" not in name}
    save_file(tensors, tmp_path / "color.safetensors", {"meta": json.dumps(_meta("color"))})
    assert not check(tmp_path / "color.safetensors").passed


def _meta(name: str) -> Mapping[str, Any]:
    return Case.read(GOLDEN / f"{name}.safetensors").meta


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("unheard_of.safetensors", None, "is of no known kind; names start with dit, vae"),
        ("dit_broken.safetensors", b"not a tensor file", "SafetensorError"),
    ],
)
def test_what_is_no_case_is_a_failed_row(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    data = content if content is not None else (GOLDEN / "color.safetensors").read_bytes()
    (tmp_path / name).write_bytes(data)
    (result,) = verify(tmp_path)
    assert not result.passed
    assert reason in result.note
    assert result.to_json()["error"] is None
    json.dumps(result.to_json(), allow_nan=False)


def test_a_file_without_metadata_is_a_failed_row(tmp_path: Path) -> None:
    save_file(load_file(GOLDEN / "color.safetensors"), tmp_path / "color.safetensors")
    assert "no golden case" in check(tmp_path / "color.safetensors").note


def test_a_case_with_metadata_of_another_shape_is_a_failed_row(tmp_path: Path) -> None:
    meta = {**_meta("pipeline_image_two_clips"), "buckets": [640, 640]}
    save_file(load_file(GOLDEN / "color.safetensors"), tmp_path / "pipeline.safetensors", {"meta": json.dumps(meta)})
    assert "AttributeError" in check(tmp_path / "pipeline.safetensors").note


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="has no golden cases"):
        list(verify(tmp_path))
    with pytest.raises(MediaError, match="no such folder"):
        list(verify(tmp_path / "nowhere"))


def test_reference_boxes_begin_with_rows() -> None:
    assert legacy_box([6, 8, 50, 40]) == (8, 6, 40, 50)
