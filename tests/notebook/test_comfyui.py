"""The notebook of ComfyUI, run over a stand-in for its checkout; `tools.run_comfyui` runs the real one."""

import socket
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from infinitetalk.notebook import comfyui
from infinitetalk.notebook.plain import CellError
from tests.notebook.test_notebook import EXECUTED, ROOT, parameters, told

NOTEBOOK = ROOT / "ComfyUI_InfiniteTalk.ipynb"
SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        here = sorted(os.listdir("custom_nodes/comfyui-infinitetalk"))
        self.send_response(200 if "nodes.py" in here else 500)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def checkout(folder: Path, main: str) -> Path:
    folder.mkdir()
    (folder / "main.py").write_text(main)
    (folder / "requirements.txt").write_text("")
    words = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["init", "-q"], ["add", "."], [*words, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return folder


def nodes(folder: Path) -> Path:
    (folder / "comfyui").mkdir(parents=True)
    (folder / "comfyui" / "nodes.py").write_text("")
    return folder / "comfyui"


def test_the_notebook_runs(tmp_path: Path) -> None:
    source = checkout(tmp_path / "source", SERVER)
    checkout(tmp_path / "product", "")
    nodes(tmp_path / "product" / "more")
    (tmp_path / "product" / "more" / "comfyui").rename(tmp_path / "product" / "comfyui")
    for command in (["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "nodes"]):
        subprocess.run(["git", "-C", str(tmp_path / "product"), *command], check=True)
    shipped = nbformat.reads(NOTEBOOK.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    made = nbformat.reads(NOTEBOOK.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    (cell,) = (cell for cell in made.cells if "KEEP_OPEN = " in cell.source)
    given = {"COMFYUI": str(source), "SOURCE": str(tmp_path / "product"), "MODEL": "nano"}
    cell.source = parameters(cell.source, **given, PORT=free_port(), TUNNEL=False, KEEP_OPEN=False)
    resources = {"metadata": {"path": tmp_path}}
    NotebookClient(made, timeout=300, kernel_name="python3", resources=resources).execute()
    changed = [new for new, old in zip(made.cells, shipped.cells, strict=True) if new.source != old.source]
    assert changed == [cell]
    assert "ComfyUI: http://127.0.0.1:" in told(made)
    assert len(shipped.cells) <= 8
    assert all(cell.get("outputs", []) == [] for cell in shipped.cells)


def test_the_executed_copy_is_of_this_notebook() -> None:
    """With a real ComfyUI, whose address it told."""
    shipped = nbformat.reads(NOTEBOOK.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    copy = nbformat.reads((EXECUTED / NOTEBOOK.name).read_text(), as_version=4)  # type: ignore[no-untyped-call]
    changed = [new for new, old in zip(copy.cells, shipped.cells, strict=True) if new.source != old.source]
    assert ["KEEP_OPEN = " in cell.source for cell in changed] == [True]
    assert "ComfyUI: http://127.0.0.1:" in told(copy)


def test_a_server_that_ends_is_told_with_its_last_line(tmp_path: Path) -> None:
    home = checkout(tmp_path / "source", "raise SystemExit('no GPU here')")
    with pytest.raises(CellError, match="ComfyUI ended with 1: no GPU here; see"):
        comfyui.start(home, free_port())


def test_missing_nodes_are_told(tmp_path: Path) -> None:
    home = checkout(tmp_path / "source", SERVER)
    with pytest.raises(CellError, match=r"has no nodes\.py"):
        comfyui.add_nodes(home, tmp_path / "nothing")


def test_a_tunnels_address_is_the_one_that_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = checkout(tmp_path / "source", SERVER)
    comfyui.add_nodes(home, nodes(tmp_path / "product"))
    program = tmp_path / "cloudflared"
    program.write_text('#!/bin/sh\necho "INF |  https://some-four-words.trycloudflare.com  |" >&2\nexec sleep 60\n')
    program.chmod(0o755)
    running = comfyui.start(home, free_port(), tunnel=program)
    running.close()
    assert capsys.readouterr().out == "ComfyUI: https://some-four-words.trycloudflare.com\n"
    assert all(process.returncode is not None for process in running.processes)
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(CellError, match="the tunnel gave no address"):
        comfyui.start(home, free_port(), tunnel=program)
