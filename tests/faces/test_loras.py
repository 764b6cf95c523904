"""LoRAs through the terminal's door: flags, messages, the file beside the video, what the network makes of them."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from infinitetalk.core.knobs import from_form
from infinitetalk.core.loras import Lora
from tests.faces.test_generate import frames_of, generate, job

__all__ = ["job"]  # a fixture

MODULES = ("blocks.0.self_attn.q", "blocks.1.cross_attn.o", "blocks.1.audio_cross_attn.proj")
WIDTH = 128


def write_lora(path: Path, modules: tuple[str, ...] = MODULES, width: int = WIDTH) -> Path:
    """Pairs of rank 2, with an alpha, as kohya names them."""
    tensors: dict[str, Tensor] = {}
    for module in modules:
        flat = f"lora_unet_{module.replace('.', '_')}"
        generator = torch.Generator().manual_seed(zlib.crc32(module.encode()))
        tensors[f"{flat}.lora_down.weight"] = torch.randn(2, width, generator=generator) * 0.3
        tensors[f"{flat}.lora_up.weight"] = torch.randn(width, 2, generator=generator) * 0.3
        tensors[f"{flat}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)
    return path


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "glow.safetensors")


def make(job: list[object], output: Path, *words: object) -> NDArray[np.uint8]:
    assert generate(*job, "--duration", 0.4, "--steps", 1, "--output", output, *words) == 0
    return frames_of(output)


def test_a_lora_changes_the_video_and_its_file_repeats_it(
    job: list[object], lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make(job, tmp_path / "plain.mp4", "--quiet")
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    glowing = make(job, tmp_path / "glowing.mp4", "--lora", "glow.safetensors:0.5")
    assert "LoRA glow.safetensors (strength 0.5) applied to 3 tensors" in capsys.readouterr().err
    sidecar = json.loads((tmp_path / "glowing.mp4.json").read_text())
    assert sidecar["request"]["loras"] == [[lora.as_posix(), 0.5]]
    assert lora.as_posix() in [entry["path"] for entry in sidecar["inputs"]]
    monkeypatch.chdir("/")
    again = tmp_path / "again.mp4"
    assert generate("--request", tmp_path / "glowing.mp4.json", "--output", again, "--device", "cpu", "--quiet") == 0
    assert np.array_equal(frames_of(again), glowing)
    assert not np.array_equal(glowing, plain)
    nothing = make(job, tmp_path / "nothing.mp4", "--lora", f"{lora}:0", "--quiet")
    assert np.array_equal(nothing, plain)


def test_programs_are_told_as_json_and_distilled_loras_shift_less(
    job: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = write_lora(tmp_path / "wan_lightx2v_cfg_step_distill_rank2.safetensors")
    make(job, tmp_path / "out.mp4", "--lora-dir", lora, lora, "--lora-scale", 0.5, 0.25, "--json")
    notes = [event["text"] for event in map(json.loads, capsys.readouterr().out.splitlines()) if "text" in event]
    assert [note.split(" applied")[0] for note in notes if "applied" in note] == [
        f"LoRA {lora.name} (strength 0.5)",
        f"LoRA {lora.name} (strength 0.25)",
    ]
    assert any("shift 2 unless given" in note for note in notes)
    sidecar = json.loads((tmp_path / "out.mp4.json").read_text())
    assert sidecar["settings"]["shift"] == 2.0
    assert sidecar["request"]["shift"] is None
    make(job, tmp_path / "out.mp4", "--lora", lora, "--shift", 5, "--quiet")
    assert json.loads((tmp_path / "out.mp4.json").read_text())["settings"]["shift"] == 5.0


def test_the_form_takes_a_line_for_each() -> None:
    request = from_form({"image": "a.png", "audio": ["a.wav"], "loras": "one.safetensors:0.5\n\n two.safetensors \n"})
    assert request.loras == (Lora(Path("one.safetensors"), 0.5), Lora(Path("two.safetensors")))
