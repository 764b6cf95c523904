"""The transformer block of the audio DiT: self-attention, text and picture cross-attention, audio, feed-forward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.audio_attention import AudioCrossAttention, Margins, attention_to_places
from infinitetalk.models.layers import KeysValues, LayerNorm, Linear, RMSNorm, in_float32, modulate
from infinitetalk.ops.attention import Kernel, sdpa
from infinitetalk.ops.eight import Eight, Operand
from infinitetalk.ops.parallel import ALONE, Look, Parallel
from infinitetalk.ops.regions import Known, Norm, Regions
from infinitetalk.ops.rope import Grid, Rotation


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
    """What holds for all blocks and branches of one evaluation.

    Where several processes share the tokens, each has a stretch of them, which may begin and end within a frame; all
    but the self-attention knows of no others.
    """

    grid: Grid
    """Of all tokens."""
    rotation: Rotation
    """Of the own tokens."""
    dtype: torch.dtype
    """Of the matrix products; the tokens between blocks may be wider."""
    at_once: int
    """Latent frames whose tokens pass through a block's linear layers together."""
    kernel: Kernel = sdpa
    """What computes all attention."""
    parallel: Parallel = ALONE
    """With whom the tokens are shared."""
    regions: Regions = Regions()
    """What computes all that lies between products."""

    @property
    def own(self) -> slice:
        """The tokens of this process among all of them."""
        return self.parallel.span(self.grid.tokens)

    @property
    def whole(self) -> bool:
        """Whether all own tokens pass through the linear layers together."""
        own = self.own
        return bool(self.at_once * self.grid.frame_tokens >= own.stop - own.start)

    def parts(self) -> list[slice]:
        """The own tokens, at most `at_once` latent frames at a time."""
        own, step = self.own, self.at_once * self.grid.frame_tokens
        first = own.start // self.grid.frame_tokens * self.grid.frame_tokens
        cuts = [own.start, *range(first + step, own.stop, step), own.stop]
        return [slice(begin - own.start, end - own.start) for begin, end in pairwise(cuts)]

    def frames(self, part: slice | None = None) -> tuple[slice, Margins]:
        """The latent frames that some of the own tokens lie in, counted from the first of all the own tokens' frames,
        and how many tokens of the first and the last one are not among them."""
        own, each = self.own, self.grid.frame_tokens
        begin, end = (own.start, own.stop) if part is None else (own.start + part.start, own.start + part.stop)
        first, last = begin // each, -(-end // each)
        zero = own.start // each
        return slice(first - zero, last - zero), (begin - first * each, last * each - end)


class Told(NamedTuple):
    """What one block is told in one branch.

    `text` and `picture`: [B, S, heads, d]; `sound`: [B, T, S, heads, d], of the latent frames of the own tokens.
    `places`: which of the first latent frame's
    tokens show each person and, last, the background: [B, P + 1, rows * columns] of zeros and ones; None for one
    person.
    """

    text: Known | None
    picture: Known | None
    sound: KeysValues
    places: Tensor | None


class Attended(NamedTuple):
    """What the self-attention of a block found: it is the same whatever the block is told."""

    answer: Tensor
    """[B, L, dim]."""
    seen: Tensor | None
    """Where tokens look to, if several people are told."""


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

    def project(self, x: Operand, rotation: Rotation, regions: Regions) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, L, heads, d] of tokens [B, L, dim]."""
        v = self.v(x).unflatten(-1, (self.heads, -1))
        q = regions.turned(self.q(x), self.norm_q.weight, self.norm_q.eps, rotation)
        k = regions.turned(self.k(x), self.norm_k.weight, self.norm_k.eps, rotation)
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

    def forward(self, x: Operand, told: Told, kernel: Kernel, regions: Regions) -> Tensor:
        q = regions.root(self.q(x), self.norm_q.weight, self.norm_q.eps).unflatten(-1, (self.heads, -1))
        known = [one for one in (told.text, told.picture) if one is not None]
        answer: Tensor = self.o(regions.told(q, known, kernel))
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

    def forward(
        self, x: Tensor, time: Tensor, setting: Setting, told: Told, attended: Attended | None = None
    ) -> Tensor:
        """Transforms tokens x [B, L, dim] at the time embedding [B, 6, dim] float32.

        Args:
            attended: what `attend` found of the same tokens, if it was asked.
        """
        shift1, scale1, *later = self._modulated(time)
        if attended is None:
            attended = self._attend(x, shift1, scale1, setting, told.places)
        answer, seen = attended
        del attended
        stands = None
        if seen is not None and told.places is not None:
            stands = self.audio_cross_attn.stands(seen)[:, setting.own]
        if setting.whole:
            return self._finish(x, answer, later, told, setting, stands=stands, edges=setting.frames()[1])
        finished = torch.empty_like(x)
        for part in setting.parts():
            frames, edges = setting.frames(part)
            sound = KeysValues(told.sound.keys[:, frames], told.sound.values[:, frames])
            now, here = told._replace(sound=sound), None if stands is None else stands[:, part]
            finished[:, part] = self._finish(x[:, part], answer[:, part], later, now, setting, stands=here, edges=edges)
        return finished

    def attend(self, x: Tensor, time: Tensor, setting: Setting, places: Tensor | None) -> Attended:
        """The self-attention alone, for several calls of `forward` with the same tokens."""
        shift, scale, *_ = self._modulated(time)
        return self._attend(x, shift, scale, setting, places)

    def _modulated(self, time: Tensor) -> tuple[Tensor, ...]:
        return (self.modulation.float() + time).chunk(6, dim=1)

    def _attend(self, x: Tensor, shift: Tensor, scale: Tensor, setting: Setting, places: Tensor | None) -> Attended:
        q, k, v = self._project(x, shift, scale, setting)
        look: Look | None = None
        if places is not None:
            look = partial(attention_to_places, places=places, heads=self.self_attn.heads, kernel=setting.kernel)
        answer, seen = setting.parallel.attend(
            q, k, v, count=setting.grid.tokens, kernel=setting.kernel, in_place=not setting.whole, look=look
        )
        return Attended(answer.flatten(-2), seen)

    def _project(self, x: Tensor, shift: Tensor, scale: Tensor, setting: Setting) -> list[Tensor]:
        """Queries, keys and values of the own tokens, some frames at a time."""
        norm = Norm(scale, shift, self.norm1.eps, modulated=True)
        if setting.whole:
            calm = setting.regions.normed(x, norm, setting.dtype)
            return [*self.self_attn.project(calm, setting.rotation, setting.regions)]
        whole: list[Tensor] = []
        for part in setting.parts():
            calm = setting.regions.normed(x[:, part], norm, setting.dtype)
            made = self.self_attn.project(calm, setting.rotation.part(part), setting.regions)
            whole = whole or [piece.new_empty(x.shape[0], x.shape[1], *piece.shape[2:]) for piece in made]
            for target, piece in zip(whole, made, strict=True):
                target[:, part] = piece
        return whole

    def _finish(
        self, x: Tensor, answer: Tensor, modulation: Sequence[Tensor], told: Told, setting: Setting, *,
        stands: Tensor | None, edges: Margins,
    ) -> Tensor:  # fmt: skip
        """All that follows self-attention: no token looks at another one any more."""
        regions, dtype = setting.regions, setting.dtype
        gate1, shift2, scale2, gate2 = modulation
        first = _weights(self.norm_x if self.norm3 is None else self.norm3)
        x, calm = regions.joined_normed(x, self.self_attn.o(regions.operand(answer)), gate1, first, dtype)
        if self.cross_attn is not None:
            read = self.cross_attn(calm, told, setting.kernel, regions)
            del calm
            x, calm = regions.joined_normed(x, read, None, _weights(self.norm_x), dtype)
            del read
        heard = self.audio_cross_attn(calm, told.sound, stands, setting.kernel, regions, edges=edges)
        del calm
        x, calm = regions.joined_normed(x, heard, None, Norm(scale2, shift2, self.norm2.eps, modulated=True), dtype)
        del heard
        widen, _, narrow = self.ffn
        hidden = regions.gelu(widen(calm))
        del calm
        return regions.joined(x, narrow(hidden), gate2)

    def hold_eight(self, eight: Eight) -> None:
        """Packs the matrices of every step for products in 8 bits.

        Raises:
            ValueError: a matrix that 8-bit products do not take.
        """
        for name, layer in self.named_modules():
            if isinstance(layer, Linear) and name not in USES:
                layer.hold_eight(eight)


def _weights(norm: LayerNorm) -> Norm:
    """A norm with trained gain and offset."""
    return Norm(norm.weight, norm.bias, norm.eps, modulated=False)


VELOCITY = "velocity"
PREDICTIONS = (VELOCITY, "video")
NOISE_ALONE = 1000
"""The timestep at which nothing of the video is left."""
LEAST_NOISE = 0.1
"""Share of noise below which a network that names the clean video is not asked for more: velocities would explode."""


def velocities(config: DiTConfig, named: Sequence[Tensor], latent: Tensor, timestep: Tensor) -> list[Tensor]:
    """What the head named [B, C, T, h, w], as velocities at noisy latents [B, C, T, h, w] and timesteps [B] or [].

    Where it named the clean video, they are those that lead there in what is left of the way.
    """
    if config.prediction == VELOCITY:
        return [*named]
    level = (timestep.to(latent.device).float() / NOISE_ALONE).clamp(min=LEAST_NOISE)
    level = level.view(-1, *(1,) * (latent.ndim - 1))
    return [(latent.float() - clean) / level for clean in named]


class Head(nn.Module):
    """Tokens → patches of what the configuration says that it names (velocity or clean video), in float32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        if config.prediction not in PREDICTIONS:
            raise ModelError(f"prediction {config.prediction!r} must be one of {', '.join(PREDICTIONS)}")
        frames, rows, columns = config.patch_size
        self.norm = LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = Linear(config.dim, frames * rows * columns * config.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor, setting: Setting) -> Tensor:
        """Reads tokens [B, L, dim] at the time embedding [B, dim]: [B, L, patch * out_dim] float32."""
        shift, scale = (self.modulation.float() + time.unsqueeze(1)).chunk(2, dim=1)
        made = [in_float32(modulate(self.norm(x[:, part]), shift, scale), self.head) for part in setting.parts()]
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)
