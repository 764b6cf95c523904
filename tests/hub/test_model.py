"""A downloaded preset is a model: by its name, with its files, LoRAs and settings."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from infinitetalk.cli.main import main
from infinitetalk.core.configs import TOKENIZER_FILES
from infinitetalk.core.errors import ModelError
from infinitetalk.core.presets import (
    CHINESE,
    LIVE,
    LIVE_DEFAULTS,
    SMALL_ENCODERS,
    SOULX,
    HubFile,
    Preset,
    Role,
    find_preset,
)
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.hub.client import Hub
from infinitetalk.weights.hub.store import Record, plan, write
from tests.faces.conftest import write_portrait, write_voice
from tests.hub.fake_hub import Content, FakeHub
from tests.hub.small import TABLE
from tests.weights.fake import fake_gguf, fake_pieces, fake_safetensors, fake_shards
from tests.weights.key_lists import adapter, shapes

Shapes = Mapping[str, tuple[int, ...]]
PIECES = TOKENIZER_FILES[1]


def headers(folder: Path, preset: Preset) -> dict[HubFile, Path]:
    """A preset's files at full size with true headers over holes."""
    networks: Mapping[Role, Shapes] = {
        Role.BASE: shapes("wan i2v 14B"),
        Role.ADAPTER: adapter(),
        Role.LORA: {"diffusion_model.blocks.0.ffn.0.lora_down.weight": (64, 5120),
                    "diffusion_model.blocks.0.ffn.0.lora_up.weight": (13824, 64)},
        Role.TEXT: shapes("hf umt5"),
        Role.VISION: shapes("hf clip"),
        Role.VAE: shapes("wan vae"),
        Role.SPEECH: shapes("hf wav2vec2 pretraining"),
    }  # fmt: skip
    made = {}
    for file in preset.files:
        path = folder / file.repository.name / file.name.replace("*", PIECES)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gguf":
            network = networks[file.role]
            matrices = {name for name, shape in network.items() if len(shape) == 2 and name.startswith("blocks")}
            fake_gguf(path, network, matrices, "Q4_K" if file.role is Role.BASE else "Q8_0")
        elif path.suffix == ".safetensors":
            fake_safetensors(path, networks[file.role], "F16")
        elif path.name == PIECES:
            fake_pieces(path)
        else:
            path.write_text('{"model_type": "wav2vec2"}')
        made[file] = path
    return made


def put(fake: FakeHub, hub: Hub, preset: Preset, made: Mapping[HubFile, Path]) -> Record:
    """Publishes the files and puts them into the cache as if downloaded: holes cannot be sent."""
    for number, (file, path) in enumerate(made.items()):
        told = Content(size=path.stat().st_size, sha256=f"{number:064x}")
        fake.add(file.repository.name, file.name.replace("*", PIECES), told, file.revision)
    record = plan(hub, preset)
    write(hub, record)
    for held in record.files:
        entry = held.entry
        (path,) = (
            path for file, path in made.items()
            if (file.repository.name, file.revision) == (entry.repository, entry.revision)
            and file.name.replace("*", PIECES) == entry.name
        )  # fmt: skip
        place = hub.folder(entry.repository) / "snapshots" / entry.commit / entry.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    return record


@pytest.mark.parametrize("name", ["t4", "t4-multi", "consumer-24gb-chinese", "distilled-4step-multi"])
def test_a_preset_at_full_size_is_put_together(fake: FakeHub, hub: Hub, tmp_path: Path, name: str) -> None:
    preset = find_preset(name)
    record = put(fake, hub, preset, headers(tmp_path / "made", preset))
    folder = ModelFolder.open(name)
    assert (folder.name, folder.max_people) == (name, preset.people)
    assert folder.defaults.steps == preset.defaults.get("steps", 40)
    assert folder.defaults.audio_scale == preset.defaults.get("audio_scale", 4.0)
    files = {role: path for role, path in record.by_role(hub) if path.suffix != ".json"}
    assert folder.dit.files == (files[Role.BASE], files[Role.ADAPTER])
    assert folder.speech.files == (files[Role.SPEECH],)
    assert folder.text is not None
    assert folder.text.files == (files[Role.TEXT],)
    assert folder.text.tokenizer == files[Role.TOKENIZER].parent
    assert [lora.path for lora in folder.loras] == ([files[Role.LORA]] if Role.LORA in files else [])


def test_shards_of_a_merged_network_need_no_adapter(
    fake: FakeHub, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transformer of `live`, as diffusers writes it, beside small encoders."""
    encoders = (*SMALL_ENCODERS, *CHINESE)
    preset = Preset(name="flash", card="", summary="", people=1, files=(*LIVE[:2], *encoders), defaults=LIVE_DEFAULTS)
    monkeypatch.setitem(TABLE, "flash", preset)
    few = Preset(name="few", card="", summary="", people=1, files=encoders)
    made = headers(tmp_path / "made", few)
    home = tmp_path / "made" / SOULX.name
    fake_shards(home, "diffusion_pytorch_model", shapes("flashtalk"), 3, "BF16")
    (home / "config.json").write_text('{"_class_name": "WanModel"}')
    shards = {HubFile(Role.BASE, SOULX, path.name): path for path in sorted(home.iterdir())}
    put(fake, hub, preset, {**shards, **made})
    folder = ModelFolder.open("flash")
    assert [path.name for path in folder.dit.files] == [
        f"diffusion_pytorch_model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
    ]
    assert (folder.defaults.steps, folder.defaults.window_frames, folder.defaults.shift) == (4, 33, 5.0)
    assert folder.loras == ()


def test_a_preset_that_is_not_here_names_the_command(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="model t4: not downloaded yet; run: infinitetalk download t4"):
        ModelFolder.open("t4")
    record = plan(hub, find_preset("small"))
    write(hub, record)
    words = [
        "generate",
        "--model",
        "small",
        "--image",
        "a.png",
        "--audio",
        "b.wav",
        "--output",
        str(tmp_path / "o.mp4"),
    ]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "model small lacks big.safetensors" in told
    assert "run: infinitetalk download small" in told


@pytest.mark.usefixtures("tiny_preset")
def test_download_and_generate(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two commands from nothing to a video."""
    monkeypatch.chdir(tmp_path)
    face, voice = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.4)
    assert main(["download", "tiny", "--yes"]) == 0
    fake.asked.clear()
    words = ["generate", "--model", "tiny", "--image", str(face), "--audio", str(voice), "--size", "64x64"]
    assert main([*words, "--output", "talk.mp4", "--device", "cpu"]) == 0, capsys.readouterr().err
    assert (tmp_path / "talk.mp4").stat().st_size > 0
    assert not fake.asked
    told = capsys.readouterr().err
    assert "lightx2v_4step.safetensors" in told
