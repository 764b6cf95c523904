"""Writes a model folder with random weights at full size, as fast as the disk allows: 19 to 46 GB.

python -m benchmarks.random_model FOLDER --kind fp8          (or bf16; or q4_k, which needs the package gguf)

Kinds are those of the preset `t4`: the transformer in rows of fp8 with scales (`fp8`) or in a GGUF file's blocks of 4
bits (`q4_k`), or else, as it is published, in bfloat16 (`bf16`); umT5-XXL in fp8 with a float16 table of tokens, CLIP
and the VAE in float16, wav2vec2 in float32. Numbers are cut out of one random sequence at a place of each tensor's own,
and scaled by the tensor's inputs, so that signals keep their size. The tokenizer knows a few words.
"""

import argparse
import json
import math
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE
from infinitetalk.runtime.platform import forget_pages
from tools.make_tiny import Shapes, module_shapes, speech_shapes, text_shapes, vision_shapes

KINDS = ("fp8", "q4_k", "bf16")
GAIN = 0.8
"""What a matrix makes of the size of its inputs."""
FP8_SIZE = 16.0
"""Standard deviation of the numbers in fp8, before their scales; their range ends at 448."""
Q4_K = 12
"""ggml's number of the type: 256 weights in 144 bytes."""
Q4_K_SIZE = 257.0
"""Standard deviation of random blocks of Q4_K whose scale is 1, and whose least one is 7.5: their mean is 0."""
F16, F32 = 1, 0
"""ggml's numbers of two more types."""
SEQUENCE = (1 << 25) + 4099
"""Numbers in the random sequence, so many that no two tensors are likely to begin alike."""
WORDS = "a person talks sings looks smiles into the camera calmly blurred static worst quality overexposed details"

Content = Iterator[NDArray[np.uint8]]


@dataclass(frozen=True)
class Full:
    """The networks of a model; the defaults are the 14B model's."""

    dit: DiTConfig = field(default_factory=DiTConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    text: TextConfig = field(default_factory=TextConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    buckets: Mapping[str, Any] | None = None


class Numbers:
    """Normal numbers in the formats that files need, made once."""

    def __init__(self, count: int = SEQUENCE) -> None:
        generator = torch.Generator().manual_seed(0)
        self._normal = torch.randn(count, generator=generator)
        self._fp8 = (self._normal * FP8_SIZE).clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        self._bytes = torch.randint(0, 256, (count // 4 + 1, 4), dtype=torch.uint8, generator=generator).numpy()

    def fp8(self, name: str, elements: int) -> Content:
        """Bytes of fp8 numbers."""
        yield from _cut(self._fp8, name, elements)

    def dense(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Content:
        """Bytes of numbers that keep a signal's size: gains near 1, small biases, matrices scaled by their inputs."""
        for piece in _cut(self._normal.numpy(), name, math.prod(shape)):
            values = torch.from_numpy(piece)
            if name.endswith("weight_g"):
                values = 0.5 + values.abs()
            elif len(shape) == 1 or name.endswith("gamma"):
                values = 0.05 * values if name.endswith("bias") else 1 + 0.1 * values
            else:
                values = values * (GAIN / math.sqrt(math.prod(shape[1:])))
            yield _raw(values.to(dtype))

    def q4_k(self, name: str, shape: tuple[int, ...]) -> Content:
        """Bytes of random blocks of Q4_K: two scales in 16 bits, 12 bytes of finer ones, 256 times 4 bits."""
        scale = GAIN / math.sqrt(shape[-1]) / Q4_K_SIZE
        ends = np.frombuffer(np.array([scale, 7.5 * scale], dtype=np.float16).tobytes(), dtype=np.uint8)
        for piece in _cut(self._bytes.reshape(-1), name, math.prod(shape) // 256 * 140, multiple=140):
            blocks = np.empty((len(piece) // 140, 144), dtype=np.uint8)
            blocks[:, :4], blocks[:, 4:] = ends, piece.reshape(-1, 140)
            yield blocks.reshape(-1)


def _cut(sequence: NDArray[Any], name: str, count: int, multiple: int = 1) -> Iterator[NDArray[Any]]:
    """So many items of a sequence, from a place that the name tells, over and over."""
    length = len(sequence) // multiple * multiple
    place = zlib.crc32(name.encode()) % (length // multiple) * multiple
    while count:
        piece = sequence[place : min(length, place + count)]
        yield piece
        count, place = count - len(piece), 0


def _raw(values: Tensor) -> NDArray[np.uint8]:
    return values.contiguous().view(torch.uint8).numpy().reshape(-1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a file to be written."""

    name: str
    shape: tuple[int, ...]
    kind: str
    bytes: int
    content: Callable[[], Content]


BYTES: Mapping[torch.dtype, tuple[str, int]] = {
    torch.float16: ("F16", 2), torch.bfloat16: ("BF16", 2), torch.float32: ("F32", 4),
}  # fmt: skip
WIDTHS = ("F32", "F16", "BF16", "F8_E4M3")


def dense(numbers: Numbers, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Entry:
    """A tensor of numbers as they are."""
    kind, size = BYTES[dtype]
    return Entry(name, shape, kind, size * math.prod(shape), lambda: numbers.dense(name, shape, dtype))


def in_rows(numbers: Numbers, name: str, shape: tuple[int, ...]) -> list[Entry]:
    """A matrix in fp8, and the scale of each of its rows."""
    count, rows = math.prod(shape), shape[0]
    scale = _raw(torch.full((rows,), GAIN / math.sqrt(shape[1]) / FP8_SIZE))
    own = name.removesuffix("weight") + "scale_weight"
    return [
        Entry(name, shape, "F8_E4M3", count, lambda: numbers.fp8(name, count)),
        Entry(own, (rows,), "F32", len(scale), lambda: iter((scale,))),
    ]


def write_safetensors(path: Path, entries: list[Entry]) -> None:
    """Writes a safetensors file, tensor after tensor."""
    header, place = {}, 0
    for entry in sorted(entries, key=lambda entry: WIDTHS.index(entry.kind)):  # so that all are aligned
        header[entry.name] = {
            "dtype": entry.kind, "shape": entry.shape, "data_offsets": [place, place + entry.bytes],
        }  # fmt: skip
        place += entry.bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    by_name = {entry.name: entry for entry in entries}
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in header:
            _write(file, by_name[name])
        _forget(file)


def write_gguf(path: Path, entries: list[Entry]) -> None:
    """Writes a GGUF file; see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""
    numbers = {"Q4_K": Q4_K, "F16": F16, "F32": F32}
    note = struct.pack("<Q20sIQ3s", 20, b"general.architecture", 8, 3, b"wan")
    header, place = b"GGUF" + struct.pack("<IQQ", 3, len(entries), 1) + note, 0
    for entry in entries:
        name, axes = entry.name.encode(), entry.shape[::-1]
        header += struct.pack(f"<Q{len(name)}sI{len(axes)}Q", len(name), name, len(axes), *axes)
        header += struct.pack("<IQ", numbers[entry.kind], place)
        place += entry.bytes + -entry.bytes % 32
    with path.open("wb") as file:
        file.write(header + bytes(-len(header) % 32))
        for entry in entries:
            _write(file, entry)
            file.write(bytes(-entry.bytes % 32))
        _forget(file)


def _write(file: BinaryIO, entry: Entry) -> None:
    written = sum(file.write(piece.data) for piece in entry.content())
    if written != entry.bytes:
        raise ValueError(f"{entry.name}: {written} bytes instead of {entry.bytes}")


def _forget(file: BinaryIO) -> None:
    """The file goes to disk, and out of the system's cache: who reads it later reads the disk."""
    file.flush()
    os.fsync(file.fileno())
    forget_pages(file.fileno(), 0, 0)


def dit_entries(numbers: Numbers, config: DiTConfig, kind: str) -> list[Entry]:
    """The transformer: the blocks' matrices in few bits, all else in float16."""
    entries: list[Entry] = []
    for name, shape in module_shapes(lambda: AudioDiT(config)).items():
        few = len(shape) == 2 and re.match(r"blocks\.\d+\..*weight", name) is not None
        if few and kind == "fp8":
            entries += in_rows(numbers, name, shape)
        elif kind == "bf16":
            entries.append(dense(numbers, name, shape, torch.bfloat16))
        elif few and shape[-1] % 256 == 0:
            size = math.prod(shape) // 256 * 144
            entries.append(Entry(name, shape, "Q4_K", size, lambda name=name, shape=shape: numbers.q4_k(name, shape)))  # type: ignore[misc]
        else:
            entries.append(dense(numbers, name, shape, torch.float16))
    return entries


def text_entries(numbers: Numbers, shapes: Shapes) -> list[Entry]:
    """umT5: the layers' matrices in fp8, tables in float16."""
    entries: list[Entry] = []
    for name, shape in shapes.items():
        if len(shape) == 2 and "embedding" not in name:
            entries += in_rows(numbers, name, shape)
        else:
            entries.append(dense(numbers, name, shape, torch.float16))
    return entries


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of a few words."""
    words = dict.fromkeys(["<pad>", "</s>", "<unk>", *WORDS.split()])
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))


def _part(config: NetConfig, file: str, **more: str) -> dict[str, Any]:
    return {"config": asdict(config), "files": [file], **more}


def write_model(folder: Path, kind: str, full: Full | None = None, numbers: Numbers | None = None) -> Path:
    """Writes a model folder, which must not exist yet."""
    full, numbers = full or Full(), numbers or Numbers()
    folder.mkdir(parents=True)
    dit = "dit.gguf" if kind == "q4_k" else "dit.safetensors"
    write_dit = write_gguf if kind == "q4_k" else write_safetensors
    write_dit(folder / dit, dit_entries(numbers, full.dit, kind))
    write_safetensors(folder / "text.safetensors", text_entries(numbers, text_shapes(full.text)))
    plain: tuple[tuple[str, Shapes, torch.dtype], ...] = (
        ("vision", vision_shapes(full.vision), torch.float16),
        ("vae", module_shapes(lambda: VideoVAE(full.vae)), torch.float16),
        ("speech", speech_shapes(full.speech), torch.float32),
    )
    for name, shapes, dtype in plain:
        entries = [dense(numbers, tensor, shape, dtype) for tensor, shape in shapes.items()]
        write_safetensors(folder / f"{name}.safetensors", entries)
    write_tokenizer(folder / "tokenizer")
    parts = {
        "dit": _part(full.dit, dit),
        "vae": _part(full.vae, "vae.safetensors"),
        "speech": _part(full.speech, "speech.safetensors"),
        "text": _part(full.text, "text.safetensors", tokenizer="tokenizer"),
        "vision": _part(full.vision, "vision.safetensors"),
    }
    manifest = {"format": 1, "name": "random", "parts": parts, "defaults": dict(full.defaults)}
    manifest |= {} if full.buckets is None else {"buckets": full.buckets}
    (folder / "model.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return folder


def main() -> None:
    """Writes the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to make; must not exist yet")
    parser.add_argument("--kind", choices=KINDS, default="fp8")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists already; name a new folder")
    sys.stdout.write(f"{write_model(arguments.folder, arguments.kind)}\n")


if __name__ == "__main__":
    main()
