"""The document's arithmetic follows from the committed measurements."""

import json
from pathlib import Path

import pytest

from benchmarks import ten_thousand_hours as hours
from benchmarks.quantisation import RESULTS, put

PAGE = Path(__file__).parents[2] / "docs" / "ray.md"


def test_the_documents_table_is_that_of_the_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    fresh = put(text, hours.MARKS, hours.table())
    assert fresh == text, "run: python -m benchmarks.ten_thousand_hours --table docs/ray.md"
    stale = tmp_path / "stale.md"
    stale.write_text(put(text, hours.MARKS, "old"), encoding="utf-8")
    assert hours.main(["--table", str(stale)]) == 0 and stale.read_text(encoding="utf-8") == text
    assert hours.main([]) == 0 and "GPU-hours" in capsys.readouterr().out


def test_the_arithmetic() -> None:
    first = hours.rows()[0]
    window = json.loads((RESULTS / "speed_fast_h100.json").read_text())["windows"]["one branch"]
    assert first["rate"] == pytest.approx(window["seconds"] / (72 / 25))
    assert first["gpu_hours"] == pytest.approx(10_000 * first["rate"])
    assert first["gpus"] * 0.9 * 30 * 24 == pytest.approx(first["gpu_hours"])
    assert first["cost"] == pytest.approx(first["gpu_hours"] / 0.9 * 2.5)
    four = hours.rows()[2]
    together = json.loads((RESULTS / "gpus_h200.json").read_text())["four"]["windows"]
    assert four["rate"] == pytest.approx(4 * together["seconds"] / (72 / 25))
