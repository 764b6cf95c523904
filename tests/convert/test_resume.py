"""A conversion that is stopped anywhere, by Ctrl-C or by a kill, goes on; one of something else does not."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infinitetalk.cli.main import main
from infinitetalk.core.errors import MachineError, ModelError
from infinitetalk.engine.convert import convert
from infinitetalk.weights.convert import write as writing
from infinitetalk.weights.convert.layout import Record
from tests.convert.jobs import CPU, Listener, model_job, records

KILLED = """
import os, signal, sys
from infinitetalk.cli.main import main
from infinitetalk.weights.convert import write

put, left = write._put, int(sys.argv[1])

def dying(file, tensor):
    global left
    left -= 1
    if left < 0:
        file.write(b"torn" * 8)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    put(file, tensor)

write._put = dying
sys.exit(main(sys.argv[2:]))
"""


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def words(model: Path, output: Path) -> list[str]:
    rest = ("--kind", "fp8", "--rest", "float32", "--text-kind", "int8", "--device", "cpu")
    return ["convert", str(model), "--output", str(output), *rest]


def test_a_kill_leaves_a_folder_that_the_same_command_finishes(tiny_folder: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(words(tiny_folder, whole)) == 0
    partial = tmp_path / "stopped.partial"
    kept: list[int] = []
    for puts in (3, 40, 25):  # in the first record, after some, in the text encoder
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(puts), *words(tiny_folder, stopped)], capture_output=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert partial.is_dir()
        assert not stopped.exists()
        journal = partial / "convert.json"
        kept.append(len(journal.read_text()) if journal.is_file() else 0)
    assert kept[0] == 0 < kept[1]
    assert main(words(tiny_folder, stopped)) == 0
    assert not partial.exists()
    found, expected = digests(stopped), digests(whole)
    assert found == expected
    assert "convert.json" not in found


def test_what_is_whole_is_not_written_again(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(what: str, _done: int) -> None:
        if what == "blocks.1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(model_job(tiny_folder, tmp_path / "made", "int8"), CPU, Listener(stop))
    again = Listener()
    written: list[str] = []
    tensors = writing._tensors

    def noted(network: writing.Network, record: Record, device: torch.device) -> Iterator[object]:
        written.append(record.name)
        return tensors(network, record, device)

    monkeypatch.setattr(writing, "_tensors", noted)
    convert(model_job(tiny_folder, tmp_path / "made", "int8"), CPU, again)
    assert written == ["blocks.1"]
    start, count = records(tmp_path / "made" / "dit.safetensors")["blocks.0"]
    assert again.before == start + count
    capsys.readouterr()


def test_ctrl_c_says_how_to_go_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_put", stopped)
    assert main(words(tiny_folder, tmp_path / "made")) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_a_partial_folder_of_something_else_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    def stop(what: str, _done: int) -> None:
        if what == "blocks.0":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(model_job(tiny_folder, tmp_path / "made", "int8"), CPU, Listener(stop))
    with pytest.raises(ModelError, match="unfinished conversion of other files or of another kind"):
        convert(model_job(tiny_folder, tmp_path / "made", "fp8"), CPU, Listener())


def test_a_disk_that_fails_in_the_middle_is_one_line_and_goes_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_put", full)
        with pytest.raises(MachineError, match=r"dit.safetensors: cannot be written \(No space left on device\)"):
            convert(model_job(tiny_folder, tmp_path / "made", "fp8"), CPU, Listener())
    convert(model_job(tiny_folder, tmp_path / "made", "fp8"), CPU, Listener())
    assert (tmp_path / "made" / "model.json").is_file()
