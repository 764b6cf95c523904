"""Matrices in fewer bits: how far their values are from what they were, and that others read the blocks alike."""

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.ops.pack import PACKERS, four_bits, pack_q4
from infinitetalk.ops.stored import Stored
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.read import read_tensors


def values(kind: str, matrix: Tensor) -> Tensor:
    return PACKERS[kind](matrix).dequantise(torch.float32)


def error(found: Tensor, matrix: Tensor) -> float:
    return float((found - matrix).norm() / matrix.norm())


def gaussian(rows: int, width: int, *, outliers: bool) -> Tensor:
    matrix = torch.randn(rows, width, generator=torch.Generator().manual_seed(3)) * 0.02
    if outliers:  # as trained networks have: one input channel in 500 at 20 sigma
        matrix[:, ::500] *= 20
    return matrix


@pytest.mark.parametrize(
    ("kind", "outliers", "bound"),
    [("int8", False, 0.0090), ("fp8", False, 0.027), ("q4", False, 0.076),
     ("int8", True, 0.070), ("fp8", True, 0.025), ("q4", True, 0.091)],
)  # fmt: skip
def test_errors_of_random_matrices(kind: str, outliers: bool, bound: float) -> None:
    matrix = gaussian(256, 5120, outliers=outliers)
    assert bound / 2 < error(values(kind, matrix), matrix) < bound


def test_four_bits_beat_the_gguf_packages_own() -> None:
    for outliers in (False, True):
        matrix = gaussian(128, 1024, outliers=outliers)
        for name in ("Q4_0", "Q4_1"):  # the second one takes half a bit more
            kind = gguf.GGMLQuantizationType[name]
            theirs = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(matrix.numpy(), kind), kind))
            assert error(values("q4", matrix), matrix) < error(theirs, matrix)
        narrow = matrix[:, :992].contiguous()
        q4_0 = gguf.GGMLQuantizationType.Q4_0
        theirs = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(narrow.numpy(), q4_0), q4_0))
        assert error(values("q4", narrow), narrow) < error(theirs, narrow)


@pytest.mark.parametrize(("width", "kind"), [(1024, "Q4_K"), (256, "Q4_K"), (320, "Q4_0"), (32, "Q4_0")])
def test_the_gguf_package_reads_the_same_values(width: int, kind: str) -> None:
    matrix = gaussian(24, width, outliers=True)
    packed = pack_q4(matrix)
    assert packed.ggml == four_bits(width) == kind
    theirs = gguf.quants.dequantize(packed.data.numpy().reshape(24, -1), gguf.GGMLQuantizationType[kind])
    assert np.array_equal(theirs.reshape(24, width), packed.dequantise(torch.float32).numpy())


def test_widths_without_whole_blocks_are_told() -> None:
    assert four_bits(48) is None
    with pytest.raises(ValueError, match="rows of 48 weights"):
        pack_q4(torch.ones(2, 48))


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("value", [0.0, 0.3, -0.3, 1e-30])
def test_rows_of_one_value(kind: str, value: float) -> None:
    found = values(kind, torch.full((3, 256), value))
    assert torch.allclose(found, torch.full((3, 256), value), rtol=1e-3, atol=1e-7)


# Rows of few large numbers cost most in 4 bits; what is normally distributed costs 0.081 there.
@pytest.mark.parametrize(("kind", "usual", "worst"), [
    ("int8", 1e-9, 1e-9), ("fp8", 0.027, 0.027), ("q4", 0.085, 0.11),
])  # fmt: skip
def test_errors_of_trained_matrices(kind: str, usual: float, worst: float) -> None:
    """nano's own: they are stored in 8 bits, which come back as they were."""
    tensors = read_tensors(ModelFolder.open("nano").dit.files)
    stored = [value for value in tensors.values() if isinstance(value, Stored) and len(value.shape) == 2]
    matrices = [value.dequantise(torch.float32) for value in stored]
    assert len(matrices) > 50
    errors = sorted(error(values(kind, matrix), matrix) for matrix in matrices)
    assert errors[len(errors) // 2] < usual
    assert errors[-1] < worst
