"""Weight files of any size without data: true headers over holes, so that 60 GB take a few kilobytes of disk."""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

from infinitetalk.weights.headers.safe import BITS

Shapes = Mapping[str, tuple[int, ...]]


def fake_safetensors(
    path: Path, shapes: Shapes, dtype: str = "BF16", dtypes: Mapping[str, str] | None = None, missing_bytes: int = 0
) -> Path:
    """A safetensors file with these tensors; `dtypes` names those of another type."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        kind = (dtypes or {}).get(name, dtype)
        start, end = end, end + prod(shape) * BITS[kind] // 8
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    content = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end - missing_bytes)
    return path


def fake_shards(folder: Path, stem: str, shapes: Shapes, count: int, dtype: str = "F32") -> Path:
    """Shards with an index, as Hugging Face writes them; gives the index."""
    names = list(shapes)
    homes = {name: f"{stem}-{1 + number * count // len(names):05}-of-{count:05}.safetensors"
             for number, name in enumerate(names)}  # fmt: skip
    for home in sorted(set(homes.values())):
        fake_safetensors(folder / home, {name: shapes[name] for name in names if homes[name] == home}, dtype)
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": homes}), encoding="utf-8")
    return index


PIECE = b"\x0a\x08\x0a\x01a\x15\x00\x00\x00\x00"
"""A token of a sentencepiece model: a word and its score."""
UMT5_PIECES = 256_300


def fake_pieces(path: Path, tokens: int = UMT5_PIECES) -> Path:
    """A sentencepiece model of many tokens, umT5's number by default, that are all alike."""
    path.write_bytes(PIECE * tokens + b"\x12\x02\x08\x01")
    return path


def fake_gguf(path: Path, shapes: Shapes, blocks: set[str], kind: str) -> Path:
    """A GGUF file as city96's converter makes it, its header by the gguf package: `blocks` are of one kind, the rest
    float32; what has more than four axes lies flat."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "wan")
    quantised = gguf.GGMLQuantizationType[kind]
    size = 0
    for name, shape in shapes.items():
        packed = quantised if name in blocks else gguf.GGMLQuantizationType.F32
        numbers, space = gguf.GGML_QUANT_SIZES[packed]
        nbytes = prod(shape) // numbers * space
        if len(shape) > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(shape))
        stored = (prod(shape[:3]), *shape[3:]) if len(shape) > 4 else shape
        writer.add_tensor_info(name, stored, np.dtype(np.float32), nbytes, raw_dtype=packed)
        size += -(-nbytes // gguf.GGUF_DEFAULT_ALIGNMENT) * gguf.GGUF_DEFAULT_ALIGNMENT
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size + gguf.GGUF_DEFAULT_ALIGNMENT)
    return path
