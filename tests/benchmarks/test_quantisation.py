"""The benchmark of fewer bits goes through all its steps, and measures what it says."""

import copy
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from benchmarks.quantisation import RESULTS, ROOT, TINY, filled, main, psnr, relative, table
from benchmarks.quantisers import BY_GGML, BY_GGUF, KINDS, Pack, _by_ggml, _load, find_ggml, quantisers
from benchmarks.subjects import Random, give, linears, reordered
from infinitetalk.core.sizes import Latents
from infinitetalk.ops.stored import Stored


@pytest.fixture(scope="module")
def library() -> Path:
    """ggml's library; the development tools bring it."""
    found = find_ggml()
    assert found is not None, "pip install pywhispercpp"
    return found


@pytest.fixture(scope="module")
def packs(library: Path) -> dict[str, Pack]:
    return dict(quantisers(library))


def measured(tmp_path: Path, *words: str) -> dict[str, Any]:
    out = tmp_path / "figures.json"
    main(["--out", str(out), *words])
    figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return figures


def test_a_tiny_random_network_in_every_kind(tmp_path: Path, library: Path) -> None:
    words = ("--full", "--tiny", "--device", "cpu", "--size", "64", "--frames", "9", "--steps", "2")
    figures = measured(tmp_path, *words, "--ggml", str(library))
    rows = {row["kind"]: row for row in figures["rows"]}
    assert list(rows) == ["bf16", *KINDS]
    assert figures["left_out"] == {}
    for kinds in (BY_GGUF, BY_GGML):
        for measure in ("forward", "latent", "weights_median"):
            errors = [rows[kind][measure] for kind in kinds]
            assert errors == sorted(errors), (measure, kinds)
        qualities = [rows[kind]["psnr_db"] for kind in kinds]
        assert qualities == sorted(qualities, reverse=True)
    # A channel 20 times as wide leaves int8's even steps to the others; fp8's steps get finer towards zero.
    assert rows["bf16"]["forward"] < rows["fp8"]["forward"] < rows["int8"]["forward"] < rows["Q4_0"]["forward"]
    assert rows["q4"]["stored_as"] == ["q4_k"]
    assert rows["Q4_K"]["bits_per_weight"] == 4.5
    assert len(table(figures).splitlines()) == 4 + 1 + len(KINDS)


@pytest.mark.full
def test_the_bundled_model_through_the_engine(tmp_path: Path, library: Path) -> None:
    words = ("--steps", "2", "--frames", "13", "--kinds", "fp8", "int8", "Q4_0", "Q4_K", "q4")
    figures = measured(tmp_path, *words, "--ggml", str(library))
    rows = {row["kind"]: row for row in figures["rows"]}
    assert list(rows) == ["bf16", "fp8", "int8", "Q4_0", "q4"]
    assert figures["left_out"] == {"Q4_K": "rows of 128 weights are no whole blocks of 256"}
    # Its file is int8 by rows: stored so again, nothing may change, on any way through the engine.
    assert (rows["int8"]["forward"], rows["int8"]["latent"], rows["int8"]["psnr_db"]) == (0, 0, None)
    assert 0 < rows["fp8"]["forward"] < rows["Q4_0"]["forward"] < 0.5
    assert 0 < rows["fp8"]["latent"] < rows["Q4_0"]["latent"] < 0.5
    assert rows["fp8"]["psnr_db"] > rows["Q4_0"]["psnr_db"] > 15
    assert rows["q4"]["stored_as"] == ["q4_0", "q4_k"]


def test_the_random_network_is_one_with_all_its_blocks(packs: dict[str, Pack]) -> None:
    subject = Random(TINY, Latents(2, 4, 4), "cpu", 1)
    stored = {name: packs["Q4_K"](matrix) for name, matrix in subject.matrices().items()}
    with torch.inference_mode():
        for matrices in (subject.matrices(), stored):
            subject.take(matrices, torch.bfloat16)
            subject.run()
            whole = copy.deepcopy(subject.hollow)
            for number in range(TINY.num_layers):
                block = copy.deepcopy(subject.block)
                for name, layer in linears(block).items():
                    give(layer, reordered(matrices[name], subject.orders[name][number]), torch.bfloat16)
                whole.blocks.append(block)
            told = {name: value for name, value in subject.given.items() if name not in ("latent", "masks")}
            latent, when, _ = subject.points[0]
            velocity = whole(latent, when, **told)
            assert torch.equal(velocity, subject.answers()[0])


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_minds_the_order_of_rows(kind: str, packs: dict[str, Pack]) -> None:
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(48, 512, generator=generator)
    order = torch.randperm(48, generator=generator)
    moved = reordered(packs[kind](matrix), order)
    assert isinstance(moved, Stored)
    assert torch.equal(moved.dequantise(torch.float32), packs[kind](matrix[order]).dequantise(torch.float32))
    assert 0 < relative(moved.dequantise(torch.float32), matrix[order]) < 0.4


@pytest.mark.parametrize("kind", BY_GGUF)
def test_ggmls_library_is_called_rightly(kind: str, library: Path) -> None:
    rows = np.random.default_rng(3).standard_normal((7, 512), dtype=np.float32)
    ours = _by_ggml(_load(library), kind, rows)
    assert np.array_equal(ours, gguf.quants.quantize(rows, gguf.GGMLQuantizationType[kind]))


def test_the_measures() -> None:
    assert relative(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.8)
    black, grey = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 51, np.uint8)
    assert psnr(grey, black) == pytest.approx(20 * np.log10(5))
    assert psnr(grey, grey) is None


def test_the_documents_tables_are_the_committed_results() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert (RESULTS / "quantisation_nano.json").is_file()
    assert filled(text, RESULTS) == text
    with pytest.raises(SystemExit, match="one pair of marks"):
        filled(text.replace("<!-- quantisation nano -->", ""), RESULTS)
