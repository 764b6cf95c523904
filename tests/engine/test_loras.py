"""An engine with LoRAs: applied while it is loaded, and no request for others is followed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.core.loras import Lora
from infinitetalk.core.stages import Stage
from infinitetalk.engine import model
from infinitetalk.engine.board import Board
from infinitetalk.engine.engine import Engine
from infinitetalk.weights.folder import ModelFolder
from tests.engine.inputs import Memory, pictures, talk, voice


@pytest.fixture
def lora(tmp_path: Path) -> Lora:
    path = tmp_path / "bright.safetensors"
    save_file({"diffusion_model.head.head.diff_b": torch.full((64,), 0.5)}, path)
    return Lora(path, 2.0)


def test_it_is_applied_told_of_and_asked_for(tiny_folder: Path, lora: Lora) -> None:
    board = Board()
    plain = Engine.from_pretrained(tiny_folder, device="cpu", dtype="float32")
    engine = Engine.from_pretrained(tiny_folder, device="cpu", dtype="float32", progress=board, loras=[lora])
    assert board.notes == ["LoRA bright.safetensors (strength 2) applied to 1 tensor"]
    assert board.rows[Stage.FEATURE_EXTRACTION].seconds > 0
    difference = engine.model.dit.head.head.bias - plain.model.dit.head.head.bias
    torch.testing.assert_close(difference, torch.ones(64))
    asked = Engine(engine.model, media=Memory(pictures(), (voice(13, 0),)))
    assert len(list(asked.stream(talk(loras=[lora])))) == 1
    with pytest.raises(RequestError, match=r"loras = none: this engine was loaded with bright.safetensors"):
        next(asked.stream(talk()))
    with pytest.raises(
        RequestError, match=r"loras = bright.safetensors \(strength 2\): this engine was loaded with no"
    ):
        next(Engine(plain.model, media=Memory(pictures(), (voice(13, 0),))).stream(talk(loras=[lora])))


def test_what_was_left_out_is_told(tiny_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "t2v_4steps.safetensors"
    first = {"patch_embedding.diff": torch.ones(128, 16, 1, 2, 2), "patch_embedding.diff_b": torch.ones(128)}
    save_file({f"diffusion_model.{key}": value for key, value in first.items()}, path)
    board = Board()
    Engine.from_pretrained(tiny_folder, device="cpu", progress=board, loras=[str(path)])
    applied, skipped, distilled = board.notes
    assert applied == "LoRA t2v_4steps.safetensors (strength 1) applied to 1 tensor"
    assert "patch_embedding.diff was skipped: the file is for text-to-video" in skipped
    assert "shift 2 unless given" in distilled


def test_one_of_the_models_own_is_applied_without_advice(tiny_folder: Path, lora: Lora, tmp_path: Path) -> None:
    fast = tmp_path / "lightx2v.safetensors"
    fast.write_bytes(lora.path.read_bytes())
    folder = replace(ModelFolder.open(tiny_folder), loras=(Lora(fast),))
    board = Board()
    engine = Engine.from_pretrained(folder, device="cpu", dtype="float32", progress=board, loras=[lora])
    assert board.notes == [
        "LoRA lightx2v.safetensors (strength 1) applied to 1 tensor",
        "LoRA bright.safetensors (strength 2) applied to 1 tensor",
    ]
    assert engine.model.loras == (lora,)
    plain = Engine.from_pretrained(tiny_folder, device="cpu", dtype="float32")
    torch.testing.assert_close(engine.model.dit.head.head.bias - plain.model.dit.head.head.bias, torch.full((64,), 1.5))


def test_one_that_does_not_fit_is_refused_before_a_weight_is_read(
    tiny_folder: Path, lora: Lora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("weights were about to be read")

    monkeypatch.setattr(model, "load_dit", refuse)
    with pytest.raises(pytest.fail.Exception):  # a LoRA that fits comes so far
        Engine.from_pretrained(tiny_folder, device="cpu", loras=[lora])
    save_file({"diffusion_model.blocks.0.norm3.diff": torch.zeros(5120)}, tmp_path / "large.safetensors")
    with pytest.raises(ModelError, match=r"another model \(a 14B model of Wan\): blocks.0.norm3.weight is \[128\]"):
        Engine.from_pretrained(tiny_folder, device="cpu", loras=[Lora(tmp_path / "large.safetensors")])
