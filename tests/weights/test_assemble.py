"""Loose files in any order become a model, or one line says exactly what lacks."""

import json
import os
import shutil
from itertools import permutations
from pathlib import Path

import pytest
import torch

from infinitetalk.cli.main import main
from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.engine.model import load_model
from infinitetalk.runtime.device import Device
from infinitetalk.weights.detect.collect import collect
from infinitetalk.weights.detect.component import Component
from infinitetalk.weights.detect.places import places
from infinitetalk.weights.detect.tokens import count_tokens
from infinitetalk.weights.folder import ModelFolder
from tests.weights.fake import fake_pieces, fake_safetensors, fake_shards
from tests.weights.key_lists import adapter, shapes
from tests.weights.loose import make_loose
from tools import make_tiny


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without weights, so that only what a test makes is found; gives it."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "COMFYUI_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("INFINITETALK_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def loose(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model without its manifest."""
    return make_loose(tiny_folder, tmp_path / "loose")


@pytest.fixture
def large(tmp_path: Path) -> dict[str, Path]:
    """Full-size files as ComfyUI's users have them, without data, and a tokenizer's folder."""
    home = tmp_path / "ComfyUI" / "models"
    tokenizer = tmp_path / "umt5-xxl"
    tokenizer.mkdir()
    fake_pieces(tokenizer / "spiece.model")
    return {
        "base": fake_safetensors(home / "diffusion_models" / "wan2.1_i2v_480p_14B_bf16.safetensors",
                                 shapes("wan i2v 14B")),
        "adapter": fake_safetensors(home / "model_patches" / "wan2.1_infiniteTalk_single_fp16.safetensors",
                                    adapter(), "F16"),
        "text": fake_safetensors(home / "text_encoders" / "umt5_xxl_fp16.safetensors", shapes("hf umt5"), "F16"),
        "vision": fake_safetensors(home / "clip_vision" / "clip_vision_h.safetensors", shapes("hf clip"), "F16"),
        "vae": fake_safetensors(home / "vae" / "wan_2.1_vae.safetensors", shapes("wan vae")),
        "speech": fake_safetensors(home / "wav2vec2" / "wav2vec2-chinese-base_fp16.safetensors",
                                   shapes("hf wav2vec2 pretraining"), "F16"),
        "tokenizer": tokenizer,
    }  # fmt: skip


def test_a_folder_without_a_manifest_is_the_model_that_its_files_make(loose: Path, tiny_folder: Path) -> None:
    found, whole = ModelFolder.open(loose), ModelFolder.open(tiny_folder)
    assert (found.dit.config, found.vae.config) == (whole.dit.config, whole.vae.config)
    assert (found.speech.config, found.max_people) == (whole.speech.config, 2)
    assert found.text is not None and whole.text is not None and found.text.config == whole.text.config
    assert found.name == "Wan2.1-I2V"
    ours, theirs = (load_model(folder, Device.choose("cpu")) for folder in (found, whole))
    for mine, other in ((ours.dit, theirs.dit), (ours.vae, theirs.vae)):
        for (name, tensor), expected in zip(mine.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(tensor, expected), name


def test_a_gguf_base_with_the_float_adapter_loads(loose: Path, tiny_folder: Path) -> None:
    import gguf
    from safetensors.torch import load_file

    home = loose / "Wan2.1-I2V"
    state: dict[str, torch.Tensor] = {}
    for shard in sorted(home.glob("diffusion_pytorch_model*")):
        state |= load_file(shard) if shard.suffix == ".safetensors" else {}
        shard.unlink()
    writer = gguf.GGUFWriter(home / "tiny-Q8_0.gguf", "wan")
    q8 = gguf.GGMLQuantizationType.Q8_0
    for name, tensor in state.items():
        if len(tensor.shape) > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(tensor.shape))
            writer.add_tensor(name, tensor.reshape(tensor.shape[0], -1).half().numpy())
        elif name.startswith("blocks.") and tensor.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), q8), raw_dtype=q8)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    folder = ModelFolder.open(loose)
    assert [path.name for path in folder.dit.files] == ["tiny-Q8_0.gguf", "infinitetalk.safetensors"]
    assert folder.dit.config == make_tiny.DIT
    loaded, whole = (load_model(each, Device.choose("cpu")).dit for each in (folder, ModelFolder.open(tiny_folder)))
    generator = torch.Generator().manual_seed(0)
    config = make_tiny.DIT
    given = {
        "latent": torch.randn(1, 16, 2, 4, 4, generator=generator),
        "condition": torch.randn(1, 20, 2, 4, 4, generator=generator),
        "audio": torch.randn(
            1, 5, config.audio_window, config.audio_blocks, config.audio_channels, generator=generator
        ),
        "text": torch.randn(1, 3, config.text_dim, generator=generator),
        "clip": torch.randn(1, config.clip_tokens, config.clip_dim, generator=generator),
    }
    with torch.no_grad():
        ours, theirs = (network(timestep=torch.tensor(500.0), **given) for network in (loaded, whole))
    assert (ours - theirs).norm() / theirs.norm() < 0.02
    assert not torch.equal(ours, theirs)


def test_a_handful_of_files_in_any_order(large: dict[str, Path]) -> None:
    first: ModelFolder | None = None
    for order in list(permutations(large.values()))[::1680]:
        folder = ModelFolder.open(",".join(map(str, order)))
        parts = (folder.dit, folder.vae, folder.speech, folder.text, folder.vision)
        first = first or folder
        assert parts == (first.dit, first.vae, first.speech, first.text, first.vision)
    assert first is not None and first.text is not None and first.vision is not None
    assert first.dit.files == (large["base"], large["adapter"])
    assert first.text.tokenizer == large["tokenizer"]
    configs = (first.dit.config, first.vae.config, first.speech.config, first.text.config, first.vision.config)
    assert configs == (DiTConfig(), VAEConfig(), SpeechConfig(), TextConfig(), VisionConfig())
    assert (first.max_people, first.name) == (1, "wan2.1_i2v_480p_14B_bf16")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("base", "lacking: an image-to-video base"),
        ("adapter", "lacking: an InfiniteTalk adapter"),
        ("text", "lacking: the umT5 text encoder"),
        ("vision", "lacking: the CLIP picture encoder"),
        ("vae", "lacking: the video VAE"),
        ("speech", "lacking: the wav2vec2 speech encoder"),
        ("tokenizer", "lacking: umT5's tokenizer"),
    ],
)
def test_exactly_what_lacks_is_told(large: dict[str, Path], part: str, words: str) -> None:
    del large[part]
    with pytest.raises(ModelError, match=words) as caught:
        ModelFolder.open(",".join(map(str, large.values())))
    assert ";" not in str(caught.value).partition("lacking: ")[2]
    assert caught.value.exit_code == 2


def test_merged_networks_need_no_adapter_and_take_none(large: dict[str, Path], tmp_path: Path) -> None:
    merged = fake_shards(tmp_path / "SoulX-FlashTalk-14B", "diffusion_pytorch_model", shapes("flashtalk"), 6, "BF16")
    rest = [path for part, path in large.items() if part not in ("base", "adapter")]
    folder = ModelFolder.open(",".join(map(str, [merged, *rest])))
    assert (len(folder.dit.files), folder.name, folder.max_people) == (6, "SoulX-FlashTalk-14B", 1)
    assert (folder.defaults.steps, folder.defaults.shift, folder.defaults.text_scale) == (4, 5.0, 1.0)
    assert (folder.defaults.window_frames, folder.defaults.motion_frames) == (33, 5)
    with pytest.raises(ModelError, match="holds the base and the audio layers"):
        ModelFolder.open(",".join(map(str, [merged, large["adapter"], *rest])))


def test_a_named_file_goes_before_what_lies_in_a_folder(
    large: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As the reference is called: a folder with the base and the encoders, and a quantised network that holds both.
    merged = fake_safetensors(tmp_path / "infinitetalk_multi_fp8.safetensors", shapes("meigen merged"))
    home = tmp_path / "ComfyUI"
    folder = ModelFolder.open(f"{home},{large['tokenizer']},{merged}")
    assert (folder.dit.files, folder.max_people) == ((merged,), 2)
    assert f"DiT base: {large['base']} is left out, as {merged} holds one" in caplog.text
    fake_safetensors(home / "models" / "diffusion_models" / "merged.safetensors", shapes("meigen merged"))
    with pytest.raises(ModelError, match="holds the base and the audio layers"):
        ModelFolder.open(f"{home},{large['tokenizer']}")
    other = fake_safetensors(tmp_path / "Wan2_1-InfiniteTalk-Multi_fp16.safetensors", adapter(), "F16")
    (home / "models" / "diffusion_models" / "merged.safetensors").unlink()
    assert ModelFolder.open(f"{home},{large['tokenizer']},{other}").dit.files == (large["base"], other)


def test_an_encoder_of_another_width_is_no_candidate(large: dict[str, Path], tmp_path: Path) -> None:
    small = {name: tuple(1024 if axis == 1280 else axis for axis in shape) for name, shape in shapes("hf clip").items()}
    small = {name: tuple(4096 if axis == 5120 else axis for axis in shape) for name, shape in small.items()}
    fake_safetensors(large["vision"].with_name("clip_vision_l.safetensors"), small, "F16")
    folder = ModelFolder.open(f"{tmp_path / 'ComfyUI'},{large['tokenizer']}")
    assert folder.vision is not None
    assert folder.vision.files == (large["vision"],)


def test_lightx2vs_distilled_base_and_adapter_of_one_kind(large: dict[str, Path], tmp_path: Path) -> None:
    name = "InfiniteTalk-4StepDistill-Mean-w-ITAudioAdaptorV6.1-fp8.safetensors"
    for part, network, path in (
        ("base", shapes("wan i2v 14B"), tmp_path / "seko" / name),
        ("adapter", adapter(), tmp_path / "single" / "infinitetalk-fp8.safetensors"),
    ):
        matrices = [key for key, shape in network.items() if key.startswith("blocks.") and len(shape) == 2]
        scales = {f"{key}_scale": (network[key][0], 1) for key in matrices}
        types = {**dict.fromkeys(matrices, "F8_E4M3"), **dict.fromkeys(scales, "F32")}
        large[part] = fake_safetensors(path, {**network, **scales}, "BF16", types)
    folder = ModelFolder.open(",".join(map(str, large.values())))
    assert folder.dit.files == (large["base"], large["adapter"])
    assert (folder.max_people, folder.defaults.steps, folder.defaults.audio_scale) == (1, 4, 1.0)


def test_two_files_for_one_part_are_a_question(large: dict[str, Path], tmp_path: Path) -> None:
    other = fake_safetensors(tmp_path / "Wan2_1-InfiniteTalk-Multi_fp16.safetensors", adapter(), "F16")
    with pytest.raises(ModelError, match=r"2 files could be the InfiniteTalk adapter: .*single.*Multi.*; name the one"):
        ModelFolder.open(",".join(map(str, [*large.values(), other])))
    del large["adapter"]
    assert ModelFolder.open(",".join(map(str, [*large.values(), other]))).max_people == 2


def test_an_adapter_for_another_base_is_refused(large: dict[str, Path], tmp_path: Path) -> None:
    short = {name: shape for name, shape in adapter().items() if ".39." not in name}
    large["adapter"] = fake_safetensors(tmp_path / "single.safetensors", short)
    with pytest.raises(ModelError, match=r"is for a base with num_layers 39, but .* has 40"):
        ModelFolder.open(",".join(map(str, large.values())))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("wan t2v 1.3B", "a text-to-video base of 1.3B"),
        ("wan t2v 14B", "a text-to-video base"),
        ("wan2.2 i2v A14B", r"a base of Wan 2\.2"),
        ("wan2.2 ti2v 5B", r"a base of Wan 2\.2"),
        ("wan2.2 vae", r"the VAE of Wan 2\.2"),
    ],
)
def test_a_wrong_base_is_refused_before_anything_is_loaded(
    large: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], network: str, words: str
) -> None:
    wrong = fake_safetensors(tmp_path / "wrong.safetensors", shapes(network))
    large["vae" if "vae" in network else "base"] = wrong
    code = main(_generate(",".join(map(str, large.values())), tmp_path, 1))
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    with pytest.raises(ModelError, match=f"{wrong}: {words}"):
        ModelFolder.open(",".join(map(str, large.values())))


def _generate(model: str, folder: Path, voices: int) -> list[str]:
    import soundfile
    from PIL import Image

    Image.new("RGB", (64, 64)).save(folder / "face.png")
    soundfile.write(folder / "voice.wav", [0.0] * 16000, 16000)
    words = ["generate", "--model", model, "--image", str(folder / "face.png"), "--output", str(folder / "out.mp4")]
    for number in range(voices):
        words += ["--audio", str(folder / "voice.wav")]
        words += ["--box", f"{number / 2},0,{(number + 1) / 2},1"] if voices > 1 else []
    return words


def test_a_single_adapter_with_two_voices_is_refused_before_anything_is_loaded(
    large: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The files have no data: loading any weight of theirs would fail otherwise, and slowly.
    code = main(_generate(",".join(map(str, large.values())), tmp_path, 2))
    error = capsys.readouterr().err
    assert code == 2
    assert "audio = 2: the model wan2.1_i2v_480p_14B_bf16 can voice 1 at most" in error


def test_a_lora_is_no_part(large: dict[str, Path], tmp_path: Path) -> None:
    pair = {f"diffusion_model.blocks.0.self_attn.q.lora_{end}.weight": (8, 8) for end in ("down", "up")}
    lora = fake_safetensors(tmp_path / "lora.safetensors", pair)
    with pytest.raises(ModelError, match=r"lora\.safetensors: is a LoRA, not a part of a model; give it with --lora"):
        ModelFolder.open(",".join(map(str, [*large.values(), lora])))


def test_comfys_text_encoder_brings_its_tokenizer(large: dict[str, Path]) -> None:
    del large["tokenizer"]
    text = {**shapes("hf umt5"), "spiece_model": (100,)}
    fake_safetensors(large["text"], text, "F16", {"spiece_model": "U8"})
    folder = ModelFolder.open(",".join(map(str, large.values())))
    assert folder.text is not None
    assert folder.text.tokenizer == large["text"]


def test_what_lacks_is_taken_from_where_weights_usually_lie(
    large: dict[str, Path], nowhere_else: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    named = f"{large['base']},{large['adapter']}"
    with pytest.raises(ModelError, match="lacking: the umT5"):
        ModelFolder.open(named)
    # ComfyUI in the home, the hub's cache with its links, and a folder of the user's own.
    shutil.move(tmp_path / "ComfyUI" / "models" / "vae", nowhere_else / "ComfyUI" / "models" / "vae")
    shutil.move(tmp_path / "ComfyUI" / "models" / "clip_vision", nowhere_else / "ComfyUI" / "models" / "clip_vision")
    snapshot = nowhere_else / ".cache/huggingface/hub/models--TencentGameMate--chinese-wav2vec2-base/snapshots/abc"
    blobs = snapshot.parents[1] / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    shutil.move(large["speech"], blobs / "0123")
    (snapshot / "model.safetensors").symlink_to(blobs / "0123")
    own = tmp_path / "own"
    own.mkdir()
    shutil.move(large["text"], own / "umt5.safetensors")
    shutil.move(large["tokenizer"], own / "tokenizer")
    monkeypatch.setenv("INFINITETALK_MODELS", os.pathsep.join([str(own)]))
    model = ModelFolder.open(named)
    assert model.text is not None and model.vision is not None
    assert model.vae.files == (nowhere_else / "ComfyUI" / "models" / "vae" / "wan_2.1_vae.safetensors",)
    assert model.speech.files == (snapshot / "model.safetensors",)
    assert (model.text.files, model.text.tokenizer) == ((own / "umt5.safetensors",), own / "tokenizer")
    assert f"umT5 text encoder: taken from {own / 'umt5.safetensors'}" in caplog.text
    monkeypatch.setenv("INFINITETALK_MODELS", str(tmp_path / "gone"))
    with pytest.raises(ModelError, match=r"INFINITETALK_MODELS lists .*gone, and there is no such folder"):
        places()


def test_broken_and_foreign_files_in_a_folder_do_not_stop_the_rest(large: dict[str, Path], tmp_path: Path) -> None:
    home = tmp_path / "ComfyUI"
    fake_safetensors(home / "models" / "vae" / "cut.safetensors", shapes("wan vae"), missing_bytes=1000)
    fake_safetensors(home / "models" / "diffusion_models" / "wan2.1_t2v_1.3B.safetensors", shapes("wan t2v 1.3B"))
    fake_safetensors(home / "models" / "clip_vision" / "other.safetensors", {"a": (3,)})
    assert ModelFolder.open(f"{home},{large['tokenizer']}").vae.files == (large["vae"],)
    large["vae"].unlink()
    with pytest.raises(ModelError, match=r"lacking: the video VAE .*Not used: .*cut\.safetensors: the file is cut off"):
        ModelFolder.open(f"{home},{large['tokenizer']}")
    with pytest.raises(ModelError, match=r"cut\.safetensors: the file is cut off"):
        collect([home / "models" / "vae" / "cut.safetensors"])


def test_missing_shards_are_named(tmp_path: Path) -> None:
    index = fake_shards(tmp_path, "diffusion_pytorch_model", shapes("wan i2v 14B"), 7)
    assert [unit.component for unit in collect([tmp_path]).units] == [Component.BASE]
    third = tmp_path / "diffusion_pytorch_model-00003-of-00007.safetensors"
    third.unlink()
    words = r"1 of 7 shards are not there: diffusion_pytorch_model-00003-of-00007\.safetensors"
    for path in (index, tmp_path / "diffusion_pytorch_model-00001-of-00007.safetensors"):
        with pytest.raises(ModelError, match=words):
            collect([path])
    assert words.replace("\\", "") in collect([tmp_path]).rejected[0].problem
    index.unlink()
    assert words.replace("\\", "") in collect([tmp_path]).rejected[0].problem


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "a/../../b.safetensors", "C:\\b", "..\\b"])
def test_an_index_that_points_outside_of_its_folder_is_not_followed(tmp_path: Path, place: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": place}}), encoding="utf-8")
    with pytest.raises(ModelError, match="points outside of its folder") as caught:
        collect([index])
    assert caught.value.exit_code == 2
    assert "points outside of its folder" in collect([tmp_path]).rejected[0].problem


def test_one_network_twice_is_one(tmp_path: Path) -> None:
    names = shapes("hf wav2vec2")
    fake_safetensors(tmp_path / "model.safetensors", names)
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in names.items()}, tmp_path / "pytorch_model.bin")
    (unit,) = collect([tmp_path]).units
    assert unit.path.name == "model.safetensors"


def test_the_tokenizer_of_another_network_is_not_umt5s(tmp_path: Path) -> None:
    for name, end in (("umt5", 1), ("xlm-roberta-large", 2)):
        (tmp_path / name).mkdir()
        tokens = [{"id": 0, "content": "<pad>"}, {"id": end, "content": "</s>"}]
        (tmp_path / name / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}), encoding="utf-8")
    assert collect([tmp_path]).tokenizers == (tmp_path / "umt5",)


@pytest.mark.parametrize(("tokens", "fits"), [(256_300, True), (32_100, False), (250_100, False)])
def test_the_tokenizer_of_a_relative_of_umt5_is_not_taken(large: dict[str, Path], tokens: int, fits: bool) -> None:
    fake_pieces(large["tokenizer"] / "spiece.model", tokens)
    assert count_tokens(large["tokenizer"]) == tokens
    if fits:
        assert ModelFolder.open(",".join(map(str, large.values()))).text is not None
    else:
        with pytest.raises(ModelError, match="lacking: umT5's tokenizer"):
            ModelFolder.open(",".join(map(str, large.values())))


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file or folder"):
        ModelFolder.open(f"{tmp_path},{tmp_path / 'gone'}")
    with pytest.raises(ModelError, match="there is no such folder, and no bundled model"):
        ModelFolder.open(str(tmp_path / "gone"))


def test_the_tiny_models_shapes_come_from_its_files(loose: Path) -> None:
    units = {unit.component: unit.config for unit in collect([loose]).units}
    assert units[Component.BASE] == make_tiny.DIT
    assert units[Component.SPEECH] == make_tiny.SPEECH
    (loose / "Wan2.1-I2V" / "config.json").unlink()
    # Heads of 128 are taken for granted where no file says otherwise, as in every published network.
    base = next(unit.config for unit in collect([loose]).units if unit.component is Component.BASE)
    assert isinstance(base, DiTConfig)
    assert base.num_heads == 1
