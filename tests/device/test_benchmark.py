"""The comparison of the planner with what happens, with tiny networks: its steps work, and its table can be filled."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.planner import BOUNDS, COMBINATIONS, TINY_COMBINATIONS, compared, expected, fill_table, fit, main
from infinitetalk.core.calibration import TABLE, Figure, Rates, constant
from infinitetalk.runtime.pretend import VARIABLE


@pytest.mark.full
def test_every_tiny_combination_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--out", str(tmp_path / "out.json"), "--scratch", str(tmp_path)])
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == report
    assert [row["combination"] for row in report["rows"]] == [one.name for one in TINY_COMBINATIONS]
    for row in report["rows"]:
        assert row["measured"]["seconds"] > 0
        assert row["measured"]["ram"] > 0.1
        assert set(row["error"]) == {"ram", "seconds"}, "a CPU has no memory of its own"
    assert report["fitted"]["elementwise_bytes"] >= 0


def test_rows_tell_what_is_out_of_bounds() -> None:
    expects = {"vram": 10.0, "ram": 5.0, "seconds": 4.0}
    assert compared(COMBINATIONS[0], expects, {"vram": 10.5, "ram": 5.5, "seconds": 5.0})["within"]
    assert not compared(COMBINATIONS[0], expects, {"vram": 11.5, "ram": 5.5, "seconds": 5.0})["within"]
    assert not compared(COMBINATIONS[0], expects, {"vram": 10.5, "ram": 5.5, "seconds": 6.0})["within"]


def test_all_combinations_are_expected_on_an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "h100")
    assert len(COMBINATIONS) >= 8
    for one in COMBINATIONS:
        expects = expected(one, tiny=False)
        assert set(expects) == set(BOUNDS)
        assert 1 < expects["vram"] < 79
        assert 1 < expects["ram"] < 64
        assert 0.1 < expects["seconds"] < 100


def test_a_table_takes_what_was_measured(tmp_path: Path) -> None:
    table = tmp_path / "calibration.json"
    shutil.copy(TABLE, table)
    fill_table(
        table, "h100", {"coding": Figure(90e12, "measured", "a run"), "context_bytes": Figure(5e8, "measured", "a run")}
    )
    values = json.loads(table.read_text(encoding="utf-8"))
    row = next(row for row in values["rates"] if (row["card"], row["rate"]) == ("h100", "coding"))
    assert row == {"card": "h100", "rate": "coding", "value": 90, "status": "measured", "source": "a run"}
    assert values["constants"]["context_bytes"] == {"value": 5e8, "status": "measured", "source": "a run"}
    assert next(row for row in values["rates"] if row["card"] == "t4")["status"] == "estimate"


@pytest.mark.parametrize("card", ["h100", "a100"])
def test_what_was_expected_and_happened_is_fitted_to_itself(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, card)
    rows = [{"measured": expected(one, tiny=False) | {"context": 0.5}} for one in COMBINATIONS]
    fitted, rates = fit(rows, COMBINATIONS, card), Rates.of(card)
    assert fitted["products"].value == pytest.approx(rates.products.value, rel=1e-3)
    assert fitted["coding"].value == pytest.approx(rates.coding.value, rel=0.02), "motion frames are coded too"
    assert fitted["context_bytes"].value == 2**29
    assert not any(figure.estimate for figure in fitted.values())
    assert ("elementwise_bytes" in fitted) == (card == "h100")
    if card == "h100":
        assert fitted["elementwise_bytes"].value == pytest.approx(constant("elementwise_bytes").value, rel=1e-3)
