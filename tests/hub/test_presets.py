"""The table of presets: complete, consistent, and small enough for the cards that it is for."""

from pathlib import Path

import pytest

from infinitetalk.core.configs import TOKENIZER_FILES
from infinitetalk.core.defaults import ModelDefaults
from infinitetalk.core.errors import RequestError
from infinitetalk.core.presets import DIT_ROLES, PLAIN, PRESETS, HubFile, Preset, Role, find_preset
from infinitetalk.weights.hub.client import Hub, describe
from infinitetalk.weights.hub.download import download, wanted
from infinitetalk.weights.hub.store import plan, replace_dit
from tests.hub.fake_hub import Content, FakeHub
from tests.hub.test_store import Silent, on_disk

GB = 10**9
DIT_PARAMETERS = 18.9e9
BITS = 4.5
"""Of a 4-bit kind: 4 for each weight, and a scale of 16 for each 32 of them."""

# What the hub tells, as public files quote it. To the byte: downloads pinned to commit 617a763 of the repository
# Comfy-Org/Wan_2.1_ComfyUI_repackaged and 8260d42 of Kijai/WanVideo_comfy. In GB: Comfy-Org/ComfyUI-Manager (f39cbd5),
# model-list.json; issues 4 and 206 of MeiGen-AI/InfiniteTalk; comments of scripts that download GGUF files. A guess:
# the shards of SoulX-FlashTalk (18.9 billion bfloat16 numbers), and the tokenizer.
SIZES = {
    "split_files/diffusion_models/wan2.1_i2v_480p_14B_fp8_scaled.safetensors": 16_401_356_938,
    "split_files/diffusion_models/wan2.1_i2v_480p_14B_bf16.safetensors": 32_800_000_000,
    "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors": 6_735_906_897,
    "split_files/clip_vision/clip_vision_h.safetensors": 1_264_219_396,
    "split_files/vae/wan_2.1_vae.safetensors": 253_815_318,
    "Lightx2v/lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors": 738_005_744,
    "InfiniteTalk/Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors": 2_710_000_000,
    "InfiniteTalk/Wan2_1-InfiniteTalk-Multi_fp8_e4m3fn_scaled_KJ.safetensors": 2_710_000_000,
    "InfiniteTalk/Wan2_1-InfiniteTalk_Single_Q8.gguf": 2_650_000_000,
    "InfiniteTalk/Wan2_1-InfiniteTalk_Multi_Q8.gguf": 2_650_000_000,
    "wan2.1-i2v-14b-480p-Q4_K_M.gguf": 11_300_000_000,
    "wan2.1-i2v-14b-480p-Q5_K_M.gguf": 12_700_000_000,
    "single/infinitetalk.safetensors": 9_950_000_000,
    "multi/infinitetalk.safetensors": 9_950_000_000,
    "models_t5_umt5-xxl-enc-bf16.pth": 11_400_000_000,
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth": 4_770_000_000,
    "Wan2.1_VAE.pth": 508_000_000,
    "diffusion_pytorch_model*": 38_000_000_000,
    "google/umt5-xxl/*": 21_000_000,
    "model.safetensors": 380_000_000,
    "config.json": 2_000,
}


def publish(fake: FakeHub, preset: Preset, scale: int = 1) -> None:
    """Puts a preset on the hub: sizes alone, or files of a `scale`-th of their size."""
    for file in preset.files:
        size = SIZES[file.name]
        data = Content(size=size, sha256="c0" * 32) if scale == 1 else Content(_bytes(file, size // scale + 1))
        fake.add_file(file, data)


def _bytes(file: HubFile, size: int) -> bytes:
    mark = f"{file.repository.name}/{file.name}@{file.revision}".encode()
    return (mark * (size // len(mark) + 1))[:size]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_is_a_whole_model(preset: Preset) -> None:
    roles = {file.role for file in preset.files}
    assert roles >= {Role.BASE, Role.TEXT, Role.TOKENIZER, Role.VISION, Role.VAE, Role.SPEECH}
    assert (Role.ADAPTER in roles) == (not preset.name.startswith("live"))
    assert (Role.LORA in roles) == (preset.defaults.get("steps") == 4 and not preset.name.startswith("live"))
    assert all(file.repository.licence in ("apache-2.0", "mit") for file in preset.files)
    ModelDefaults.read(preset.defaults)
    order = [list(Role).index(file.role) for file in preset.files if file.role is not Role.SPEECH]
    transformer = [file.role in DIT_ROLES for file in preset.files]
    assert transformer == sorted(transformer, reverse=True), "the transformer comes first, to be converted early"
    assert order == sorted(order)


def test_names_are_made_of_parts() -> None:
    assert PLAIN == ("t4", "consumer-12gb", "consumer-24gb", "workstation", "distilled-4step", "live")
    for plain in PLAIN[:-1]:
        assert {name for name in PRESETS if name.startswith(plain)} == {
            plain, f"{plain}-multi", f"{plain}-chinese", f"{plain}-multi-chinese",
        }  # fmt: skip
        assert find_preset(f"{plain}-multi").people == 2
        single, multi = find_preset(plain), find_preset(f"{plain}-multi")
        changed = set(single.files) ^ set(multi.files)
        assert {file.role for file in changed} == {Role.ADAPTER}


def test_the_english_encoder_is_the_default_and_the_chinese_one_is_the_pull_request() -> None:
    for name, preset in PRESETS.items():
        (weights,) = [file for file in preset.files if file.role is Role.SPEECH and file.name == "model.safetensors"]
        if not name.endswith("-chinese"):
            assert (weights.repository.name, weights.revision) == ("facebook/wav2vec2-base-960h", "main")
        else:
            assert weights.repository.name == "TencentGameMate/chinese-wav2vec2-base"
            assert weights.revision == "refs/pr/1"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("t5", "there is no such preset; there are t4, consumer-12gb"),
        ("live-multi", "live is published as live, live-chinese only"),
        ("t4-chinese-multi", "t4 is published as t4, t4-chinese, t4-multi, t4-multi-chinese only"),
    ],
)
def test_an_unknown_preset_is_refused(name: str, told: str) -> None:
    with pytest.raises(RequestError, match=f"PRESET = {name}: {told}"):
        find_preset(name)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("t4")])
def test_t4_needs_at_most_30_gb_as_it_is_downloaded(fake: FakeHub, hub: Hub, name: str) -> None:
    preset = find_preset(name)
    publish(fake, preset)
    entries = describe(hub, preset.files)
    sizes = {role: sum(entry.size for entry in entries if entry.role is role) for role in Role}
    transformer = sum(sizes[role] for role in DIT_ROLES)
    rest = sum(sizes.values()) - transformer
    assert transformer == 11_300_000_000 + 2_650_000_000 + 738_005_744
    assert transformer + rest <= 24 * GB, "used as it is downloaded: nothing but these files"
    converted = DIT_PARAMETERS * BITS / 8
    steps = (transformer, transformer + converted, converted, converted + rest)
    assert max(steps) <= 30 * GB, "downloaded, converted beside it, originals freed, encoders downloaded"
    assert max(steps) == pytest.approx(25.3 * GB, rel=0.01)


def test_t4_never_takes_more_than_30_gb_in_fact(fake: FakeHub, hub: Hub, tmp_path: Path) -> None:
    """The same on a disk, with files of a ten-thousandth of their size."""
    scale = 10_000
    preset = find_preset("t4-multi")
    publish(fake, preset, scale)
    peaks = []

    class Measure(Silent):
        def end(self, held: object, /) -> None:
            del held
            peaks.append(on_disk(hub))

    record = plan(hub, preset)
    download(hub, record, wanted(record, DIT_ROLES), Measure())
    converted = tmp_path / "converted"
    converted.mkdir()
    weights = converted / "dit.safetensors"
    weights.write_bytes(b"x" * round(DIT_PARAMETERS * BITS / 8 / scale))
    peaks.append(on_disk(hub) + weights.stat().st_size)
    record = replace_dit(hub, record, converted)
    download(hub, record, wanted(record, None), Measure())
    peaks.append(on_disk(hub) + weights.stat().st_size)
    assert max(peaks) * scale <= 30 * GB
    assert max(peaks) * scale >= 25 * GB, "the measurement saw the conversion"
    names = {path.name for path in record.paths(hub)}
    assert {"converted", "clip_vision_h.safetensors", "model.safetensors"} <= names
    assert names & {"tokenizer.json"} <= set(TOKENIZER_FILES)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("consumer-12gb", 24, 26), ("consumer-24gb", 27, 29), ("distilled-4step", 28, 30), ("workstation", 58, 62)],
)
def test_sizes_in_the_documents(fake: FakeHub, hub: Hub, name: str, least: int, most: int) -> None:
    publish(fake, find_preset(name))
    total = sum(entry.size for entry in describe(hub, find_preset(name).files))
    assert least * GB < total < most * GB
