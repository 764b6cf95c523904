"""Layers that the transformer's parts share; norms, modulation and the time embedding compute in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis: normalised in float32, scaled in the input's dtype."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, computed in float32 and returned in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


def in_float32(x: Tensor, *layers: nn.Module) -> Tensor:
    """Applies linear layers and activations in float32, under autocast too."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        for layer in layers:
            x = F.linear(x, layer.weight.float(), layer.bias.float()) if isinstance(layer, nn.Linear) else layer(x)
        return x


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift in float32."""
    return x.float() * (1 + scale) + shift


def sinusoid(positions: Tensor, dim: int) -> Tensor:
    """Cosines, then sines, of positions [B] at dim / 2 frequencies: [B, dim] float32."""
    exact = torch.float32 if positions.device.type == "mps" else torch.float64  # MPS has no float64
    steps = torch.arange(dim // 2, device=positions.device, dtype=exact) / (dim // 2)
    angles = torch.outer(positions.to(exact), 10_000.0**-steps)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()
