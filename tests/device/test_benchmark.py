"""The comparison of the planner with what happens, with tiny networks: its steps work, and its table can be filled."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.planner import (
    BOUNDS,
    COMBINATIONS,
    TINY_COMBINATIONS,
    Situation,
    as_if,
    compared,
    expected_anew,
    fill_table,
    fit,
    main,
    row,
)  # fmt: skip
from infinitetalk.core import planner
from infinitetalk.core.calibration import TABLE, Figure, Rates, constant
from infinitetalk.core.units import GIB


@pytest.mark.full
def test_every_tiny_combination_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    main(["--tiny", "--out", str(out), "--scratch", str(tmp_path)])
    report = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == report
    assert [told["combination"] for told in report["rows"]] == [one.name for one in TINY_COMBINATIONS]
    for told in report["rows"]:
        assert told["measured"]["seconds"] > 0
        assert told["measured"]["ram"] > 0.1
        assert set(told["error"]) == {"ram", "seconds"}, "a CPU has no memory of its own"
        assert set(told["shapes"]["work"]) >= {"size", "branches", "words"}


def test_rows_tell_what_is_out_of_bounds() -> None:
    expects = {"vram": 10.0, "ram": 5.0, "seconds": 4.0}
    assert compared(expects, {"vram": 10.5, "ram": 5.5, "seconds": 5.0})["within"]
    assert not compared(expects, {"vram": 11.5, "ram": 5.5, "seconds": 5.0})["within"]
    assert not compared(expects, {"vram": 10.5, "ram": 5.5, "seconds": 6.0})["within"]


def _rows(card: str) -> list[dict[str, Any]]:
    """What would be told if all happened as it was expected."""
    made: list[dict[str, Any]] = []
    for one in COMBINATIONS:
        size = [int(side) for side in (one.size or "640x640").split("x")]
        work = {"size": size, "window_frames": one.frames, "motion_frames": 9, "steps": 1, "branches": 3}
        tier = {"tier": one.memory, "resident_blocks": 40 if one.memory == "resident" else 4}
        told: dict[str, Any] = {
            "lodging": {"keep_encoders": one.memory == "resident"} | tier,
            "shapes": {
                "networks": {"dit_bytes": 1.0 if one.kind == "fp8" else None, "text_bytes": 1.0},
                "work": work | {"words": [60, 200]},
            },
        }
        now = Situation.of(asdict(one) | told, card)
        coding = planner.coding_seconds(now.lodging, now.networks, now.work, now.machine)
        plan = now.plan().prediction
        told |= {
            "expected_vram_gib": {stage: count / GIB for stage, count in plan.vram.items()},
            "expected_ram_gib": plan.ram / GIB,
            "expected_window_seconds": plan.window_seconds,
            "ram_own_peak_gib": plan.ram / GIB,
            "vram_peak_gib": plan.vram_peak / GIB,
            "reserved_peak_gib": plan.vram_peak / GIB - 0.5,
            "on_gpu": True,
            "window_seconds": [0.0, plan.window_seconds],
            "stage_seconds": {
                "lip sync and motion": coding, "sparse key frames": coding,
                "denoising (DiT)": 2 * (plan.window_seconds - coding),
            },
        }  # fmt: skip
        made.append(row(one, told))
    return made


def test_all_combinations_are_expected_on_an_h100() -> None:
    assert len(COMBINATIONS) >= 8
    assert len({one.memory for one in COMBINATIONS} | {one.kind for one in COMBINATIONS}) == 5
    for told in _rows("h100"):
        timed = set(BOUNDS) - ({"seconds"} if told["pretend"] else set())
        assert set(told["error"]) == timed
        assert all(abs(error) < 1e-9 for error in told["error"].values())
        assert 1 < told["expected"]["vram"] < 79
        assert 1 < told["expected"]["ram"] < 64
        assert expected_anew(told, "h100")["expected"] == pytest.approx(told["expected"])
        late = {"measured": told["measured"] | {"vram": 2 * told["measured"]["vram"]}}
        assert not expected_anew(told | late, "h100")["within"]


def test_a_table_takes_what_was_measured(tmp_path: Path) -> None:
    table = tmp_path / "calibration.json"
    shutil.copy(TABLE, table)
    fill_table(
        table, "h100", {"coding": Figure(90e12, "measured", "a run"), "context_bytes": Figure(5e8, "measured", "a run")}
    )
    values = json.loads(table.read_text(encoding="utf-8"))
    told = next(told for told in values["rates"] if (told["card"], told["rate"]) == ("h100", "coding"))
    assert told == {"card": "h100", "rate": "coding", "value": 90, "status": "measured", "source": "a run"}
    assert values["constants"]["context_bytes"] == {"value": 5e8, "status": "measured", "source": "a run"}
    assert next(told for told in values["rates"] if told["card"] == "t4")["status"] == "estimate"


@pytest.mark.parametrize("card", ["h100", "a100"])
def test_what_was_expected_and_happened_is_fitted_to_itself(card: str) -> None:
    fitted, rates = fit(_rows(card), card), Rates.of(card)
    assert fitted["products"].value == pytest.approx(rates.products.value, rel=1e-3)
    assert fitted["coding"].value == pytest.approx(rates.coding.value, rel=1e-3)
    assert fitted["process_ram"].value == pytest.approx(constant("process_ram").value, rel=1e-3)
    assert fitted["context_bytes"].value == pytest.approx(2**29)
    assert not any(figure.estimate for figure in fitted.values())
    assert ("elementwise_bytes" in fitted) == (card == "h100")
    if card == "h100":
        assert fitted["elementwise_bytes"].value == pytest.approx(constant("elementwise_bytes").value, rel=1e-3)


def test_a_card_is_pretended_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFINITETALK_PRETEND", "l4")
    assert as_if("h100").card is not None
    assert as_if("h100").name.startswith("NVIDIA H100")
    assert as_if("t4").name == "Tesla T4"


def test_names_say_what_distinguishes() -> None:
    assert len({one.name for one in COMBINATIONS}) == len(COMBINATIONS)
    assert replace(COMBINATIONS[1], vram=None).name != COMBINATIONS[1].name
