"""The notebook runs from top to bottom."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "InfiniteTalk.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    content: nbformat.NotebookNode = nbformat.reads(NOTEBOOK.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    return content


def test_it_is_short_and_carries_no_outputs(notebook: nbformat.NotebookNode) -> None:
    assert len(notebook.cells) <= 8
    assert max(cell.source.count("\n") for cell in notebook.cells) < 15
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert NOTEBOOK.stat().st_size < 10_000


def parameters(source: str, **values: object) -> str:
    """A cell with other values behind its names."""
    for name, value in values.items():
        source, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", source, flags=re.MULTILINE)
        assert count == 1, name
    return source


@pytest.fixture(params=["", pytest.param("t4", marks=pytest.mark.full)])
def card(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The card that this machine pretends to have; none, or a T4."""
    monkeypatch.setenv("INFINITETALK_PRETEND", request.param)
    return str(request.param)


@pytest.fixture
def inputs(portrait: Path, voice: Path) -> tuple[Path, Path]:
    """A picture and a voice."""
    return portrait, voice


def test_it_makes_a_video_and_opens_the_page(
    card: str, notebook: nbformat.NotebookNode, tmp_path: Path, inputs: tuple[Path, Path], shown_model: str
) -> None:
    """On this machine, and on one that pretends to be a T4."""
    portrait, voice = inputs
    cell = next(cell for cell in notebook.cells if "KEEP_OPEN" in cell.source and "MODEL = " in cell.source)
    values = {"MODEL": shown_model, "PICTURE": str(portrait), "SOUND": str(voice)}
    cell.source = parameters(cell.source, **values, SETTINGS={"duration": 0.5}, KEEP_OPEN=False)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    assert (tmp_path / "talking.mp4").stat().st_size > 0
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pages = [output.data.get("text/html", "") for output in shown if output.output_type == "execute_result"]
    assert any("<video" in page and "data:video/mp4;base64" in page for page in pages)
    assert any("Running on local URL" in output.text for output in shown if output.output_type == "stream")
    looked = [output.text for output in shown if output.output_type == "stream"]
    assert any("Tesla T4 (pretended" in text for text in looked) == (card == "t4")
