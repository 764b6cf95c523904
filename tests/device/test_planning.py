"""From folders and devices to plans: what files store, what a machine offers, and the refusal before loading."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from infinitetalk.cli.main import main
from infinitetalk.core.calibration import Figure
from infinitetalk.core.defaults import resolve
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.loras import Lora
from infinitetalk.core.memory import Lodging, MemorySettings, Tier
from infinitetalk.core.planner import Plan
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.units import GIB
from infinitetalk.engine import job as jobs
from infinitetalk.engine import planning
from infinitetalk.engine.planning import element_bytes, machine_of, named_bytes, networks_of, plan_job, rates_of
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.disk import measure
from infinitetalk.runtime.pretend import VARIABLE
from infinitetalk.weights.folder import ModelFolder
from tests.engine.inputs import talk


def test_stored_matrices_are_seen_in_headers(tmp_path: Path) -> None:
    dense, stored = torch.zeros(64, 64), torch.zeros(64, 192, dtype=torch.int8)
    save_file({"a.weight": dense, "a.bias": torch.zeros(64)}, tmp_path / "dense.safetensors")
    save_file({"b.weight": stored, "b.scale": torch.zeros(64)}, tmp_path / "stored.safetensors")
    assert element_bytes([tmp_path / "dense.safetensors"]) is None
    assert element_bytes([tmp_path / "stored.safetensors"]) == 1
    # A quarter of the elements is dense, and computed in 16 bits.
    assert element_bytes([tmp_path / "dense.safetensors", tmp_path / "stored.safetensors"]) == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("wan-Q4_K_M.gguf",), 0.69),
        (("wan_fp8_scaled.safetensors", "adapter.safetensors"), 1.1),
        (("wan-Q5_K_M.gguf", "single_Q8.gguf"), 0.9 * 0.775 + 0.1 * 34 / 32),
        (("wan_bf16.safetensors", "adapter.safetensors"), None),
    ],
)
def test_kinds_are_read_from_names_of_files(names: tuple[str, ...], expected: float | None) -> None:
    shares = [9, 1][: len(names)]
    assert named_bytes(names, shares) == (None if expected is None else pytest.approx(expected))


def test_loras_add_their_ranks(tmp_path: Path) -> None:
    save_file(
        {"x.lora_down.weight": torch.zeros(8, 64), "x.lora_up.weight": torch.zeros(64, 8)}, tmp_path / "l.safetensors"
    )
    folder = ModelFolder.open("nano")
    assert networks_of(folder).lora_rank == 0
    assert networks_of(folder, [Lora(tmp_path / "l.safetensors")] * 2).lora_rank == 16


def test_budgets_bound_what_a_machine_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "rtx4090")
    device = Device.choose()
    free = machine_of(device)
    assert free.vram == int(device.pretended.vram * planning.SPARE) if device.pretended else False
    held = machine_of(device, MemorySettings(memory="disk", vram=8, ram=4))
    assert (held.vram, held.ram, held.tiers) == (8 * GIB, 4 * GIB, (Tier.DISK,))
    assert free.rates.disk.estimate
    assert machine_of(device, disk=Figure(1e9, "measured", "here")).rates.disk.estimate, "the pretended card's own"
    assert not machine_of(Device.choose("cpu"), disk=Figure(1e9, "measured", "here")).rates.disk.estimate


def test_a_processors_rates_are_measured_once() -> None:
    rates = rates_of(Device.choose("cpu"))
    assert 1e8 < rates.products.value < 1e14
    assert 1e7 < rates.coding.value < 1e14
    assert rates.products.estimate
    assert rates is rates_of(Device.choose("cpu"))


def test_nano_fits_this_machine_and_a_huge_window_does_not() -> None:
    folder, request = ModelFolder.open("nano"), talk(1, model="nano")
    settings = resolve(request, folder.facts, Pixels(128, 128))
    assert isinstance(plan_job(folder, request, settings, Device.choose("cpu")), Plan)
    large = replace(settings, size=Pixels(4096, 4096), window_frames=1001)
    with pytest.raises(
        MachineError, match=r"4096x4096 with 1001 frames .* needs at least .* GiB.*--size \d+x\d+.* would fit"
    ):
        plan_job(folder, request, large, Device.choose("cpu"))


def test_generate_refuses_before_anything_is_loaded_or_written(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.faces.conftest import write_portrait, write_voice

    def load(*_: Any, **__: Any) -> None:
        raise RequestError("model", "weights", "were asked for")

    monkeypatch.setattr("infinitetalk.engine.engine.load_shared", load)
    monkeypatch.setattr(Device, "free_main_memory", property(lambda _device: 3 * GIB))
    out = tmp_path / "out.mp4"
    words = ["generate", "--model", str(tiny_folder), "--image", str(write_portrait(tmp_path / "face.png"))]
    words += ["--audio", str(write_voice(tmp_path / "voice.wav", 0.5)), "--output", str(out)]
    assert main([*words, "--device", "cpu", "--quiet", "--size", "1536x1536", "--window-frames", "201"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "needs at least" in told
    assert "and 2.9 GiB can be used; --" in told or "and 2.8 GiB can be used; --" in told
    assert "would fit" in told
    # The advice is true.
    flags = told.partition("can be used; ")[2].removesuffix(" would fit\n").split()
    assert main([*words, "--device", "cpu", "--quiet", "--size", "1536x1536", "--window-frames", "201", *flags]) == 2
    assert "were asked for" in capsys.readouterr().err
    assert not out.exists()


def test_a_loaded_model_stays_as_it_lives_while_jobs_fit(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    """What it holds itself does not count against the next job; a job that does not fit so makes it move."""
    folder, device, request = ModelFolder.open(tiny_folder), Device.choose("cpu"), talk(1)
    settings = resolve(request, folder.facts, Pixels(64, 64))
    now = Lodging(tier=Tier.DISK, resident_blocks=1, keep_encoders=False)
    monkeypatch.setattr(Device, "free_main_memory", property(lambda _device: 0))
    assert plan_job(folder, request, settings, device, now=now).lodging == now
    with pytest.raises(MachineError):
        plan_job(folder, request, settings, device)
    monkeypatch.undo()
    assert plan_job(folder, request, settings, device).lodging.tier is Tier.RESIDENT


def test_the_model_is_loaded_as_the_job_was_planned(tiny_folder: Path) -> None:
    workshop, folder = jobs.Workshop("cpu"), ModelFolder.open(tiny_folder)
    disk = Lodging(tier=Tier.DISK, resident_blocks=1, keep_encoders=False)
    first = workshop.engine(folder, lodging=disk)
    assert first.model.lodging == disk
    assert workshop.engine(folder, lodging=disk) is first
    second = workshop.engine(folder, lodging=replace(disk, resident_blocks=0))
    assert second is not first
    assert workshop.engine(folder) is second
    second.model.close()


def test_a_disk_is_measured_by_reading(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * (130 * 2**20))
    found = measure(tmp_path)
    assert found is not None
    assert found.bytes == 128 * 2**20 or found.bytes % (8 * 2**20) == 0
    assert 1e6 < found.read < 1e12
    (tmp_path / "model.safetensors").unlink()
    fresh = measure(tmp_path)
    assert fresh is not None
    assert not fresh.sure, "a file just written may lie in a cache"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_has_no_speed(tmp_path: Path) -> None:
    assert measure(tmp_path / "nothing") is None
