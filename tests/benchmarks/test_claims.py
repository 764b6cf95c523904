"""The table of the first notebook's figures is what the command writes, and its verdicts follow from its numbers."""

import json
from pathlib import Path

import pytest

from benchmarks import bench_table, claims
from benchmarks.claims import CLAIMS, Answer, Claim, answers, main, operations, table, verdict, work_of
from benchmarks.quantisation import RESULTS, put
from infinitetalk.core.presets import PRESETS

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"


def test_the_document_has_the_table_that_the_command_writes(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert put(text, claims.MARKS, table()) == text, "run: python -m benchmarks.claims --table docs/performance.md"
    stale = tmp_path / "performance.md"
    stale.write_text(put(text, claims.MARKS, "old"), encoding="utf-8")
    main(["--table", str(stale)])
    assert stale.read_text(encoding="utf-8") == text


def test_the_document_has_the_measured_tables() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert bench_table.filled(text, RESULTS) == text, (
        "run: python -m benchmarks.bench_table --table docs/performance.md"
    )


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.card)
def test_every_card_has_an_answer_that_is_marked(claim: Claim) -> None:
    found = answers(claim.card)
    assert found[0].frames_per_second == max(one.frames_per_second for one in found) > 0
    assert all(one.estimate for one in found), "nobody measured these cards"
    assert found[0].operations > 0


def test_a_figure_that_is_reached_is_said_to_be() -> None:
    quick, frugal = Answer("a", 2.0, True, 4e12, 4, 1), Answer("b", 1.0, True, 1e12, 4, 1)
    claim = Claim("t4", 1.5, 3.0, 5e12)
    assert verdict(claim, [quick, frugal], 3e12) == "yes: `a`"
    no = verdict(Claim("t4", 2.5, 3.0, 5e12), [quick, frugal], 3e12)
    assert no.startswith("no: 2.5 frames/s of `b`, which has the fewest operations, are 2 TFLOP/s; planned with 3")


def test_operations_of_a_frame_are_those_of_the_shapes() -> None:
    preset = PRESETS["distilled-4step"]
    work = work_of(preset)
    assert (work.steps, work.branches) == (4, 2)
    # Eight passes of 1891 TFLOP, and the VAE's 281 and 19, for 72 frames.
    assert operations(preset, work) == pytest.approx((8 * 1891e12 + 300e12) / 72, rel=0.02)


def test_results_become_a_table_and_pictures(tmp_path: Path) -> None:
    rows = [
        {"subject": "ours", "mode": "", "forward_seconds": 2.0, "frames_per_second": 6.5, "share_of_roofline": 0.8,
         "stage_seconds": {"denoising (DiT)": 8.0}, "window_peak_gib": 40.0},
        {"subject": "lightx2v", "mode": "Default", "forward_seconds": 4.0, "times_ours_forward": 2.0,
         "error_to_ours": 0.012},
        {"subject": "reference", "mode": "flash", "error": "needs the package x"},
    ]  # fmt: skip
    report = {
        "model": "random", "shape": {"size": "640x640", "frames": 81, "steps": 4}, "rows": rows,
        "rates": {"device": "card", "dtype": "bfloat16", "torch": "2", "product_rate": 7e14, "attention_rate": 6e14},
    }  # fmt: skip
    (tmp_path / "bench_full.json").write_text(json.dumps(report), encoding="utf-8")
    document = "<!-- bench full -->\n<!-- end of bench full -->\n"
    told = bench_table.filled(document, tmp_path)
    assert "card, bfloat16; products 700 TFLOP/s" in told
    assert "| ours | 2.00 s |  |  |  |  | 6.50 | 40.0 GiB | 80 % |  |" in told
    assert "| lightx2v, Default | 4.00 s (2.00x) |" in told
    assert "| 1.2 % |" in told
    assert "| reference, flash | needs the package x |" in told
    pictures = [path.name for path in bench_table.drawn(tmp_path, tmp_path)]
    assert pictures == ["bench_full_stages.png", "bench_full_compared.png"]
