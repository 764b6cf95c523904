"""The benchmark of memory goes through all its steps with a tiny network, and every tier says the same."""

import json
from pathlib import Path

from benchmarks.memory import main


def test_all_tiers_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "memory.json"
    words = ("--tiny", "--out", str(out), "--tiers", "resident", "pinned", "disk", "--repeats", "1")
    main([*words, "--scratch", str(tmp_path)])
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert [told["tier"] for told in figures["tiers"]] == ["resident", "pinned", "disk"]
    assert figures["compared"]["finite"] is True
    assert figures["compared"]["pinned_against_resident_largest_difference"] == 0
    assert figures["compared"]["disk_against_resident_largest_difference"] == 0
    assert all(told["3_branches_seconds"] > 0 for told in figures["tiers"])
    assert figures["tiers"][1]["moved_gib"] > figures["tiers"][1]["slots_gib"] > 0
    assert not list(tmp_path.glob("weights-*"))
