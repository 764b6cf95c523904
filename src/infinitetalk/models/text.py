"""The text encoder: umT5, on the tokens that a prompt really has."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from infinitetalk.core.configs import TextConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.layers import Lent, Linear, replace_linears
from infinitetalk.ops.plain import Plain


def _hugging_face(config: TextConfig) -> UMT5Config:
    """The same network in transformers' words."""
    if config.shared_pos:
        raise ModelError("text: shared_pos must be false; umT5 has relative positions of its own in every layer")
    if config.dim_attn % config.num_heads:
        raise ModelError(f"text: dim_attn {config.dim_attn} must be a multiple of num_heads {config.num_heads}")
    return UMT5Config(
        vocab_size=config.vocab,
        d_model=config.dim,
        d_kv=config.dim_attn // config.num_heads,
        d_ff=config.dim_ffn,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        relative_attention_num_buckets=config.num_buckets,
        relative_attention_max_distance=128,
        layer_norm_epsilon=1e-6,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )


class TextEncoder(nn.Module):
    """umT5's encoder: gated GELU, unscaled attention, relative positions in every layer.

    Raises:
        ModelError: a configuration that is not umT5's.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.dtype: torch.dtype | None = None
        """What is computed in; None for what the table of tokens is held in."""
        self.network = UMT5EncoderModel(_hugging_face(config))
        # Prompts have 512 tokens at most, where plain attention is quick and takes the position bias as it is.
        self.network.set_attn_implementation("eager")
        replace_linears(self.network)

    def lend(self, walk: Callable[[], Iterator[nn.Module]], device: torch.device) -> list[nn.Module]:
        """Gives its layers away, and takes them from now on from `walk`, one after the other, on a device.

        The table of tokens, two of umT5-XXL's eleven GB, stays where it is.
        """
        layers = list(self.network.encoder.block)
        self.network.encoder.block = Lent(walk, len(layers))
        self.network.encoder.final_layer_norm.to(device)
        return layers

    def compute_in(self, dtype: torch.dtype) -> None:
        """Computes in another number format than the one its matrices are held in.

        umT5's states are too large for float16, so a card without bfloat16 computes in float32.
        """
        self.dtype = dtype
        for layer in self.network.modules():
            if isinstance(layer, Linear) and layer.stored is None and layer.weight.dtype != dtype:
                layer.hold(Plain(layer.weight))
            elif not isinstance(layer, Linear | nn.ModuleList) and layer is not self.network.shared:
                for name, value in layer.named_parameters(recurse=False):
                    setattr(layer, name, nn.Parameter(value.to(dtype), requires_grad=False))

    def encode_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encodes token numbers.

        Args:
            ids: [B, L] token numbers.
            mask: [B, L], 1 where a token is real and 0 where it pads.

        Returns:
            [B, L, dim]; rows with mask 0 mean nothing.
        """
        embedded = self.network.shared(ids.to(self.network.shared.weight.device))
        # The table is looked up where it lies, which may be in main memory; all else happens where the layers are.
        embedded = embedded.to(self.device, self.dtype or embedded.dtype)
        encoded: Tensor = self.network(inputs_embeds=embedded, attention_mask=mask.to(self.device)).last_hidden_state
        return encoded

    @property
    def device(self) -> torch.device:
        """Where its layers compute."""
        where: torch.device = self.network.encoder.final_layer_norm.weight.device
        return where

    @torch.no_grad()
    def encode(self, ids: list[int]) -> Tensor:
        """Encodes one prompt's tokens, [L] → [L, dim], without padding: padded rows would change nothing."""
        tokens = torch.tensor([ids])
        return self.encode_ids(tokens, torch.ones_like(tokens))[0]
