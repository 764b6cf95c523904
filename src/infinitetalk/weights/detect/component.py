"""How the parts of a model are recognised: one row per layout that people publish them in."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from infinitetalk.weights.keymaps import DIT, SPEECH, TEXT, VAE, VISION, KeyMap


class Component(Enum):
    """What a weight file is; the values are what people read."""

    BASE = "DiT base"
    ADAPTER = "InfiniteTalk adapter"
    MERGED = "merged DiT"
    TEXT = "umT5 text encoder"
    VISION = "CLIP picture encoder"
    VAE = "video VAE"
    SPEECH = "wav2vec2 speech encoder"
    LORA = "LoRA"
    UNKNOWN = "unknown"


TRANSFORMERS = (Component.BASE, Component.ADAPTER, Component.MERGED)

KEYMAPS = {
    Component.BASE: DIT,
    Component.ADAPTER: DIT,
    Component.MERGED: DIT,
    Component.TEXT: TEXT,
    Component.VISION: VISION,
    Component.VAE: VAE,
    Component.SPEECH: SPEECH,
}

WAN, DIFFUSERS, HUGGING_FACE, MEIGEN, LLAMA = "Wan original", "Diffusers", "Hugging Face", "MeiGen", "llama.cpp"


@dataclass(frozen=True, slots=True)
class Signature:
    """A layout of one component: a name that only it has, prefix included as group 1."""

    component: Component
    grammar: str
    pattern: str


SIGNATURES = (
    Signature(Component.VISION, WAN, r"((?:visual\.)?)transformer\.\d+\.attn\.to_qkv\.weight"),
    Signature(Component.VISION, HUGGING_FACE, r"((?:vision_model\.)?)encoder\.layers\.\d+\.self_attn\.q_proj\.weight"),
    Signature(Component.TEXT, WAN, r"()blocks\.\d+\.attn\.q\.weight"),
    Signature(Component.TEXT, HUGGING_FACE, r"()encoder\.block\.\d+\.layer\.0\.SelfAttention\.q\.weight"),
    Signature(Component.TEXT, LLAMA, r"()enc\.blk\.\d+\.attn_q\.weight"),
    Signature(Component.SPEECH, HUGGING_FACE, r"((?:wav2vec2\.)?)feature_extractor\.conv_layers\.\d+\.conv\.weight"),
    # Wan 2.2's VAE has one list more.
    Signature(Component.VAE, WAN, r"((?:\w+\.)?)encoder\.downsamples\.\d+\.(?:\w+\.\d+\.)?residual\.2\.weight"),
    Signature(Component.VAE, DIFFUSERS, r"((?:\w+\.)?)encoder\.down_blocks\.\d+\.conv1\.weight"),
    Signature(Component.BASE, WAN, r"((?:model\.)?(?:diffusion_model\.)?)blocks\.\d+\.self_attn\.q\.weight"),
    Signature(Component.BASE, DIFFUSERS, r"((?:model\.)?(?:diffusion_model\.)?)blocks\.\d+\.attn1\.to_q\.weight"),
    Signature(
        Component.ADAPTER,
        MEIGEN,
        r"((?:model\.)?(?:diffusion_model\.)?)(?:audio_proj\.proj1|blocks\.\d+\.audio_cross_attn\.q_linear)\.weight",
    ),
)

_COMPILED = tuple((re.compile(row.pattern), row) for row in SIGNATURES)


@dataclass(frozen=True, slots=True)
class Recognised:
    """What names tell: the component, whose layout it is, and what a program put before every name."""

    component: Component
    grammar: str
    prefix: str

    @property
    def keymap(self) -> KeyMap:
        """Where this component's tensors go."""
        return KEYMAPS[self.component]


def recognise(names: Iterable[str]) -> Recognised | None:
    """The component that has tensors of these names; a base that also has the audio layers is one that was merged."""
    given = tuple(names)
    found: Recognised | None = None
    for pattern, row in _COMPILED:
        match = next((match for name in given if (match := pattern.fullmatch(name))), None)
        if match is None:
            continue
        if row.component is Component.ADAPTER and found is not None and found.component is Component.BASE:
            return Recognised(Component.MERGED, found.grammar, found.prefix)
        if found is None:
            found = Recognised(row.component, row.grammar, match[1])
    return found
