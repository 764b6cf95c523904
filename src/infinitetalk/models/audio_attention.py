"""How sound reaches the video tokens: features become tokens per latent frame, and each frame's pixels attend to them.

With one person every pixel hears that person. With several, each pixel's own attention to the people's places in the
first latent frame tells whom it belongs to, and a one-dimensional rotary embedding keeps the voices apart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.layers import KeysValues, Linear
from infinitetalk.ops.attention import Kernel, attention, sdpa
from infinitetalk.ops.eight import Operand
from infinitetalk.ops.regions import Regions
from infinitetalk.ops.rope import line_rotation, rotate

Margins = tuple[int, int]
"""Tokens that are lacking before and behind some tokens for these to be whole latent frames."""


class AudioProjection(nn.Module):
    """Speech features around each video frame → `context_tokens` tokens per latent frame."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.window = config.audio_window
        self.scale = config.vae_scale
        self.features = config.audio_blocks, config.audio_channels
        self.tokens = config.context_tokens
        frame = config.audio_blocks * config.audio_channels
        hidden = config.intermediate_dim
        self.proj1 = Linear(config.audio_window * frame, hidden)
        self.proj1_vf = Linear((config.audio_window + config.vae_scale - 1) * frame, hidden)
        self.proj2 = Linear(hidden, hidden)
        self.proj3 = Linear(hidden, config.context_tokens * config.output_dim)
        self.norm = nn.LayerNorm(config.output_dim)

    def forward(self, audio: Tensor) -> Tensor:
        """Projects windows of features [N, F, window, blocks, channels], F = 1 + scale * (T - 1).

        Returns:
            [N, T, tokens, output_dim].

        Raises:
            ModelError: features of another shape than this network was made for.
        """
        if (audio.shape[2], *audio.shape[3:]) != (self.window, *self.features) or (audio.shape[1] - 1) % self.scale:
            need = f"[people, {self.scale}n+1, {self.window}, {self.features[0]}, {self.features[1]}]"
            raise ModelError(f"audio features of shape {list(audio.shape)} do not fit this network, which takes {need}")
        first = torch.relu(self.proj1(audio[:, :1].flatten(2)))
        later = torch.relu(self.proj1_vf(self._later_frames(audio[:, 1:])))
        hidden = torch.relu(self.proj2(torch.cat([first, later], dim=1)))
        tokens = self.proj3(hidden).unflatten(-1, (self.tokens, -1)).float()
        with torch.autocast(audio.device.type, enabled=False):
            norm = self.norm
            return F.layer_norm(tokens, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)

    def _later_frames(self, audio: Tensor) -> Tensor:
        """The features behind each latent frame after the first: [N, T - 1, (window + scale - 1) * features].

        Its first video frame brings the past half of its window, its last one the future half, those between
        themselves alone; each half includes the centre.
        """
        groups = audio.view(audio.shape[0], audio.shape[1] // self.scale, self.scale, *audio.shape[2:])
        centre = self.window // 2
        past = groups[:, :, 0, : centre + 1]
        between = groups[:, :, 1:-1, centre]
        future = groups[:, :, -1, centre:]
        return torch.cat([past, between, future], dim=2).flatten(2)


def people_centres(people: int, class_range: int, interval: int) -> Tensor:
    """Rotary positions [P] of the people's voices; the background stands at class_range / 2.

    Two people stand at the ends of the range, as the released weights were trained. More are experimental: they are
    spread evenly, and an odd number leaves the last place free, so that none coincides with the background.
    """
    places = people + people % 2
    return torch.linspace(interval / 2, class_range - interval / 2, places)[:people]


def place_positions(attention_map: Tensor, class_range: int, interval: int) -> Tensor:
    """Rotary position of every video token.

    Args:
        attention_map: [B, P + 1, L], how much each token attends to each person and, last, to the background.

    Returns:
        [B, L]: within `interval` around its person's centre (more attention, higher), or the background's position.
    """
    people = attention_map[:, :-1]
    low, high = people.amin(dim=2, keepdim=True), people.amax(dim=2, keepdim=True)
    share = (people - low) / (high - low + 1e-8)
    centres = people_centres(people.shape[1], class_range, interval).to(share).view(1, -1, 1)
    positions = F.pad(share * interval + (centres - interval / 2), (0, 0, 0, 1), value=class_range // 2)
    return positions.gather(1, attention_map.argmax(dim=1, keepdim=True)).squeeze(1)


@torch.no_grad()
def attention_to_places(
    q: Tensor, k: Tensor, first: int = 0, *, places: Tensor, heads: int, kernel: Kernel = sdpa
) -> Tensor:
    """What some heads add to the mean attention of every video token to each place in the first latent frame.

    The places enter attention as value channels, so that no [L, rows * columns] weights are kept.

    Args:
        q, k: [B, L, some heads, d], after rotary embedding.
        first: number of the first of these heads.
        places: [B, P + 1, rows * columns].
        heads: how many there are in all.
        kernel: what computes attention.

    Returns:
        [B, P + 1, L] float32.
    """
    used = max(1, heads // 2 * 2)  # the trained function averages two groups of heads // 2 heads
    here = min(q.shape[2], used - first)
    if here <= 0:
        return places.new_zeros(*places.shape[:2], q.shape[1])
    keys = k[:, : places.shape[2], :here]
    values = places.transpose(1, 2).unsqueeze(2).expand(-1, -1, here, -1).to(q.dtype)
    share = attention(q[:, :, :here], keys, values, kernel=kernel).float().sum(dim=2).transpose(1, 2) / used
    return share / places.float().sum(dim=2).clamp_min(1).unsqueeze(2)


class AudioCrossAttention(nn.Module):
    """Video tokens of each latent frame attend to that frame's audio tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.head_dim = config.dim // config.num_heads
        self.class_range = config.class_range
        self.interval = config.class_interval
        self.q_linear = Linear(config.dim, config.dim)
        self.kv_linear = Linear(config.output_dim, config.dim * 2)
        self.proj = Linear(config.dim, config.dim)

    def hear(self, tokens: Tensor, people: int) -> KeysValues:
        """Keys and values [B, T, S, heads, d] of audio tokens [B, T, S, channels], person by person."""
        k, v = self.kv_linear(tokens).unflatten(-1, (2, self.heads, self.head_dim)).unbind(-3)
        if people > 1:
            centres = people_centres(people, self.class_range, self.interval).to(k.device)
            stands = centres.repeat_interleave(k.shape[2] // people)
            k = rotate(k, line_rotation(stands, self.head_dim)).to(k.dtype)
        return KeysValues(k, v)

    def stands(self, attention_map: Tensor) -> Tensor:
        """Whose voice each token hears, as rotary positions [B, L], from its attention to places [B, P + 1, L]."""
        return place_positions(attention_map, self.class_range, self.interval)

    def forward(
        self, x: Operand, sound: KeysValues, stands: Tensor | None, kernel: Kernel, regions: Regions, *,
        edges: Margins = (0, 0),
    ) -> Tensor:  # fmt: skip
        """Answers [B, L, dim] for the video tokens x [B, L, dim] of the T latent frames that the sound is of.

        Args:
            stands: [B, L] as the method of this name gives them, where there are several people.
            edges: how many tokens of the first and the last frame are not among x; others stand for them.
        """
        q = self.q_linear(x).unflatten(-1, (self.heads, self.head_dim))
        if stands is not None:
            q = rotate(q, line_rotation(stands, self.head_dim)).to(q.dtype)
        batch, count = q.shape[:2]
        q = F.pad(q, (0, 0, 0, 0, *edges)) if any(edges) else q
        q = q.unflatten(1, (sound.keys.shape[1], -1)).flatten(0, 1)
        heard = attention(q, sound.keys.flatten(0, 1), sound.values.flatten(0, 1), kernel=kernel)
        heard = heard.reshape(batch, -1, self.heads * self.head_dim)[:, edges[0] : edges[0] + count]
        answer: Tensor = self.proj(regions.operand(heard))
        return answer
