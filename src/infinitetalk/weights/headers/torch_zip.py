"""The header of a torch weight file (`.pth`, `.pt`, `.bin`): the pickle inside its zip, read for tensors alone.

Nothing that the pickle names is ever imported or called. Its few allowed names stand for records of this module; any
other name is refused before the pickle goes on.
"""

import io
import pickle
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from infinitetalk.core.errors import ModelError
from infinitetalk.weights.headers.record import FileKind, Header, TensorInfo, damaged
from infinitetalk.weights.headers.safe import BITS

MOST_PICKLE_BYTES = 64 << 20
PICKLE_NAME = "data.pkl"
OLD_PICKLES = 5
"""A sign, a version, facts of the machine, the tensors, and the order of their data."""
MOST_NUMBERS = 1 << 40
LENGTH_BYTES = 8
"""Before each old storage stands its length."""

# What reading a damaged pickle can raise.
PICKLE_ERRORS = (pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, TypeError, OverflowError)

DTYPES: Mapping[str, str] = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip
STORAGES: Mapping[str, str] = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "ComplexFloatStorage": "C64", "UntypedStorage": "U8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Dtype:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """The bytes behind one tensor or several; `dtype` None says that the tensor knows it."""

    dtype: str
    bytes: int


class _Refused(pickle.UnpicklingError):
    """A pickle that asks for something other than tensors."""


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any) -> TensorInfo:
    """What torch would rebuild a tensor from."""
    return _info(storage, storage.dtype, offset, shape, stride)


def _tensor_of_type(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorInfo:
    """The same for types that have no storage class of their own: the type is the seventh value."""
    return _info(storage, rest[2].name, offset, shape, stride)


def _info(storage: _Storage, dtype: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> TensorInfo:
    if not all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *stride)):
        raise ValueError(f"a tensor of shape {shape} and stride {stride}")
    size = BITS[dtype] // 8
    reach = offset + 1 + sum((axis - 1) * step for axis, step in zip(shape, stride, strict=True)) if prod(shape) else 0
    if reach * size > storage.bytes:
        raise ValueError(f"a tensor of shape {shape} reaches past its {storage.bytes} bytes")
    return TensorInfo(tuple(shape), dtype, prod(shape) * size)


def _parameter(tensor: Any, *_rest: Any) -> TensorInfo:
    if not isinstance(tensor, TensorInfo):
        raise ValueError("a parameter without a tensor")
    return tensor


def _size(axes: Any = ()) -> tuple[int, ...]:
    return tuple(axes)


_ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
"""All that a weight file's pickle may call, and what is called in its place."""


class _TensorsOnly(pickle.Unpickler):
    """Reads a torch pickle as records; knows how many bytes each storage really has."""

    def __init__(self, content: bytes, storages: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str, /) -> Any:
        """Gives the record behind an allowed name; nothing is imported."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and name in DTYPES:
            return _Dtype(DTYPES[name])
        if module in ("torch", "torch.storage") and name in STORAGES:
            return _Dtype(STORAGES[name])
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any, /) -> _Storage:
        """A storage: its bytes lie in the zip under its key."""
        match pid:
            case ("storage", _Dtype(dtype), str(key), _, int(count)) if key in self._storages:
                there = self._storages[key]
                if count * BITS[dtype] // 8 != there:
                    raise ValueError(f"the storage {key} should have {count} numbers and has {there} bytes")
                return _Storage(dtype, there)
        raise ValueError(f"a storage that the file does not hold ({pid})")


class _OldTensorsOnly(_TensorsOnly):
    """The same for files from before torch 1.6, in which the data follow the pickle: notes what must follow."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content, {})
        self.follows: dict[str, int] = {}

    def persistent_load(self, pid: Any, /) -> _Storage:
        """A storage: its bytes lie behind the pickle, as many as it says."""
        match pid:
            case ("storage", _Dtype(dtype), str(key), _, int(count), None) if 0 <= count <= MOST_NUMBERS:
                self.follows[key] = count * BITS[dtype] // 8
                return _Storage(dtype, self.follows[key])
        raise ValueError(f"a storage that is a part of another one or absurd ({pid})")


def read_old_torch(path: Path, file: BinaryIO, size: int) -> Header:
    """Reads the names and shapes of a torch file of the kind from before torch 1.6: five pickles, then the data.

    Raises:
        ModelError: a file that is cut off, or whose pickle asks for more than tensors.
    """
    places = [0]
    try:
        for _ in range(OLD_PICKLES):
            for _ in pickletools.genops(file):  # walks to the end of one pickle and runs nothing
                pass
            places.append(file.tell())
        start, end, data = places[3:]
        file.seek(start)
        content = file.read(end - start)
        _check_memory(path, content)
        reader = _OldTensorsOnly(content)
        tensors = _named(path, reader.load())
    except _Refused as error:
        _refuse(path, str(error), error)
    except (*PICKLE_ERRORS, MemoryError, RecursionError) as error:
        raise damaged(path, f"not a whole torch file ({error})") from error
    if (wanted := sum(LENGTH_BYTES + count for count in reader.follows.values())) != size - data:
        raise damaged(path, f"the file is cut off or too long: its tensors take {wanted} bytes, not {size - data}")
    return Header(path, FileKind.TORCH, tensors, {})


def read_torch(path: Path, file: BinaryIO, size: int) -> Header:
    """Reads the names and shapes of a torch file's tensors.

    Raises:
        ModelError: a file that is cut off, of the kind from before torch 1.6, or with a pickle that asks for more than
            tensors.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            content, storages = _parts(path, archive, size)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise damaged(path, f"not a whole torch file ({error})") from error
    tensors = _named(path, _unpickle(path, content, storages))
    return Header(path, FileKind.TORCH, tensors, {})


def _parts(path: Path, archive: zipfile.ZipFile, size: int) -> tuple[bytes, Mapping[str, int]]:
    """The pickle, and the bytes of each storage."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.rpartition("/")[2] == PICKLE_NAME and name.count("/") <= 1]
    if len(pickles) != 1:
        raise ModelError(f"{path}: a zip file without weights in it ({PICKLE_NAME} is not there)")
    pickled = entries[pickles[0]]
    if pickled.file_size > MOST_PICKLE_BYTES:
        raise damaged(path, f"its list of tensors takes {pickled.file_size} bytes")
    folder = pickles[0].removesuffix(PICKLE_NAME) + "data/"
    storages: dict[str, int] = {}
    for name, entry in entries.items():
        if name.startswith(folder):
            if entry.compress_type != zipfile.ZIP_STORED or entry.header_offset + entry.file_size > size:
                raise damaged(path, f"the storage {name} is packed or ends past the file's {size} bytes")
            storages[name.removeprefix(folder)] = entry.file_size
    return archive.read(pickled), storages


def _check_memory(path: Path, content: bytes) -> None:
    """Walks the pickle without running it: a place in its memory beyond its own length would only cost memory."""
    for opcode, argument, _ in pickletools.genops(content):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(content):
            raise damaged(path, f"its pickle asks for {argument} places in memory")


def _unpickle(path: Path, content: bytes, storages: Mapping[str, int]) -> Any:
    try:
        _check_memory(path, content)
        return _TensorsOnly(content, storages).load()
    except _Refused as error:
        _refuse(path, str(error), error)
    except (*PICKLE_ERRORS, MemoryError, RecursionError) as error:
        raise damaged(path, f"its list of tensors is not readable ({error})") from error


def _refuse(path: Path, name: str, error: Exception) -> NoReturn:
    raise ModelError(
        f"{path}: its pickle asks to run {name}, and a weight file needs nothing but tensors; it was not run. "
        f"Use a safetensors file from a source that you trust"
    ) from error


def _named(path: Path, content: Any) -> Mapping[str, TensorInfo]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{path}: holds something other than named tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, TensorInfo):
            raise ModelError(f"{path}: holds something other than named tensors: {name!r} is no tensor")
    return dict(content)
