"""What surrounds the people: light, background, and where each person stands in the picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.heads.noise import layered

MAX_PEOPLE: Final = 3
_SPOTS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Light:
    """A soft key light, ambient light from above, and a weak light from behind."""

    direction: tuple[float, float, float]  # towards the key light, x right, y up, z to the camera
    strength: float
    warmth: float  # -1 cold .. 1 warm
    ambient: float
    rim: float
    cast: float = 0.0  # how dark the shadows are that things throw on each other, 0..1

    def packed(self) -> Tensor:
        """Direction (3), strength, warmth, ambient, rim, cast: ``[8]`` float32."""
        return torch.tensor([*self.direction, self.strength, self.warmth, self.ambient, self.rim, self.cast])


def _nothing() -> NDArray[np.float32]:
    return np.zeros((0, 10), np.float32)


@dataclass(frozen=True, kw_only=True)
class Background:
    """A calm gradient with a few out-of-focus patches of light. Positions and sizes in picture widths."""

    top: tuple[float, float, float]  # sRGB
    bottom: tuple[float, float, float]
    spots: NDArray[np.float32]  # [n, 7]: x, y, radius x, radius y, red, green, blue (added)
    things: NDArray[np.float32] = field(default_factory=_nothing)
    # [n, 10]: x, y, half a width and height, softness, roundness 0..1, red, green, blue (mixed in), opacity; back first
    grain: tuple[float, float, float, float] = (0.0, 1.0, 1.0, 0.0)  # strength, grains across and down, seed


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What a camera makes of a scene; the fields' defaults change nothing."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    saturation: float = 1.0
    vignette: float = 0.0
    softness: float = 0.0  # share of a blurred picture

    def applied(self, picture: Tensor) -> Tensor:
        """Pictures sRGB ``[F, 3, S, S]`` in 0..1 as the camera gives them."""
        if self == Grade():
            return picture
        soft = F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
        made = torch.lerp(picture, soft, self.softness).clamp(1e-5, 1.0) ** self.gamma
        made = torch.lerp(made.mean(1, keepdim=True), made, self.saturation)
        place = torch.linspace(-1.0, 1.0, picture.shape[-1], device=picture.device)
        edge = 1.0 - self.vignette * (place[:, None] ** 2 + place**2).clamp(max=2.0) / 2
        gain = torch.tensor(self.gain, device=picture.device).view(3, 1, 1)
        return (made * gain * edge).clamp(0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a head stands: its middle (between eyes and mouth) in picture widths, and its size."""

    x: float
    y: float
    zoom: float  # 1 shows 3.5 decimetres over the picture's width


def random_light(rng: np.random.Generator) -> Light:
    """Mostly frontal, from above, a little to one side."""
    return Light(
        direction=(float(rng.normal() * 0.55), float(rng.uniform(0.15, 0.8)), 1.0),
        strength=float(rng.uniform(0.85, 1.15)),
        warmth=float(np.clip(rng.normal() * 0.4, -1, 1)),
        ambient=float(rng.uniform(0.32, 0.5)),
        rim=float(rng.uniform(0.0, 0.35)),
    )


def random_background(rng: np.random.Generator) -> Background:
    """Weakly coloured walls and rooms out of focus."""
    grey = rng.uniform(0.15, 0.8)
    tint = rng.normal(size=3) * 0.02
    slope = rng.uniform(-0.12, 0.12)
    spots = np.zeros((int(rng.integers(0, _SPOTS + 1)), 7), np.float32)
    for spot in spots:
        spot[:2] = rng.uniform(-0.1, 1.1, 2)
        spot[2:4] = rng.uniform(0.12, 0.4, 2)
        spot[4:] = rng.uniform(-0.14, 0.14) + rng.normal(size=3) * 0.012
    top, bottom = np.clip(grey + tint + slope, 0.05, 0.92), np.clip(grey + tint - slope, 0.05, 0.92)
    return Background(top=tuple(top.tolist()), bottom=tuple(bottom.tolist()), spots=spots)


def random_places(rng: np.random.Generator, people: int) -> tuple[Place, ...]:
    """Heads side by side from left to right, smaller when there are more of them."""
    size, height = {1: (1.45, 1.7), 2: (0.88, 1.0), 3: (0.66, 0.72)}[people], {1: 0.5, 2: 0.47, 3: 0.6}[people]
    zoom = rng.uniform(*size)
    return tuple(
        Place(
            x=(index + 0.5) / people + float(rng.uniform(-0.012, 0.012)),
            y=height + float(rng.uniform(-0.02, 0.02)),
            zoom=float(zoom * rng.uniform(0.97, 1.03)),
        )
        for index in range(people)
    )


def paint_background(background: Background, size: int, device: torch.device) -> Tensor:
    """The background alone, sRGB float32 ``[size, size, 3]``."""
    place = (torch.arange(size, device=device) + 0.5) / size
    x, y = place[None, :, None], place[:, None, None]
    top, bottom = (torch.tensor(colour, device=device) for colour in (background.top, background.bottom))
    picture = torch.lerp(top, bottom, y).expand(size, size, 3).clone()
    for middle_x, middle_y, width, height, *colour in background.spots.tolist():
        falloff = torch.exp(-(((x - middle_x) / width) ** 2) - ((y - middle_y) / height) ** 2)
        picture = picture + falloff * torch.tensor(colour, device=device)
    if len(background.things):
        picture = _with_things(picture, x, y, torch.from_numpy(background.things).to(device))
    strength, across, down, seed = background.grain
    if strength:
        rows, columns = torch.broadcast_tensors(y[..., 0] * down, x[..., 0] * across)
        texture = layered(torch.stack([columns, rows, torch.full_like(rows, seed)], -1), 4)
        picture = picture * (1.0 + strength * texture[..., None])
    return picture.clamp(0.0, 1.0)


def _with_things(picture: Tensor, x: Tensor, y: Tensor, things: Tensor) -> Tensor:
    """The picture with soft-edged rectangles, ellipses and what lies between them, ``[n, 10]``, the last in front."""
    middle_x, middle_y, half_width, half_height, softness, roundness, opacity = (
        things[:, column, None, None] for column in (0, 1, 2, 3, 4, 5, 9)
    )
    across = (x[..., 0] - middle_x).abs() / half_width + 1e-4
    down = (y[..., 0] - middle_y).abs() / half_height + 1e-4
    power = 2.0 + 14.0 * (1.0 - roundness)
    larger = torch.maximum(across, down)  # taken out, or high powers would overflow
    distance = larger * ((across / larger) ** power + (down / larger) ** power) ** (1.0 / power) - 1.0
    share = torch.sigmoid(-distance * torch.minimum(half_width, half_height) / softness) * opacity
    seen = (1.0 - share).flip(0).cumprod(0).flip(0)  # through this thing and all before it
    before = torch.cat([seen[1:], torch.ones_like(seen[:1])])
    return picture * seen[0][..., None] + torch.einsum("nhw,nc->hwc", share * before, things[:, 6:9])
