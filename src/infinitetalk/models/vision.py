"""The picture encoder: CLIP's vision tower, up to the block before its last."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from infinitetalk.core.configs import VisionConfig
from infinitetalk.models.layers import replace_linears

# The mean and spread of the pictures that CLIP was trained on, per channel, for values from 0 to 1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def _hugging_face(config: VisionConfig) -> CLIPVisionConfig:
    """The same network in transformers' words."""
    return CLIPVisionConfig(
        hidden_size=config.dim,
        intermediate_size=config.dim * config.mlp_ratio,
        projection_dim=config.out_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        attention_dropout=0.0,
    )


class VisionEncoder(nn.Module):
    """CLIP's picture tower with exact GELU (open-clip's ViT-H/14 by default)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.network = CLIPVisionModel(_hugging_face(config))
        self.network.set_attn_implementation("sdpa")
        replace_linears(self.network)

    def pixels(self, picture: Tensor) -> Tensor:
        """Brings a picture [1, 3, 1, H, W] or [1, 3, H, W] in [-1, 1] to CLIP's size and scale, float32 [1, 3, S, S].

        The picture is stretched to a square, and shrunk without smoothing: the video network was trained that way.
        """
        flat = picture.flatten(1, 2) if picture.ndim == 5 else picture
        side = self.config.image_size
        square = F.interpolate(flat.float(), size=(side, side), mode="bicubic", align_corners=False)
        mean, std = (torch.tensor(values, device=square.device).reshape(1, 3, 1, 1) for values in (MEAN, STD))
        return (square * 0.5 + 0.5 - mean) / std

    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens before the last block.

        Args:
            pixels: [B, 3, S, S] as `pixels` gives them.

        Returns:
            [B, tokens, dim]; the first token stands for the whole picture.
        """
        states = self.network(pixel_values=pixels.to(self.network.dtype), output_hidden_states=True).hidden_states
        before_last: Tensor = states[-2]
        return before_last

    @torch.no_grad()
    def encode(self, picture: Tensor) -> Tensor:
        """A picture [1, 3, 1, H, W] or [1, 3, H, W] in [-1, 1] as tokens [1, tokens, dim]."""
        tokens: Tensor = self(self.pixels(picture.to(self.network.device)))
        return tokens
