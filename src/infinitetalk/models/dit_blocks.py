"""The transformer block of the audio DiT: self-attention, text and picture cross-attention, audio, feed-forward."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.models.audio_attention import AudioCrossAttention, Voices, attention_to_places
from infinitetalk.models.layers import LayerNorm, Linear, RMSNorm, in_float32, modulate
from infinitetalk.ops.attention import attention
from infinitetalk.ops.rope import Grid, Rotation, rotate


class Positions(NamedTuple):
    """Where the video tokens stand."""

    grid: Grid
    rotation: Rotation


class Context(NamedTuple):
    """What the tokens are told besides sound: text [B, text_len, dim] and picture [B, clip_tokens, dim] tokens."""

    text: Tensor | None
    picture: Tensor | None


class SelfAttention(nn.Module):
    """Attention among all video tokens, with normalised queries and keys and rotary positions."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.num_heads
        self.q = Linear(dim, dim)
        self.k = Linear(dim, dim)
        self.v = Linear(dim, dim)
        self.o = Linear(dim, dim)
        self.norm_q = RMSNorm(dim, config.eps)
        self.norm_k = RMSNorm(dim, config.eps)

    def forward(self, x: Tensor, rotation: Rotation, places: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns the answer [B, L, dim] and, where places are given, every token's attention to them [B, P + 1, L]."""
        shape = (self.heads, -1)
        v = self.v(x).unflatten(-1, shape)
        q = rotate(self.norm_q(self.q(x)).unflatten(-1, shape), rotation).to(v.dtype)
        k = rotate(self.norm_k(self.k(x)).unflatten(-1, shape), rotation).to(v.dtype)
        answer = self.o(attention(q, k, v).flatten(-2))
        return answer, None if places is None else attention_to_places(q, k, places)


class CrossAttention(nn.Module):
    """Video tokens attend to text tokens and, apart from them, to picture tokens; the answers add up."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.num_heads
        self.q = Linear(dim, dim)
        self.o = Linear(dim, dim)
        self.norm_q = RMSNorm(dim, config.eps)
        if config.text_dim:
            self.k = Linear(dim, dim)
            self.v = Linear(dim, dim)
            self.norm_k = RMSNorm(dim, config.eps)
        if config.clip_dim:
            self.k_img = Linear(dim, dim)
            self.v_img = Linear(dim, dim)
            self.norm_k_img = RMSNorm(dim, config.eps)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        shape = (self.heads, -1)
        q = self.norm_q(self.q(x)).unflatten(-1, shape)
        answers = []
        if context.text is not None:
            k = self.norm_k(self.k(context.text)).unflatten(-1, shape)
            answers.append(attention(q, k, self.v(context.text).unflatten(-1, shape)))
        if context.picture is not None:
            k = self.norm_k_img(self.k_img(context.picture)).unflatten(-1, shape)
            answers.append(attention(q, k, self.v_img(context.picture).unflatten(-1, shape)))
        answer: Tensor = self.o(sum(answers[1:], answers[0]).flatten(-2))
        return answer


class Block(nn.Module):
    """One transformer block; gates and modulation are float32 whatever the weights are."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm1 = LayerNorm(dim, config.eps, elementwise_affine=False)
        self.self_attn = SelfAttention(config)
        self.cross_attn: CrossAttention | None = None
        self.norm3: LayerNorm | None = None
        if config.text_dim or config.clip_dim:
            self.norm3 = LayerNorm(dim, config.eps)
            self.cross_attn = CrossAttention(config)
        self.norm2 = LayerNorm(dim, config.eps, elementwise_affine=False)
        self.ffn = nn.Sequential(Linear(dim, config.ffn_dim), nn.GELU(approximate="tanh"), Linear(config.ffn_dim, dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        self.audio_cross_attn = AudioCrossAttention(config)
        self.norm_x = LayerNorm(dim, config.eps)

    def forward(self, x: Tensor, time: Tensor, positions: Positions, context: Context, voices: Voices) -> Tensor:
        """Transforms tokens x [B, L, dim] at the time embedding [B, 6, dim] float32."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation.float() + time).chunk(6, dim=1)
        calm = modulate(self.norm1(x), shift1, scale1).to(x.dtype)
        answer: Tensor
        answer, attention_map = self.self_attn(calm, positions.rotation, voices.places)
        x = (x + answer * gate1).to(x.dtype)
        if self.cross_attn is not None and self.norm3 is not None:
            x = x + self.cross_attn(self.norm3(x), context)
        x = x + self.audio_cross_attn(self.norm_x(x), voices, positions.grid, attention_map)
        calm = modulate(self.norm2(x), shift2, scale2).to(x.dtype)
        answer = self.ffn(calm)
        return (x + answer * gate2).to(x.dtype)


class Head(nn.Module):
    """Tokens → patches of velocity, in float32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        frames, rows, columns = config.patch_size
        self.norm = LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = Linear(config.dim, frames * rows * columns * config.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Reads tokens [B, L, dim] at the time embedding [B, dim]: [B, L, patch * out_dim] float32."""
        shift, scale = (self.modulation.float() + time.unsqueeze(1)).chunk(2, dim=1)
        return in_float32(modulate(self.norm(x), shift, scale), self.head)
