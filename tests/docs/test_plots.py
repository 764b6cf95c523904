"""The picture of results is drawn from the results that are committed."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import plots
from benchmarks.quantisation import RESULTS


def note(picture: Path) -> str:
    """The digest that a picture carries."""
    with Image.open(picture) as image:
        return str(image.info[plots.KEY])


def test_the_committed_picture_shows_the_committed_results() -> None:
    assert note(plots.PICTURE) == plots.digest(), "run: python -m benchmarks.plots"
    assert plots.PICTURE.stat().st_size < 60_000


def test_other_results_make_another_picture(tmp_path: Path) -> None:
    for name in plots.SOURCES:
        (tmp_path / name).write_bytes((RESULTS / name).read_bytes())
    changed = json.loads((tmp_path / plots.BITS).read_text())
    changed["rows"] = changed["rows"][:3]
    (tmp_path / plots.BITS).write_text(json.dumps(changed))
    plots.draw(tmp_path / "picture.png", tmp_path)
    assert note(tmp_path / "picture.png") == plots.digest(tmp_path) != plots.digest()


def test_panels_have_every_row() -> None:
    rows = json.loads((RESULTS / plots.BITS).read_text())["rows"]
    assert len(plots.bits({"rows": rows})) == len(rows) - 1, "all but bfloat16 itself"
    found = json.loads((RESULTS / plots.PLANNER).read_text())
    assert len(plots.planner(found, "vram")) == len(found["rows"]) == 8
    assert plots.length([{"windows": 1, "peak": 2.0}, {"windows": 4, "peak": 3.0}], "peak") == [(1, 1.0), (4, 1.5)]
    assert {len(points) for points in plots.cache(json.loads((RESULTS / plots.CACHE).read_text())).values()} == {3}


@pytest.mark.parametrize("name", plots.SOURCES)
def test_every_source_is_committed(name: str) -> None:
    assert (RESULTS / name).is_file()
