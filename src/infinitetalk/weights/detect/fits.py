"""What a part fits together with, in words."""

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.weights.detect.component import Component
from infinitetalk.weights.detect.unit import Unit

LARGE = DiTConfig()


def shape_words(config: NetConfig | None) -> str:
    """The few numbers by which people know a network."""
    match config:
        case DiTConfig():
            return f"{config.num_layers} blocks of {config.dim}"
        case TextConfig() | VisionConfig():
            return f"{config.num_layers} layers of {config.dim}"
        case SpeechConfig():
            return f"{config.num_hidden_layers} layers of {config.hidden_size}"
        case VAEConfig():
            return f"{config.z_dim} latent channels"
    return ""


def partners(unit: Unit) -> tuple[str, ...]:
    """What a usable part works with."""
    match unit.component, unit.config:
        case Component.LORA, _:
            return ("the transformer that it was trained for; give it with --lora",)
        case Component.ADAPTER, DiTConfig(dim=dim, num_layers=layers):
            known = ", Wan2.1-I2V-14B 480P or 720P" if (dim, layers) == (LARGE.dim, LARGE.num_layers) else ""
            return (f"a DiT base of {layers} blocks of {dim}{known}",)
        case ((Component.BASE | Component.MERGED), DiTConfig() as dit):
            first = (f"an adapter, single or multi, of {shape_words(dit)}",) if unit.component is Component.BASE else ()
            return (*first, *_encoders(dit))
        case Component.VAE, VAEConfig() as vae if vae != VAEConfig():
            return (f"the DiT that was trained with it, of {vae.z_dim} latent channels",)
        case _, (TextConfig(dim=dim) | VisionConfig(dim=dim) | SpeechConfig(hidden_size=dim) | VAEConfig(z_dim=dim)):
            return _takers(unit.component, dim)
    return ()


def _encoders(dit: DiTConfig) -> tuple[str, ...]:
    text = (f"a umT5 of {dit.text_dim} with its tokenizer",) if dit.text_dim else ()
    vision = (f"a CLIP tower of {dit.clip_dim}",) if dit.clip_dim else ()
    speech = f"a wav2vec2 of {dit.audio_blocks} layers of {dit.audio_channels}"
    return (*text, *vision, f"a VAE with {dit.out_dim} latent channels", speech)


def _takers(component: Component, dim: int) -> tuple[str, ...]:
    """Whether the 14B transformer takes what an encoder gives."""
    wanted = {
        Component.TEXT: LARGE.text_dim,
        Component.VISION: LARGE.clip_dim,
        Component.VAE: LARGE.out_dim,
        Component.SPEECH: LARGE.audio_channels,
    }[component]
    return ("every InfiniteTalk of 14B" if dim == wanted else f"none of 14B: it gives {dim} where they take {wanted}",)
