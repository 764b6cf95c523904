"""Shapes of the networks, read from a model folder. No numbers live in the network code.

Field names follow the checkpoints' own `config.json` files, so that those files are read as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from infinitetalk.core.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Base of all network configurations."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Builds the configuration from JSON values; lists become tuples.

        Raises:
            ModelError: a key that this network does not have (keys that start with '_' are comments).
        """
        known = {field.name for field in fields(cls)}
        given = {key: value for key, value in values.items() if not key.startswith("_")}
        if unknown := sorted(set(given) - known):
            raise ModelError(f"{cls.__name__} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


FIRST, EVERY = KEY_FRAMES = ("first", "every")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig(NetConfig):
    """The audio-driven diffusion transformer. Defaults are the 14B model's.

    `text_dim` or `clip_dim` 0 says that this network has no text or picture part in its cross-attention
    (with neither, blocks have no `cross_attn` at all). `prediction` says what its head names: the velocity, or the
    clean `video`, from which the velocity follows. `key_frame` says where it is shown the key frame: at the `first`
    latent frame, with grey after it, or at `every` one.
    """

    model_type: str = "i2v"
    patch_size: tuple[int, int, int] = (1, 2, 2)
    text_len: int = 512
    in_dim: int = 36
    dim: int = 5120
    ffn_dim: int = 13824
    freq_dim: int = 256
    text_dim: int = 4096
    out_dim: int = 16
    num_heads: int = 40
    num_layers: int = 40
    eps: float = 1e-6
    clip_dim: int = 1280
    clip_tokens: int = 257
    audio_window: int = 5
    audio_blocks: int = 12
    audio_channels: int = 768
    intermediate_dim: int = 512
    output_dim: int = 768
    context_tokens: int = 32
    vae_scale: int = 4
    class_range: int = 24
    class_interval: int = 4
    prediction: str = "velocity"
    key_frame: str = FIRST


LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEConfig(NetConfig):
    """The causal video VAE. Defaults are Wan 2.1's; mean and std normalise its latents."""

    dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    mean: tuple[float, ...] = LATENT_MEAN
    std: tuple[float, ...] = LATENT_STD


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig(NetConfig):
    """The umT5 text encoder. Defaults are umT5-XXL's, with the original checkpoint's names."""

    vocab: int = 256384
    dim: int = 4096
    dim_attn: int = 4096
    dim_ffn: int = 10240
    num_heads: int = 64
    num_layers: int = 24
    num_buckets: int = 32
    shared_pos: bool = False


TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
"""What a tokenizer's folder holds one of: the first that is there is read."""
TOKENIZER_TENSOR = "spiece_model"
"""The bytes of a sentencepiece model that ComfyUI's text encoders bring along, as a tensor of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig(NetConfig):
    """The CLIP picture tower (open-clip ViT-H/14 by default), with the original checkpoint's names."""

    image_size: int = 224
    patch_size: int = 14
    dim: int = 1280
    mlp_ratio: int = 4
    out_dim: int = 1024
    num_heads: int = 16
    num_layers: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechConfig(NetConfig):
    """The wav2vec2 speech encoder, with the names of its Hugging Face `config.json`. Defaults are wav2vec2-base's.

    `shifts` is ours: the states are the mean of so many passes, each of which hears the sound later by that many
    samples, and every second one upside down. To ears that is the same sound; small encoders hear new voices better so.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    num_feat_extract_layers: int = 7
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    feat_extract_norm: str = "group"
    do_stable_layer_norm: bool = False
    conv_bias: bool = False
    do_normalize: bool = True
    shifts: tuple[int, ...] = (0,)
