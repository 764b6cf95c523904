"""The benchmark of step caching measures what it says, and the document shows what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks.caching import RESULT, SETTINGS, STEPS, filled, main, table
from benchmarks.quantisation import RESULTS, ROOT


@pytest.mark.full
def test_a_short_window_with_each_method(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    main(["--out", str(out), "--steps", "7", "--frames", "13", "--settings", "1"])
    figures = json.loads(out.read_text(encoding="utf-8"))
    tea, taylor = figures["rows"]
    assert (tea["step_cache"], taylor["step_cache"], taylor["cache_interval"]) == ("teacache", "taylorseer", 2)
    assert (taylor["asked"], taylor["steps"]) == (5, 7)
    assert taylor["saved"] == pytest.approx(2 / 7)
    assert 0 < taylor["latent"] < 0.5
    assert 20 < taylor["psnr_db"] < 80
    assert 5 <= tea["asked"] <= 7
    assert (tea["latent"] == 0) == (tea["asked"] == 7)
    assert len(table(figures).splitlines()) == 6


def test_the_committed_result_keeps_30_db() -> None:
    rows = json.loads((RESULTS / RESULT).read_text(encoding="utf-8"))["rows"]
    assert len(rows) == len(STEPS) * len(SETTINGS)
    halves = [row for row in rows if row["saved"] >= 0.5]
    assert {row["steps"] for row in halves} == set(STEPS)
    assert all(row["psnr_db"] > 30 for row in halves)


def test_the_documents_table_is_the_committed_result() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert filled(text, RESULTS) == text
    with pytest.raises(SystemExit, match="one pair of marks"):
        filled(text.replace("<!-- caching nano -->", ""), RESULTS)
