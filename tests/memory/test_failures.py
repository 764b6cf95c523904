"""A machine that fails in mid-run: one line, exit code 1, and the finished windows stay on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from infinitetalk.cli.main import main
from infinitetalk.core.errors import MachineError
from infinitetalk.engine.failures import machine_errors
from infinitetalk.models.dit import AudioDiT
from infinitetalk.runtime.memory import sources
from infinitetalk.runtime.platform import read_at

DEMO = Path(__file__).parents[2] / "src" / "infinitetalk" / "assets" / "demo"

FULL = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.75 GiB of which 1.1 GiB is free. "
    "Of the allocated memory 12.50 GiB is allocated by PyTorch, and 310.00 MiB is reserved by PyTorch but unallocated."
)
ENGINE = RuntimeError("GET was unable to find an engine to execute this computation")
LOST = torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously …")
GONE = RuntimeError("CUDA error: GPU is lost")
DISK = OSError(5, "Input/output error")


@pytest.fixture
def make(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, Path]]:
    """Runs `generate`: exit code, what it complained of, and the video."""

    def run(*more: str) -> tuple[int, str, Path]:
        output = tmp_path / "talk.mp4"
        inputs = ("--image", str(DEMO / "portrait_1.png"), "--audio", str(DEMO / "voice_1.flac"))
        words = ("--model", str(tiny_folder), *inputs, "--duration", "1", "--steps", "1", "--device", "cpu")
        code = main(["generate", *words, "--output", str(output), "--quiet", *more])
        return code, capsys.readouterr().err, output

    return run


def later(true: Callable[..., Any], calls: int, error: Exception) -> Callable[..., Any]:
    """The function, until it was called so often; then it fails."""
    left = [calls]

    def call(*arguments: Any, **words: Any) -> Any:
        if not left[0]:
            raise error
        left[0] -= 1
        return true(*arguments, **words)

    return call


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FULL, "cpu has too little memory for making a window of this size: a smaller size"),
        (
            FULL,
            "take less (stage denoising (DiT); asked for 2.00 GiB, in tensors 12.50 GiB, "
            "reserved beside them 310.00 MiB)",
        ),
        (ENGINE, "cpu has too little memory for making a window of this size"),
        (LOST, "cpu stopped working while making a window of this size (CUDA error: unspecified launch failure)"),
        (GONE, "(CUDA error: GPU is lost)"),
    ],
)
def test_gpu_fails_in_the_third_window(
    error: Exception, says: str, make: Callable[..., tuple[int, str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AudioDiT, "evaluate", later(AudioDiT.evaluate, 2, error))
    code, told, output = make("--memory", "pinned")
    assert code == 1
    assert says in told
    assert f"{output} holds 2 of 3 windows" in told
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    with av.open(str(output)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 21
    assert json.loads(output.with_suffix(".mp4.json").read_text(encoding="utf-8"))["complete"] is False


def test_disk_fails_in_mid_run(make: Callable[..., tuple[int, str, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "read_at", later(read_at, 60, DISK))
    code, told, _ = make("--memory", "disk")
    assert code == 1
    assert "weights cannot be read any more (Input/output error)" in told
    assert told.count("\n") == 1


def test_gpu_fails_before_the_first_window(
    make: Callable[..., tuple[int, str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AudioDiT, "evaluate", later(AudioDiT.evaluate, 0, LOST))
    code, told, output = make()
    assert code == 1
    assert "windows" not in told
    assert not output.exists()


def test_memory_runs_out_while_loading(
    make: Callable[..., tuple[int, str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infinitetalk.engine.lodging.Pieces.around", later(len, 0, FULL))
    code, told, _ = make()
    assert code == 1
    assert told.startswith("error: cpu has too little memory for loading this model")


@pytest.mark.parametrize("error", [RuntimeError("The size of tensor a (3) must match …"), ValueError("out of memory")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)[:10]), machine_errors("cpu", "testing"):
        raise error


def test_main_memory_runs_out() -> None:
    with (
        pytest.raises(MachineError, match="this machine has too little memory for testing"),
        machine_errors("", "testing"),
    ):
        raise MemoryError
