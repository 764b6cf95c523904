"""Conversions of small models, with a watcher that listens."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.loras import Lora
from infinitetalk.engine.convert import Wish, convert, plan_model, plan_transformer
from infinitetalk.ops.stored import Stored
from infinitetalk.weights.convert.folder import Job
from infinitetalk.weights.convert.layout import Kind
from infinitetalk.weights.folder import ModelFolder, Part

CPU = torch.device("cpu")
CONFIG = DiTConfig(
    text_len=12, dim=64, ffn_dim=256, freq_dim=16, text_dim=10, num_heads=4, num_layers=3, clip_dim=14, clip_tokens=5,
    audio_blocks=2, audio_channels=6, intermediate_dim=8, output_dim=20, context_tokens=3,
)  # fmt: skip


class Listener:
    """Notes what it is told, and may do something at some record."""

    def __init__(self, at: Callable[[str, int], None] = lambda _what, _done: None) -> None:
        self.total, self.before = 0, 0
        self.moves: list[tuple[str, int]] = []
        self._at = at

    def begin(self, total: int, done: int, /) -> None:
        self.total, self.before = total, done

    def move(self, what: str, done: int, /) -> None:
        self.moves.append((what, done))
        self._at(what, done)


def model_job(
    folder: Path | str, output: Path, kind: str, *, rest: torch.dtype = torch.float32, text: str | None = None,
    copy: bool = False, loras: tuple[Lora, ...] = (),
) -> Job:  # fmt: skip
    wish = Wish(kind=Kind.of(kind, rest), text=Kind.of(text, rest) if text else None, copy=copy)
    return plan_model(ModelFolder.open(folder), output, wish, loras, CPU)


def convert_model(folder: Path | str, output: Path, kind: str, *, text: str | None = None) -> ModelFolder:
    return ModelFolder.open(convert(model_job(folder, output, kind, text=text), CPU, Listener()))


def dit_job(state: Mapping[str, Tensor], config: DiTConfig, home: Path, kind: str, *, rest: torch.dtype) -> Job:
    """Base and adapter as one loose file, to be converted into the folder `made`."""
    home.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, home / "loose.safetensors")
    part = Part(config, (home / "loose.safetensors",))
    return plan_transformer(part, home / "made", Kind.of(kind, rest), (), name="dit.safetensors")


def dense(value: Tensor | Stored) -> Tensor:
    return value.dequantise(torch.float32) if isinstance(value, Stored) else value.float()


def records(path: Path) -> Mapping[str, tuple[int, int]]:
    with safe_open(str(path), framework="pt") as file:
        table = json.loads(file.metadata()["infinitetalk_records"])
    return {name: (start, count) for name, (start, count) in table.items()}


def offsets(path: Path) -> Mapping[str, tuple[int, int]]:
    """First byte in the file and number of bytes of every tensor, by the format's own rules."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__")
    return {
        name: (8 + length + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
    }
