"""A preset's transformer is converted in its place, and what it was made of leaves the disk."""

import json
from pathlib import Path

import pytest
import torch

from infinitetalk.cli import convert as command
from infinitetalk.cli.main import main
from infinitetalk.core.presets import DIT_ROLES, find_preset
from infinitetalk.engine.convert import plan_transformer
from infinitetalk.ops.stored import Stored
from infinitetalk.weights.convert.folder import RESERVE
from infinitetalk.weights.convert.layout import Kind
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.hub.client import Hub, cached
from infinitetalk.weights.hub.model import open_transformer
from infinitetalk.weights.hub.store import converted_folder, read
from infinitetalk.weights.read import read_tensors
from tests.faces.conftest import write_portrait, write_voice
from tests.hub.fake_hub import FakeHub
from tests.hub.test_model import headers, put

CONVERT = ("convert", "tiny", "--device", "cpu")
MOST = 30 * 10**9
"""Bytes of disk that the preset for the T4 may take at any moment."""


@pytest.mark.parametrize("name", ["t4", "t4-multi", "t4-multi-chinese"])
def test_t4_stays_within_its_disk_in_every_step(fake: FakeHub, hub: Hub, tmp_path: Path, name: str) -> None:
    """By the true headers of full-size files: the transformer's files, their conversion, then the others."""
    record = put(fake, hub, find_preset(name), headers(tmp_path / "made", find_preset(name)))
    part, loras = open_transformer(hub, record)
    assert len(part.files) == 2
    assert len(loras) == 1
    kind = Kind.of("q4", torch.float16)
    job = plan_transformer(part, converted_folder(hub, name), kind, (), name="dit.safetensors")
    parts = sum(held.entry.size for held in record.files if held.entry.role in DIT_ROLES)
    while_converting = parts + job.bytes + RESERVE
    afterwards = record.size - parts + job.bytes
    assert 10 * 10**9 < job.bytes < 12 * 10**9
    assert while_converting < MOST
    assert afterwards < MOST
    assert record.size < MOST, "without a conversion too"


@pytest.mark.usefixtures("tiny_preset")
def test_from_nothing_to_a_video_by_the_converted_transformer(
    fake: FakeHub, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["download", "tiny", "--part", "dit", "--yes"]) == 0
    assert main([*CONVERT, "--kind", "int8", "--rest", "float32"]) == 0, capsys.readouterr().err
    record = read(hub, "tiny")
    assert record is not None
    gone = [held for held in record.files if held.entry.role in DIT_ROLES]
    assert all(held.replaced_by and cached(hub, held.entry) is None for held in gone)
    fake.asked.clear()
    assert main(["download", "tiny", "--yes"]) == 0
    assert not fake.bodies("infinitetalk.safetensors"), "what was converted is not downloaded again"

    model = ModelFolder.open("tiny")
    (path,) = model.dit.files
    assert path.parent == converted_folder(hub, "tiny")
    assert (model.max_people, model.defaults.steps, model.loras) == (2, 2, ())
    assert any(isinstance(value, Stored) for value in read_tensors(model.dit.files).values())

    face, voice = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.4)
    words = ["generate", "--model", "tiny", "--image", str(face), "--audio", str(voice), "--size", "64x64"]
    assert main([*words, "--output", "talk.mp4", "--device", "cpu"]) == 0, capsys.readouterr().err
    assert (tmp_path / "talk.mp4").stat().st_size > 0

    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    (found,) = [one for one in json.loads(capsys.readouterr().out) if one["model"] == "tiny"]
    assert found["whole"] is True
    assert found["bytes"] > path.stat().st_size
    assert main(["models", "--remove", "tiny", "--yes"]) == 0
    assert not path.exists()
    assert not list(hub.cache.glob("models--*"))


@pytest.mark.usefixtures("tiny_preset")
def test_the_fused_lora_is_the_presets(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["download", "tiny", "--yes"]) == 0
    record = read(hub, "tiny")
    assert record is not None
    before = read_tensors(open_transformer(hub, record)[0].files)["blocks.0.self_attn.q.weight"]
    assert isinstance(before, torch.Tensor)
    before = before.float().clone()
    assert main([*CONVERT, "--kind", "bf16"]) == 0
    after = read_tensors(ModelFolder.open("tiny").dit.files)["blocks.0.self_attn.q.weight"]
    assert isinstance(after, torch.Tensor)
    assert torch.allclose(after.float() - before, torch.full_like(before, 2e-4), atol=2e-3)
    assert torch.equal(after, (before + torch.full_like(before, 2e-4)).bfloat16())


@pytest.mark.usefixtures("tiny_preset")
def test_a_conversion_that_ended_before_its_record_was_written_is_taken_up(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*CONVERT]) == 2
    assert "not downloaded yet; run: infinitetalk download tiny --part dit" in capsys.readouterr().err
    assert main(["download", "tiny", "--yes"]) == 0

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("infinitetalk.weights.hub.store.replace_dit", stopped)
        assert main([*CONVERT]) == 130
    written = {path: path.stat().st_mtime_ns for path in converted_folder(hub, "tiny").iterdir()}
    assert main([*CONVERT]) == 0
    assert {path: path.stat().st_mtime_ns for path in converted_folder(hub, "tiny").iterdir()} == written
    record = read(hub, "tiny")
    assert record is not None
    assert record.converted == (converted_folder(hub, "tiny"),)
    capsys.readouterr()
    assert main([*CONVERT]) == 2
    assert "is converted already" in capsys.readouterr().err
    assert main([*CONVERT, "--lora", "other.safetensors"]) == 2
    assert "give it a place with --output" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny_preset")
def test_a_preset_may_be_converted_elsewhere_and_stay(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["download", "tiny", "--yes"]) == 0
    assert main([*CONVERT, "--output", "mine", "--kind", "fp8", "--encoders", "copy"]) == 0
    record = read(hub, "tiny")
    assert record is not None
    assert record.converted == ()
    assert not record.lacking(hub)
    made = ModelFolder.open(tmp_path / "mine")
    assert (made.max_people, made.defaults.steps, made.name) == (2, 2, "tiny")


@pytest.mark.usefixtures("tiny_preset")
def test_a_converted_folder_that_was_deleted_is_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["download", "tiny", "--yes"]) == 0
    assert main([*CONVERT]) == 0
    converted_folder(hub, "tiny").rename(tmp_path / "away")
    capsys.readouterr()
    words = ["generate", "--model", "tiny", "--image", "a.png", "--audio", "b.wav", "--output", "c.mp4"]
    assert main(words) == 2
    assert "which is not there any more" in capsys.readouterr().err


def test_kinds_are_those_that_can_be_written() -> None:
    from infinitetalk.weights.convert.layout import KINDS

    assert command.KINDS == KINDS
