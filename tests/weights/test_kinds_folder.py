"""A model folder whose base is GGUF and whose adapter is scaled fp8 makes the video of their values."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors.torch import save_file
from torch import Tensor

from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import load_model
from infinitetalk.ops.stored import Stored
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.read import read_tensors
from tests.engine.inputs import Memory, pictures, talk, voice

Write = Callable[[Path, Mapping[str, Tensor]], None]


def write_gguf(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Matrices in Q8_0, the kernel of the patches flat with its shape in a note, all else in float32."""
    writer = GGUFWriter(path, "wan")
    for name, value in tensors.items():
        kind = GGMLQuantizationType.Q8_0 if value.ndim == 2 and not value.shape[1] % 32 else GGMLQuantizationType.F32
        if value.ndim > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(value.shape))
        rows = value.float().flatten(1) if value.ndim > 4 else value.float()
        writer.add_tensor(name, quantize(rows.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_scaled(path: Path, tensors: Mapping[str, Tensor]) -> None:
    stored: dict[str, Tensor] = {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    for name, value in tensors.items():
        stored[name] = value
        if value.ndim == 2:
            scale = value.float().abs().max() / 448
            stored[name] = (value.float() / scale).to(torch.float8_e4m3fn)
            stored[f"{name.removesuffix('weight')}scale_weight"] = scale
    save_file(stored, path)


def write_plain(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


def beside(folder: Path, place: Path, files: Mapping[str, tuple[Write, Mapping[str, Tensor]]]) -> ModelFolder:
    """A copy of a model folder whose dit has other files."""
    shutil.copytree(folder, place)
    manifest = json.loads((place / "model.json").read_text())
    manifest["parts"]["dit"]["files"] = list(files)
    (place / "model.json").write_text(json.dumps(manifest))
    for name, (write, tensors) in files.items():
        write(place / name, tensors)
    return ModelFolder.open(place)


def video(folder: ModelFolder) -> Tensor:
    model = load_model(folder, Device.choose("cpu"))
    return Engine(model, media=Memory(pictures(), (voice(13),))).generate(talk(seed=1)).frames


def test_a_gguf_base_and_a_scaled_adapter_make_the_video_of_their_values(tiny_folder: Path, tmp_path: Path) -> None:
    plain = ModelFolder.open(tiny_folder)
    weights = {name: v for name, v in read_tensors(plain.dit.files).items() if isinstance(v, Tensor)}
    added = {name: value for name, value in weights.items() if "audio" in name or "norm_x" in name}
    base = {name: value for name, value in weights.items() if name not in added}
    files: dict[str, tuple[Write, Mapping[str, Tensor]]] = {
        "base.gguf": (write_gguf, base),
        "adapter.safetensors": (write_scaled, added),
    }
    few = beside(tiny_folder, tmp_path / "few", files)
    stored = read_tensors(few.dit.files)
    kinds = {value.kind for value in stored.values() if isinstance(value, Stored)}
    assert kinds == {"q8_0", "fp8_e4m3fn"}
    values = {n: v.dequantise(torch.float32) if isinstance(v, Stored) else v.float() for n, v in stored.items()}
    many = beside(tiny_folder, tmp_path / "many", {"values.safetensors": (write_plain, values)})
    found = video(few)
    # Weights mapped from a file lie at other addresses, and a CPU's products round by how their factors are aligned.
    assert (found - video(many)).abs().max() < 1e-3
    assert (found - video(plain)).abs().max() > 1e-2
