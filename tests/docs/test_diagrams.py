"""Diagrams are what their sources say, and the sources say what the product is."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from infinitetalk.core.stages import Stage
from tools import diagrams


@pytest.mark.parametrize("source", diagrams.sources(), ids=lambda path: path.stem)
def test_a_committed_diagram_is_the_one_that_its_source_makes(source: Path) -> None:
    drawn = diagrams.draw(source)
    assert source.with_suffix(".svg").read_text(encoding="utf-8") == drawn, "run: python -m tools.diagrams"
    ElementTree.fromstring(drawn)


@pytest.mark.parametrize("source", diagrams.sources(), ids=lambda path: path.stem)
def test_no_words_leave_the_picture(source: Path) -> None:
    page = ElementTree.fromstring(diagrams.draw(source))
    for text in page.iter("{http://www.w3.org/2000/svg}text"):
        assert float(text.attrib["x"]) + 6.5 * len(text.text or "") < diagrams.WIDTH, text.text
        assert float(text.attrib["y"]) < float(page.attrib["height"])


def test_the_flow_has_the_seven_stages_in_their_order() -> None:
    flow = yaml.safe_load((diagrams.FOLDER / "data-flow.yaml").read_text(encoding="utf-8"))
    assert [row["stage"] for row in flow["rows"]] == [stage.value for stage in Stage]


def test_shapes_are_those_of_the_14b_model() -> None:
    found = diagrams.shapes()
    assert (found["t"], found["h"], found["w"], found["tokens"]) == (21, 80, 80, 33_600)
    assert (found["sound_tokens"], found["text_len"], found["clip_tokens"]) == (32, 512, 257)


def test_a_changed_source_changes_the_diagram(tmp_path: Path) -> None:
    source = diagrams.FOLDER / "architecture.yaml"
    changed = tmp_path / "architecture.yaml"
    changed.write_text(source.read_text(encoding="utf-8").replace("name: Studio", "name: Parlour"), encoding="utf-8")
    assert "Parlour" in diagrams.draw(changed)
    assert diagrams.draw(changed) != diagrams.draw(source)
