"""The command that serves the studio: it runs until Ctrl-C, and refuses in one line."""

import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from infinitetalk.cli.main import main


def test_the_command_serves_the_page_until_ctrl_c(tiny_folder: Path) -> None:
    command = [sys.executable, "-u", "-m", "infinitetalk", "app", "--model", str(tiny_folder), "--device", "cpu"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background would have its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stdout is not None
    address = next(line for line in process.stdout if "Running on local URL" in line).split()[-1]
    with urlopen(address) as answer:
        assert b"InfiniteTalk" in answer.read()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_model_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--model", "nothing"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: model nothing: there is no such folder")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_no_machine_has_is_refused(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", f"--port={port}"]) == 2
    assert capsys.readouterr().err == f"error: port = {port}: must be from 1 to 65535\n"


def test_a_port_that_is_taken_is_one_line(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", "--model", str(tiny_folder), "--device", "cpu", "--port", str(port)]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: 127.0.0.1:{port} cannot be served: it is taken")


def test_without_gradio_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("infinitetalk.app.app", "infinitetalk.app.widgets"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 1
    assert capsys.readouterr().err == "error: the web page needs gradio: pip install 'infinitetalk[app]'\n"
