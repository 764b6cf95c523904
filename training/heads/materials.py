"""Procedural colours of skin, lips, brows, beard, eyes, teeth, hair and cloth, all in template coordinates.

Every function works on lists of N visible pixels with their interpolated attributes. Colours are sRGB; light comes
later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from training.heads.details import (
    DETAIL_COLOURS,
    DETAIL_NUMBERS,
    cloth_tone,
    hairs,
    skin_tone,
    strand_tone,
    tooth_tone,
)
from training.heads.identity import Identity
from training.heads.mesh import (
    BODY,
    HAIR,
    LEFT_EYE,
    LOWER_TEETH,
    MASK_EARS,
    MASK_EYELIDS,
    MASK_INSIDE,
    MASK_LIPS,
    RIGHT_EYE,
    TONGUE,
    UPPER_TEETH,
)

EYE_CENTRE: Final = (0.30775, 7.28415, 1.24535)  # of the left eyeball; the right one is mirrored
_IRIS_ANGLE, _PUPIL_ANGLE = 0.46, 0.19  # radians seen from the eyeball's centre

_OWN_COLOURS: Final = ("skin", "hair", "iris", "lips", "cloth")
_OWN_NUMBERS: Final = (
    *("male", "age", "brow", "brow_width", "beard", "moustache", "lashes", "makeup", "blemish", "neckline", "phase"),
)
_COLOURS: Final = (*_OWN_COLOURS, *DETAIL_COLOURS)
_NUMBERS: Final = (*_OWN_NUMBERS, *DETAIL_NUMBERS)


def pack_looks(identities: Sequence[Identity]) -> Tensor:
    """Colours and numbers of P people as ``[P, fields]`` float32 for ``Looks``."""
    rows = []
    for person in identities:
        known = vars(person) | vars(person.details)
        rows.append([*(c for name in _COLOURS for c in known[name]), *(known[name] for name in _NUMBERS)])
    return torch.tensor(rows, dtype=torch.float32)


class Looks:
    """Each pixel's look: ``colour`` gives ``[N, 3]`` or ``[3]``, ``number`` gives ``[N]`` or ``[]``."""

    def __init__(self, packed: Tensor, person: Tensor) -> None:
        """``packed [P, fields]``; ``person [N]`` says who is at each pixel (one person costs no look-up)."""
        # A row per field: neighbouring pixels' numbers lie side by side.
        self._values = packed[0] if len(packed) == 1 else packed.T[:, person]

    def colour(self, name: str) -> Tensor:
        start = 3 * _COLOURS.index(name)
        return self._values[start : start + 3].movedim(0, -1)

    def number(self, name: str) -> Tensor:
        return self._values[3 * len(_COLOURS) + _NUMBERS.index(name)]


Kind = Literal["body", "hair", "rest"]
"""What pixels may show that are shaded together: the body (skin and cloth), the sheet of hair, eyes, lashes, mouth."""


def kind_masks(part: Tensor) -> dict[Kind, Tensor]:
    """Which pixels ``[N]`` are of each kind; every pixel is of one."""
    body, hair = part == BODY, part == HAIR
    return {"body": body, "hair": hair, "rest": ~(body | hair)}


@dataclass(frozen=True)
class Surface:
    """What is visible at each of N pixels, all of one kind."""

    kind: Kind
    part: Tensor  # [N] int64
    place: Tensor  # [N, 3] template coordinates
    normal: Tensor  # [N, 3] unit, camera space
    masks: Tensor  # [N, 5]
    light: Tensor  # [N] baked share of sky
    growth: Tensor  # [N] roots of the hair on the skin
    strand: Tensor  # [N, 2]
    looks: Looks
    plain: bool = False  # nobody has details


@dataclass(frozen=True)
class Material:
    """Colour and shine of each pixel."""

    colour: Tensor  # [N, 3] sRGB albedo
    gloss: Tensor  # [N] strength of the highlight
    sharpness: Tensor  # [N] exponent of the highlight
    shade: Tensor  # [N] extra darkening 0..1 (inside of the mouth, under the lid)


def _step(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _blob(x: Tensor, width: float) -> Tensor:
    return torch.exp(-((x / width) ** 2))


def _mix(below: Tensor, above: Tensor, share: Tensor) -> Tensor:
    return below + (above - below) * share[..., None]


def _noise(place: Tensor, frequency: float, phase: Tensor) -> Tensor:
    """Smooth noise of about unit size: a sum of sines in fixed directions."""
    x, y, z = (place[..., axis] * frequency for axis in range(3))
    waves = (
        torch.sin(x * 1.7 + y * 1.1 - z * 0.6 + phase),
        torch.sin(-x * 0.9 + y * 1.9 + z * 1.3 + 1.7 * phase),
        torch.sin(x * 0.4 - y * 1.5 + z * 2.1 + 2.3 * phase),
        torch.sin(-x * 2.3 - y * 0.5 - z * 1.4 + 3.1 * phase),
    )
    return (waves[0] + waves[1] + waves[2] + waves[3]) * 0.5


def is_eye(part: Tensor) -> Tensor:
    """Which pixels show an eyeball."""
    return (part == LEFT_EYE) | (part == RIGHT_EYE)


def eyeball_direction(place: Tensor) -> Tensor:
    """Unit vector from the centre of the nearer eyeball to a point on it, template space ``[N, 3]``.

    The eyeball's true normals: the mesh is too coarse for a clean highlight.
    """
    left = place.new_tensor(EYE_CENTRE)
    centre = torch.where(place[..., :1] > 0, left, left * left.new_tensor([-1.0, 1.0, 1.0]))
    return torch.nn.functional.normalize(place - centre, dim=-1)


def materials(surface: Surface) -> Material:
    """Colours of what is visible."""
    if surface.kind == "body":
        return _body(surface)
    if surface.kind == "rest":
        return _rest(surface)
    bright = torch.ones_like(surface.light)
    colour = _hair(surface, _noise(surface.place, 4.0, surface.looks.number("phase")))
    return Material(colour, torch.zeros_like(bright), 20.0 * bright, bright)


def _body(surface: Surface) -> Material:
    """Skin and cloth."""
    place, looks = surface.place, surface.looks
    grain, fine = (_noise(place, frequency, looks.number("phase")) for frequency in (4.0, 19.0))
    skin, lips, hairy = _skin(surface, grain, fine)
    cloth = _cloth_share(surface)
    colour = _mix(skin, cloth_tone(surface, looks.colour("cloth") * (1.0 + 0.02 * fine[..., None])), cloth)
    gloss = (0.13 + 0.13 * lips) * (1.0 - 0.9 * cloth) * (1.0 - 0.9 * hairy)
    gloss = gloss * (1.0 + 0.8 * looks.number("shine"))
    return Material(colour, gloss, 14.0 + 22.0 * lips, _mouth_shade(surface))


def _rest(surface: Surface) -> Material:
    """Eyeballs, lashes, teeth and tongue."""
    part, place = surface.part, surface.place
    ball, depth_shade = is_eye(part), _step(place[..., 2], 0.85, 1.42).clamp(min=0.12)
    eye, white_shade = _eyes(surface)
    is_tooth, is_tongue = (part == UPPER_TEETH) | (part == LOWER_TEETH), part == TONGUE
    wet = is_tooth | is_tongue
    colour = torch.where(ball[..., None], eye, _lashes(surface))
    colour = torch.where(is_tooth[..., None], tooth_tone(surface, _teeth(place)), colour)
    colour = torch.where(is_tongue[..., None], place.new_tensor([0.62, 0.30, 0.29]).expand_as(colour), colour)
    shine = 0.13 * (1.0 + 0.8 * surface.looks.number("shine"))
    gloss = torch.where(ball | wet, 0.25, shine)
    sharpness = torch.where(ball, 200.0, torch.where(wet, 35.0, 14.0))
    shade = torch.where(wet, depth_shade, _mouth_shade(surface))
    return Material(colour, gloss, sharpness, torch.where(ball, white_shade, shade))


def _skin(surface: Surface, grain: Tensor, fine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colour of skin with blush, lips, brows and beard; where the lips are, and where hair is (0..1)."""
    looks, masks = surface.looks, surface.masks
    x, y, z = surface.place.unbind(-1)
    away = x.abs()
    warm = _blob(away - 0.44, 0.2) * _blob(y - 6.95, 0.2) + 0.7 * _blob(x, 0.15) * _blob(y - 6.97, 0.14) * (z > 1.3)
    warm = warm + 0.5 * (1.0 - surface.light) * (masks[..., MASK_EARS] > 0.3)
    uneven = 1.0 + looks.number("blemish") * (0.025 * grain + 0.012 * fine)
    skin = looks.colour("skin") * uneven[..., None] * (1.0 - warm[..., None] * x.new_tensor([0.0, 0.10, 0.09]))
    skin = skin_tone(surface, skin)
    tired = _blob(away - 0.3, 0.16) * _blob(y - 7.14, 0.07) * (0.06 + 0.12 * looks.number("age"))
    lids = masks[..., MASK_EYELIDS] * (0.12 + 0.25 * looks.number("makeup"))
    skin = skin * (1.0 - (tired + lids)[..., None] * x.new_tensor([0.9, 1.0, 0.95]))
    single = hairs(surface)
    beard, brows = _beard(surface, grain, fine) * single, _brows(surface, grain) * single
    skin = _mix(skin, looks.colour("hair"), beard)
    lips = masks[..., MASK_LIPS].clamp(0.0, 1.0) * (1.0 - masks[..., MASK_INSIDE] * 0.5)
    skin = _mix(skin, looks.colour("lips") * (1.0 + 0.03 * torch.sin(x * 90))[..., None], lips)
    inside = _step(masks[..., MASK_INSIDE], 0.35, 0.85) * (1.0 - lips)
    skin = _mix(skin, x.new_tensor([0.36, 0.13, 0.12]), inside)
    skin = _mix(skin, looks.colour("hair") * 0.85, brows)
    angle = surface.strand[..., 0]
    ragged = torch.sin(angle * 37 + grain) + torch.sin(angle * 71 - 2 * grain) + torch.sin(angle * 113 + fine)
    roots = _step(surface.growth + 0.06 * ragged, 0.1, 0.85) * _step(surface.growth, 0.0, 0.2)
    hairy = torch.maximum(torch.maximum(beard, brows), roots)
    return _mix(skin, looks.colour("hair") * 0.9, roots), lips, hairy


def _brows(surface: Surface, grain: Tensor) -> Tensor:
    looks = surface.looks
    x, y, z = surface.place.unbind(-1)
    along = (x.abs() - 0.335) / 0.25
    arch = 7.53 + 0.05 * (1.0 - (along - 0.2) ** 2) - 0.02 * along.clamp(min=0.0)
    width = 0.034 * looks.number("brow_width") * (1.0 - 0.5 * along.clamp(0.0, 1.0))
    band = torch.exp(-(((y - arch) / width) ** 4)) * _step(1.0 - along.abs(), 0.0, 0.2)
    strokes = 0.9 + 0.1 * torch.sin(x.abs() * 150 - y * 190 + 2 * grain)
    return (band * strokes * looks.number("brow") * (z > 0.9)).clamp(0.0, 0.9)


def _beard(surface: Surface, grain: Tensor, fine: Tensor) -> Tensor:
    looks = surface.looks
    x, y, z = surface.place.unbind(-1)
    away = x.abs()
    cheek = 6.44 + 0.60 * _step(away, 0.28, 0.68) + 0.015 * grain
    jaw = _step(cheek - y, -0.06, 0.10) * _step(y, 6.06, 6.28) * _step(z, 0.50, 0.80)
    bare_chin = 1.0 - 0.6 * _blob(away - 0.13, 0.06) * _blob(y - 6.46, 0.05)
    upper = _blob(y - 6.79 + 0.10 * away, 0.075) * _step(0.36 - away, 0.0, 0.10) * (z > 1.3)
    corner = _blob(away - 0.33, 0.06) * _step(6.80 - y, 0.0, 0.1) * _step(y, 6.4, 6.5) * (z > 1.2)
    density = looks.number("beard") * jaw * bare_chin
    density = torch.maximum(density, looks.number("moustache") * torch.maximum(upper, 0.8 * corner))
    hairy = density * (0.95 + 0.05 * fine + 0.03 * grain)
    return (hairy * (1.0 - surface.masks[..., MASK_LIPS].clamp(0.0, 1.0))).clamp(0.0, 0.95)


def _cloth_share(surface: Surface) -> Tensor:
    x, y, z = surface.place.unbind(-1)
    collar = 5.42 + 0.40 * (x.abs() / 0.9).clamp(0.0, 1.0) ** 2 - 0.25 * (z - 0.1).clamp(0.0, 1.0)
    collar = collar + 2.0 * _step(x.abs(), 0.8, 1.1)
    return _step(collar + surface.looks.number("neckline") - y, -0.01, 0.03)


def _hair(surface: Surface, grain: Tensor) -> Tensor:
    """Strands: fine stripes along the hair, darker roots, and a soft sheen across the strands."""
    looks = surface.looks
    angle, u = surface.strand.unbind(-1)
    bend = 0.25 * grain + 0.4 * u + looks.number("phase")
    stripes = torch.sin(angle * 17 + 2 * bend) + torch.sin(angle * 31 - 3 * bend) + torch.sin(angle * 53 + 5 * bend)
    tone = 1.0 + 0.07 * stripes - 0.12 * _step(-u, -0.5, 0.0) + 0.06 * grain
    return strand_tone(surface, looks.colour("hair") * tone[..., None])


def _lashes(surface: Surface) -> Tensor:
    skin = surface.looks.colour("skin").expand_as(surface.place)
    dark = skin.new_tensor([0.05, 0.04, 0.035]).expand_as(skin)
    share = (0.45 + 0.5 * surface.looks.number("lashes")).expand(len(skin))
    return _mix(skin, dark, share)


def _eyes(surface: Surface) -> tuple[Tensor, Tensor]:
    """Eyeball colour, and the shadow that the upper lid throws on it."""
    outwards = eyeball_direction(surface.place)
    angle = torch.acos(outwards[..., 2].clamp(-0.9999, 0.9999))
    iris, pupil = _step(_IRIS_ANGLE - angle, -0.035, 0.035), _step(_PUPIL_ANGLE - angle, -0.03, 0.03)
    rim = _blob(angle - _IRIS_ANGLE, 0.06)
    white = surface.place.new_tensor([0.90, 0.885, 0.87]).expand_as(outwards)
    ring = 0.75 + 0.75 * (angle / _IRIS_ANGLE).clamp(0.0, 1.0) ** 2
    colour = _mix(white, surface.looks.colour("iris") * ring[..., None], iris)
    colour = colour * (1.0 - 0.55 * rim * iris - 0.25 * rim * (1.0 - iris))[..., None]
    colour = _mix(colour, torch.full_like(colour, 0.015), pupil)
    return colour, 1.0 - 0.5 * _step(surface.place[..., 1], EYE_CENTRE[1] + 0.02, EYE_CENTRE[1] + 0.12)


def _teeth(place: Tensor) -> Tensor:
    gaps = (torch.sin(place[..., 0] * 33).abs() / 0.35).clamp(max=1.0)
    return place.new_tensor([0.90, 0.87, 0.80]) * (0.82 + 0.18 * gaps)[..., None]


def _mouth_shade(surface: Surface) -> Tensor:
    """Darkness deep in the mouth; 1 outside."""
    inside = _step(surface.masks[..., MASK_INSIDE], 0.35, 0.85) * (1.0 - surface.masks[..., MASK_LIPS].clamp(0.0, 1.0))
    depth = _step(surface.place[..., 2], 0.9, 1.5).clamp(min=0.05)
    return 1.0 - inside * (1.0 - depth)
