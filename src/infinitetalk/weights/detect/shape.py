"""A network's configuration from its tensors' shapes, and from the `config.json` beside them for what those leave open.

Heads and strides cannot be seen in shapes. Where no file says them they are those of the published networks.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isqrt, prod
from pathlib import Path
from typing import Any, TypeVar

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.weights import manifest
from infinitetalk.weights.detect.component import Component
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.locate import MANIFEST
from infinitetalk.weights.names import Shapes

C = TypeVar("C", bound=NetConfig)

CONFIG_FILE = "config.json"
WAN_HEAD = 128
CLIP_HEADS: Mapping[int, int] = {1280: 16, 1024: 16, 768: 12}
"""Width of a CLIP tower → its heads, for the published ones."""
WAV2VEC_HEAD = 64


class UnclearError(Exception):
    """Shapes from which no configuration can be told, with the reason."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Reads single numbers off the shapes."""

    shapes: Shapes

    def axis(self, name: str, axis: int) -> int:
        """A tensor's length along one axis.

        Raises:
            UnclearError: no such tensor, or it has fewer axes.
        """
        shape = self.shapes.get(name, ())
        if len(shape) <= axis:
            raise UnclearError(f"{name} is not there")
        return shape[axis]

    def layers(self, pattern: str) -> int:
        """One more than the highest number that the pattern's group finds."""
        numbers = [int(match[1]) for name in self.shapes if (match := re.match(pattern, name))]
        return max(numbers, default=-1) + 1


def config_of(component: Component, shapes: Shapes, near: Mapping[str, Any] | None) -> NetConfig:
    """The configuration behind a component's shapes.

    Args:
        component: any but a LoRA and the unknown.
        shapes: this package's names of the tensors → their shapes.
        near: what the `config.json` beside the file says, if it is this component's.

    Raises:
        UnclearError: what is missing is too much to tell.
    """
    try:
        return _READERS[component](_Look(shapes), near or {})
    except ZeroDivisionError as error:
        raise UnclearError("a tensor is empty") from error


def declared_config(file: Path) -> NetConfig | None:
    """What the manifest in a file's folder says of the part that lists the file; None without a manifest.

    Raises:
        ModelError: a model folder that is not whole.
    """
    if not (file.parent / MANIFEST).is_file():
        return None
    folder = ModelFolder.open(file.parent)
    parts = (folder.dit, folder.vae, folder.speech, folder.text, folder.vision)
    return next((part.config for part in parts if part is not None and file in part.files), None)


def near_config(component: Component, file: Path) -> Mapping[str, Any] | None:
    """The `config.json` in a file's folder, if it is this component's.

    Raises:
        ModelError: a file of that name that is not JSON.
    """
    path = file.parent / CONFIG_FILE
    if not path.is_file():
        return None
    values = manifest.read_object(path)
    return values if _MARKS[component](values) else None


def _is_dit(values: Mapping[str, Any]) -> bool:
    return ("num_heads" in values and "ffn_dim" in values) or "attention_head_dim" in values


_MARKS: Mapping[Component, Callable[[Mapping[str, Any]], bool]] = {
    Component.BASE: _is_dit,
    Component.ADAPTER: _is_dit,
    Component.MERGED: _is_dit,
    Component.TEXT: lambda values: values.get("model_type") == "umt5",
    Component.VISION: lambda values: "image_size" in values and "patch_size" in values,
    Component.VAE: lambda values: "z_dim" in values,
    Component.SPEECH: lambda values: values.get("model_type") == "wav2vec2",
}


def _dit(look: _Look, near: Mapping[str, Any]) -> DiTConfig:
    values: dict[str, Any] = {field.name: near[field.name] for field in fields(DiTConfig) if field.name in near}
    patch = look.shapes.get("patch_embedding.weight", ())[2:]
    values |= {"patch_size": patch} if len(patch) == 3 else {}
    dim = look.axis("patch_embedding.weight", 0) if patch else look.axis("blocks.0.self_attn.q.weight", 0)
    values |= {
        "dim": dim,
        "num_layers": look.layers(r"blocks\.(\d+)\."),
        "ffn_dim": look.axis("blocks.0.ffn.0.weight", 0),
        "freq_dim": look.axis("time_embedding.0.weight", 1),
        "in_dim": look.axis("patch_embedding.weight", 1),
        "out_dim": look.axis("head.head.weight", 0) // prod(patch),
        "text_dim": look.axis("text_embedding.0.weight", 1) if "text_embedding.0.weight" in look.shapes else 0,
        "clip_dim": look.axis("img_emb.proj.1.weight", 1) if "img_emb.proj.1.weight" in look.shapes else 0,
        "num_heads": _heads(near, dim),
    }
    return _checked(DiTConfig, values | _audio(look, near))


def _heads(near: Mapping[str, Any], dim: int) -> int:
    told = near.get("num_heads", near.get("num_attention_heads"))
    if isinstance(told, int) and told > 0 and dim % told == 0:
        return told
    if dim % WAN_HEAD:
        raise UnclearError(f"it is {dim} wide, which no published network is; a {CONFIG_FILE} must say num_heads")
    return dim // WAN_HEAD


def _adapter(look: _Look, near: Mapping[str, Any]) -> DiTConfig:
    dim = look.axis("blocks.0.audio_cross_attn.q_linear.weight", 0)
    values: dict[str, Any] = {field.name: near[field.name] for field in fields(DiTConfig) if field.name in near}
    values |= {"dim": dim, "num_layers": look.layers(r"blocks\.(\d+)\."), "num_heads": _heads(near, dim)}
    return _checked(DiTConfig, values | _audio(look, near))


def _audio(look: _Look, near: Mapping[str, Any]) -> dict[str, Any]:
    """What the audio layers' shapes say. Of the features they say the product alone, so that one factor is known."""
    if "audio_proj.proj1.weight" not in look.shapes:
        return {}
    own = DiTConfig()
    hidden, first = look.axis("audio_proj.proj1.weight", 0), look.axis("audio_proj.proj1.weight", 1)
    scale = near.get("vae_scale", own.vae_scale)
    frame = (look.axis("audio_proj.proj1_vf.weight", 1) - first) // (scale - 1)
    output = look.axis("audio_proj.norm.weight", 0)
    channels = near.get("audio_channels") or (own.audio_channels if frame % own.audio_channels == 0 else output)
    return {
        "intermediate_dim": hidden,
        "output_dim": output,
        "audio_window": first // frame,
        "audio_channels": channels,
        "audio_blocks": frame // channels,
        "context_tokens": look.axis("audio_proj.proj3.weight", 0) // output,
    }


def _text(look: _Look, _near: Mapping[str, Any]) -> TextConfig:
    block = "network.encoder.block.0.layer"
    return TextConfig(
        vocab=look.axis("network.shared.weight", 0),
        dim=look.axis("network.shared.weight", 1),
        dim_attn=look.axis(f"{block}.0.SelfAttention.q.weight", 0),
        dim_ffn=look.axis(f"{block}.1.DenseReluDense.wi_0.weight", 0),
        num_heads=look.axis(f"{block}.0.SelfAttention.relative_attention_bias.weight", 1),
        num_buckets=look.axis(f"{block}.0.SelfAttention.relative_attention_bias.weight", 0),
        num_layers=look.layers(r"network\.encoder\.block\.(\d+)\."),
    )


def _vision(look: _Look, near: Mapping[str, Any]) -> VisionConfig:
    dim, patch = (look.axis("network.embeddings.patch_embedding.weight", axis) for axis in (0, 2))
    heads = near.get("num_attention_heads", near.get("num_heads", CLIP_HEADS.get(dim)))
    if not isinstance(heads, int):
        raise UnclearError(f"it is {dim} wide, as no published tower; a {CONFIG_FILE} must say num_attention_heads")
    return VisionConfig(
        dim=dim,
        patch_size=patch,
        image_size=isqrt(look.axis("network.embeddings.position_embedding.weight", 0) - 1) * patch,
        mlp_ratio=look.axis("network.encoder.layers.0.mlp.fc1.weight", 0) // dim,
        num_layers=look.layers(r"network\.encoder\.layers\.(\d+)\."),
        num_heads=heads,
    )


def _vae(look: _Look, near: Mapping[str, Any]) -> VAEConfig:
    values: dict[str, Any] = {"dim": look.axis("encoder.conv1.weight", 0), "z_dim": look.axis("conv2.weight", 0)}
    if "latents_mean" in near and "latents_std" in near:
        values |= {"mean": near["latents_mean"], "std": near["latents_std"]}
    return _checked(VAEConfig, values)


def _speech(look: _Look, near: Mapping[str, Any]) -> SpeechConfig:
    if near:
        try:
            return manifest.config(Path(), dict(near), SpeechConfig, CONFIG_FILE)
        except ModelError as error:
            raise UnclearError(str(error)) from error
    home, place = "network.feature_extractor.conv_layers", "network.encoder.pos_conv_embed.conv.parametrizations.weight"
    convolutions = range(look.layers(r"network\.feature_extractor\.conv_layers\.(\d+)\."))
    hidden = look.axis("network.feature_projection.projection.weight", 0)
    layered = f"{home}.1.layer_norm.weight" in look.shapes
    own = SpeechConfig()
    if len(convolutions) != own.num_feat_extract_layers:
        raise UnclearError(f"it has {len(convolutions)} convolutions; a {CONFIG_FILE} beside it must say their strides")
    return SpeechConfig(
        hidden_size=hidden,
        num_hidden_layers=look.layers(r"network\.encoder\.layers\.(\d+)\."),
        num_attention_heads=max(1, hidden // WAV2VEC_HEAD),
        intermediate_size=look.axis("network.encoder.layers.0.feed_forward.intermediate_dense.weight", 0),
        conv_dim=tuple(look.axis(f"{home}.{number}.conv.weight", 0) for number in convolutions),
        conv_kernel=tuple(look.axis(f"{home}.{number}.conv.weight", 2) for number in convolutions),
        num_conv_pos_embeddings=look.axis(f"{place}.original1", 2),
        num_conv_pos_embedding_groups=hidden // look.axis(f"{place}.original1", 1),
        feat_extract_norm="layer" if layered else "group",
        do_stable_layer_norm=layered,
        conv_bias=f"{home}.0.conv.bias" in look.shapes,
    )


def _checked(kind: type[C], values: Mapping[str, Any]) -> C:
    try:
        return manifest.typed(kind, values, CONFIG_FILE)
    except ModelError as error:
        raise UnclearError(str(error)) from error


_READERS: Mapping[Component, Callable[[_Look, Mapping[str, Any]], NetConfig]] = {
    Component.BASE: _dit,
    Component.MERGED: _dit,
    Component.ADAPTER: _adapter,
    Component.TEXT: _text,
    Component.VISION: _vision,
    Component.VAE: _vae,
    Component.SPEECH: _speech,
}
