"""The benchmark of the whole pipeline with tiny networks: every step of it, its limits, and a bare machine."""

import json
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import caps
from benchmarks.caps import Cage, watching
from benchmarks.pipeline import TINY, Task, kept, main, stalled
from benchmarks.random_model import Numbers, write_model
from infinitetalk.core.units import GIB
from infinitetalk.models.dit import AudioDiT
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.read import read_tensors
from tests.unit.test_package import ABSENT, ROOT

BARE_RUN = f"""
import sys
from importlib.machinery import PathFinder

ABSENT = {(*ABSENT, "gguf", "PIL")}

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
from benchmarks.pipeline import main
main(sys.argv[1:])
assert not {{name for name in ABSENT if name != "ftfy"}} & sys.modules.keys()
"""


@pytest.fixture(scope="module", params=["fp8", "q4_k"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: str = request.param
    return write_model(tmp_path_factory.mktemp(kind) / "model", kind, TINY, Numbers(1 << 16))


def test_a_folder_holds_the_kinds_of_the_preset(model: Path) -> None:
    folder = ModelFolder.open(model)
    tensors = read_tensors(folder.dit.files)
    kinds = {type(value).__name__ for value in (tensors[name] for name in tensors)}
    assert kinds == {"Tensor", "Scaled" if folder.dit.files[0].suffix == ".safetensors" else "Blocks"}
    few = [value for value in (tensors[name] for name in tensors) if not isinstance(value, torch.Tensor)]
    wide = folder.dit.files[0].suffix == ".safetensors"
    assert len(few) == TINY.dit.num_layers * (15 if wide else 1), "rows of blocks are multiples of 256"
    for value in few:
        dense = value.dequantise(torch.float32)
        size = dense.pow(2).mean().sqrt() * dense.shape[1] ** 0.5
        assert dense.isfinite().all()
        assert 0.6 < float(size) < 1.0
        assert abs(float(dense.mean())) < 0.1 * float(dense.std())


@pytest.mark.parametrize(
    ("kind", "pretend"),
    [
        pytest.param("fp8", ("--pretend", "t4", "--memory", "disk"), marks=pytest.mark.full),
        pytest.param("fp8", (), marks=pytest.mark.full),
        pytest.param("q4_k", ("--pretend", "t4", "--memory", "disk"), marks=pytest.mark.full),
    ],
)
def test_the_tiny_pipeline_is_measured(
    kind: str, pretend: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    words = ["--tiny", "--out", str(out), "--scratch", str(tmp_path), "--kind", kind, "--ram", "6"]
    main([*words, *pretend])
    report = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == report
    (made,) = report["runs"]
    assert (made["kept"], made["windows"], made["frames"], made["finite"]) == (True, 2, 21, True)
    assert 0.1 < made["ram_own_peak_gib"] < 6
    assert made["lodging"]["tier"] == ("disk" if pretend else "resident")
    assert made["computes_in"] == ("float16" if pretend else "float32")
    assert made["spread_of_the_last_frames"] > 0.01
    assert (made["guard_refuses"] is not None) == bool(pretend)
    assert all((made["guard_refuses"] or {}).values())
    assert {"audio encoding", "denoising (DiT)"} <= set(made["stage_seconds"])
    assert not list(tmp_path.glob("pipeline-*"))


@pytest.mark.full
def test_what_does_not_fit_is_told_and_fails(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    words = ["--tiny", "--out", str(out), "--scratch", str(tmp_path), "--folder", str(tmp_path / "model")]
    with pytest.raises(SystemExit):
        main([*words, "--pretend", "t4", "--vram", "0.3"])
    (made,) = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert made["exit"] == 1
    assert "of GPU memory, and 0.3 GiB can be used" in made["error"]
    assert not made["kept"]


def test_it_runs_on_a_bare_machine(tmp_path: Path) -> None:
    """No PyAV, no Pillow, no rich, no gradio, no gguf, no libraries of sounds and prompts."""
    folder = write_model(tmp_path / "model", "fp8", TINY, Numbers(1 << 16))
    task = {"folder": str(folder), "device": "cpu", "memory": "auto", "size": None, "windows": 2, "steps": 1}
    task |= dict.fromkeys(("vram", "cap", "ram", "frames"))
    words = ["--out", str(tmp_path / "out.json"), "--task", json.dumps(task)]
    command = [sys.executable, "-c", BARE_RUN, *words]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.returncode == 0, answer.stderr
    figures = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert figures["windows"] == 2
    assert figures["ftfy"].startswith("absent")


def test_a_run_that_fails_tells_where_and_what_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out in the second window's denoising."""
    error, left = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), [1]
    whole = AudioDiT.evaluate

    def evaluate(*arguments: Any, **words: Any) -> Any:
        if not left[0]:
            raise error
        left[0] -= 1
        return whole(*arguments, **words)

    monkeypatch.setattr(AudioDiT, "evaluate", evaluate)
    folder = write_model(tmp_path / "model", "fp8", TINY, Numbers(1 << 16))
    more = dict.fromkeys(("vram", "cap", "ram", "size", "frames"))
    task = Task(folder=str(folder), device="cpu", memory="disk", windows=2, steps=1, **more)
    monkeypatch.setenv("INFINITETALK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit, match="stage denoising"):
        main(["--out", str(tmp_path / "out.json"), "--task", json.dumps(asdict(task))])
    figures = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert figures["failed_in"] == "denoising (DiT)"
    assert "asked for 2.00 GiB" in figures["error"]
    assert figures["lodging"]["tier"] == "disk"
    assert set(figures["expected_vram_gib"]) >= {"denoising", "decoding"}
    assert figures["traceback"][-1] == f"OutOfMemoryError: {error}"
    assert any(line.startswith("denoise.py:") and " ask: " in line for line in figures["traceback"])
    assert set(figures["allocator"]) == {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"}


def test_a_process_that_takes_too_much_is_ended() -> None:
    code = "import time; kept = bytearray(300 << 20); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(30)"
    running = subprocess.Popen([sys.executable, "-c", code], text=True)
    with watching(running, 150 << 20, Cage(None), 0) as watch:
        assert running.wait() == -9
    assert watch.ended
    assert watch.told()["ram_own_peak_gib"] * GIB > 150 << 20


@pytest.mark.parametrize("second", [True, False], ids=["v2", "v1"])
def test_control_groups_of_both_versions(second: bool, tmp_path: Path) -> None:
    """Folders stand for the kernel's."""
    if second:
        (tmp_path / "cgroup.controllers").touch()
    else:
        (tmp_path / "memory").mkdir()
    cage = Cage(123, tmp_path)
    assert cage.folder is not None
    cage.take(77)
    names = ("memory.max", "memory.peak") if second else ("memory.limit_in_bytes", "memory.max_usage_in_bytes")
    assert (cage.folder / names[0]).read_text() == "123"
    assert (cage.folder / "cgroup.procs").read_text() == "77"
    (cage.folder / names[1]).write_text("99")
    assert cage.peak() == 99


def test_where_no_group_can_be_made_it_is_said(tmp_path: Path) -> None:
    cage = Cage(123, tmp_path / "nothing")
    assert cage.folder is None
    assert "no control group" in cage.why
    assert cage.peak() == 0


class Driver:
    """NVML as it answers for a GPU with two processes."""

    def __init__(self, pids: tuple[int, ...]) -> None:
        self.pids = pids

    def used(self) -> int:
        return 7 * GIB

    def processes(self) -> dict[int, int]:
        return {pid: (index + 2) * GIB for index, pid in enumerate(self.pids)}


@pytest.mark.parametrize(("pids", "peak"), [((5, 1), 3), ((9,), 2), ((8, 9), 6), ((), 6)])
def test_the_gpu_is_told_of_the_process_where_it_is_known(pids: tuple[int, ...], peak: int) -> None:
    driver: Any = Driver(pids)
    watch = caps.Watch(1, None, Cage(None), driver, before=GIB)
    watch.look()
    assert watch.told()["vram_peak_gib"] == peak


def test_budgets_are_judged() -> None:
    task = Task(
        folder="", device="auto", memory="auto", vram=8, cap=8, ram=12, size=None, frames=None, windows=2, steps=2
    )
    good = {"exit": 0, "windows": 2, "finite": True, "on_gpu": True, "vram_peak_gib": 7.9, "ram_own_peak_gib": 11.0}
    assert kept(good, task)
    bad: dict[str, Any] = {"vram_peak_gib": 8.1, "ram_cgroup_peak_gib": 12.1, "finite": False, "windows": 1, "exit": 1}
    bad["guard_refuses"] = {"FlashAttention": False}
    for name, value in bad.items():
        assert not kept(good | {name: value}, task)
    unseen = {name: value for name, value in good.items() if name != "vram_peak_gib"}
    assert not kept(unseen, task), "a peak that nobody saw is none that was kept"
    assert kept(unseen | {"driver_peak_gib": 7.9}, task)
    assert stalled([0.001, 0.003])["mean_ms"] == pytest.approx(2)


def test_a_process_of_nvml_has_its_layout() -> None:
    """Of nvml.h: 4 bytes, 4 of padding, 8, 4 and 4."""
    packed = struct.pack("<I4xQII", 42, 3 * GIB, 1, 2)
    one = caps._Process.from_buffer_copy(packed)
    assert (one.pid, one.used, one.gpu_instance) == (42, 3 * GIB, 1)
