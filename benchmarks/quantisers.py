"""Who stores matrices in fewer bits, for `benchmarks.quantisation`.

fp8, int8 and q4 (the kind of 4 bits that `infinitetalk convert` writes) are this project's own; Q4_0 to Q8_0 come from
the `gguf` package, and Q2_K to Q6_K from ggml's library, which the package `pywhispercpp` brings along.
"""

import ctypes
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.ops.ggml import LAYOUTS, Blocks
from infinitetalk.ops.pack import PACKERS
from infinitetalk.ops.stored import Stored

Pack = Callable[[Tensor], Stored]
Rows = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""float32 [rows, width] → blocks uint8 [rows, bytes]."""

BY_GGUF = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
BY_GGML = ("Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K")
KINDS = ("fp8", "int8", *BY_GGUF, *BY_GGML, "q4")
WEIGHTS_AT_ONCE = 1 << 20
"""How many weights one thread packs in one go."""


def find_ggml() -> Path | None:
    """ggml's library of the installed package `pywhispercpp`; None where there is none."""
    try:
        files = metadata.files("pywhispercpp") or []
    except metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name.startswith("libggml-base")]
    return next((path for path in found if path.is_file()), None)


def quantisers(library: Path | None) -> Mapping[str, Pack]:
    """What makes each kind; those of ggml only with its library."""
    made: dict[str, Pack] = {kind: PACKERS[kind] for kind in ("fp8", "int8")}
    made |= {kind: partial(_in_blocks, kind, partial(_by_gguf, kind)) for kind in BY_GGUF}
    if library is not None:
        quantise = _load(library)
        made |= {kind: partial(_in_blocks, kind, partial(_by_ggml, quantise, kind)) for kind in BY_GGML}
    return made | {"q4": PACKERS["q4"]}


def lacks(kind: str, made: Mapping[str, Pack], widths: set[int]) -> str | None:
    """Why matrices with rows of these widths cannot be of a kind; None if they can."""
    if kind not in made:
        return "ggml's library is not there: pip install pywhispercpp"
    size = LAYOUTS[kind].weights if kind in LAYOUTS else 32 if kind == "q4" else 1
    wrong = sorted(width for width in widths if width % size)
    return f"rows of {wrong[0]} weights are no whole blocks of {size}" if wrong else None


def _in_blocks(kind: str, rows: Rows, matrix: Tensor) -> Blocks:
    """A matrix [out, in] in ggml's blocks, packed on the CPU by all its cores."""
    step = max(1, WEIGHTS_AT_ONCE // matrix.shape[1])
    host = matrix.detach().cpu()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        pieces = list(threads.map(lambda piece: rows(piece.float().contiguous().numpy()), host.split(step)))
    data = torch.from_numpy(np.concatenate(pieces)).to(matrix.device)
    return Blocks.of("matrix", data, kind, tuple(matrix.shape))


def _by_gguf(kind: str, rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    packed: NDArray[np.uint8] = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[kind])
    return packed


def _load(library: Path) -> Callable[..., int]:
    """`ggml_quantize_chunk(type, source, target, first, rows, width, importance)`, which gives the bytes written."""
    quantise = ctypes.CDLL(str(library)).ggml_quantize_chunk
    quantise.restype = ctypes.c_size_t
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    quantise.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    return quantise


def _by_ggml(quantise: Callable[..., int], kind: str, rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    layout, (count, width) = LAYOUTS[kind], rows.shape
    packed = np.empty((count, width // layout.weights * layout.bytes), np.uint8)
    number = int(gguf.GGMLQuantizationType[kind])
    written = quantise(number, rows.ctypes.data, packed.ctypes.data, 0, count, width, None)
    if written != packed.nbytes:
        raise RuntimeError(f"ggml wrote {written} bytes of {kind}, not {packed.nbytes}")
    return packed
