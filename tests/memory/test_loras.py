"""LoRAs wherever weights live, and whatever they are stored in: the same video in every tier."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from infinitetalk.core.loras import Lora
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine.board import Board
from infinitetalk.engine.engine import Engine
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.load import read_tensors
from infinitetalk.weights.packed import pack
from tests.engine.inputs import Memory, pictures, talk, voice

TIERS = ("resident", "pinned", "disk")


@pytest.fixture(scope="module")
def packed_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` with the matrices of its blocks in 8 bits."""
    folder = tmp_path_factory.mktemp("packed") / "tiny"
    folder.mkdir()
    for path in tiny_folder.iterdir():
        (folder / path.name).symlink_to(path)
    tensors = read_tensors(ModelFolder.open(tiny_folder).dit.files)
    dense = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    state = pack(dense, lambda name, value: value.ndim == 2 and name.startswith("blocks."))
    save_file(state, folder / "packed.safetensors")
    manifest = json.loads((folder / "model.json").read_text())
    manifest["parts"]["dit"]["files"] = ["packed.safetensors"]
    (folder / "model.json").unlink()
    (folder / "model.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lora, ...]:
    """Pairs on matrices for every step and for preparing, a bias, a norm and a modulation; and a second file."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.2

    one = {"blocks.0.norm3.diff": draw(128), "blocks.1.diff_m": draw(1, 6, 128), "blocks.1.ffn.2.diff_b": draw(128)}
    two: dict[str, Tensor] = {}
    for module in ("blocks.0.self_attn.q", "blocks.1.cross_attn.k", "blocks.1.cross_attn.v_img", "head.head"):
        out = 64 if module == "head.head" else 128
        pair = {f"{module}.lora_down.weight": draw(2, 128), f"{module}.lora_up.weight": draw(out, 2)}
        one |= pair
        two |= {name: value * 0.5 for name, value in pair.items()}
    folder = tmp_path_factory.mktemp("loras")
    for name, tensors in (("one", one), ("two", two)):
        save_file({f"diffusion_model.{key}": value for key, value in tensors.items()}, folder / f"{name}.safetensors")
    return Lora(folder / "one.safetensors", 0.8), Lora(folder / "two.safetensors", -0.5)


def make(folder: Path, tier: str, loras: tuple[Lora, ...]) -> tuple[Tensor, list[str]]:
    board = Board()
    settings = MemorySettings(memory=tier)
    engine = Engine.from_pretrained(folder, device="cpu", progress=board, loras=loras, memory=settings)
    media = Memory(pictures(), (voice(13),))
    frames = Engine(engine.model, media=media).generate(talk(steps=2, loras=loras)).frames
    engine.model.close()
    return frames, board.notes


def test_every_tier_merges_alike(tiny_folder: Path, loras: tuple[Lora, ...]) -> None:
    plain, _ = make(tiny_folder, "resident", ())
    made = [make(tiny_folder, tier, loras) for tier in TIERS]
    assert not torch.allclose(made[0][0], plain, atol=1e-2)
    for frames, notes in made:
        assert torch.equal(frames, made[0][0])
        assert notes == [
            "LoRA one.safetensors (strength 0.8) applied to 7 tensors",
            "LoRA two.safetensors (strength -0.5) applied to 4 tensors",
        ]


def test_every_tier_has_side_branches_alike(packed_folder: Path, loras: tuple[Lora, ...]) -> None:
    plain, _ = make(packed_folder, "resident", ())
    made = {tier: make(packed_folder, tier, loras) for tier in TIERS}
    assert torch.equal(made["pinned"][0], made["disk"][0])
    for frames, _ in made.values():
        assert (frames - made["resident"][0]).abs().max() < 1e-3
        assert (frames - plain).abs().max() > 1e-2
    for tier in ("pinned", "disk"):
        assert made[tier][1] == [
            "LoRA one.safetensors (strength 0.8) applied to 7 tensors, 3 of them live beside stored weights",
            "LoRA two.safetensors (strength -0.5) applied to 4 tensors, 3 of them live beside stored weights",
        ]
