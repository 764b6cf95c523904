"""The notebook runs from top to bottom, and a run changes nothing but its cell of parameters."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from safetensors.torch import save_file

from infinitetalk.core.presets import find_preset
from tests.hub.fake_hub import FakeHub, serve
from tests.notebook.layout import publish

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "InfiniteTalk.ipynb"
EXECUTED = ROOT / "docs" / "notebooks"
"""Copies that these tests made: INFINITETALK_NOTEBOOKS=docs/notebooks pytest tests/notebook."""
SHORT = {"duration": 0.4, "seed": 1}


def shipped() -> nbformat.NotebookNode:
    content: nbformat.NotebookNode = nbformat.reads(NOTEBOOK.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    return content


def parameter_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    cell: nbformat.NotebookNode = next(cell for cell in notebook.cells if "KEEP_OPEN = " in cell.source)
    return cell


def parameters(source: str, **values: object) -> str:
    """A cell with other values behind its names."""
    for name, value in values.items():
        source, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", source, flags=re.MULTILINE)
        assert count == 1, name
    return source


def run(folder: Path, before: str = "", **values: object) -> nbformat.NotebookNode:
    """The executed notebook, with other parameters, and with a cell before all others where one is given."""
    notebook = shipped()
    cell = parameter_cell(notebook)
    cell.source = parameters(cell.source, **({"LINK": False, "KEEP_OPEN": False} | values))
    if before:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before))  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": folder}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return notebook


def told(notebook: nbformat.NotebookNode) -> str:
    """Everything that the cells printed."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "".join(output.text for cell in cells for output in cell.outputs if output.output_type == "stream")


def keep(notebook: nbformat.NotebookNode, name: str) -> None:
    """Writes an executed notebook to the folder INFINITETALK_NOTEBOOKS, if there is one."""
    if folder := os.environ.get("INFINITETALK_NOTEBOOKS"):
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # when each cell began and ended
        text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        text = text.replace(os.environ["INFINITETALK_DATA"], "/content/infinitetalk")  # a folder of this run
        Path(folder, name).write_text(text + "\n", encoding="utf-8")


def check(notebook: nbformat.NotebookNode) -> None:
    """Only parameters differ, a video is shown, and the page answered."""
    changed = [new for new, old in zip(notebook.cells, shipped().cells, strict=True) if new.source != old.source]
    assert changed == [parameter_cell(notebook)]
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pages = [output.data.get("text/html", "") for output in outputs if output.output_type == "execute_result"]
    assert any("<video" in page and "data:video/mp4;base64" in page for page in pages)
    assert "Running on local URL" in told(notebook)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INFINITETALK_PRETEND", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_it_is_short_and_carries_no_outputs() -> None:
    cells = shipped().cells
    assert len(cells) <= 8
    assert max(cell.source.count("\n") for cell in cells) < 18
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert NOTEBOOK.stat().st_size < 10_000


def test_it_makes_a_video_with_nano_and_opens_the_page(tmp_path: Path) -> None:
    made = run(tmp_path, SETTINGS=SHORT)
    check(made)
    keep(made, "InfiniteTalk-nano.ipynb")
    assert "Model nano" in told(made), "no GPU, so the bundled model"
    assert "Nothing to download" in told(made)
    assert len(list((tmp_path / "results").glob("*.mp4"))) == 1


@pytest.mark.full
def test_what_is_downloaded_is_not_downloaded_twice(tmp_path: Path, hub: FakeHub) -> None:
    small = {**SHORT, "size": "64x64", "window_frames": 13, "motion_frames": 5}
    run(tmp_path, SETTINGS=small)
    assert any(hub.bodies(file.name.replace("*", "spiece.model")) for file in find_preset("t4").files)
    hub.asked.clear()
    check(run(tmp_path, SETTINGS=small))
    assert not any(hub.bodies(file.name.replace("*", "spiece.model")) for file in find_preset("t4").files)


@pytest.mark.full
def test_what_is_made_is_not_made_twice(tmp_path: Path) -> None:
    run(tmp_path, SETTINGS=SHORT)
    (video,) = (tmp_path / "results").glob("*.mp4")
    before = video.stat().st_mtime_ns
    again = run(tmp_path, SETTINGS=SHORT)
    check(again)
    assert [path.stat().st_mtime_ns for path in (tmp_path / "results").glob("*.mp4")] == [before], "nothing made twice"


@pytest.fixture
def hub(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on loopback with the T4's preset, as kernels that tests start see it."""
    with serve(FakeHub()) as running:
        scratch = tmp_path / "published"
        scratch.mkdir()
        publish(running, find_preset("t4"), tiny_folder, scratch)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("INFINITETALK_PRETEND", "t4")
        yield running


def test_a_t4_downloads_its_preset_and_makes_a_video(tmp_path: Path, hub: FakeHub) -> None:
    small = {**SHORT, "size": "64x64", "window_frames": 13, "motion_frames": 5}
    made = run(tmp_path, SETTINGS=small)
    check(made)
    keep(made, "InfiniteTalk-t4.ipynb")
    said = told(made)
    assert "Tesla T4 (pretended" in said
    assert "Model t4: 4-bit, 4 steps" in said
    preset = find_preset("t4")
    names = [file.name.replace("*", "spiece.model") for file in preset.files]
    assert all(hub.bodies(name) for name in names), "every file came from the hub"
    here = sum(path.stat().st_size for path in (tmp_path / "hf").rglob("*") if path.is_file() and not path.is_symlink())
    published = sum(len(content.data) for commits in hub.repositories.values()
                    for commit in commits.values() for content in commit.files.values())  # fmt: skip
    assert published <= here < 1.05 * published + 100_000, "each byte is on the disk once"
    (sidecar,) = (tmp_path / "results").glob("*.json")
    assert '"model": "t4"' in sidecar.read_text()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"MODEL": "t4"}, "MODEL t4 needs a GPU, and this runtime has none"),
        pytest.param({"MODEL": "empty"}, "empty", marks=pytest.mark.full),
        pytest.param({"MODEL": "wrong"}, "wrong", marks=pytest.mark.full),
        ({"SETTINGS": {"steps": 0}}, "steps = 0: must be at least 1"),
    ],
)
def test_refusals_are_one_line(tmp_path: Path, values: dict[str, object], said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong").mkdir()
    save_file({"conv.weight": torch.zeros(2, 2)}, tmp_path / "wrong" / "model.safetensors")
    assert said in refusal(tmp_path, "", **values)


def refusal(folder: Path, before: str, **values: object) -> str:
    """What stands below the cell that ends the run: one line."""
    with pytest.raises(CellExecutionError) as caught:
        run(folder, before, **values)
    _, _, shown = caught.value.traceback.rpartition("-" * 18)
    (line,) = shown.strip().splitlines()
    return str(line)


def test_too_little_disk_is_one_line(tmp_path: Path, hub: FakeHub) -> None:
    disk = "from infinitetalk.weights.hub import download as d; d.disk_usage = lambda _: type('', (), {'free': 10**6})"
    said = refusal(tmp_path, disk)
    assert "are to be downloaded to" in said
    assert "its disk has" in said
    assert not any(hub.bodies(file.name) for file in find_preset("t4").files), "nothing was begun"


def test_an_old_torch_is_one_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, "import importlib.metadata as m; m.version = lambda _: '2.8.1+cu126'")
    assert said == "PyTorch 2.9 or newer is needed, here is 2.8.1+cu126: take a newer version of this runtime"


@pytest.mark.parametrize("name", ["nano", "t4"])
def test_executed_copies_are_of_this_notebook(name: str) -> None:
    copy: nbformat.NotebookNode = nbformat.read(EXECUTED / f"InfiniteTalk-{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    check(copy)
    assert f"Model {name}" in told(copy)


class Magic:
    """A cell's `%pip`, which keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run_line_magic(self, _name: str, line: str, *_: object) -> None:
        self.asked.append(line)


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path, here: str) -> list[str]:
    """Runs the cell of the installation on a machine that has this torch and not this package; gives pip's words."""
    from IPython.core.inputtransformer2 import TransformerManager

    (source,) = (cell.source for cell in shipped().cells if "%pip" in cell.source)
    magic = Magic()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("importlib.metadata.version", lambda _name: here)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "torch" and here else None)
    cell = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
    exec(cell, {"get_ipython": lambda: magic, "SOURCE": "infinitetalk[app]"})
    return magic.asked


def test_installation_leaves_torch_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = installed(monkeypatch, tmp_path, "2.9.0+cu126")
    assert asked == ['install -q -c kept.txt "{SOURCE}"']
    assert (tmp_path / "kept.txt").read_text() == "torch==2.9.0+cu126"


def test_a_torch_that_is_too_old_is_refused_before_pip_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match=r"PyTorch 2\.9 or newer is needed, here is 2\.8\.1") as caught:
        installed(monkeypatch, tmp_path, "2.8.1+cu126")
    assert caught.value._render_traceback_() == [str(caught.value)]  # type: ignore[attr-defined]
    assert not (tmp_path / "kept.txt").exists()
