"""What one process of a benchmark measures, and how it is told: plain values that travel as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.sizes import Latents, Pixels

FORWARD, STEP, VAE, WINDOW, RATES = "forward", "step", "vae", "window", "rates"
PARTS = (FORWARD, STEP, VAE, WINDOW)
"""What a subject can measure. `rates` is the machine's own."""

TIMESTEP = 700.0
"""The noise level at which networks are asked."""
WORDS = 77
"""Tokens of the random prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One process's work."""

    subject: str
    """Who is measured: a module of `infinitetalk.bench` knows how."""
    mode: str = ""
    """By which of its ways it works."""
    checkout: str | None = None
    """The folder of another's code."""
    model: str | None = None
    """Name or folder of a model; None for random weights in the 14B model's shapes."""
    device: str = "auto"
    size: tuple[int, int]
    """Height and width in pixels."""
    frames: int
    """Of a window."""
    motion: int
    """Of the window before."""
    steps: int
    text_scale: float = 1.0
    audio_scale: float = 1.0
    repeats: int = 3
    memory: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `MemorySettings`."""
    parts: tuple[str, ...] = PARTS
    blocks: int | None = None
    """Blocks of the random network, if it shall be a smaller one."""
    heads: int | None = None
    """Heads of its blocks: fewer make all widths smaller."""
    vae_width: int | None = None
    """Base channels of its VAE."""
    answer: str | None = None
    """File for the velocity of the first branch, so that answers can be compared."""

    @property
    def pixels(self) -> Pixels:
        """The size of the video."""
        return Pixels(*self.size)

    @property
    def latents(self) -> Latents:
        """The size of a window's latents."""
        return Latents.of(self.frames, self.pixels)

    @property
    def new_frames(self) -> int:
        """Frames that a window adds to a video."""
        return self.frames - self.motion

    @property
    def name(self) -> str:
        """Who and how."""
        return f"{self.subject}, {self.mode}" if self.mode else self.subject

    def to_json(self) -> str:
        """All of it in one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The same task again."""
        values = json.loads(text)
        return cls(**values | {"size": tuple(values["size"]), "parts": tuple(values["parts"])})


def network_of(task: Task) -> DiTConfig:
    """The shapes of the random transformer: the 14B model's, or narrower ones in their proportions."""
    full = DiTConfig()
    heads = task.heads or full.num_heads
    dim, hidden = (width * heads // full.num_heads for width in (full.dim, full.ffn_dim))
    return replace(full, num_layers=task.blocks or full.num_layers, num_heads=heads, dim=dim, ffn_dim=hidden)
