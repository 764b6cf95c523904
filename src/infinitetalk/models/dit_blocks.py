"""The transformer block of the audio DiT: self-attention, text and picture cross-attention, audio, feed-forward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.models.audio_attention import AudioCrossAttention, attention_to_places
from infinitetalk.models.layers import KeysValues, LayerNorm, Linear, RMSNorm, in_float32, modulate
from infinitetalk.ops.attention import Kernel, attention, attention_in_place, sdpa
from infinitetalk.ops.rope import Grid, Rotation, rotate


class Use(Enum):
    """What a block's weights are needed for: every step, or once to prepare the keys and values of an input."""

    STEP = "step"
    TEXT = "text"
    PICTURE = "picture"
    SOUND = "sound"


USES: Mapping[str, Use] = {
    "cross_attn.k": Use.TEXT,
    "cross_attn.v": Use.TEXT,
    "cross_attn.norm_k": Use.TEXT,
    "cross_attn.k_img": Use.PICTURE,
    "cross_attn.v_img": Use.PICTURE,
    "cross_attn.norm_k_img": Use.PICTURE,
    "audio_cross_attn.kv_linear": Use.SOUND,
}
"""The modules of a block that no step needs, by their names in the block."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for all blocks and branches of one evaluation."""

    grid: Grid
    rotation: Rotation
    dtype: torch.dtype
    """Of the matrix products; the tokens between blocks may be wider."""
    at_once: int
    """Latent frames whose tokens pass through a block's linear layers together."""
    kernel: Kernel = sdpa
    """What computes all attention."""

    def parts(self) -> list[slice]:
        """The latent frames, `at_once` at a time."""
        return [slice(first, first + self.at_once) for first in range(0, self.grid.frames, self.at_once)]

    def tokens(self, frames: slice) -> slice:
        """The tokens of some latent frames."""
        return slice(frames.start * self.grid.frame_tokens, frames.stop * self.grid.frame_tokens)


class Told(NamedTuple):
    """What one block is told in one branch.

    `text` and `picture`: [B, S, heads, d]; `sound`: [B, T, S, heads, d]. `places`: which of the first latent frame's
    tokens show each person and, last, the background: [B, P + 1, rows * columns] of zeros and ones; None for one
    person.
    """

    text: KeysValues | None
    picture: KeysValues | None
    sound: KeysValues
    places: Tensor | None


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

    def project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, L, heads, d] of tokens [B, L, dim]."""
        shape = (self.heads, -1)
        v = self.v(x).unflatten(-1, shape)
        q = rotate(self.norm_q(self.q(x)).unflatten(-1, shape), rotation).to(v.dtype)
        k = rotate(self.norm_k(self.k(x)).unflatten(-1, shape), rotation).to(v.dtype)
        return q, k, v


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

    def read(self, text: Tensor) -> KeysValues:
        """Keys and values of text tokens [B, S, dim]."""
        shape = (self.heads, -1)
        return KeysValues(self.norm_k(self.k(text)).unflatten(-1, shape), self.v(text).unflatten(-1, shape))

    def look(self, picture: Tensor) -> KeysValues:
        """Keys and values of picture tokens [B, S, dim]."""
        shape = (self.heads, -1)
        keys = self.norm_k_img(self.k_img(picture)).unflatten(-1, shape)
        return KeysValues(keys, self.v_img(picture).unflatten(-1, shape))

    def forward(self, x: Tensor, told: Told, kernel: Kernel) -> Tensor:
        q = self.norm_q(self.q(x)).unflatten(-1, (self.heads, -1))
        answers = [attention(q, *known, kernel=kernel) for known in (told.text, told.picture) if known is not None]
        answer: Tensor = self.o(sum(answers[1:], answers[0]).flatten(-2))
        return answer


class Block(nn.Module):
    """One transformer block; norms, gates and modulation are float32 whatever the weights are.

    The tokens between blocks may be of a wider type than the matrix products, which float16 needs: it ends at 65504,
    and some channels of trained networks do not.
    """

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

    def forward(self, x: Tensor, time: Tensor, setting: Setting, told: Told) -> Tensor:
        """Transforms tokens x [B, L, dim] at the time embedding [B, 6, dim] float32."""
        shift1, scale1, *later = (self.modulation.float() + time).chunk(6, dim=1)
        q, k, v = self._project(x, shift1, scale1, setting)
        stands = None
        if told.places is not None:
            stands = self.audio_cross_attn.stands(attention_to_places(q, k, told.places, kernel=setting.kernel))
        if setting.at_once >= setting.grid.frames:
            answer = attention(q, k, v, kernel=setting.kernel).flatten(-2)
            del q, k, v
            return self._finish(x, answer, later, told, setting, stands=stands)
        answer = attention_in_place(q, k, v, kernel=setting.kernel).flatten(-2)
        del q, k, v
        finished = torch.empty_like(x)
        for frames in setting.parts():
            part = setting.tokens(frames)
            sound = KeysValues(told.sound.keys[:, frames], told.sound.values[:, frames])
            now, here = told._replace(sound=sound), None if stands is None else stands[:, part]
            finished[:, part] = self._finish(x[:, part], answer[:, part], later, now, setting, stands=here)
        return finished

    def _project(self, x: Tensor, shift: Tensor, scale: Tensor, setting: Setting) -> list[Tensor]:
        """Queries, keys and values of all tokens, some frames at a time."""
        if setting.at_once >= setting.grid.frames:
            calm = modulate(self.norm1(x), shift, scale).to(setting.dtype)
            return [*self.self_attn.project(calm, setting.rotation)]
        whole: list[Tensor] = []
        for frames in setting.parts():
            part = setting.tokens(frames)
            calm = modulate(self.norm1(x[:, part]), shift, scale).to(setting.dtype)
            made = self.self_attn.project(calm, setting.rotation.part(part))
            whole = whole or [piece.new_empty(x.shape[0], x.shape[1], *piece.shape[2:]) for piece in made]
            for target, piece in zip(whole, made, strict=True):
                target[:, part] = piece
        return whole

    def _finish(
        self, x: Tensor, answer: Tensor, modulation: Sequence[Tensor], told: Told, setting: Setting, *,
        stands: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """All that follows self-attention, for whole frames of tokens: no token looks at another one any more."""
        gate1, shift2, scale2, gate2 = modulation
        x = (x + self.self_attn.o(answer) * gate1).to(x.dtype)
        if self.cross_attn is not None and self.norm3 is not None:
            x = x + self.cross_attn(self.norm3(x).to(setting.dtype), told, setting.kernel)
        x = x + self.audio_cross_attn(self.norm_x(x).to(setting.dtype), told.sound, stands, setting.kernel)
        calm = modulate(self.norm2(x), shift2, scale2).to(setting.dtype)
        fed: Tensor = self.ffn(calm)
        return (x + fed * gate2).to(x.dtype)


class Head(nn.Module):
    """Tokens → patches of velocity, in float32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        frames, rows, columns = config.patch_size
        self.norm = LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = Linear(config.dim, frames * rows * columns * config.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor, setting: Setting) -> Tensor:
        """Reads tokens [B, L, dim] at the time embedding [B, dim]: [B, L, patch * out_dim] float32."""
        shift, scale = (self.modulation.float() + time.unsqueeze(1)).chunk(2, dim=1)
        parts = [setting.tokens(frames) for frames in setting.parts()]
        made = [in_float32(modulate(self.norm(x[:, part]), shift, scale), self.head) for part in parts]
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)
