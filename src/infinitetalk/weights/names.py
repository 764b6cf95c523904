"""What a network must have: names and shapes of its tensors as a function of its configuration, without building it.

The tests compare these tables with this package's networks and, through the key maps, with other people's.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from math import prod

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
PICTURE_CHANNELS = 3


def _linear(name: str, out: int, inner: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _under(home: str, shapes: Shapes) -> dict[str, Shape]:
    return {f"{home}.{name}": shape for name, shape in shapes.items()}


def dit_base(config: DiTConfig) -> Shapes:
    """Wan's part of the transformer."""
    dim = config.dim
    shapes = {"patch_embedding.weight": (dim, config.in_dim, *config.patch_size), "patch_embedding.bias": (dim,)}
    shapes |= _linear("time_embedding.0", dim, config.freq_dim) | _linear("time_embedding.2", dim, dim)
    shapes |= _linear("time_projection.1", 6 * dim, dim)
    if config.text_dim:
        shapes |= _linear("text_embedding.0", dim, config.text_dim) | _linear("text_embedding.2", dim, dim)
    if config.clip_dim:
        shapes |= _norm("img_emb.proj.0", config.clip_dim) | _norm("img_emb.proj.4", dim)
        shapes |= _linear("img_emb.proj.1", config.clip_dim, config.clip_dim)
        shapes |= _linear("img_emb.proj.3", dim, config.clip_dim)
    shapes |= _linear("head.head", config.out_dim * prod(config.patch_size), dim) | {"head.modulation": (1, 2, dim)}
    block = _dit_block(config)
    for number in range(config.num_layers):
        shapes |= _under(f"blocks.{number}", block)
    return shapes


def _dit_block(config: DiTConfig) -> Shapes:
    dim = config.dim
    shapes: dict[str, Shape] = {"modulation": (1, 6, dim)}
    shapes |= _linear("ffn.0", config.ffn_dim, dim) | _linear("ffn.2", dim, config.ffn_dim)
    shapes |= _attention("self_attn", dim, "qkvo")
    if config.text_dim or config.clip_dim:
        shapes |= _attention("cross_attn", dim, "qkvo" if config.text_dim else "qo") | _norm("norm3", dim)
    if config.clip_dim:
        shapes |= _linear("cross_attn.k_img", dim, dim) | _linear("cross_attn.v_img", dim, dim)
        shapes |= {"cross_attn.norm_k_img.weight": (dim,)}
    return shapes


def _attention(home: str, dim: int, parts: str) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{home}.norm_{part}.weight": (dim,) for part in parts if part in "qk"}
    for part in parts:
        shapes |= _linear(f"{home}.{part}", dim, dim)
    return shapes


def dit_audio(config: DiTConfig) -> Shapes:
    """InfiniteTalk's part of the transformer: the audio layers, as MeiGen's adapter files hold them."""
    dim, frame, hidden = config.dim, config.audio_blocks * config.audio_channels, config.intermediate_dim
    shapes = _linear("audio_proj.proj1", hidden, config.audio_window * frame)
    shapes |= _linear("audio_proj.proj1_vf", hidden, (config.audio_window + config.vae_scale - 1) * frame)
    shapes |= _linear("audio_proj.proj2", hidden, hidden)
    shapes |= _linear("audio_proj.proj3", config.context_tokens * config.output_dim, hidden)
    shapes |= _norm("audio_proj.norm", config.output_dim)
    block = _linear("audio_cross_attn.q_linear", dim, dim) | _linear("audio_cross_attn.proj", dim, dim)
    block |= _linear("audio_cross_attn.kv_linear", 2 * dim, config.output_dim) | _norm("norm_x", dim)
    for number in range(config.num_layers):
        shapes |= _under(f"blocks.{number}", block)
    return shapes


def dit(config: DiTConfig) -> Shapes:
    """The whole transformer."""
    return {**dit_base(config), **dit_audio(config)}


def text(config: TextConfig) -> Shapes:
    """umT5's encoder."""
    shapes: dict[str, Shape] = {
        "network.shared.weight": (config.vocab, config.dim),
        "network.encoder.final_layer_norm.weight": (config.dim,),
    }
    wide, inner = (config.dim_attn, config.dim), (config.dim_ffn, config.dim)
    block: Shapes = {
        **{f"layer.0.SelfAttention.{part}.weight": wide for part in "qkv"},
        "layer.0.SelfAttention.o.weight": wide[::-1],
        "layer.0.SelfAttention.relative_attention_bias.weight": (config.num_buckets, config.num_heads),
        "layer.0.layer_norm.weight": (config.dim,),
        "layer.1.DenseReluDense.wi_0.weight": inner,
        "layer.1.DenseReluDense.wi_1.weight": inner,
        "layer.1.DenseReluDense.wo.weight": inner[::-1],
        "layer.1.layer_norm.weight": (config.dim,),
    }
    for number in range(config.num_layers):
        shapes |= _under(f"network.encoder.block.{number}", block)
    return shapes


def vision(config: VisionConfig) -> Shapes:
    """CLIP's picture tower."""
    dim, side = config.dim, config.image_size // config.patch_size
    shapes: dict[str, Shape] = {
        "network.embeddings.class_embedding": (dim,),
        "network.embeddings.patch_embedding.weight": (dim, PICTURE_CHANNELS, config.patch_size, config.patch_size),
        "network.embeddings.position_embedding.weight": (side * side + 1, dim),
        **_norm("network.pre_layrnorm", dim),
        **_norm("network.post_layernorm", dim),
    }
    layer = _norm("layer_norm1", dim) | _norm("layer_norm2", dim)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        layer |= _linear(f"self_attn.{part}", dim, dim)
    layer |= _linear("mlp.fc1", dim * config.mlp_ratio, dim) | _linear("mlp.fc2", dim, dim * config.mlp_ratio)
    for number in range(config.num_layers):
        shapes |= _under(f"network.encoder.layers.{number}", layer)
    return shapes


def speech(config: SpeechConfig) -> Shapes:
    """wav2vec2's encoder."""
    dim = config.hidden_size
    shapes = dict(_speech_convolutions(config))
    shapes |= _norm("network.feature_projection.layer_norm", config.conv_dim[-1])
    shapes |= _linear("network.feature_projection.projection", dim, config.conv_dim[-1])
    place = "network.encoder.pos_conv_embed.conv"
    groups = dim // config.num_conv_pos_embedding_groups
    shapes |= {
        f"{place}.bias": (dim,),
        f"{place}.parametrizations.weight.original0": (1, 1, config.num_conv_pos_embeddings),
        f"{place}.parametrizations.weight.original1": (dim, groups, config.num_conv_pos_embeddings),
        **_norm("network.encoder.layer_norm", dim),
    }
    layer = _norm("layer_norm", dim) | _norm("final_layer_norm", dim)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        layer |= _linear(f"attention.{part}", dim, dim)
    layer |= _linear("feed_forward.intermediate_dense", config.intermediate_size, dim)
    layer |= _linear("feed_forward.output_dense", dim, config.intermediate_size)
    for number in range(config.num_hidden_layers):
        shapes |= _under(f"network.encoder.layers.{number}", layer)
    return shapes


def _speech_convolutions(config: SpeechConfig) -> Iterator[tuple[str, Shape]]:
    before = 1
    for number, (out, kernel) in enumerate(zip(config.conv_dim, config.conv_kernel, strict=True)):
        home = f"network.feature_extractor.conv_layers.{number}"
        yield f"{home}.conv.weight", (out, before, kernel)
        if config.conv_bias:
            yield f"{home}.conv.bias", (out,)
        if config.feat_extract_norm == "layer" or number == 0:
            yield from _norm(f"{home}.layer_norm", out).items()
        before = out


def _convolution(name: str, out: int, inner: int, *kernel: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, inner, *kernel), f"{name}.bias": (out,)}


def _residual(home: str, inner: int, out: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {
        f"{home}.residual.0.gamma": (inner, 1, 1, 1),
        f"{home}.residual.3.gamma": (out, 1, 1, 1),
    }
    shapes |= _convolution(f"{home}.residual.2", out, inner, 3, 3, 3)
    shapes |= _convolution(f"{home}.residual.6", out, out, 3, 3, 3)
    return shapes | (_convolution(f"{home}.shortcut", out, inner, 1, 1, 1) if inner != out else {})


def _middle(home: str, width: int) -> dict[str, Shape]:
    shapes = _residual(f"{home}.middle.0", width, width) | _residual(f"{home}.middle.2", width, width)
    shapes[f"{home}.middle.1.norm.gamma"] = (width, 1, 1)
    return (
        shapes
        | _convolution(f"{home}.middle.1.to_qkv", 3 * width, width, 1, 1)
        | _convolution(f"{home}.middle.1.proj", width, width, 1, 1)
    )


def vae(config: VAEConfig) -> Shapes:
    """The causal video VAE."""
    z = config.z_dim
    shapes = _convolution("conv1", 2 * z, 2 * z, 1, 1, 1) | _convolution("conv2", z, z, 1, 1, 1)
    return shapes | _vae_encoder(config) | _vae_decoder(config)


def _vae_encoder(config: VAEConfig) -> dict[str, Shape]:
    widths = [config.dim * factor for factor in (1, *config.dim_mult)]
    shapes = _convolution("encoder.conv1", widths[0], PICTURE_CHANNELS, 3, 3, 3)
    place = 0
    for level, (inner, out) in enumerate(pairwise(widths)):
        for number in range(config.num_res_blocks):
            shapes |= _residual(f"encoder.downsamples.{place}", inner if number == 0 else out, out)
            place += 1
        if level < len(config.temporal_downsample):
            shapes |= _convolution(f"encoder.downsamples.{place}.resample.1", out, out, 3, 3)
            if config.temporal_downsample[level]:
                shapes |= _convolution(f"encoder.downsamples.{place}.time_conv", out, out, 3, 1, 1)
            place += 1
    shapes |= _middle("encoder", widths[-1]) | {"encoder.head.0.gamma": (widths[-1], 1, 1, 1)}
    return shapes | _convolution("encoder.head.2", 2 * config.z_dim, widths[-1], 3, 3, 3)


def _vae_decoder(config: VAEConfig) -> dict[str, Shape]:
    # What enlarges also halves the channels, so every level after the first takes half of what the one before gave.
    widths = [config.dim * factor for factor in (config.dim_mult[-1], *reversed(config.dim_mult))]
    shapes = _convolution("decoder.conv1", widths[0], config.z_dim, 3, 3, 3) | _middle("decoder", widths[0])
    place = 0
    upsample = tuple(reversed(config.temporal_downsample))
    for level, (before, out) in enumerate(pairwise(widths)):
        for number in range(config.num_res_blocks + 1):
            inner = out if number else before if level == 0 else before // 2
            shapes |= _residual(f"decoder.upsamples.{place}", inner, out)
            place += 1
        if level < len(upsample):
            shapes |= _convolution(f"decoder.upsamples.{place}.resample.1", out // 2, out, 3, 3)
            if upsample[level]:
                shapes |= _convolution(f"decoder.upsamples.{place}.time_conv", 2 * out, out, 3, 1, 1)
            place += 1
    shapes |= {"decoder.head.0.gamma": (widths[-1], 1, 1, 1)}
    return shapes | _convolution("decoder.head.2", PICTURE_CHANNELS, widths[-1], 3, 3, 3)


def expected(config: NetConfig) -> Shapes:
    """The tensors of the network that a configuration describes; the transformer's with its audio layers."""
    tables: Mapping[type[NetConfig], Callable[..., Shapes]] = {
        DiTConfig: dit, VAEConfig: vae, TextConfig: text, VisionConfig: vision, SpeechConfig: speech,
    }  # fmt: skip
    return tables[type(config)](config)
