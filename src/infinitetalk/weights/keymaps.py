"""How checkpoint names become parameter names, as data.

Each network's parameters have one name in this package; files on disk follow their authors' layouts. A `KeyMap` says,
row by row, where a tensor of a file goes. Names that no row and no list of extras knows are an error when loading.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infinitetalk.core.errors import ModelError
from infinitetalk.ops.stored import Stored


@dataclass(frozen=True, slots=True)
class Row:
    """One renaming: a regular expression for the whole name, and the parameter or parameters behind it.

    Several targets cut the tensor into equal parts along its first axis. `squeeze` says how many leading axes of
    length one the file's tensor has that the parameter lacks.
    """

    pattern: str
    targets: tuple[str, ...]
    squeeze: int = 0


@dataclass(frozen=True, slots=True)
class KeyMap:
    """All rows of one network, first match wins; `extras` are tensors that files may hold and the network leaves."""

    rows: tuple[Row, ...]
    extras: tuple[str, ...] = ()

    def _match(self, name: str) -> tuple[Row, re.Match[str]] | None:
        for row in self.rows:
            if match := re.fullmatch(row.pattern, name):
                return row, match
        return None

    def is_extra(self, name: str) -> bool:
        """Whether the network leaves this tensor on purpose."""
        return any(re.fullmatch(pattern, name) for pattern in self.extras)

    def targets(self, name: str) -> tuple[str, ...]:
        """The parameters that a file's tensor fills; none for a name that no row knows."""
        found = self._match(name)
        return tuple(found[1].expand(target) for target in found[0].targets) if found else ()

    def convert(self, name: str, tensor: Tensor | Stored) -> Iterator[tuple[str, Tensor | Stored]]:
        """The parameters and their values behind one tensor of a file.

        Raises:
            ModelError: a tensor that cannot be cut or squeezed as its row says.
        """
        found = self._match(name)
        if found is None:
            return
        row, match = found
        if any(length != 1 for length in tensor.shape[: row.squeeze]) or tensor.shape[row.squeeze] % len(row.targets):
            raise ModelError(f"the tensor {name} has the shape {list(tensor.shape)}, which this layout never has")
        if row.squeeze:
            values = tensor.dequantise(torch.float32) if isinstance(tensor, Stored) else tensor
            tensor = values.reshape(tensor.shape[row.squeeze :])
        for target, value in zip(row.targets, _cut(tensor, len(row.targets)), strict=True):
            yield match.expand(target), value

    def shapes(self, name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The parameters behind one tensor of a file, with the shapes that `convert` would give them.

        A shape that cannot be cut or squeezed stays as it is, so that it fits no parameter.
        """
        found = self._match(name)
        if found is None:
            return
        row, match = found
        own = shape[row.squeeze :] if all(length == 1 for length in shape[: row.squeeze]) else shape
        pieces = len(row.targets)
        if own and pieces > 1 and own[0] % pieces == 0:
            own = (own[0] // pieces, *own[1:])
        for target in row.targets:
            yield match.expand(target), own


def _cut(tensor: Tensor | Stored, parts: int) -> Iterator[Tensor | Stored]:
    """Equal parts along the first axis."""
    if parts == 1:
        yield tensor
        return
    step = tensor.shape[0] // parts
    for start in range(0, tensor.shape[0], step):
        stop = start + step
        yield tensor.rows(start, stop) if isinstance(tensor, Stored) else tensor[start:stop]


IDENTITY = KeyMap((Row(r".+", (r"\g<0>",)),))

# What programs put before the names of a transformer that is a part of something bigger.
_DIT_HOME = r"(?:model\.diffusion_model\.|diffusion_model\.|model\.)?"

# Diffusers' word for each layer outside of the blocks, and Wan's.
DIFFUSERS_DIT: Mapping[str, str] = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "proj_out": "head.head",
}

# The same inside a block.
DIFFUSERS_BLOCK: Mapping[str, str] = {
    **{f"attn{i}.to_{x}": f"{kind}_attn.{x}" for i, kind in ((1, "self"), (2, "cross")) for x in "qkv"},
    **{f"attn{i}.to_out.0": f"{kind}_attn.o" for i, kind in ((1, "self"), (2, "cross"))},
    **{f"attn{i}.norm_{x}": f"{kind}_attn.norm_{x}" for i, kind in ((1, "self"), (2, "cross")) for x in "qk"},
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "attn2.norm_added_k": "cross_attn.norm_k_img",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "norm2": "norm3",
}

DIT = KeyMap(
    rows=(
        # Diffusers' layout.
        *(
            Row(rf"{_DIT_HOME}{re.escape(theirs)}\.(weight|bias)", (rf"{ours}.\1",))
            for theirs, ours in DIFFUSERS_DIT.items()
        ),
        *(
            Row(rf"{_DIT_HOME}blocks\.(\d+)\.{re.escape(theirs)}\.(weight|bias)", (rf"blocks.\1.{ours}.\2",))
            for theirs, ours in DIFFUSERS_BLOCK.items()
        ),
        Row(rf"{_DIT_HOME}scale_shift_table", ("head.modulation",)),
        Row(rf"{_DIT_HOME}blocks\.(\d+)\.scale_shift_table", (r"blocks.\1.modulation",)),
        # Wan's own layout, MeiGen's audio layers included: the names are this package's.
        Row(rf"{_DIT_HOME}(.+)", (r"\1",)),
    ),
)

# What programs put before the names of a VAE.
_VAE_HOME = r"(?:model\.|vae\.|first_stage_model\.)?"

# Diffusers' word for each layer of a residual block, and its place in Wan's list.
_RESIDUAL: Mapping[str, str] = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
_LEVELS = range(4)
_PER_LEVEL = 4
"""Modules of a decoder's level in Wan's flat list: three residual blocks and what enlarges."""

VAE = KeyMap(
    rows=(
        # Diffusers' layout: its decoder is sorted into levels, Wan's is a flat list.
        Row(rf"{_VAE_HOME}quant_conv\.(.+)", (r"conv1.\1",)),
        Row(rf"{_VAE_HOME}post_quant_conv\.(.+)", (r"conv2.\1",)),
        Row(rf"{_VAE_HOME}(encoder|decoder)\.conv_in\.(.+)", (r"\1.conv1.\2",)),
        Row(rf"{_VAE_HOME}(encoder|decoder)\.norm_out\.(.+)", (r"\1.head.0.\2",)),
        Row(rf"{_VAE_HOME}(encoder|decoder)\.conv_out\.(.+)", (r"\1.head.2.\2",)),
        Row(rf"{_VAE_HOME}(encoder|decoder)\.mid_block\.attentions\.0\.(.+)", (r"\1.middle.1.\2",)),
        *(
            Row(
                rf"{_VAE_HOME}(encoder|decoder)\.mid_block\.resnets\.{i}\.{theirs}\.(.+)",
                (rf"\1.middle.{2 * i}.{ours}.\2",),
            )
            for i in range(2)
            for theirs, ours in _RESIDUAL.items()
        ),
        *(
            Row(rf"{_VAE_HOME}encoder\.down_blocks\.(\d+)\.{theirs}\.(.+)", (rf"encoder.downsamples.\1.{ours}.\2",))
            for theirs, ours in _RESIDUAL.items()
        ),
        Row(rf"{_VAE_HOME}encoder\.down_blocks\.(\d+)\.(resample|time_conv)\.(.+)", (r"encoder.downsamples.\1.\2.\3",)),
        *(
            Row(
                rf"{_VAE_HOME}decoder\.up_blocks\.{level}\.resnets\.{i}\.{theirs}\.(.+)",
                (rf"decoder.upsamples.{level * _PER_LEVEL + i}.{ours}.\1",),
            )
            for level in _LEVELS
            for i in range(_PER_LEVEL - 1)
            for theirs, ours in _RESIDUAL.items()
        ),
        *(
            Row(
                rf"{_VAE_HOME}decoder\.up_blocks\.{level}\.upsamplers\.0\.(.+)",
                (rf"decoder.upsamples.{level * _PER_LEVEL + _PER_LEVEL - 1}.\1",),
            )
            for level in _LEVELS
        ),
        # Wan's own layout.
        Row(rf"{_VAE_HOME}(.+)", (r"\1",)),
    ),
)

_BLOCK = r"network.encoder.block.\1.layer"

TEXT = KeyMap(
    rows=(
        # Wan's layout.
        Row(r"token_embedding\.weight", ("network.shared.weight",)),
        Row(r"norm\.weight", ("network.encoder.final_layer_norm.weight",)),
        Row(r"blocks\.(\d+)\.norm1\.weight", (rf"{_BLOCK}.0.layer_norm.weight",)),
        Row(r"blocks\.(\d+)\.attn\.([qkvo])\.weight", (rf"{_BLOCK}.0.SelfAttention.\2.weight",)),
        Row(
            r"blocks\.(\d+)\.pos_embedding\.embedding\.weight",
            (rf"{_BLOCK}.0.SelfAttention.relative_attention_bias.weight",),
        ),
        Row(r"blocks\.(\d+)\.norm2\.weight", (rf"{_BLOCK}.1.layer_norm.weight",)),
        Row(r"blocks\.(\d+)\.ffn\.gate\.0\.weight", (rf"{_BLOCK}.1.DenseReluDense.wi_0.weight",)),
        Row(r"blocks\.(\d+)\.ffn\.fc1\.weight", (rf"{_BLOCK}.1.DenseReluDense.wi_1.weight",)),
        Row(r"blocks\.(\d+)\.ffn\.fc2\.weight", (rf"{_BLOCK}.1.DenseReluDense.wo.weight",)),
        # llama.cpp's layout, as in GGUF files.
        Row(r"token_embd\.weight", ("network.shared.weight",)),
        Row(r"enc\.output_norm\.weight", ("network.encoder.final_layer_norm.weight",)),
        Row(r"enc\.blk\.(\d+)\.attn_([qkvo])\.weight", (rf"{_BLOCK}.0.SelfAttention.\2.weight",)),
        Row(
            r"enc\.blk\.(\d+)\.attn_rel_b\.weight",
            (rf"{_BLOCK}.0.SelfAttention.relative_attention_bias.weight",),
        ),
        Row(r"enc\.blk\.(\d+)\.attn_norm\.weight", (rf"{_BLOCK}.0.layer_norm.weight",)),
        Row(r"enc\.blk\.(\d+)\.ffn_gate\.weight", (rf"{_BLOCK}.1.DenseReluDense.wi_0.weight",)),
        Row(r"enc\.blk\.(\d+)\.ffn_up\.weight", (rf"{_BLOCK}.1.DenseReluDense.wi_1.weight",)),
        Row(r"enc\.blk\.(\d+)\.ffn_down\.weight", (rf"{_BLOCK}.1.DenseReluDense.wo.weight",)),
        Row(r"enc\.blk\.(\d+)\.ffn_norm\.weight", (rf"{_BLOCK}.1.layer_norm.weight",)),
        # Hugging Face's layout.
        Row(r"(?:shared\.weight|encoder\.(?:block|final_layer_norm)\..+)", (r"network.\g<0>",)),
    ),
    extras=(
        # The embedding under its second name, and the tokenizer that ComfyUI's files bring along.
        r"encoder\.embed_tokens\.weight",
        r"spiece_model",
    ),
)

_LAYER = r"network.encoder.layers.\1"

VISION = KeyMap(
    rows=(
        # open-clip's layout as Wan stores it, with or without the name of the tower.
        Row(r"(?:visual\.)?patch_embedding\.weight", ("network.embeddings.patch_embedding.weight",)),
        Row(r"(?:visual\.)?cls_embedding", ("network.embeddings.class_embedding",), squeeze=2),
        Row(r"(?:visual\.)?pos_embedding", ("network.embeddings.position_embedding.weight",), squeeze=1),
        Row(r"(?:visual\.)?pre_norm\.(weight|bias)", (r"network.pre_layrnorm.\1",)),
        Row(r"(?:visual\.)?post_norm\.(weight|bias)", (r"network.post_layernorm.\1",)),
        Row(r"(?:visual\.)?transformer\.(\d+)\.norm([12])\.(weight|bias)", (rf"{_LAYER}.layer_norm\2.\3",)),
        Row(
            r"(?:visual\.)?transformer\.(\d+)\.attn\.to_qkv\.(weight|bias)",
            (rf"{_LAYER}.self_attn.q_proj.\2", rf"{_LAYER}.self_attn.k_proj.\2", rf"{_LAYER}.self_attn.v_proj.\2"),
        ),
        Row(r"(?:visual\.)?transformer\.(\d+)\.attn\.proj\.(weight|bias)", (rf"{_LAYER}.self_attn.out_proj.\2",)),
        Row(r"(?:visual\.)?transformer\.(\d+)\.mlp\.0\.(weight|bias)", (rf"{_LAYER}.mlp.fc1.\2",)),
        Row(r"(?:visual\.)?transformer\.(\d+)\.mlp\.2\.(weight|bias)", (rf"{_LAYER}.mlp.fc2.\2",)),
        # Hugging Face's layout.
        Row(
            r"(?:vision_model\.)?"
            r"(embeddings\.(?:class_embedding|(?:patch|position)_embedding\.weight)"
            r"|(?:encoder|pre_layrnorm|post_layernorm)\..+)",
            (r"network.\1",),
        ),
    ),
    extras=(
        # The projection behind the tower and the text tower: only the tower's own tokens are used.
        r"(?:visual\.)?head",
        r"textual\..+",
        r"text_model\..+",
        r"log_scale",
        r"logit_scale",
        r"(?:visual|text)_projection\.weight",
        r"(?:vision_model\.)?embeddings\.position_ids",
    ),
)

SPEECH = KeyMap(
    rows=(
        # Weight normalisation under its older names.
        Row(
            r"(?:wav2vec2\.)?(encoder\.pos_conv_embed\.conv)\.weight_g",
            (r"network.\1.parametrizations.weight.original0",),
        ),
        Row(
            r"(?:wav2vec2\.)?(encoder\.pos_conv_embed\.conv)\.weight_v",
            (r"network.\1.parametrizations.weight.original1",),
        ),
        Row(r"(?:wav2vec2\.)?((?:feature_extractor|feature_projection|encoder)\..+)", (r"network.\1",)),
    ),
    extras=(
        # What wav2vec2 was pre-trained or fine-tuned with, beyond the encoder.
        r"(?:wav2vec2\.)?masked_spec_embed",
        r"lm_head\.(?:weight|bias)",
        r"quantizer\..+",
        r"project_(?:hid|q)\.(?:weight|bias)",
    ),
)
