"""`docs/stages.md` names every stage once, in their order, and functions that exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from infinitetalk.core.stages import Stage

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[2] / "docs" / "stages.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
][1:]
NAMES = [name for row in ROWS for name in re.findall(r"`(infinitetalk[\w.]+)`", row[2])]


def test_every_stage_has_a_row_in_the_order_of_the_work() -> None:
    assert [row[0] for row in ROWS] == [stage.value for stage in Stage]


@pytest.mark.parametrize("name", NAMES)
def test_named_functions_exist(name: str) -> None:
    home, _, member = name.rpartition(".")
    if home.rpartition(".")[2][0].isupper():
        home, _, owner = home.rpartition(".")
        assert callable(getattr(getattr(import_module(home), owner), member))
    else:
        assert callable(getattr(import_module(home), member))
