"""What a video's length costs: the measurement works, and memory does not grow."""

import sys
from pathlib import Path

import pytest

from benchmarks.length import SPREAD, plan, run
from tools.make_tiny import make_tiny


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's figures are Linux's")
def test_forty_windows_take_the_memory_of_eight() -> None:
    """In processes of their own. All frames as they are made would be 5 % of memory, so the bound is tighter."""
    figures = run((8, 40), 21, 10.0)
    assert [row["windows"] for row in figures["rows"]] == [8, 40]
    assert figures["spread"] <= SPREAD * 0.6, figures


def test_ten_hours_are_planned_at_once(tmp_path: Path) -> None:
    found = plan(make_tiny(tmp_path / "tiny"), 81, 10.0)
    assert found["windows"] > 10_000
    assert found["plan_seconds"] < 2
