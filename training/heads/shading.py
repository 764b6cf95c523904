"""Light on materials: soft key light, ambient light with baked and screen-space shadows, highlights, film curve."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from training.heads.details import sheen_unevenness
from training.heads.hair import CENTRE
from training.heads.materials import Material, Surface, is_eye
from training.heads.mesh import TONGUE, UPPER_TEETH

_WRAP: Final = (0.42, 0.26, 0.20)  # light creeps around the skin's terminator, red farthest
_CROWN: Final = (0.0, 8.6, 0.25)


def shade(surface: Surface, material: Material, contact: Tensor, light: Tensor, thrown: Tensor | None = None) -> Tensor:
    """Lit colours of N pixels, sRGB ``[N, 3]``.

    ``contact [N, 2]`` comes from ``contact_shadow``, ``light`` is ``Light.packed()``, ``thrown [N]`` comes from
    ``thrown_shadow``.
    """
    normal = surface.normal
    towards = F.normalize(light[:3], dim=0)
    strength, warmth, level, rim_level, cast = light[3:].unbind()
    facing = normal @ towards
    wrap = normal.new_tensor(_WRAP) * _softness(surface)[..., None]
    diffuse = ((facing[..., None] + wrap) / (1.0 + wrap)).clamp(min=0.0)
    open_sky = surface.light * (1.0 - _occlusion(surface, contact))
    wet = (surface.part >= UPPER_TEETH) & (surface.part <= TONGUE)
    key_colour = strength * (1.0 + warmth * normal.new_tensor([0.06, 0.0, -0.08]))
    key = diffuse * key_colour * torch.where(wet, open_sky, 0.4 + 0.6 * open_sky)[..., None]
    key = key if thrown is None else key * (1.0 - cast * thrown)[..., None]
    sky = 0.75 + 0.25 * normal[..., 1]
    rim = rim_level * (1.0 - normal[..., 2].abs()) ** 3 * (normal[..., 1] * 0.5 + 0.5)
    ambient = level * sky * (0.15 + 0.85 * open_sky) + rim * open_sky
    linear = material.colour.clamp(0.0, 1.0) ** 2.2 * (key + ambient[..., None])
    linear = linear + _highlights(surface, material, towards, strength)[..., None] * open_sky[..., None]
    linear = linear * material.shade[..., None] ** 1.5
    return (1.0 - torch.exp(-1.35 * linear)).clamp(1e-5, 1.0) ** (1 / 2.2)


def _softness(surface: Surface) -> Tensor:
    """How far light creeps around: twice as far on eyeballs as elsewhere, so that their whites stay clean."""
    return torch.where(is_eye(surface.part), 2.0, 1.0)


def _highlights(surface: Surface, material: Material, towards: Tensor, strength: Tensor) -> Tensor:
    viewer = towards.new_tensor([0.0, 0.0, 1.0])
    halfway = F.normalize(towards + viewer, dim=0)
    sharp = (surface.normal @ halfway).clamp(0.0, 1.0)
    if surface.kind == "hair":
        return strength * _hair_sheen(surface, halfway)
    gloss = material.gloss * sharp**material.sharpness
    if surface.kind == "rest":
        window = F.normalize(towards.new_tensor([0.16, 0.36, 1.0]), dim=0)  # the small catchlight of every eye
        light = 0.8 * (surface.normal @ window).clamp(0.0, 1.0) ** 200
        gloss = gloss + torch.where(is_eye(surface.part), light, 0.0)
    return strength * gloss


def _hair_sheen(surface: Surface, halfway: Tensor) -> Tensor:
    """Kajiya's highlight: brightest where the strand lies across the half vector."""
    down = surface.place - surface.place.new_tensor(_CROWN)
    away = surface.place[..., 1] < CENTRE[1]
    down = torch.where(away[..., None], down.new_tensor([0.0, -1.0, 0.0]), down)
    tangent = F.normalize(down - surface.normal * (down * surface.normal).sum(-1, keepdim=True), dim=-1)
    along = (tangent @ halfway).clamp(-1.0, 1.0)
    across = (1.0 - along**2).clamp(min=0.0).sqrt()
    base = surface.looks.colour("hair").mean(-1) ** 1.2
    uneven = 0.75 + 0.25 * torch.sin(surface.strand[..., 0] * 41 + surface.looks.number("phase"))
    uneven = uneven * sheen_unevenness(surface)
    return (0.02 + 0.28 * base) * across**28 * uneven * (surface.normal[..., 2] > 0)


def contact_shadow(distance: Tensor, covered: Tensor) -> Tensor:
    """How far pixels lie behind their surroundings, ``[F, S, S, 2]`` decimetres: close by, and farther around.

    The blurred depth map minus the depth map (``[F, S, S]``), a cheap ambient occlusion: neck under the chin, face
    beside hair, teeth behind lips.
    """
    size = distance.shape[-1]
    far = torch.where(covered, distance, distance.amax().clamp(min=1.0))[:, None]
    behind = []
    for share in (0.045, 0.13):
        reach = max(1, int(size * share / 2))
        pad = F.pad(far, (reach,) * 4, mode="replicate")
        mean = F.avg_pool2d(F.avg_pool2d(pad, (2 * reach + 1, 1), 1), (1, 2 * reach + 1), 1)
        behind.append((far - mean)[:, 0].clamp(0.0, 0.6))
    return torch.stack(behind, -1)


_STEPS: Final = (0.05, 0.08, 0.12, 0.17, 0.23, 0.30, 0.38, 0.48, 0.60, 0.75, 0.92)
_THICK: Final = 0.75  # decimetres; what lies farther in front belongs to somebody else


def thrown_shadow(distance: Tensor, covered: Tensor, light: Tensor, scale: float) -> Tensor:
    """Which pixels the key light does not reach, ``[F, S, S]`` in 0..1, as far as the picture shows what is in between.

    Walks from every pixel towards the light, over the depth map ``distance [F, S, S]`` in decimetres. ``scale`` is
    pixels per decimetre, ``light`` is ``Light.packed()``.
    """
    x, y, z = (float(value) for value in F.normalize(light[:3], dim=0).tolist())
    far = torch.where(covered, distance, 1e4)
    dark = torch.zeros_like(distance)
    for step in _STEPS:
        across, down = round(step * x * scale), round(-step * y * scale)
        front = distance - step * z - _moved(far, across, down)
        blocked = ((front - 0.012) / 0.05).clamp(0.0, 1.0) * (front < _THICK)
        dark = torch.maximum(dark, blocked)
    reach = max(1, round(0.022 * scale))
    pad = F.pad(dark[:, None], (reach,) * 4, mode="replicate")
    soft = F.avg_pool2d(F.avg_pool2d(pad, (2 * reach + 1, 1), 1), (1, 2 * reach + 1), 1)
    return soft[:, 0]


def _moved(picture: Tensor, across: int, down: int) -> Tensor:
    """What lies so many pixels to the right and below, edges repeated."""
    rows = (torch.arange(picture.shape[-2], device=picture.device) + down).clamp(0, picture.shape[-2] - 1)
    columns = (torch.arange(picture.shape[-1], device=picture.device) + across).clamp(0, picture.shape[-1] - 1)
    return picture[:, rows][:, :, columns]


def _occlusion(surface: Surface, contact: Tensor) -> Tensor:
    """Share of ambient light taken away by what is in front; strong between the lips, so that slits look dark."""
    near, wide = contact.unbind(-1)
    wet = (surface.part >= UPPER_TEETH) & (surface.part <= TONGUE)
    return torch.where(wet, (7.0 * near).clamp(max=0.92), (0.9 * near + 0.45 * wide).clamp(max=0.6))
