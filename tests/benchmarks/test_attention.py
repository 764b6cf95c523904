"""The benchmark of attention: small shapes on a CPU, its errors and rates, and back ends that fail."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.attention import FULL, HEADS, TINY, WIDTH, compare, inputs, main
from infinitetalk.ops.attention import sdpa
from infinitetalk.runtime.device import Device


def test_small_shapes_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "attention.json"
    main(["--out", str(out), "--device", "cpu", "--tiny", "--rounds", "2"])
    figures = json.loads(out.read_text(encoding="utf-8"))
    for dtype, bound in (("bfloat16", 1e-2), ("float16", 2e-3)):
        for kind, shape in TINY.items():
            told = figures[dtype][kind]
            assert told["shape"] == [*shape, 4, 16]
            assert set(told["back_ends"]) == {"math", "flash"}
            for row in told["back_ends"].values():
                assert row["relative_error"] < bound
                seconds = row["milliseconds"] / 1e3
                assert row["tflops"] * 1e12 * seconds == pytest.approx(shape.operations(4, 16))
    assert len(capsys.readouterr().out.splitlines()) == 2 * 3 * 2


def test_a_cpu_is_not_asked_for_full_sizes(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "none.json"), "--device", "cpu"])
    assert not (tmp_path / "none.json").exists()


def test_full_sizes_are_those_of_the_network() -> None:
    tokens, frames = 33600, 21
    assert FULL["self"].length == FULL["self"].told == FULL["text"].length == tokens
    assert (FULL["sound"].batch, FULL["sound"].batch * FULL["sound"].length) == (frames, tokens)
    assert FULL["self"].operations(HEADS, WIDTH) == pytest.approx(23.1e12, rel=1e-2)


@torch.inference_mode()
def test_one_that_fails_and_one_that_is_wrong_are_told_as_such() -> None:
    def fails(*_: Tensor) -> Tensor:
        raise RuntimeError("No available kernel\nand more")

    def wrong(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa(q, k, v) * 1.5

    given = inputs(TINY["text"], 2, 16, Device.choose("cpu"))
    rows = compare({"fails": fails, "wrong": wrong, "right": sdpa}, given, 1e9, 1)
    assert rows["fails"] == {"failed": "No available kernel"}
    assert rows["wrong"]["relative_error"] == pytest.approx(0.5, abs=1e-3)
    assert rows["right"]["relative_error"] < 1e-5
