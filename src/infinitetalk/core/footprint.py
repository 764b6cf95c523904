"""How many weights the networks have, what they compute, and what they hold while they compute: arithmetic on shapes.

Weights and operations follow from the networks' shapes alone, and tests compare them with the networks themselves.
What is held at once depends on how the forward passes are written; those numbers come from counting live tensors of
the full-size networks on torch's meta device (`tools/live_memory.py`), and tests count again.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import prod

from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.sizes import SPATIAL_STRIDE, TEMPORAL_STRIDE, Latents, Pixels

HALF, FULL = 2, 4
"""Bytes of a number of 16 and of 32 bits."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of a network or a part of one, by how they may be stored."""

    matrices: int
    """Elements of the matrices of linear layers, which may be held in fewer bits."""
    rest: int
    """All others: biases, norms, convolutions, embeddings."""

    @property
    def count(self) -> int:
        """All of them."""
        return self.matrices + self.rest

    def __add__(self, other: "Weights") -> "Weights":
        return Weights(self.matrices + other.matrices, self.rest + other.rest)

    def __mul__(self, times: int) -> "Weights":
        return Weights(self.matrices * times, self.rest * times)


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> Weights:
    return Weights(inputs * outputs, outputs if bias else 0)


# --- The diffusion transformer ---


def block_step(config: DiTConfig) -> Weights:
    """The weights of one block that every step needs."""
    dim = config.dim
    own = _linear(dim, dim) * 4 + Weights(0, 2 * dim)  # self-attention
    sound = _linear(dim, dim) * 2 + Weights(0, 2 * dim)
    fed = _linear(dim, config.ffn_dim) + _linear(config.ffn_dim, dim)
    # The query's norm and the norm before cross-attention.
    cross = _linear(dim, dim) * 2 + Weights(0, 3 * dim) if config.text_dim or config.clip_dim else Weights(0, 0)
    return own + sound + fed + cross + Weights(0, 6 * dim)


def block_once(config: DiTConfig) -> Weights:
    """The weights of one block that make keys and values of text, picture and sound, once per video or window."""
    pair = _linear(config.dim, config.dim) * 2 + Weights(0, config.dim)
    inputs = (1 if config.text_dim else 0) + (1 if config.clip_dim else 0)
    return pair * inputs + _linear(config.output_dim, 2 * config.dim)


def around_blocks(config: DiTConfig) -> Weights:
    """The weights of the transformer that are in no block."""
    dim, patch = config.dim, prod(config.patch_size)
    frame = config.audio_blocks * config.audio_channels
    hidden = config.intermediate_dim
    audio = (
        _linear(config.audio_window * frame, hidden)
        + _linear((config.audio_window + config.vae_scale - 1) * frame, hidden)
        + _linear(hidden, hidden)
        + _linear(hidden, config.context_tokens * config.output_dim)
        + Weights(0, 2 * config.output_dim)
    )
    time = _linear(config.freq_dim, dim) + _linear(dim, dim) + _linear(dim, 6 * dim)
    head = _linear(dim, patch * config.out_dim) + Weights(0, 2 * dim)
    found = audio + time + head + Weights(0, config.in_dim * patch * dim + dim)
    if config.text_dim:
        found += _linear(config.text_dim, dim) + _linear(dim, dim)
    if config.clip_dim:
        width = config.clip_dim
        found += _linear(width, width) + _linear(width, dim) + Weights(0, 2 * width + 2 * dim)
    return found


def transformer(config: DiTConfig) -> Weights:
    """All weights of the transformer."""
    return (block_step(config) + block_once(config)) * config.num_layers + around_blocks(config)


def tokens(config: DiTConfig, size: Pixels, frames: int) -> int:
    """Video tokens of a window."""
    latent = Latents.of(frames, size)
    return prod(side // patch for side, patch in zip(latent, config.patch_size, strict=True))


Words = tuple[int, int]
"""Tokens of prompt and negative prompt, about; what pads them is one token more."""


def told_throughout(config: DiTConfig, branches: int, words: Words | None = None) -> int:
    """Numbers in the prepared keys and values that last for a whole job: texts and the picture.

    Of two or three branches two differ in text. Without `words` texts have all the tokens that the network reads.
    """
    lengths = (config.text_len,) * 2 if words is None else tuple(min(config.text_len, count + 1) for count in words)
    told = sum(lengths[: min(branches, 2)]) if config.text_dim else 0
    return 2 * config.num_layers * config.dim * (told + (config.clip_tokens if config.clip_dim else 0))


def keys_and_values(config: DiTConfig, frames: int, people: int, branches: int, words: Words | None = None) -> int:
    """Numbers in the prepared keys and values of all blocks: texts, the picture, and sounds of one window.

    Of two or three branches two differ in sound; silence has one voice, kept in two frames.
    """
    latents = (frames - 1) // TEMPORAL_STRIDE + 1
    told = (people * latents + (min(latents, 2) if branches > 1 else 0)) * config.context_tokens
    return told_throughout(config, branches, words) + 2 * config.num_layers * config.dim * told


def linear_operations(config: DiTConfig, size: Pixels, frames: int) -> float:
    """Floating-point operations in products with the blocks' matrices, in one forward pass."""
    return 2.0 * config.num_layers * tokens(config, size, frames) * block_step(config).matrices


def attention_operations(config: DiTConfig, size: Pixels, frames: int, people: int) -> float:
    """Floating-point operations of all attention in one forward pass."""
    length, dim = tokens(config, size, frames), config.dim
    told = (config.text_len if config.text_dim else 0) + (config.clip_tokens if config.clip_dim else 0)
    told += people * config.context_tokens
    attention = 4 * length * dim * (length + told)
    if people > 1:  # each token's attention to the people's places in the first latent frame
        attention += 4 * length * dim * (length // Latents.of(frames, size).frames)
    return float(config.num_layers * attention)


def forward_operations(config: DiTConfig, size: Pixels, frames: int, people: int) -> float:
    """Floating-point operations of one forward pass with keys and values prepared."""
    return linear_operations(config, size, frames) + attention_operations(config, size, frames, people)


# Numbers of [tokens, dim] of 16 bits that are alive at a forward pass's peak, beside the tokens of all branches.
_WHOLE, _WHOLE_PLACES = 10.05, 11.05
"""Everything at once; with several people in float16 the map of attention is wider."""
_KEPT, _PART = 3.0, 13.1
"""Queries, keys and values of all tokens; and, times the share of tokens, what passes through the linear layers."""
_PLACES = 4.05
"""The map of attention to several people's places, beside queries, keys and values."""


def forward_numbers(
    config: DiTConfig,
    size: Pixels,
    frames: int,
    *,
    at_once: int | None,
    branches: int,
    people: int,
    wide: bool,
    kept: int = 0,
) -> int:
    """Bytes that a step of the transformer holds at its peak beside weights, keys and values.

    Args:
        at_once: latent frames whose tokens pass through a block's linear layers together; None for all.
        branches: of guidance, whose tokens are all held.
        wide: whether tokens are float32 between blocks, as they are where products are float16.
        kept: how many times a step cache keeps what the blocks added.
    """
    latents = Latents.of(frames, size).frames
    # What came in, and what is kept of each branch while its next one is made; that one is made in place.
    cached = 1 + branches * (kept - 1) if kept else 0
    held = (branches + cached) * (2 if wide else 1)
    if at_once is None or at_once >= latents:
        units = held + (_WHOLE_PLACES if people > 1 and wide else _WHOLE)
    else:
        units = held + max(_PLACES if people > 1 else 0, _KEPT + _PART * at_once / latents)
    return round(units * HALF * config.dim * tokens(config, size, frames))


# --- The VAE ---


def autoencoder(config: VAEConfig) -> Weights:
    """The weights of the VAE; its parts are convolutions, which are never held in fewer bits."""
    z = config.z_dim
    found = 2 * z * (2 * z + 1) + z * (z + 1)
    for widths, encoder in ((_widths(config, encoder=True), True), (_widths(config, encoder=False), False)):
        found += sum(layer.weights for layer in _layers(config, widths, encoder=encoder))
    return Weights(0, found)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution, norm or attention: its weights, and where it works."""

    weights: int
    level: int
    """How often height and width were halved."""
    times: int
    """How often the frames were halved."""
    products: int
    """Multiplications for each place it answers for."""


def _widths(config: VAEConfig, *, encoder: bool) -> list[int]:
    factors = config.dim_mult if encoder else config.dim_mult[::-1]
    return [config.dim * factor for factor in ((1, *factors) if encoder else (factors[0], *factors))]


def _conv(channels: int, out: int, taps: int, level: int, times: int) -> _Layer:
    return _Layer(taps * channels * out + out, level, times, taps * channels * out)


def _residual(channels: int, out: int, level: int, times: int) -> list[_Layer]:
    found = [_conv(channels, out, 27, level, times), _conv(out, out, 27, level, times)]
    found.append(_Layer(channels + out, level, times, 0))
    if channels != out:
        found.append(_conv(channels, out, 1, level, times))
    return found


def _middle(channels: int, level: int, times: int) -> list[_Layer]:
    looked = _Layer(4 * channels * channels + 5 * channels, level, times, 4 * channels * channels)
    return _residual(channels, channels, level, times) * 2 + [looked]


def _layers(config: VAEConfig, widths: list[int], *, encoder: bool) -> list[_Layer]:
    """Every layer of the encoder or the decoder."""
    halvings, times = config.temporal_downsample, 0
    depth = len(halvings)
    if encoder:
        level, found = 0, [_conv(3, widths[0], 27, 0, 0)]
    else:
        level, times = depth, sum(halvings)
        found = [_conv(config.z_dim, widths[0], 27, level, times), *_middle(widths[0], level, times)]
    for step, (channels, out) in enumerate(pairwise(widths)):
        inner = channels if encoder or not step else channels // 2
        for index in range(config.num_res_blocks + (0 if encoder else 1)):
            found += _residual(inner if not index else out, out, level, times)
        if step == depth:
            continue
        if encoder:
            level += 1
            found.append(_conv(out, out, 9, level, times))
            times += halvings[step]
            found += [_conv(out, out, 3, level, times)] if halvings[step] else []
        else:
            doubles = halvings[::-1][step]
            found += [_conv(out, 2 * out, 3, level, times)] if doubles else []
            level, times = level - 1, times - doubles
            found.append(_conv(out, out // 2, 9, level, times))
    last = _conv(widths[-1], 2 * config.z_dim if encoder else 3, 27, level, times)
    return [*found, *(_middle(widths[-1], level, times) if encoder else []), _Layer(widths[-1], level, times, 0), last]


def coding_operations(config: VAEConfig, size: Pixels, frames: int, *, encode: bool) -> float:
    """Floating-point operations of encoding or decoding so many frames, attention among pixels left out."""
    found = 0.0
    for layer in _layers(config, _widths(config, encoder=encode), encoder=encode):
        places = size.height * size.width / 4**layer.level * (1 + (frames - 1) / 2**layer.times)
        found += 2 * layer.products * places
    return found


_ENCODE, _DECODE = (20.9, 3.5), (30.9, 3.97)
"""Numbers per pixel and base channel that are alive while one latent frame is encoded or decoded: what the layers
remember, and what each frame adds that passes at once through the layers with the most pixels."""


def coding_numbers(config: VAEConfig, size: Pixels, *, encode: bool, at_once: int | None = None) -> int:
    """Numbers that encoding or decoding a latent frame at a time holds at its peak, beside weights and the video.

    Args:
        at_once: video frames that pass together through the layers with the most pixels; None for all.
    """
    remembered, frame = _ENCODE if encode else _DECODE
    frames = min(at_once or TEMPORAL_STRIDE, TEMPORAL_STRIDE)
    return round(config.dim * (remembered + frame * frames) * size.height * size.width)


def video_numbers(size: Pixels, frames: int) -> int:
    """Numbers of a window's pixels."""
    return 3 * frames * size.height * size.width


# --- The encoders ---


def text_encoder(config: TextConfig) -> Weights:
    """The weights of umT5's encoder."""
    wide = _linear(config.dim, config.dim_attn, bias=False)
    fed = _linear(config.dim, config.dim_ffn, bias=False)
    layer = wide * 4 + fed * 3 + Weights(0, 2 * config.dim + config.num_buckets * config.num_heads)
    return layer * config.num_layers + Weights(0, config.vocab * config.dim + config.dim)


def picture_encoder(config: VisionConfig) -> Weights:
    """The weights of CLIP's picture tower."""
    dim, inner = config.dim, config.dim * config.mlp_ratio
    layer = _linear(dim, dim) * 4 + _linear(dim, inner) + _linear(inner, dim) + Weights(0, 4 * dim)
    places = (config.image_size // config.patch_size) ** 2 + 1
    return layer * config.num_layers + Weights(0, dim * (3 * config.patch_size**2 + places + 1 + 4))


def speech_encoder(config: SpeechConfig) -> Weights:
    """The weights of wav2vec2, about: small enough that norms of its convolutions do not matter."""
    dim = config.hidden_size
    layer = _linear(dim, dim) * 4 + _linear(dim, config.intermediate_size) + _linear(config.intermediate_size, dim)
    heard = sum(
        channels * out * kernel
        for (channels, out), kernel in zip(pairwise((1, *config.conv_dim)), config.conv_kernel, strict=True)
    )
    place = dim * dim // config.num_conv_pos_embedding_groups * config.num_conv_pos_embeddings
    return (layer + Weights(0, 4 * dim)) * config.num_hidden_layers + Weights(config.conv_dim[-1] * dim, heard + place)


def reading_numbers(config: TextConfig, length: int = 512) -> int:
    """Numbers that reading a prompt holds at its peak: a few layers' states, and plain attention's weights."""
    return length * (4 * config.dim + 3 * config.dim_ffn) + 4 * config.num_heads * length * length


def hearing_numbers(config: SpeechConfig, seconds: float) -> int:
    """Numbers that hearing so many seconds holds at its peak: in and out of the first convolution and its norm."""
    return round(4 * config.conv_dim[0] * seconds * 16_000 / config.conv_stride[0])


def latent_cells(size: Pixels) -> int:
    """Latent cells of one frame."""
    return (size.height // SPATIAL_STRIDE) * (size.width // SPATIAL_STRIDE)
