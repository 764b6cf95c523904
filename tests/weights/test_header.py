"""Headers: what files hold is read without their data, and what is damaged, absurd or dangerous is one line."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from infinitetalk.core.errors import ModelError
from infinitetalk.core.ggml import TYPES
from infinitetalk.weights.header import FileKind, TensorInfo, read_header

TENSORS = {
    "a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "b": torch.ones(2, dtype=torch.bfloat16),
    "c": torch.zeros((), dtype=torch.int8),
    "d": torch.zeros(4, 2).to(torch.float8_e4m3fn),
}
INFOS = {
    "a.weight": TensorInfo((3, 4), "F32", 48),
    "b": TensorInfo((2,), "BF16", 4),
    "c": TensorInfo((), "I8", 1),
    "d": TensorInfo((4, 2), "F8_E4M3", 8),
}


def _safe(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content + data)
    return path


def _entry(start: int = 0, end: int = 8, dtype: str = "F32", shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def test_a_safetensors_header_says_what_the_library_wrote(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"author": "somebody"})
    header = read_header(tmp_path / "x.safetensors")
    assert header.kind is FileKind.SAFETENSORS
    assert dict(header.tensors) == INFOS
    assert header.metadata == {"author": "somebody"}
    assert header.tensors["a.weight"].elements == 12


@pytest.mark.parametrize(
    ("name", "header", "data", "words"),
    [
        ("cut", {"a": _entry()}, b"1234", "cut off: its tensors take 8 bytes, but 4 are there"),
        ("long", {"a": _entry()}, b"123456789", "too long"),
        ("json", b"{broken", b"", "not readable"),
        ("list", b"[]", b"", "not a list of tensors"),
        ("twice", b'{"a": 1, "a": 2}', b"", "a stands there twice"),
        ("hole", {"a": _entry(), "b": _entry(12, 20)}, bytes(20), "b begin at byte 12, not at 8"),
        ("shape", {"a": _entry(shape=(-2, -1))}, bytes(8), r"the shape \[-2, -1\]"),
        ("bytes", {"a": _entry(shape=(3,))}, bytes(8), "has 8 bytes"),
        ("type", {"a": _entry(dtype="F31")}, bytes(8), "the type F31"),
        ("lacking", {"a": {"dtype": "F32"}}, b"", "does not say what the tensor a is"),
        ("notes", {"__metadata__": {"a": 1}}, b"", "not text"),
        ("deep", b"[" * 200_000, b"", "not readable"),
    ],
)
def test_a_damaged_safetensors_file_is_one_line(
    tmp_path: Path, name: str, header: Any, data: bytes, words: str
) -> None:
    path = _safe(tmp_path / f"{name}.safetensors", header, data)
    with pytest.raises(ModelError, match=words) as caught:
        read_header(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)


def test_an_absurd_header_length_is_refused_without_memory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="promises a header of 9223372036854775807 bytes"):
        read_header(_safe(tmp_path / "x.safetensors", b"{}", length=2**63 - 1))


@pytest.mark.parametrize(
    ("start", "name", "words"),
    [
        (b"", "x.safetensors", "the file is empty"),
        (b"<!DOCTYPE html><html>", "x.safetensors", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "x.pth", "Git LFS pointer"),
        (b"GGUF\x03\x00\x00\x00", "x.safetensors", "holds a gguf file in spite of its name"),
        (b"PK\x03\x04", "x.safetensors", "holds a torch file in spite of its name"),
        (b"nonsense", "x.pth", "not a torch file"),
        (b"nonsense", "x.gguf", "does not begin with the letters GGUF"),
        (b"nonsense", "x.txt", "weight files end in .safetensors, .gguf"),
    ],
)
def test_a_file_of_another_kind_says_what_it_is(tmp_path: Path, start: bytes, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(start)
    with pytest.raises(ModelError, match=words):
        read_header(tmp_path / name)


@pytest.mark.parametrize("length", [0x13C, 0x213C, 0x683C], ids=hex)
def test_a_header_whose_length_reads_like_a_web_page_is_one(tmp_path: Path, length: int) -> None:
    """The first bytes of a safetensors file are a number: `<`, `<!`, `<h` are lengths like any others."""
    header = json.dumps({"x": _entry()}).encode().ljust(length)
    path = _safe(tmp_path / "x.safetensors", header, b"\0" * 8)
    assert path.read_bytes().startswith(b"<")
    assert read_header(path).tensors["x"] == TensorInfo((2,), "F32", 8)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such weight file"):
        read_header(tmp_path / "x.safetensors")


# --- GGUF


def test_the_block_sizes_are_ggmls() -> None:
    gguf = pytest.importorskip("gguf")
    theirs = {int(kind): (kind.name, size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: theirs[kind] for kind in TYPES} == dict(TYPES)


def test_a_gguf_header_says_what_the_gguf_package_wrote(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "wan")
    writer.add_array("comfy.gguf.orig_shape.patch", [2, 3, 1, 2, 2])
    writer.add_array("tokenizer.words", [f"word {index}" for index in range(40)])
    writer.add_array("tokenizer.numbers", list(range(40)))
    writer.add_tensor("dense", numpy.zeros((3, 5), numpy.float16))
    writer.add_tensor("patch", numpy.zeros(24, numpy.float32))
    blocks = numpy.zeros((2, 8 * 34), numpy.uint8)
    writer.add_tensor("packed", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(tmp_path / "x.gguf")
    assert header.kind is FileKind.GGUF
    assert dict(header.tensors) == {
        "dense": TensorInfo((3, 5), "F16", 30),
        "patch": TensorInfo((2, 3, 1, 2, 2), "F32", 96),
        "packed": TensorInfo((2, 256), "Q8_0", 544),
    }
    assert header.metadata["general.architecture"] == "wan"
    whole = (tmp_path / "x.gguf").read_bytes()
    for cut in (3, 7, 30, 200, len(whole) - 100):
        (tmp_path / "cut.gguf").write_bytes(whole[:cut])
        with pytest.raises(ModelError, match="get it again"):
            read_header(tmp_path / "cut.gguf")


def _text(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


def _gguf(tensors: int = 0, notes: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, notes) + rest


def _gguf_tensor(axes: tuple[int, ...] = (32,), kind: int = 8, offset: int = 0) -> bytes:
    shape = struct.pack(f"<I{len(axes)}Q", len(axes), *axes)
    return _text("a") + shape + struct.pack("<IQ", kind, offset) + bytes(300)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_gguf(version=1), "GGUF version 1"),
        (_gguf(tensors=2**62), "promises 4611686018427387904 tensors"),
        (_gguf(notes=2**40), "promises 1099511627776 notes"),
        (_gguf(notes=1, rest=struct.pack("<Q", 2**50)), "promises 1125899906842624 bytes of text"),
        (_gguf(notes=1, rest=_text("a") + struct.pack("<I", 77)), "unknown kind 77"),
        (_gguf(notes=1, rest=_text("a") + struct.pack("<IIQ", 9, 9, 1) + bytes(20)), "list of lists"),
        (_gguf(notes=1, rest=_text("a") + struct.pack("<IIQ", 9, 10, 20) + bytes(20)), "ends inside its header"),
        (_gguf(tensors=1, rest=_gguf_tensor(axes=(1,) * 6)), "6 axes"),
        (_gguf(tensors=1, rest=_gguf_tensor(kind=99)), "ggml's type 99"),
        (_gguf(tensors=1, rest=_gguf_tensor(axes=(33,))), "rows of 33, which Q8_0 cannot hold"),
        (_gguf(tensors=1, rest=_gguf_tensor(axes=(2**40, 2**20))), "would end past its"),
        (_gguf(tensors=1, rest=_gguf_tensor(offset=7)), "would end past its"),
    ],
)
def test_an_absurd_gguf_file_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        read_header(tmp_path / "x.gguf")


# --- torch


@pytest.mark.parametrize("nested", [False, True])
def test_a_torch_header_says_what_torch_saved(tmp_path: Path, nested: bool) -> None:
    shared = torch.arange(24).reshape(4, 6)
    state = OrderedDict({**TENSORS, "view": shared[1:3].T, "parameter": torch.nn.Parameter(torch.ones(3))})
    torch.save({"state_dict": dict(state)} if nested else state, tmp_path / "x.pth")
    header = read_header(tmp_path / "x.pth")
    assert header.kind is FileKind.TORCH
    assert dict(header.tensors) == {
        **INFOS,
        "view": TensorInfo((6, 2), "I64", 96),
        "parameter": TensorInfo((3,), "F32", 12),
    }


def test_a_module_saves_its_state_with_notes(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "x.bin")
    assert set(read_header(tmp_path / "x.bin").tensors) == {"weight", "bias"}


class _Run:
    """Unpickling this makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def _zip(path: Path, content: bytes, storages: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def test_a_pickle_that_runs_something_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(2), "b": _Run(tmp_path / "made")}, path)
    with pytest.raises(ModelError, match=r"asks to run (posix|nt)\.mkdir, .* it was not run") as caught:
        read_header(path)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"cbuiltins\neval\n.",
        b"ctorch\nload\n.",
        b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"cposix\nsystem\n.",
    ],
)
def test_every_way_to_name_a_function_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match="asks to run"):
        read_header(_zip(tmp_path / "x.pth", content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps({"a": 1}), "'a' is no tensor"),
        (pickle.dumps([]), "something other than named tensors"),
        (pickle.dumps({"a": 1})[:-3], "not readable"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "2147483647 places in memory"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".", "not readable"),
        (b"\x80\x02\x82\x01.", "not readable"),
    ],
)
def test_a_damaged_pickle_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read_header(_zip(tmp_path / "x.pth", content))


def test_storages_must_be_there_and_long_enough(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(8)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        content = archive.read("x/data.pkl")
    for storages, words in (({}, "does not hold"), ({"0": bytes(12)}, "has 12 bytes")):
        with pytest.raises(ModelError, match=words):
            read_header(_zip(tmp_path / "y.pth", content, storages))


def test_a_torch_file_cut_off_or_of_another_kind(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(1000)}, buffer)
    (tmp_path / "x.pth").write_bytes(buffer.getvalue()[:-500])
    with pytest.raises(ModelError, match="not a whole torch file"):
        read_header(tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("picture.png", b"1")
    with pytest.raises(ModelError, match="a zip file without weights"):
        read_header(tmp_path / "other.pth")


def test_a_torch_file_of_the_old_kind(tmp_path: Path) -> None:
    path, shared = tmp_path / "old.bin", torch.arange(24).reshape(4, 6)
    state = {**{name: TENSORS[name] for name in "bc"}, "whole": shared, "view": shared[1:3]}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert dict(read_header(path).tensors) == {
        "b": INFOS["b"],
        "c": INFOS["c"],
        "whole": TensorInfo((4, 6), "I64", 192),
        "view": TensorInfo((2, 6), "I64", 96),
    }
    content = path.read_bytes()
    for cut in (10, 60, 300, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ModelError, match="get it again"):
            read_header(path)
    torch.save({"a": _Run(tmp_path / "made")}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match="asks to run"):
        read_header(path)
    assert not (tmp_path / "made").exists()
