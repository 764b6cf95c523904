"""Model folders: what opens, and one clear line for everything that a folder can lack."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Wav2Vec2Config

from infinitetalk.core.configs import SpeechConfig
from infinitetalk.core.defaults import STANDARD_BUCKETS
from infinitetalk.core.errors import ModelError
from infinitetalk.core.sizes import Pixels
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.weights import keymaps
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.load import build
from infinitetalk.weights.locate import bundled, locate
from tools.make_tiny import make_tiny

Change = Callable[[dict[str, Any]], object]


def test_tiny_opens_with_its_facts(tiny_folder: Path) -> None:
    folder = ModelFolder.open(tiny_folder)
    assert (folder.name, folder.facts.name, folder.facts.max_people, folder.facts.has_text) == ("tiny", "tiny", 3, True)
    assert folder.facts.buckets["64"][1.0] == Pixels(64, 64)
    assert (folder.defaults.window_frames, folder.defaults.motion_frames) == (13, 5)
    assert folder.text is not None
    assert folder.text.tokenizer == tiny_folder / "tokenizer"
    assert folder.vae.config.temporal_downsample == (False, True, True)
    assert sum(path.stat().st_size for path in tiny_folder.rglob("*") if path.is_file()) < 5_000_000


def test_every_part_of_tiny_loads_from_its_original_layout(tiny_folder: Path) -> None:
    folder = ModelFolder.open(tiny_folder)
    assert folder.text is not None
    assert folder.vision is not None
    f32 = torch.float32
    build(lambda: AudioDiT(folder.dit.config), folder.dit.files, keymaps.DIT, dtype=f32)
    vae = build(lambda: VideoVAE(folder.vae.config), folder.vae.files, keymaps.VAE, dtype=f32)
    speech = build(lambda: SpeechEncoder(folder.speech.config), folder.speech.files, keymaps.SPEECH, dtype=f32)
    text, vision = folder.text, folder.vision
    words = build(lambda: TextEncoder(text.config), text.files, keymaps.TEXT, dtype=f32)
    eyes = build(lambda: VisionEncoder(vision.config), vision.files, keymaps.VISION, dtype=f32)
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 1, 64, 64) * 2 - 1
    with torch.inference_mode():
        outputs = [
            vae.decode(vae.encode(picture.expand(-1, -1, 5, -1, -1))),
            speech.encode(torch.randn(3200), 5),
            words.encode([5, 9, 1]),
            eyes.encode(picture),
        ]
    for output in outputs:
        assert output.isfinite().all()
        assert 0.05 < output.std() < 5


def test_tiny_depends_on_its_seed_alone(tiny_folder: Path, tmp_path: Path) -> None:
    same, other = make_tiny(tmp_path / "same"), make_tiny(tmp_path / "other", seed=1)
    name = "infinitetalk.safetensors"
    assert (same / name).read_bytes() == (tiny_folder / name).read_bytes() != (other / name).read_bytes()
    pieces = "tokenizer/spiece.model"
    assert (same / pieces).read_bytes() == (tiny_folder / pieces).read_bytes()


@pytest.fixture
def changed(tiny_folder: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """A copy of tiny with another manifest."""

    def make(change: Change) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny_folder, folder)
        values = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        change(values)
        (folder / "model.json").write_text(json.dumps(values), encoding="utf-8")
        return folder

    return make


def put(*keys: str, value: Any) -> Change:
    """Sets one value of the manifest."""

    def change(values: dict[str, Any]) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


def drop(*keys: str) -> Change:
    """Removes one value of the manifest."""

    def change(values: dict[str, Any]) -> None:
        for key in keys[:-1]:
            values = values[key]
        del values[keys[-1]]

    return change


REFUSED: list[tuple[Change, str]] = [
    (put("format", value=2), "format 2; this version reads format 1"),
    (drop("format"), "format None"),
    (put("colour", value=1), "unknown key colour"),
    (drop("parts"), "no part dit and no part vae and no part speech"),
    (drop("parts", "dit"), "no part dit;"),
    (drop("parts", "vae"), "no part vae;"),
    (drop("parts", "speech"), "no part speech;"),
    (drop("parts", "text"), r"the part text is lacking, and the dit needs it \(text_dim 48\)"),
    (drop("parts", "vision"), r"the part vision is lacking, and the dit needs it \(clip_dim 32\)"),
    (put("parts", "voice", value={}), "unknown part voice; parts are dit, vae, speech, text, vision"),
    (put("parts", "vae", value=[]), "the part vae must be a JSON object"),
    (put("parts", "vae", "files", value=[]), "files of the part vae must be a list with at least one"),
    (drop("parts", "vae", "files"), "files of the part vae must be a list"),
    (put("parts", "vae", "files", value=["a.pth", "Wan2.1_VAE.pth"]), r"the part vae lists a\.pth, which is not there"),
    (put("parts", "vae", "tokenizer", value="x"), "the part vae has the unknown key tokenizer"),
    (put("parts", "text", "tokenizer", value="words"), "lists the tokenizer words, which is not there"),
    (drop("parts", "text", "tokenizer"), "tokenizer of the part text must be given as text"),
    (put("parts", "dit", "config", value="dit.json"), r"there is no dit\.json"),
    (put("parts", "dit", "config", "model_type", value="flf2v"), "model_type is 'flf2v', but this network has 'i2v'"),
    (put("parts", "dit", "config", "layers", value=3), "the part dit: DiTConfig has no setting layers"),
    (put("parts", "dit", "config", "dim", value="big"), "the part dit: dim = 'big' must be of the kind of"),
    (put("parts", "dit", "config", "dim", value=1.5), "dim = 1.5 must be"),
    (put("parts", "dit", "config", "dim", value=True), "dim = True must be"),
    (put("parts", "vae", "config", "dim_mult", value=2), "dim_mult = 2 must be"),
    (put("parts", "vae", "config", "dim_mult", value=[1, "2"]), "dim_mult = .* must be"),
    (put("parts", "vae", "config", "z_dim", value=8), r"out_dim is 16, but the part vae gives 8 \(z_dim\)"),
    (put("parts", "speech", "config", "hidden_size", value=64), "audio_channels is 32, but the part speech gives 64"),
    (put("parts", "speech", "config", "num_hidden_layers", value=4), "audio_blocks is 2, but the part speech gives 4"),
    (put("parts", "text", "config", "dim", value=64), "text_dim is 48, but the part text gives 64"),
    (put("parts", "dit", "config", "text_dim", value=0), "text_dim is 0, but the part text gives 48"),
    (put("max_people", value=0), "max_people must be a whole number from 1, not 0"),
    (put("name", value=""), "name must be given as text"),
    (put("defaults", "speed", value=2), "ModelDefaults has no setting speed"),
    (put("defaults", "steps", value=0), r"defaults\.steps = 0"),
    (put("defaults", "steps", value="ten"), "defaults: steps = 'ten'"),
    (put("defaults", "shift", value="ten"), "defaults: shift = 'ten'"),
    (put("defaults", "window_frames", value=12), r"window_frames = 12: must be 4n\+1"),
    (put("defaults", "motion_frames", value=13), "motion_frames = 13"),
    (put("defaults", "motion_frames", value=26), r"defaults\.motion_frames = 26: must be at most 25"),
    (put("defaults", "shift", value=0), r"defaults\.shift = 0: must be at least 0\.01"),
    (put("defaults", "text_scale", value=-1.0), r"defaults\.text_scale = -1\.0: must be at least 0"),
    (put("defaults", "audio_scale", value=float("nan")), r"defaults\.audio_scale = nan: must be a finite number"),
    (put("defaults", "size", value="480"), "size = 480: the size tables are 64"),
    (put("buckets", value={}), "buckets has no size table"),
    (put("buckets", "64", value={}), "size table 64"),
    (put("buckets", "64", "1.00", value=[60, 64]), r"has \[60, 64\] for 1.00"),
    (put("buckets", "64", "1.00", value=64), "has 64 for 1.00"),
    (put("buckets", "64", "square", value=[64, 64]), "the ratio square of the size table 64 is not a number"),
    (put("buckets", "64", "nan", value=[64, 64]), "the ratio nan of the size table 64 is not a positive number"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_a_folder_lacks_is_one_line(changed: Callable[[Change], Path], change: Change, words: str) -> None:
    folder = changed(change)
    with pytest.raises(ModelError, match=words) as caught:
        ModelFolder.open(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_every_listed_file_is_missed(tiny_folder: Path, tmp_path: Path) -> None:
    for path in tiny_folder.iterdir():
        if path.suffix in (".pth", ".bin", ".safetensors", ".json"):
            folder = tmp_path / path.stem
            shutil.copytree(tiny_folder, folder)
            (folder / path.name).unlink()
            with pytest.raises(ModelError, match=path.name):
                ModelFolder.open(folder)


def test_empty_files_and_tokenizers_are_told(changed: Callable[[Change], Path]) -> None:
    folder = changed(put("name", value="hollow"))
    (folder / "tokenizer" / "spiece.model").unlink()
    with pytest.raises(ModelError, match=r"the tokenizer tokenizer has neither tokenizer\.json nor spiece\.model"):
        ModelFolder.open(folder)
    (folder / "Wan2.1_VAE.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=r"the part vae lists Wan2\.1_VAE\.pth, which is empty"):
        ModelFolder.open(folder)


@pytest.mark.parametrize("file", ["Wan2.1_VAE.pth", "infinitetalk.safetensors", "pytorch_model.bin"])
def test_files_that_are_cut_off_are_told_before_any_is_loaded(changed: Callable[[Change], Path], file: str) -> None:
    folder = changed(put("name", value="cut"))
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) - 100])
    with pytest.raises(ModelError, match=rf"lists {file}, which cannot be used: .*; get it again"):
        ModelFolder.open(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not readable JSON"),
        ('{"weight_map": {"a": "../up.safetensors"}}', r"points outside of its folder, to \.\./up\.safetensors"),
        ("{}", "weight_map of diffusion_pytorch_model.* must be a JSON object"),
        ('{"weight_map": {"a": 3}}', "a file in diffusion_pytorch_model.* must be given as text"),
        ('{"weight_map": {"a": "gone.safetensors"}}', r"part dit lists gone\.safetensors, which is not there"),
    ],
)
def test_broken_indices(changed: Callable[[Change], Path], content: str, words: str) -> None:
    folder = changed(put("name", value="tiny"))
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=words):
        ModelFolder.open(folder)


def test_broken_manifests(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model\.json"):
        ModelFolder.open(tmp_path)
    for content, words in (("{", "not readable JSON"), ("[]", "must be a JSON object"), ("\xff", "not readable JSON")):
        (tmp_path / "model.json").write_bytes(content.encode("latin1"))
        with pytest.raises(ModelError, match=words) as caught:
            ModelFolder.open(tmp_path)
        assert "\n" not in str(caught.value)


def test_unknown_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model nowhere: there is no such folder, and no bundled model"):
        locate("nowhere")
    assert locate(tmp_path) == tmp_path
    assert all((locate(name) / "model.json").is_file() for name in bundled())


def test_bundled_models_open() -> None:
    for name in bundled():
        assert ModelFolder.open(name).name == name


def test_absent_tables_and_defaults_are_the_large_models(changed: Callable[[Change], Path]) -> None:
    def change(values: dict[str, Any]) -> None:
        del values["buckets"], values["defaults"]
        values["_comment"] = "kept by people"

    folder = ModelFolder.open(changed(change))
    assert folder.buckets is STANDARD_BUCKETS
    assert (folder.defaults.size, folder.defaults.steps) == ("480", 40)


def test_a_model_without_text_and_picture(changed: Callable[[Change], Path]) -> None:
    def change(values: dict[str, Any]) -> None:
        del values["parts"]["text"], values["parts"]["vision"]
        values["parts"]["dit"]["config"] |= {"text_dim": 0, "clip_dim": 0}

    folder = ModelFolder.open(changed(change))
    assert (folder.text, folder.vision, folder.facts.has_text) == (None, None, False)


def test_speech_reads_hugging_faces_own_config(changed: Callable[[Change], Path], tiny_folder: Path) -> None:
    folder = changed(put("parts", "speech", "config", value="config.json"))
    own = ModelFolder.open(tiny_folder).speech.config
    sizes = {name: getattr(own, name) for name in ("hidden_size", "num_hidden_layers", "conv_dim")}
    values = Wav2Vec2Config(**sizes, architectures=["Wav2Vec2ForPreTraining"]).to_dict()
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    config = ModelFolder.open(folder).speech.config
    assert config == SpeechConfig(**sizes)
    (folder / "config.json").write_text(json.dumps(values | {"hidden_act": "relu"}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json of the part speech: hidden_act is 'relu'.*has 'gelu'"):
        ModelFolder.open(folder)
    (folder / "config.json").write_text(json.dumps(values | {"odd": 1}), encoding="utf-8")
    with pytest.raises(ModelError, match="no setting odd"):
        ModelFolder.open(folder)
