"""Presets: which published files make a model for which card. Names only: sizes and hashes are the hub's to tell.

Every file name below was read in a public document, which is named above the group that it belongs to. Kinds of weights
follow the card: K-quants where memory is short, scaled float8 where it fits, bfloat16 where there is plenty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from infinitetalk.core.errors import RequestError


class Role(Enum):
    """What a file is in a model; the order is that of downloading."""

    BASE = "base"
    ADAPTER = "adapter"
    LORA = "lora"
    TEXT = "text"
    TOKENIZER = "tokenizer"
    VISION = "vision"
    VAE = "vae"
    SPEECH = "speech"


DIT_ROLES = (Role.BASE, Role.ADAPTER, Role.LORA)
"""The files of the diffusion transformer, which `convert` fuses."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the hub, and the licence of the weights in it."""

    name: str
    licence: str


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a repository; a name with `*` stands for every file that matches it."""

    role: Role
    repository: Repository
    name: str
    revision: str = "main"

    @property
    def short(self) -> str:
        """The file's name without its folders."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The files of one model, and the settings that it wants."""

    name: str
    card: str
    summary: str
    people: int
    files: tuple[HubFile, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `ModelDefaults` that differ from the 14B model's own."""


APACHE = "apache-2.0"

# "All models are released under the Apache 2.0 license": README of Wan-Video/Wan2.1, and of the repackaged files.
WAN = Repository("Wan-AI/Wan2.1-I2V-14B-480P", APACHE)
COMFY = Repository("Comfy-Org/Wan_2.1_ComfyUI_repackaged", APACHE)
CITY96 = Repository("city96/Wan2.1-I2V-14B-480P-gguf", APACHE)
# LICENSE.txt of MeiGen-AI/InfiniteTalk (0107cd9): Apache 2.0; the rest are repackaged files of it and of Wan.
MEIGEN = Repository("MeiGen-AI/InfiniteTalk", APACHE)
KIJAI = Repository("Kijai/WanVideo_comfy", APACHE)
KIJAI_FP8 = Repository("Kijai/WanVideo_comfy_fp8_scaled", APACHE)
KIJAI_GGUF = Repository("Kijai/WanVideo_comfy_GGUF", APACHE)
# LICENSE of Soul-AILab/SoulX-FlashTalk (688982e): Apache 2.0.
SOULX = Repository("Soul-AILab/SoulX-FlashTalk-14B", APACHE)
FUSIONX = Repository("vrgamedevgirl84/Wan14BT2VFusioniX", "see its card")
FACEBOOK = Repository("facebook/wav2vec2-base-960h", APACHE)
TENCENT = Repository("TencentGameMate/chinese-wav2vec2-base", "mit")

# Comfy-Org/ComfyUI-Manager (f39cbd5), model-list.json: base, text, vae and vision, each with its address.
BASE_FP8 = HubFile(Role.BASE, COMFY, "split_files/diffusion_models/wan2.1_i2v_480p_14B_fp8_scaled.safetensors")
BASE_BF16 = HubFile(Role.BASE, COMFY, "split_files/diffusion_models/wan2.1_i2v_480p_14B_bf16.safetensors")
TEXT_FP8 = HubFile(Role.TEXT, COMFY, "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors")
VISION_FP16 = HubFile(Role.VISION, COMFY, "split_files/clip_vision/clip_vision_h.safetensors")
VAE = HubFile(Role.VAE, COMFY, "split_files/vae/wan_2.1_vae.safetensors")

# leejet/stable-diffusion.cpp, docs/wan.md, names the repository; download scripts that fetch from it name the files
# (deeshank/Infinitetalk_Runpod_hub, ddbafc8, Dockerfile, for the naming: wan2.1-i2v-14b-480p-KIND.gguf).
BASE_Q4 = HubFile(Role.BASE, CITY96, "wan2.1-i2v-14b-480p-Q4_K_M.gguf")
BASE_Q5 = HubFile(Role.BASE, CITY96, "wan2.1-i2v-14b-480p-Q5_K_M.gguf")

# README of MeiGen-AI/InfiniteTalk (0107cd9), "Quick Inference": the original adapters.
ADAPTER_FP32 = (
    HubFile(Role.ADAPTER, MEIGEN, "single/infinitetalk.safetensors"),
    HubFile(Role.ADAPTER, MEIGEN, "multi/infinitetalk.safetensors"),
)
# TheArtOfficial/ArtOfficialStudio, scripts/preset_model_scripts/download_infinitetalk.sh (single); the file for several
# people lies beside it under the same name.
ADAPTER_FP8 = (
    HubFile(Role.ADAPTER, KIJAI_FP8, "InfiniteTalk/Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors"),
    HubFile(Role.ADAPTER, KIJAI_FP8, "InfiniteTalk/Wan2_1-InfiniteTalk-Multi_fp8_e4m3fn_scaled_KJ.safetensors"),
)
# deeshank/Infinitetalk_Runpod_hub (ddbafc8), Dockerfile: both.
ADAPTER_Q8 = (
    HubFile(Role.ADAPTER, KIJAI_GGUF, "InfiniteTalk/Wan2_1-InfiniteTalk_Single_Q8.gguf"),
    HubFile(Role.ADAPTER, KIJAI_GGUF, "InfiniteTalk/Wan2_1-InfiniteTalk_Multi_Q8.gguf"),
)
# Comfy-Org/workflow_templates (2a0b959), templates/video_wan2_1_infinitetalk.json: the step-distilled LoRA.
LORA_4STEP = HubFile(Role.LORA, KIJAI, "Lightx2v/lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors")

# README of MeiGen-AI/InfiniteTalk (0107cd9), "Run with FusioniX or Lightx2v": the other one, in no preset.
LORA_FUSIONX = HubFile(Role.LORA, FUSIONX, "FusionX_LoRa/Wan2.1_I2V_14B_FusionX_LoRA.safetensors")

# ModelTC/LightX2V (f8aee98), docs/EN/source/getting_started/model_structure.md: the layout of the Wan-AI repositories.
TEXT_BF16 = HubFile(Role.TEXT, WAN, "models_t5_umt5-xxl-enc-bf16.pth")
VISION_ORIGINAL = HubFile(Role.VISION, WAN, "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth")
VAE_ORIGINAL = HubFile(Role.VAE, WAN, "Wan2.1_VAE.pth")
TOKENIZER = HubFile(Role.TOKENIZER, WAN, "google/umt5-xxl/*")

# Soul-AILab/SoulX-FlashTalk (688982e), flash_talk/infinite_talk/configs/wan_multitalk_14B.py and
# flash_talk/src/pipeline/flash_talk_pipeline.py: the folder holds encoders under Wan's names, and a transformer that
# diffusers' from_pretrained reads: config.json, and shards that an index lists.
LIVE = (
    HubFile(Role.BASE, SOULX, "config.json"),
    HubFile(Role.BASE, SOULX, "diffusion_pytorch_model*"),
    HubFile(Role.TEXT, SOULX, "models_t5_umt5-xxl-enc-bf16.pth"),
    HubFile(Role.TOKENIZER, SOULX, "google/umt5-xxl/*"),
    HubFile(Role.VISION, SOULX, "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"),
    HubFile(Role.VAE, SOULX, "Wan2.1_VAE.pth"),
)

# README of MeiGen-AI/InfiniteTalk (0107cd9), "Model Download": the encoder that the adapters were trained with. Its
# safetensors file is a pull request that was never merged (the main branch holds a pickle); it has the branch's other
# files as well.
CHINESE = (
    HubFile(Role.SPEECH, TENCENT, "config.json", revision="refs/pr/1"),
    HubFile(Role.SPEECH, TENCENT, "model.safetensors", revision="refs/pr/1"),
)
# facebook/wav2vec2-base-960h's own page; huggingface/transformers reads these two.
ENGLISH = (
    HubFile(Role.SPEECH, FACEBOOK, "config.json"),
    HubFile(Role.SPEECH, FACEBOOK, "model.safetensors"),
)

SMALL_ENCODERS = (TEXT_FP8, TOKENIZER, VISION_FP16, VAE)
ORIGINAL_ENCODERS = (TEXT_BF16, TOKENIZER, VISION_ORIGINAL, VAE_ORIGINAL)

# README of MeiGen-AI/InfiniteTalk (0107cd9), "Run with FusioniX or Lightx2v": 4 steps, scales 1 and 2, shift 2.
DISTILLED: Mapping[str, Any] = {"steps": 4, "shift": 2.0, "text_scale": 1.0, "audio_scale": 2.0}
# Soul-AILab/SoulX-FlashTalk (688982e), flash_talk/configs/infer_params.yaml; one forward pass a step, without guidance.
LIVE_DEFAULTS: Mapping[str, Any] = {
    "steps": 4, "shift": 5.0, "window_frames": 33, "motion_frames": 5, "text_scale": 1.0, "audio_scale": 1.0,
}  # fmt: skip

MULTI, CHINESE_SUFFIX = "-multi", "-chinese"
PEOPLE = (1, 2)
"""How many people the adapters for one and for several were trained with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A preset before it is settled for how many people and in which language it listens."""

    name: str
    card: str
    summary: str
    before: tuple[HubFile, ...]
    adapter: tuple[HubFile, HubFile] | None
    after: tuple[HubFile, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)


_PLANS = (
    _Plan(
        name="t4",
        card="T4, 15 GB (free Colab)",
        summary="4-bit, 4 steps",
        before=(BASE_Q4,),
        adapter=ADAPTER_Q8,
        after=(LORA_4STEP, *SMALL_ENCODERS),
        defaults=DISTILLED,
    ),
    _Plan(
        name="consumer-12gb",
        card="12 to 16 GB",
        summary="5-bit, 4 steps",
        before=(BASE_Q5,),
        adapter=ADAPTER_Q8,
        after=(LORA_4STEP, *SMALL_ENCODERS),
        defaults=DISTILLED,
    ),
    _Plan(
        name="consumer-24gb",
        card="24 GB",
        summary="float8, 40 steps",
        before=(BASE_FP8,),
        adapter=ADAPTER_FP8,
        after=SMALL_ENCODERS,
    ),
    _Plan(
        name="workstation",
        card="48 GB or more",
        summary="bfloat16 as published, 40 steps",
        before=(BASE_BF16,),
        adapter=ADAPTER_FP32,
        after=ORIGINAL_ENCODERS,
    ),
    _Plan(
        name="distilled-4step",
        card="24 GB",
        summary="float8, 4 steps",
        before=(BASE_FP8,),
        adapter=ADAPTER_FP8,
        after=(LORA_4STEP, *SMALL_ENCODERS),
        defaults=DISTILLED,
    ),
    _Plan(
        name="live",
        card="48 GB or more",
        summary="SoulX-FlashTalk, bfloat16, 4 steps",
        before=LIVE,
        adapter=None,
        after=(),
        defaults=LIVE_DEFAULTS,
    ),
)


def _settle(plan: _Plan, *, multi: bool, chinese: bool) -> Preset:
    adapter = () if plan.adapter is None else (plan.adapter[multi],)
    return Preset(
        name=plan.name + MULTI * multi + CHINESE_SUFFIX * chinese,
        card=plan.card,
        summary=plan.summary,
        people=PEOPLE[multi],
        files=(*plan.before, *adapter, *plan.after, *(CHINESE if chinese else ENGLISH)),
        defaults=plan.defaults,
    )


def _variants(plan: _Plan) -> Sequence[Preset]:
    several = (False,) if plan.adapter is None else (False, True)
    return [_settle(plan, multi=multi, chinese=chinese) for multi in several for chinese in (False, True)]


PRESETS: Mapping[str, Preset] = {preset.name: preset for plan in _PLANS for preset in _variants(plan)}
"""All presets by name: NAME, NAME-multi, NAME-chinese, NAME-multi-chinese."""

PLAIN = tuple(plan.name for plan in _PLANS)
"""Names without endings: for one person, with the English encoder."""


def find_preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        RequestError: no such preset, or one that nobody published weights for.
    """
    if name in PRESETS:
        return PRESETS[name]
    plain = next((plain for plain in PLAIN if name.startswith(f"{plain}-")), None)
    if plain is not None:
        made = ", ".join(preset for preset in PRESETS if preset.startswith(plain))
        raise RequestError("PRESET", name, f"{plain} is published as {made} only")
    endings = f"with {MULTI} for two people and {CHINESE_SUFFIX} for the Chinese encoder at the end"
    raise RequestError("PRESET", name, f"there is no such preset; there are {', '.join(PLAIN)}, {endings}")
