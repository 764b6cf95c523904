"""What makes one skin, head of hair or shirt unlike another: pores, freckles, wrinkles, strands, patterns.

All fields are zero for a plain person, who looks as if there were no details at all.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from training.heads.mesh import MASK_INSIDE, MASK_LIPS
from training.heads.noise import layered, noise, noise_and_slope

if TYPE_CHECKING:
    from training.heads.materials import Surface

Colour = tuple[float, float, float]  # sRGB, 0..1


@dataclass(frozen=True, kw_only=True)
class Details:
    """Numbers of about 0..1 unless told otherwise; colours are used as far as the numbers beside them say."""

    pores: float = 0.0  # relief of the skin
    grain: float = 0.0  # fine unevenness of its colour
    blotches: float = 0.0  # large patches of another tone
    freckles: float = 0.0
    moles: float = 0.0
    wrinkles: float = 0.0
    stubble: float = 0.0  # beards and brows of single hairs
    shine: float = 0.0  # -1 matt, 1 oily
    strands: float = 0.0  # single strands of hair
    streaks: float = 0.0  # strands of another colour
    ragged: float = 0.0  # uneven tips
    pattern: float = 0.0  # strength of the cloth's pattern
    pattern_kind: float = 0.0  # 0 stripes across, 1 stripes down, 2 checks, 3 a print
    pattern_size: float = 1.0  # decimetres
    teeth: float = 0.0  # -1 yellow and dark, 1 white
    gaps: float = 0.0  # lines between teeth
    second_cloth: Colour = (0.5, 0.5, 0.5)
    second_hair: Colour = (0.5, 0.5, 0.5)


DETAIL_COLOURS: Final = ("second_cloth", "second_hair")
DETAIL_NUMBERS: Final = tuple(field.name for field in fields(Details) if field.name not in DETAIL_COLOURS)
_RELIEF: Final = 0.075
_FOREHEAD, _BROW = 7.66, 8.05  # heights, decimetres


def _step(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _blob(x: Tensor, width: float) -> Tensor:
    return torch.exp(-((x / width) ** 2))


def _shifted(place: Tensor, phase: Tensor) -> Tensor:
    """Another part of the noise for every person."""
    return place + phase[..., None] * 3.17


def relief(surface: Surface) -> Tensor:
    """What to add to the skin's normals in the head's own frame, ``[N, 3]``: pores, wrinkles, the lips' furrows."""
    looks, place = surface.looks, surface.place
    _, slope = noise_and_slope(_shifted(place, looks.number("phase")) * 38.0)
    _, coarse = noise_and_slope(_shifted(place, looks.number("phase")) * 15.0)
    rough = looks.number("pores") * (1.0 - surface.masks[..., MASK_INSIDE])
    x, y, z = place.unbind(-1)
    wave = looks.number("wrinkles") * _forehead(x, y, z)
    up = torch.cos(_lines(x, y)) * wave * 0.5
    furrow = torch.cos(x * 120.0) * surface.masks[..., MASK_LIPS].clamp(0.0, 1.0) * 0.2 * looks.number("pores")
    bend = torch.stack([furrow, up, torch.zeros_like(up)], -1)
    return bend - (0.7 * slope + 0.6 * coarse) * (rough * _RELIEF)[..., None]


def _forehead(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return (
        _step(y, _FOREHEAD, _FOREHEAD + 0.08)
        * _step(_BROW - y, 0.0, 0.15)
        * _step(0.62 - x.abs(), 0.0, 0.3)
        * (z > 0.9)
    )


def _lines(x: Tensor, y: Tensor) -> Tensor:
    return (y + 0.03 * torch.cos(x * 6.0)) * 66.0


def skin_tone(surface: Surface, skin: Tensor) -> Tensor:
    """The skin's colour ``[N, 3]`` with its unevenness, freckles, moles and lines."""
    if surface.plain:
        return skin
    looks, place = surface.looks, surface.place
    phase = looks.number("phase")
    x, y, z = place.unbind(-1)
    patches = layered(_shifted(place, phase) * 2.6, 3)
    fine = noise(_shifted(place, phase) * 55.0) + 0.7 * noise(_shifted(place, phase) * 24.0)
    lift = 1.0 + 0.11 * looks.number("blotches") * patches + 0.055 * looks.number("grain") * fine
    red = 0.14 * looks.number("blotches") * (layered(_shifted(place, phase) * 3.3 + 40.0, 2) + 0.25).clamp(min=0.0)
    tint = torch.stack([torch.zeros_like(red), red, 0.8 * red], -1)
    skin = skin * lift[..., None] * (1.0 - tint)
    sunny = _blob(y - 7.0, 0.32) * _blob(x, 0.75) * (z > 0.7) + 0.25
    dots = _step(noise(_shifted(place, phase) * 21.0), 0.38, 0.62) + 0.6 * _step(noise(place * 33.0), 0.45, 0.65)
    freckles = (looks.number("freckles") * sunny * dots).clamp(0.0, 0.55)
    moles = looks.number("moles") * _step(noise(_shifted(place, phase) * 8.0 + 9.0), 0.90, 0.94)
    skin = skin * (1.0 - freckles[..., None] * skin.new_tensor([0.28, 0.42, 0.52]))
    skin = skin * (1.0 - moles[..., None] * skin.new_tensor([0.55, 0.65, 0.7]))
    return skin * (1.0 - 0.5 * _creases(surface))[..., None]


def _creases(surface: Surface) -> Tensor:
    """Dark lines of age: on the forehead, from nose to mouth, under the eyes, beside them."""
    x, y, z = surface.place.unbind(-1)
    away = x.abs()
    forehead = _forehead(x, y, z) * _step(torch.sin(_lines(x, y)), 0.6, 1.0)
    along = ((6.98 - y) / 0.36).clamp(0.0, 1.0)
    fold = (
        _blob(away - (0.21 + 0.15 * along**0.8), 0.045) * _step(6.98 - y, 0.0, 0.08) * _step(y, 6.56, 6.7) * (z > 1.0)
    )
    bag = _blob(y - (7.12 - 0.05 * (1.0 - ((away - 0.31) / 0.2) ** 2)), 0.016) * _step(
        0.2 - (away - 0.31).abs(), 0.0, 0.1
    )
    feet = _step(away, 0.5, 0.58) * _step(0.76 - away, 0.0, 0.1) * _blob(y - 7.25, 0.1)
    feet = feet * _step(torch.sin((y - 7.25) * 90.0 + (away - 0.5) * (y - 7.25) * 300.0), 0.5, 1.0)
    lines = 0.5 * forehead + 0.4 * fold + 0.45 * bag + 0.3 * feet
    return surface.looks.number("wrinkles") * lines.clamp(0.0, 1.0)


def hairs(surface: Surface) -> Tensor:
    """How much of a beard or brow shows between its single hairs, ``[N]``; 1 where they are one mass."""
    if surface.plain:
        return torch.ones_like(surface.light)
    place = surface.place * surface.place.new_tensor([62.0, 26.0, 40.0])
    return 1.0 - surface.looks.number("stubble") * (0.3 + 0.4 * noise(place))


def strand_tone(surface: Surface, hair: Tensor) -> Tensor:
    """Hair's colour ``[N, 3]`` with single strands, darker roots between them, and streaks."""
    if surface.plain:
        return hair
    looks = surface.looks
    angle, u = surface.strand.unbind(-1)
    phase = looks.number("phase").expand_as(angle)
    locks = noise(torch.stack([angle * 14.0, u * 1.6, phase], -1))
    single = noise(torch.stack([angle * 75.0 + 2.0 * locks, u * 3.0, phase + 3.0], -1))
    thin = noise(torch.stack([angle * 210.0 + 4.0 * locks, u * 6.0, phase + 7.0], -1))
    tone = 1.0 + looks.number("strands") * (0.16 * locks + 0.28 * single + 0.2 * thin)
    share = looks.number("streaks") * _step(single + 0.5 * locks, 0.0, 0.5)
    mixed = hair + (looks.colour("second_hair") - hair) * share[..., None]
    return mixed * tone[..., None]


def sheen_unevenness(surface: Surface) -> Tensor:
    """Where strands catch the light: about 1 ``[N]``, 1 everywhere without strands."""
    if surface.plain:
        return torch.ones_like(surface.light)
    angle, u = surface.strand.unbind(-1)
    phase = surface.looks.number("phase").expand_as(angle)
    single = noise(torch.stack([angle * 90.0, u * 2.0, phase + 5.0], -1))
    return (1.0 + 1.2 * surface.looks.number("strands") * single).clamp(min=0.0)


def cloth_tone(surface: Surface, cloth: Tensor) -> Tensor:
    """Cloth's colour ``[N, 3]`` with its pattern and weave."""
    if surface.plain:
        return cloth
    looks, place = surface.looks, surface.place
    size = looks.number("pattern_size")
    kind = looks.number("pattern_kind")
    across, down = (torch.sin(place[..., axis] * 6.28 / size) > 0.3 for axis in (1, 0))
    print_ = layered(_shifted(place, looks.number("phase")) * (1.6 / size)[..., None], 2) > 0.12
    checks = across.float() * 0.5 + down.float() * 0.5
    shape = torch.where(
        kind < 0.5,
        across.float(),
        torch.where(kind < 1.5, down.float(), torch.where(kind < 2.5, checks, print_.float())),
    )
    share = looks.number("pattern") * shape
    weave = (
        1.0 + 0.12 * looks.number("grain") * noise(place * 45.0) + 0.1 * looks.number("blotches") * noise(place * 3.0)
    )
    mixed = cloth + (looks.colour("second_cloth") - cloth) * share[..., None]
    return mixed * weave[..., None]


def tooth_tone(surface: Surface, teeth: Tensor) -> Tensor:
    """Colour of teeth ``[N, 3]``: whiter or yellower, with lines between them."""
    if surface.plain:
        return teeth
    looks = surface.looks
    shade = looks.number("teeth")
    x = surface.place[..., 0]
    line = looks.number("gaps") * _step(torch.cos(x * 66.0), 0.86, 1.0)
    tint = 1.0 + shade[..., None] * teeth.new_tensor([0.06, 0.08, 0.14])
    return teeth * tint * (1.0 - 0.45 * line)[..., None]
