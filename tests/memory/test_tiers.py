"""Whole runs with weights in each tier: the same video, whatever memory there is."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinitetalk.core.errors import MachineError, ModelError, RequestError
from infinitetalk.core.memory import MemorySettings, Tier
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.golden import verify
from infinitetalk.engine.guests import Guest
from infinitetalk.engine.model import SpeechPart, TextPart, VisionPart
from infinitetalk.engine.planning import plan_folder
from infinitetalk.models.dit_blocks import Use
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.memory.record import tensors_of
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.pieces import Pieces
from tests.engine.inputs import Memory, pictures, talk, voice

GOLDEN = Path(__file__).parents[1] / "golden"


def frames(engine: Engine) -> Tensor:
    media = Memory(pictures(), (voice(15),))
    return Engine(engine.model, media=media).generate(talk(steps=2)).frames


@pytest.fixture(scope="module")
def truth(tiny_folder: Path) -> Tensor:
    return frames(Engine.from_pretrained(tiny_folder, device="cpu"))


@pytest.mark.parametrize("persistent", [None, 0, 4, 10**9])
@pytest.mark.parametrize("tier", ["pinned", "disk"])
def test_every_tier_makes_the_same_video(tier: str, persistent: int | None, tiny_folder: Path, truth: Tensor) -> None:
    settings = MemorySettings(memory=tier, num_persistent_param_in_dit=persistent)
    engine = Engine.from_pretrained(tiny_folder, device="cpu", memory=settings)
    store = engine.model.store
    assert store is not None
    assert len(store) == engine.model.dit.config.num_layers == 2
    assert engine.model.lodging.resident_blocks == (2 if persistent == 10**9 else 0)
    assert not any("blocks" in name for name, _ in engine.model.dit.named_parameters())
    assert torch.equal(frames(engine), truth)
    assert torch.equal(frames(engine), truth)
    engine.model.close()


@pytest.mark.parametrize("tier", ["pinned", "disk"])
def test_steps_that_a_cache_skips_bring_no_block(tier: str, tiny_folder: Path) -> None:
    media = Memory(pictures(), (voice(15),))
    asked = talk(steps=9, step_cache="taylorseer", preview=True)
    plain = Engine.from_pretrained(tiny_folder, device="cpu")
    truth = Engine(plain.model, media=media).generate(asked).frames
    engine = Engine.from_pretrained(tiny_folder, device="cpu", memory=MemorySettings(memory=tier))
    store = engine.model.store
    assert store is not None
    with patch.object(store, "walk", wraps=store.walk) as walk:
        engine.model.dit.lend(store.walk)  # type: ignore[arg-type]
        assert torch.equal(Engine(engine.model, media=media).generate(asked).frames, truth)
    assert sum(call.args == (Use.STEP,) for call in walk.call_args_list) == 5
    engine.model.close()


@pytest.mark.parametrize("tier", list(Tier))
def test_golden_cases_pass_in_every_tier(tier: Tier, tmp_path: Path) -> None:
    """The quickest of each kind; `infinitetalk verify --memory` computes all of them."""
    for name in ("dit_two_people", "t5_encoder", "pipeline_clip_mode_single_clip"):
        (tmp_path / f"{name}.safetensors").symlink_to(GOLDEN / f"{name}.safetensors")
    results = list(verify(tmp_path, tier))
    assert len(results) == 3
    assert all(result.passed for result in results), results


@pytest.mark.full
@pytest.mark.parametrize("tier", list(Tier))
def test_all_golden_cases_pass_in_every_tier(tier: Tier) -> None:
    results = list(verify(GOLDEN, tier))
    assert len(results) == 15
    assert all(result.passed for result in results), results


def test_weights_are_read_from_the_models_own_files(tiny_folder: Path, tmp_path: Path) -> None:
    engine = Engine.from_pretrained(tiny_folder, device="cpu", memory=MemorySettings(memory="disk"))
    store = engine.model.store
    assert store is not None
    assert store._spool is not None
    assert store._spool.written == 0
    assert not list(tmp_path.glob("cache/*"))
    engine.model.close()


def test_weights_in_another_number_format_are_written_once(tiny_folder: Path, tmp_path: Path) -> None:
    settings = MemorySettings(memory="disk")
    engine = Engine.from_pretrained(tiny_folder, device="cpu", dtype="bfloat16", memory=settings)
    store = engine.model.store
    assert store is not None
    assert store._spool is not None
    assert store._spool.written > 0
    assert not list(tmp_path.glob("cache/*"))  # nobody else sees the file
    low = frames(Engine.from_pretrained(tiny_folder, device="cpu", dtype="bfloat16"))
    assert (frames(engine) - low).abs().mean() < 0.02  # the text encoder computes in bfloat16 from float32 matrices
    engine.model.close()


def test_encoders_are_on_the_device_only_while_they_work(tiny_folder: Path) -> None:
    """The meta device stands for a GPU here: what is there is not on the CPU."""
    model = Engine.from_pretrained(tiny_folder, device="cpu", memory=MemorySettings(memory="pinned")).model
    assert isinstance(model.text, TextPart)
    assert isinstance(model.vision, VisionPart)
    assert isinstance(model.speech, SpeechPart)
    assert model.speech.guest is not None
    for network in (model.vae, model.vision.encoder, model.speech.encoder):
        before = {name: tensor.data_ptr() for name, tensor in tensors_of(network).items()}
        guest = Guest(network, torch.device("meta"))
        with guest.at_work(), guest.at_work():
            assert all(tensor.is_meta for tensor in tensors_of(network).values())
        assert {name: tensor.data_ptr() for name, tensor in tensors_of(network).items()} == before
    model.close()


def test_the_slots_go_while_the_vae_works(tiny_folder: Path) -> None:
    engine = Engine.from_pretrained(tiny_folder, device="cpu", memory=MemorySettings(memory="pinned"))
    model = engine.model
    assert model.store is not None
    assert list(model.store.walk(Use.STEP))
    assert model.store.slot_bytes > 0
    with model.coding():
        assert model.store.slot_bytes == 0
    model.close()


def test_float16_reads_in_float32(tiny_folder: Path) -> None:
    """umT5's states are too large for float16, so matrices of any format are computed with in float32."""
    plain = Engine.from_pretrained(tiny_folder, device="cpu").model.text
    for memory in ("resident", "disk"):
        settings = MemorySettings(memory=memory)
        text = Engine.from_pretrained(tiny_folder, device="cpu", dtype="float16", memory=settings).model.text
        assert plain is not None
        assert text is not None
        (expected,), (found,) = plain.encode(["A person talks."]), text.encode(["A person talks."])
        assert found.dtype == torch.float32
        assert (found - expected).norm() / expected.norm() < 1e-6


def test_missing_tensors_are_named_whole_when_loading_block_by_block(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in tiny_folder.iterdir():
        (folder / path.name).symlink_to(path)
    spoiled = "infinitetalk.safetensors"
    state = load_file(tiny_folder / spoiled)
    for name in [name for name in state if ".norm_x." in name]:
        del state[name]
    state["blocks.9.extra.weight"] = torch.zeros(1)
    (folder / spoiled).unlink()
    save_file(state, folder / spoiled)
    with pytest.raises(ModelError, match=r"4 missing .*norm_x.*1 not used \(blocks\.9\.extra\.weight"):
        Engine.from_pretrained(folder, device="cpu", memory=MemorySettings(memory="disk"))


@pytest.mark.parametrize(("persistent", "blocks"), [(0, 0), (4, 0), (200_000, 1), (7_000_000_000, 2)])
def test_persistent_parameters_are_counted_in_blocks(persistent: int, blocks: int, tiny_folder: Path) -> None:
    """A block of the tiny network has 199 680 of them that every step needs."""
    settings = MemorySettings(num_persistent_param_in_dit=persistent)
    lodging = plan_folder(ModelFolder.open(tiny_folder), Device.choose("cpu"), settings).lodging
    assert lodging.tier is not Tier.RESIDENT
    assert lodging.resident_blocks == blocks


def test_a_model_that_does_not_fit_at_its_own_size_is_loaded_for_a_smaller_one(tiny_folder: Path) -> None:
    folder, device = ModelFolder.open(tiny_folder), Device.choose("cpu")
    assert plan_folder(folder, device).lodging.tier is Tier.RESIDENT
    with pytest.raises(MachineError, match=r"needs at least [\d.]+ GiB of main memory.* 0\.1 GiB can be used; no"):
        plan_folder(folder, device, MemorySettings(ram=0.1))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"memory": "swap"}, "memory = swap: must be auto, resident, pinned, disk"),
        ({"vram": 0}, "vram = 0: must be from 0.1"),
        ({"ram": "8"}, "ram = 8: must be a number"),
        ({"num_persistent_param_in_dit": 1.5}, "must be a whole number"),
        ({"num_persistent_param_in_dit": -1}, "must be from 0"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        MemorySettings(**settings)  # type: ignore[arg-type]


def test_loading_holds_one_block_at_a_time(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block is handed over, and its tensors are gone, before the next one is read."""
    seen: list[nn.Module] = []
    true = Pieces.block

    def block(self: object, number: int, dtype: torch.dtype, *, keep_stored: bool) -> nn.Module:
        for before in seen:
            assert all(tensor.is_meta for tensor in tensors_of(before).values())
        made: nn.Module = true(self, number, dtype, keep_stored=keep_stored)  # type: ignore[arg-type]
        seen.append(made)
        return made

    monkeypatch.setattr(Pieces, "block", block)
    engine = Engine.from_pretrained(tiny_folder, device="cpu", memory=MemorySettings(memory="pinned"))
    assert len(seen) == 2
    engine.model.close()


def test_memory_is_no_part_of_a_request() -> None:
    """The file beside a video must not tell another machine how much memory it has."""
    assert not {"memory", "vram", "ram"} & set(json.loads(json.dumps(talk().to_json())))
