"""The text encoder: umT5, on the tokens that a prompt really has."""

import torch
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from infinitetalk.core.configs import TextConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.layers import replace_linears


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
        self.network = UMT5EncoderModel(_hugging_face(config))
        # Prompts have 512 tokens at most, where plain attention is quick and takes the position bias as it is.
        self.network.set_attn_implementation("eager")
        replace_linears(self.network)

    def encode_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encodes token numbers.

        Args:
            ids: [B, L] token numbers.
            mask: [B, L], 1 where a token is real and 0 where it pads.

        Returns:
            [B, L, dim]; rows with mask 0 mean nothing.
        """
        encoded: Tensor = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        return encoded

    @torch.no_grad()
    def encode(self, ids: list[int]) -> Tensor:
        """Encodes one prompt's tokens, [L] → [L, dim], without padding: padded rows would change nothing."""
        tokens = torch.tensor([ids], device=self.network.device)
        return self.encode_ids(tokens, torch.ones_like(tokens))[0]
