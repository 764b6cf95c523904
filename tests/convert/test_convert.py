"""Converted folders: what is in them, how it lies, and that it computes what the original computes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.loras import Lora
from infinitetalk.core.memory import Lodging, MemorySettings, Tier
from infinitetalk.engine.convert import convert
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.golden_case import normal
from infinitetalk.engine.lodging import load_dit
from infinitetalk.models.dit_blocks import Use
from infinitetalk.ops.ggml import Blocks
from infinitetalk.ops.stored import Scaled, Stored
from infinitetalk.runtime.device import Device
from infinitetalk.weights import names
from infinitetalk.weights.convert.folder import manifest
from infinitetalk.weights.detect.component import Component
from infinitetalk.weights.detect.unit import look
from infinitetalk.weights.folder import ModelFolder, Part
from infinitetalk.weights.lora.stack import LoraStack
from infinitetalk.weights.read import read_tensors
from tests.conftest import GOLDEN, golden_weight
from tests.convert.jobs import CPU, Listener, convert_model, dense, dit_job, model_job, offsets, records
from tests.engine.inputs import Memory, pictures, talk, voice

KINDS = {"bf16": 3e-3, "fp16": 4e-4, "fp8": 0.028, "int8": 0.010, "q4": 0.10}
"""Largest relative error of a matrix, by kind."""
FORWARD = {"bf16": 6e-3, "fp16": 1e-3, "fp8": 0.05, "int8": 0.02, "q4": 0.17}
"""Largest relative error of a velocity of the tiny golden networks."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["tiny", "nano"])
def test_every_weight_is_there_within_its_kinds_error(model: str, kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    source = ModelFolder.open(tiny_folder if model == "tiny" else model)
    made = convert_model(tiny_folder if model == "tiny" else model, tmp_path / "made", kind)
    before, after = read_tensors(source.dit.files), read_tensors(made.dit.files)
    assert set(before) == set(after) == set(names.dit(source.dit.config))
    for name, value in before.items():
        assert float((dense(after[name]) - dense(value)).norm()) <= KINDS[kind] * float(dense(value).norm()), name
    stored = [value for value in after.values() if isinstance(value, Stored)]
    kinds = {"fp8": (Scaled,), "int8": (Scaled,), "q4": (Blocks,)}.get(kind, ())
    assert all(isinstance(value, kinds) for value in stored)
    assert bool(stored) is bool(kinds)
    assert (made.name, made.max_people, made.buckets) == (source.name, source.max_people, source.buckets)
    assert (made.defaults, made.dit.config) == (source.defaults, source.dit.config)


def test_what_a_model_learned_stays(tiny_folder: Path) -> None:
    plain = ModelFolder.open(tiny_folder)
    assert "motion" not in json.loads(manifest(plain, {}, ""))
    assert json.loads(manifest(replace(plain, motion=0.3), {}, ""))["motion"] == 0.3


@pytest.mark.parametrize("kind", ["bf16", "fp8", "q4"])
def test_blocks_are_aligned_records_and_any_reader_opens_the_file(kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    made = convert_model(tiny_folder, tmp_path / "made", kind)
    (path,) = made.dit.files
    loaded = load_file(path)  # the library's own reader, which refuses holes
    table, places = records(path), offsets(path)
    assert set(loaded) == set(places)
    assert list(table) == ["around", "blocks.0", "blocks.1"]
    for record, (start, count) in table.items():
        own = [name for name in places if name.startswith(f"{record}.") and not name.startswith("padding.")]
        if record == "around":
            own = [name for name in places if not name.startswith(("blocks.", "padding."))]
        assert start % 4096 == 0
        assert min(places[name][0] for name in own) == start
        assert max(sum(places[name]) for name in own) == start + count
        inside = [name for name, (first, _) in places.items() if start <= first < start + count]
        assert {name for name in inside if not name.startswith("padding.")} == set(own)
        assert all(places[name][0] % 256 == 0 for name in own)


def test_a_converted_folder_says_what_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    made = convert_model(tiny_folder, tmp_path / "made", "q4", text="int8")
    unit = look(made.dit.files)
    assert (unit.component, unit.problem, unit.missing, unit.unused) == (Component.MERGED, "", (), ())
    assert {"Q4_K", "Q4_0"} & set(unit.kind_counts)
    assert json.loads((made.path / "model.json").read_text())["format"] == 1
    assert made.text is not None
    text = look(made.text.files)
    assert (text.component, text.problem) == (Component.TEXT, "")
    assert "int8" in " ".join(text.kind_counts)


def test_bits_that_are_of_the_kind_already_stay(tmp_path: Path) -> None:
    once = convert_model("nano", tmp_path / "once", "q4")
    twice = convert_model(tmp_path / "once", tmp_path / "twice", "q4")
    first, second = read_tensors(once.dit.files), read_tensors(twice.dit.files)
    for name, value in first.items():
        assert torch.equal(dense(value), dense(second[name]))
    eight = read_tensors(convert_model("nano", tmp_path / "eight", "int8").dit.files)
    for name, value in read_tensors(ModelFolder.open("nano").dit.files).items():
        if isinstance(value, Scaled) and isinstance(found := eight[name], Scaled):
            assert torch.equal(found.data, value.data)


def test_loras_are_fused_in_float32(tiny_folder: Path, tmp_path: Path) -> None:
    pair = {"diffusion_model.blocks.1.ffn.0.lora_down.weight": torch.randn(2, 128),
            "diffusion_model.blocks.1.ffn.0.lora_up.weight": torch.randn(256, 2)}  # fmt: skip
    save_file(pair, tmp_path / "style_4steps.safetensors")
    lora = Lora(tmp_path / "style_4steps.safetensors", 0.5)
    folder = ModelFolder.open(tiny_folder)
    made = ModelFolder.open(convert(model_job(tiny_folder, tmp_path / "made", "bf16", loras=(lora,)), CPU, Listener()))
    stack = LoraStack.open([lora], names.dit(folder.dit.config))
    before, after = read_tensors(folder.dit.files), read_tensors(made.dit.files)
    for name, value in before.items():
        assert torch.equal(dense(after[name]), stack.merge(name, dense(value)).to(torch.bfloat16).float())
    assert not torch.equal(dense(after["blocks.1.ffn.0.weight"]), dense(before["blocks.1.ffn.0.weight"]).bfloat16())
    assert made.loras == ()
    assert (folder.defaults.shift, made.defaults.shift) == (7.0, 2.0), "a distilled LoRA's shift becomes the model's"


@pytest.mark.parametrize("kind", ["bf16", "fp8", "int8", "q4"])
def test_the_disk_tier_reads_a_record_in_one_go(kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    """Nothing is repacked or written: every record is one stretch of the converted file."""
    rest = torch.float32
    made = ModelFolder.open(convert(model_job(tiny_folder, tmp_path / "made", kind, rest=rest), CPU, Listener()))
    housed = load_dit(made, Device.choose("cpu"), Lodging(tier=Tier.DISK, keep_encoders=False))
    store = housed.store
    assert store is not None
    (path,) = made.dit.files
    table = records(path)
    for use in Use:
        for number, record in enumerate(store._groups[use].order):
            if kind == "bf16":  # computed in float32 here, so that it must be written out
                assert all(extent.file.path != path for extent in record.extents)
                continue
            (extent,) = record.extents
            start, count = table[f"blocks.{number}"]
            assert extent.file.path == path
            assert extent.start == 0
            assert start <= extent.offset < extent.offset + extent.bytes <= start + count
            assert extent.offset % 4096 == 0
    written = 0 if store._spool is None else store._spool.written
    assert (written == 0) is (kind != "bf16")
    store.close()


class GoldenDit:
    """A golden case of the transformer with its weights and inputs."""

    def __init__(self, name: str) -> None:
        with safe_open(str(GOLDEN / f"{name}.safetensors"), framework="pt") as file:
            self.meta = json.loads(file.metadata()["meta"])
            self.tensors = {key: file.get_tensor(key) for key in list(file.keys())}
        seed = int(self.meta["weight_seed"])
        shapes = self.meta["generated"]
        own = int(self.tensors["audio_seed"][0]) if "audio_seed" in self.tensors else seed
        self.audio = normal("audio", tuple(shapes["audio"]), own)
        self.clip = normal("clip_fea", tuple(shapes["clip_fea"]), seed)
        self.config = DiTConfig.read(self.meta["config"])
        self.state = {key: golden_weight(key, tuple(shape), seed) for key, shape in self.meta["parameters"].items()}


def velocity(folder: ModelFolder, tier: Tier, case: GoldenDit) -> Tensor:
    device = Device.choose("cpu")
    housed = load_dit(folder, device, Lodging(tier=tier, keep_encoders=tier is Tier.RESIDENT))
    with torch.inference_mode():
        found: Tensor = housed.dit(
            case.tensors["latent"][None], torch.tensor(float(case.meta["timestep"])), condition=case.tensors["y"],
            audio=case.audio, masks=case.tensors["masks"], text=case.tensors["context"][None], clip=case.clip,
        )[0]  # fmt: skip
        return found


@pytest.mark.parametrize("kind", FORWARD)
@pytest.mark.parametrize("name", ["dit_one_person", "dit_two_people"])
def test_a_converted_golden_network_gives_the_reference_velocity_within_its_kinds_error(
    name: str, kind: str, tiny_folder: Path, tmp_path: Path
) -> None:
    case = GoldenDit(name)
    job = dit_job(case.state, case.config, tmp_path, kind, rest=torch.float32)
    convert(job, CPU, Listener())
    files = (tmp_path / "made" / "dit.safetensors",)
    folder = replace(ModelFolder.open(tiny_folder), dit=Part(case.config, files))
    found = {tier: velocity(folder, tier, case) for tier in Tier}
    truth = case.tensors["output"]
    assert float((found[Tier.RESIDENT] - truth).norm() / truth.norm()) <= FORWARD[kind]
    assert torch.equal(found[Tier.RESIDENT], found[Tier.PINNED])
    assert torch.equal(found[Tier.RESIDENT], found[Tier.DISK])


def test_a_converted_model_makes_a_video_in_every_tier(tiny_folder: Path, tmp_path: Path) -> None:
    made = convert_model(tiny_folder, tmp_path / "made", "q4", text="int8")
    videos = []
    for tier in Tier:
        engine = Engine.from_pretrained(made.path, device="cpu", memory=MemorySettings(memory=tier.value))
        media = Memory(pictures(), (voice(13),))
        videos.append(Engine(engine.model, media=media).generate(talk(steps=2)).frames)
        engine.model.close()
    assert torch.equal(videos[0], videos[1])
    assert torch.equal(videos[0], videos[2])
    assert videos[0].std() > 0.1


def test_parts_that_stay_are_linked_or_copied(tiny_folder: Path, tmp_path: Path) -> None:
    linked = convert_model(tiny_folder, tmp_path / "linked", "fp8")
    assert {path.stem for path in linked.path.iterdir() if path.is_symlink()} == {
        "vae", "speech", "vision", "text", "tokenizer",
    }  # fmt: skip
    assert linked.vae.files[0].resolve() == ModelFolder.open(tiny_folder).vae.files[0].resolve()
    copied = ModelFolder.open(convert(model_job(tiny_folder, tmp_path / "copied", "fp8", copy=True), CPU, Listener()))
    assert not any(path.is_symlink() for path in copied.path.rglob("*"))
    assert copied.vae.files[0].read_bytes() == ModelFolder.open(tiny_folder).vae.files[0].read_bytes()
    assert copied.text is not None
    assert copied.text.tokenizer is not None
    assert copied.text.tokenizer.is_relative_to(copied.path)


def test_progress_reaches_its_total(tiny_folder: Path, tmp_path: Path) -> None:
    listener = Listener()
    convert(model_job(tiny_folder, tmp_path / "made", "fp8", text="fp8", copy=True), CPU, listener)
    done = [done for _, done in listener.moves]
    assert done == sorted(done)
    assert done[-1] == listener.total
    size = sum(path.stat().st_size for path in (tmp_path / "made").rglob("*") if path.is_file())
    small = sum((tmp_path / "made" / name).stat().st_size for name in ("model.json",))
    assert size - small == listener.total
