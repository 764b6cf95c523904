"""The benchmark of loading goes through all its steps with a tiny network."""

import json
from pathlib import Path

import pytest

from benchmarks.load import main


@pytest.mark.parametrize("tier", ["disk", pytest.param("resident", marks=pytest.mark.full)])
def test_loading_a_tiny_converted_network(tier: str, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    main(["--tiny", "--out", str(out), "--scratch", str(tmp_path), "--tier", tier])
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert (figures["tier"], figures["kind"], figures["blocks"]) == (tier, "fp8", 5)
    assert 0 < figures["seconds"] < 60
    assert 0 < figures["resident_before_gib"] <= figures["peak_resident_gib"]
    assert figures["file_gib"] * 2**30 == (tmp_path / "tiny-fp8" / "dit.safetensors").stat().st_size
