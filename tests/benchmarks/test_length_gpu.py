"""The cost of length: what is straight and flat, and all of it with narrow networks."""

import json
from pathlib import Path

from benchmarks.length_gpu import judged, main


def test_time_is_straight_if_a_window_more_costs_the_same() -> None:
    rows = [{"windows": count, "seconds": 3.0 + 2.0 * count, "peak_gib": 40.0} for count in (1, 4, 16)]
    told = judged(rows)
    assert told["seconds_of_a_window_more"] == [2.0, 2.0]
    assert told["straight"]
    assert told["flat"]
    bent = judged([*rows[:2], {**rows[2], "seconds": 38.0}])
    assert not bent["straight"]
    grown = judged([*rows[:2], {**rows[2], "peak_gib": 41.0}])
    assert not grown["flat"]
    assert judged([rows[0], {**rows[1], "peak_gib": 30.0}])["flat"]


def test_all_lengths_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "length.json"
    main(["--tiny", "--windows", "1", "2", "--out", str(out)])
    told = json.loads(out.read_text(encoding="utf-8"))
    assert [row["windows"] for row in told["rows"]] == [1, 2]
    assert [len(row["each_seconds"]) for row in told["rows"]] == [1, 2]
    assert [row["new_frames"] for row in told["rows"]] == [9, 13]
    assert told["rows"][1]["seconds"] >= sum(told["rows"][1]["each_seconds"])
    assert "straight" in told
