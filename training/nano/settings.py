"""nano's shapes: the numbers that its model folder's configurations hold, and the candidates that were compared."""

from dataclasses import dataclass, replace
from pathlib import Path

from infinitetalk.core.configs import EVERY, DiTConfig, VAEConfig

LATENT_CHANNELS = 16
WINDOW = 81
MOTION = 9

_ZEROS, _ONES = (0.0,) * LATENT_CHANNELS, (1.0,) * LATENT_CHANNELS

VAES: dict[str, VAEConfig] = {
    # Time is halved in the first two stages: a quarter of the frames reach the wide layers, which suits a CPU.
    "narrow": VAEConfig(dim=16, dim_mult=(1, 3, 5, 5), num_res_blocks=1,
                        temporal_downsample=(True, True, False), mean=_ZEROS, std=_ONES),
    "middle": VAEConfig(dim=8, dim_mult=(3, 6, 10, 10), num_res_blocks=1,
                        temporal_downsample=(True, True, False), mean=_ZEROS, std=_ONES),
    "late": VAEConfig(dim=8, dim_mult=(3, 6, 10, 10), num_res_blocks=1,
                      temporal_downsample=(False, True, True), mean=_ZEROS, std=_ONES),
    "wide": VAEConfig(dim=16, dim_mult=(2, 3, 5, 5), num_res_blocks=1,
                      temporal_downsample=(True, True, False), mean=_ZEROS, std=_ONES),
    "deep": VAEConfig(dim=16, dim_mult=(1, 3, 4, 4), num_res_blocks=2,
                      temporal_downsample=(True, True, False), mean=_ZEROS, std=_ONES),
}  # fmt: skip

DITS: dict[str, DiTConfig] = {
    name: DiTConfig(
        text_dim=0, clip_dim=0, dim=dim, ffn_dim=ffn, num_heads=heads, num_layers=layers, text_len=0, clip_tokens=0,
        audio_blocks=4, audio_channels=192, intermediate_dim=128, output_dim=128, context_tokens=8,
        patch_size=(1, patch, patch), prediction="velocity" if patch == 2 else "video",
    )
    for name, (dim, ffn, heads, layers, patch) in {
        "320x8": (320, 1024, 4, 8, 2),
        "256x12": (256, 768, 4, 12, 2),
        "384x6": (384, 1024, 4, 6, 2),
        "320x7": (320, 1280, 4, 7, 2),
        # A token holds 256 numbers, too many to carry their noise through: these name the clean video. Trained for 256
        # pixels, the first of them lost eyes and colours after half a second.
        "320x8-wide": (320, 1024, 4, 8, 4),
        "320x12-wide": (320, 1024, 4, 12, 4),
        "384x10-wide": (384, 1280, 4, 10, 4),
    }.items()
}  # fmt: skip
DITS["320x8-shown"] = replace(DITS["320x8"], key_frame=EVERY)

VAE = "middle"
DIT = "320x8"
SHARE_OF_WARM_RATE = 0.5
"""Of the peak learning rates, where a training begins with another's weights."""


@dataclass(frozen=True, slots=True)
class Edition:
    """What is made: the picture's size, the networks, the people that are drawn, and how the model samples."""

    size: int
    vae: str
    dit: str
    varied: bool
    steps: int
    shift: float
    audio_scale: float
    motion: float | None = None
    """the strength of motion that the model is told unless its user says another; None if it did not learn it"""
    calm: float = 1.0
    """of `ClipOptions`: how far heads move in the clips, at any strength"""
    batches: float = 1.0
    """size of the transformer's batches relative to the first edition's, whose clips have fewer tokens"""
    portraits: float = 0.0
    """of `ClipOptions`, for training alone: how many clips begin as portraits look"""


EDITIONS: dict[str, Edition] = {
    "1": Edition(128, VAE, DIT, varied=False, steps=10, shift=3.0, audio_scale=2.0),
    # Distilled: four steps, and no second pass for guidance.
    "2": Edition(
        192,
        "middle",
        "320x8-shown",
        varied=True,
        steps=4,
        shift=1.5,
        audio_scale=1.0,
        motion=1.0,
        calm=0.5,
        batches=0.5,
        portraits=0.45,
    ),
}

RATE = 8e-4
"""The transformer's peak learning rate."""
CHOICE = "dit_choice.txt"
"""Where the comparison of transformers notes the best."""


def fit_audio(config: DiTConfig, layers: int, channels: int) -> DiTConfig:
    """The same transformer for a speech encoder of so many layers and channels."""
    return replace(config, audio_blocks=layers, audio_channels=channels)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transformer and its learning rate."""

    name: str
    rate: float

    @staticmethod
    def parse(text: str) -> "Candidate":
        """Reads NAME or NAME@RATE.

        Raises:
            ValueError: an unknown name, or a rate that is no number.
        """
        name, _, rate = text.partition("@")
        if name not in DITS:
            raise ValueError(f"{name!r} is none of {', '.join(DITS)}")
        return Candidate(name, float(rate or RATE))

    @staticmethod
    def chosen(folder: Path, default: str = DIT) -> "Candidate":
        """What the comparison found best; the default where there was none."""
        path = folder / CHOICE
        return Candidate.parse(path.read_text(encoding="utf-8").strip()) if path.exists() else Candidate(default, RATE)

    def __str__(self) -> str:
        return f"{self.name}@{self.rate:g}"
