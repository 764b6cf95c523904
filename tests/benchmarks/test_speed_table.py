"""The document's figures of one GPU are those of the committed results."""

from pathlib import Path

from benchmarks.quantisation import put
from benchmarks.speed_table import MARKS, made, main

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"


def test_the_document_has_the_figures_of_the_committed_results(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert put(text, MARKS, made()) == text, "run: python -m benchmarks.speed_table --table docs/performance.md"
    stale = tmp_path / "performance.md"
    stale.write_text(put(text, MARKS, "nothing"), encoding="utf-8")
    main(["--table", str(stale)])
    assert stale.read_text(encoding="utf-8") == text
