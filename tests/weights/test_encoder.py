"""Another speech encoder than a model's own: found, checked by its header, heard, and told of."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infinitetalk.cli.main import main
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.encoders import encoder_name
from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.engine import Engine
from infinitetalk.weights.folder import ModelFolder
from tests.faces.conftest import write_portrait, write_voice
from tests.weights.fake import fake_pieces, fake_safetensors
from tests.weights.key_lists import adapter, shapes
from tests.weights.loose import SPEECH_CONFIG, make_loose, write
from tools.make_tiny import SPEECH, random_state, speech_shapes

WAV2VEC = "hf wav2vec2 pretraining"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without weights; gives the hub's cache in it."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "COMFYUI_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("INFINITETALK_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home" / ".cache" / "huggingface" / "hub"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder with an encoder of tiny's shape and other weights."""
    folder = tmp_path / "other-wav2vec2"
    folder.mkdir()
    torch.save(random_state(speech_shapes(SPEECH), 7), folder / "pytorch_model.bin")
    write(folder / "config.json", SPEECH_CONFIG)
    return folder


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A model of full size without data and without a speech encoder, as `--model` takes it."""
    home = tmp_path / "large"
    paths = [
        fake_safetensors(home / "wan2.1_i2v_480p_14B.safetensors", shapes("wan i2v 14B")),
        fake_safetensors(home / "infinitetalk_single.safetensors", adapter()),
        fake_safetensors(home / "umt5.safetensors", shapes("hf umt5")),
        fake_safetensors(home / "clip.safetensors", shapes("hf clip")),
        fake_safetensors(home / "vae.safetensors", shapes("wan vae")),
        home / "umt5-xxl",
    ]
    paths[-1].mkdir()
    fake_pieces(paths[-1] / "spiece.model")
    return ",".join(map(str, paths))


def publish(cache: Path, repository: str) -> Path:
    """Puts an encoder without data into the cache, as the hub's programs do; gives its file there."""
    home = cache / f"models--{repository.replace('/', '--')}"
    blob = fake_safetensors(home / "blobs" / "abc", shapes(WAV2VEC))
    file = home / "snapshots" / "0123" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.symlink_to(blob)
    return file


def test_another_encoder_is_heard_told_and_repeated(
    tiny_folder: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_portrait(tmp_path / "face.png")
    write_voice(tmp_path / "voice.wav", 0.5)
    words = ["generate", "--device", "cpu", "--json"]
    job = ["--model", str(tiny_folder), "--image", "face.png", "--audio", "voice.wav", "--steps", "1"]
    told = {}
    for name, more in {
        "own": job,
        "other": [*job, "--encoder", other.name],
        "again": ["--request", "other.mp4.json"],
    }.items():
        assert main([*words, *more, "--output", f"{name}.mp4"]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        told[name] = [event["text"] for event in events if event["event"] == "note"]
    assert told["own"] == []
    assert told["other"] == [
        "encoder other-wav2vec2: the model tiny was trained on its own, so mouths may follow less well"
    ]
    assert json.loads(Path("other.mp4.json").read_text())["request"]["encoder"] == str(other)
    assert told["again"] == [told["other"][0].replace("other-wav2vec2", str(other))]


def test_frames_follow_the_encoder_and_an_engine_keeps_to_its_own(
    tiny_folder: Path, other: Path, tmp_path: Path
) -> None:
    image, audio = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.5)
    request = TalkRequest(model=str(tiny_folder), image=image, audio=(audio,), steps=1)
    own, same = (Engine.from_pretrained(tiny_folder, "cpu", encoder=name) for name in (None, str(tiny_folder)))
    asked = replace(request, encoder=str(other))
    heard = Engine.from_pretrained(tiny_folder, "cpu", encoder=str(other)).generate(asked).frames
    plain = own.generate(request).frames
    assert not torch.equal(heard, plain)
    assert torch.equal(same.generate(replace(request, encoder=str(tiny_folder))).frames, plain), "the same weights"
    with pytest.raises(RequestError, match=r"encoder = .*other-wav2vec2: this engine was loaded with the model's own"):
        own.generate(asked)


def test_loose_files_need_no_other_encoder(tiny_folder: Path, other: Path, tmp_path: Path) -> None:
    loose = make_loose(tiny_folder, tmp_path / "loose")
    folder = ModelFolder.open(loose, str(other))
    assert folder.speech.files == (other / "pytorch_model.bin",)
    for path in (loose / "wav2vec2").iterdir():
        path.unlink()
    assert ModelFolder.open(loose, str(other / "pytorch_model.bin")) == replace(
        folder, encoder=str(other / "pytorch_model.bin")
    )
    with pytest.raises(ModelError, match="lacking: the wav2vec2 speech encoder"):
        ModelFolder.open(loose)


@pytest.mark.parametrize(
    ("encoder", "line"),
    [
        ("none", "encoder = none: there is no such file or folder; english, chinese or a path would work"),
        (" ", "encoder = : there is no such file or folder"),
        ("empty", "encoder = empty: holds no wav2vec2 speech encoder"),
        ("two", "encoder = two: holds 2 (a.bin, b.bin); name the one to use"),
        ("text.bin", "encoder = text.bin: text.bin: "),
        ("base", "encoder = base: has 12 layers of 768, and 2 layers of 32 are what the model tiny was made for"),
        ("english", "encoder = english: has 12 layers of 768, and 2 layers of 32 are what"),
    ],
)
def test_what_is_refused_before_a_weight_is_loaded(
    encoder: str, line: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("two").mkdir()
    for number, name in enumerate(("a", "b")):
        torch.save(random_state(speech_shapes(SPEECH), number), f"two/{name}.bin")
    write(Path("two/config.json"), SPEECH_CONFIG)
    Path("text.bin").write_text("no weights")
    fake_safetensors(Path("base/model.safetensors"), shapes(WAV2VEC))
    with pytest.raises(RequestError) as caught:
        ModelFolder.open(tiny_folder, encoder)
    assert str(caught.value).startswith(line)


def test_nano_hears_with_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, audio = write_portrait(tmp_path / "face.png"), write_voice(tmp_path / "voice.wav", 0.5)
    words = ["--image", str(image), "--audio", str(audio), "--output", str(tmp_path / "out.mp4")]
    assert main(["generate", *words, "--encoder", "chinese"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "encoder = chinese: has 12 layers of 768, and 4 layers of 192 are what the model nano was made for" in told
    assert "nano hears with its own alone, leave it out" in told


TOLD = "encoder chinese: it is the one that InfiniteTalk's adapters were trained on"


def test_published_encoders_are_found_by_name_and_told_of(large: str, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"facebook/wav2vec2-base-960h is not in .*; get it with: hf download face"):
        ModelFolder.open(large, "english")
    english = publish(cache, "facebook/wav2vec2-base-960h")
    folder = ModelFolder.open(large, "english")
    assert folder.speech.files == (english,)
    assert folder.facts.encoder_advice == (
        "encoder english: InfiniteTalk's adapters were trained on chinese-wav2vec2-base, for speech in any language, "
        "so mouths may follow less well; --encoder chinese takes that one"
    )
    assert folder.facts.encoder_doubt == (
        "voices were heard with another encoder than the model was trained on, so mouths may follow less well: "
        "--encoder chinese takes that one"
    )
    own = ModelFolder.open(large)
    assert own.speech.files == (english,), "the only one there is"
    assert own.facts.encoder_advice == folder.facts.encoder_advice
    with pytest.raises(RequestError, match=r"hf download .* model\.safetensors --revision refs/pr/1"):
        ModelFolder.open(large, "chinese")
    chinese = publish(cache, "TencentGameMate/chinese-wav2vec2-base")
    trained = ModelFolder.open(large, "chinese")
    assert (trained.speech.files, trained.facts.encoder_advice) == ((chinese,), TOLD)
    assert trained.facts.encoder_doubt == ""
    both = ModelFolder.open(large)
    assert both.speech.files == (english,), "the default of several"
    assert both.facts.encoder_advice == folder.facts.encoder_advice
    unknown = fake_safetensors(tmp_path / "mine" / "model.safetensors", shapes(WAV2VEC))
    advice = ModelFolder.open(large, str(unknown.parent)).facts.encoder_advice
    assert advice.startswith(f"encoder {unknown.parent}: InfiniteTalk's adapters were trained on")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("weights/chinese-wav2vec2-base/model.safetensors", "chinese"),
        ("wav2vec2-chinese-base_fp16.safetensors", "chinese"),
        ("models--facebook--wav2vec2-base-960h/snapshots/01/model.safetensors", "english"),
        ("my chinese project/wav2vec2-base-960h/model.safetensors", "english"),
        ("hubert/model.safetensors", None),
    ],
)
def test_names_tell_which_encoder_it_is(path: str, name: str | None) -> None:
    assert encoder_name([Path(path)]) == name


def test_the_14b_model_hears_twelve_layers_of_768() -> None:
    assert (DiTConfig().audio_blocks, DiTConfig().audio_channels) == (12, 768)
