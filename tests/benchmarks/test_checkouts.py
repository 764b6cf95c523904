"""Others' own code against ours on the same random weights, where their checkouts are; and what is lent to them.

INFINITETALK_CHECKOUTS names a folder with checkouts of MeiGen-AI/InfiniteTalk (`InfiniteTalk`) and ModelTC/LightX2V
(`LightX2V`). Their packages must be installed.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from infinitetalk.bench import lightx2v, run
from infinitetalk.bench.task import FORWARD, Task
from infinitetalk.core.errors import MachineError, UsageError

FOLDER = os.environ.get("INFINITETALK_CHECKOUTS")
SMALL: dict[str, Any] = {
    "device": "cpu", "size": (64, 64), "frames": 9, "motion": 5, "steps": 1, "repeats": 1, "audio_scale": 2.0,
    "blocks": 2, "heads": 2, "vae_width": 8,
}  # fmt: skip


@pytest.mark.skipif(FOLDER is None, reason="INFINITETALK_CHECKOUTS names no checkouts")
def test_they_compute_what_we_compute() -> None:
    rivals: dict[str, str | None] = {
        "reference": str(Path(FOLDER or "", "InfiniteTalk")),
        "lightx2v": str(Path(FOLDER or "", "LightX2V")),
    }
    work = run.tasks(Task(subject="ours", **SMALL), rivals)
    eight = [Task(**{**SMALL, "subject": "lightx2v", "mode": mode, "checkout": rivals["lightx2v"], "parts": (FORWARD,)})
             for mode in ("fp8-torchao, torch_sdpa",)]  # fmt: skip
    ours, reference, theirs, again, narrow = run.run([*work[1:], *eight])
    for result in (ours, reference, theirs, again, narrow):
        assert result.error is None, result.task.name
    assert reference.figures["error_to_ours"] < 1e-5
    assert 1e-4 < theirs.figures["error_to_ours"] < 2e-2, "it computes in bfloat16"
    assert theirs.figures["error_to_ours"] < narrow.figures["error_to_ours"] < 6e-2
    for part in ("forward", "step", "encode", "decode", "window"):
        assert theirs.figures[f"{part}_seconds"] > 0


@pytest.mark.parametrize(("linears", "most"), [("fp8-torchao", 0.04), ("int8-triton", 0.012)])
def test_matrices_in_8_bits_have_a_scale_for_each_row(linears: str, most: float) -> None:
    matrix = torch.randn(32, 512, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 33).unsqueeze(1)
    narrow, scale = lightx2v._in_eight(matrix.bfloat16(), linears)
    assert narrow.element_size() == 1
    assert scale.shape == (32, 1)
    error = (narrow.float() * scale - matrix).norm(dim=1) / matrix.norm(dim=1)
    assert error.max() < most
    assert error.min() > 1e-3


def test_the_quickest_kernel_that_works_is_taken() -> None:
    def broken() -> None:
        raise RuntimeError("no such card")

    numbers = torch.randn(256, 256)

    def slow() -> object:
        return [numbers @ numbers for _ in range(20)]

    cpu = torch.device("cpu")
    assert lightx2v._quickest({"broken": broken, "slow": slow, "quick": lambda: numbers + 1}, cpu) == "quick"
    assert lightx2v._quickest({"broken": broken, "other": broken}, cpu) == "other"


def test_all_packages_that_are_lacking_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightx2v, "absent", lambda names: [name for name in names if name in ("loguru", "gguf")])
    with pytest.raises(UsageError):
        run.check({"lightx2v": str(tmp_path)})
    task = Task(subject="lightx2v", checkout=str(tmp_path), **SMALL)
    with pytest.raises(MachineError, match="LightX2V needs loguru, gguf: pip install loguru gguf"):
        lightx2v.measure(task)
