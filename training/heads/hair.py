"""Hair as one sheet of strands that run from the crown down the skull and, when long, fall past it.

A point of the sheet has an angle around the head and a place ``u`` along its strand: from the crown (0) over the skull
to the height of the brow (1), then straight down, one decimetre per unit. A style says where strands end (the hairline,
or the tips of long hair), how thick the hair lies, and how it falls; every style uses the same mesh.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

CENTRE: Final = np.array([0.0, 7.5, 0.45], np.float32)  # rays start here: behind the eyes, at brow height
COLUMNS: Final = 72
ROWS: Final = 30
STEPS_PER_UNIT: Final = 16
PATH_STEPS: Final = 3 * STEPS_PER_UNIT + 1
EAR_TOP: Final = 1.1  # u just above the ear
NAPE: Final = 1.75  # u of the natural hairline at the neck
SINK: Final = 0.015  # tapered ends dive this far below the skin, which hides the edge
_NEIGHBOURS: Final = 6


@dataclass(frozen=True, kw_only=True)
class HairStyle:
    """Where hair grows and how it lies; lengths in decimetres, angles in radians from the face (0) to the back."""

    top: float = 0.10  # thickness above
    sides: float = 0.05
    front: float = 0.70  # u of the hairline over the forehead
    recede: float = 0.04  # how far it recedes at the temples
    fringe: float = 0.0  # how far hair falls over the forehead, in u
    sweep: float = 0.0  # fringe longer on one side, -1..1
    side_end: float = EAR_TOP  # u where the strands at the side end
    back_end: float = NAPE
    burn: float = 0.08  # sideburns
    curtain: float = 1.0  # angle at which the sides begin
    drape: float = 0.0  # 1: long hair that falls freely
    flare: float = 0.0  # long hair widens (or narrows) downwards
    cover: float = 0.0  # 1: lies over the ears
    lift: float = 0.0  # hair brushed up over the forehead
    parting: float = 0.0  # angle of the parting
    parted: float = 0.0  # depth of the parting, 0..1
    wave: float = 0.0  # sideways waves of long hair
    curl: float = 0.1  # uneven thickness
    phase: float = 0.0  # shifts waves and curls
    density: float = 1.0  # how much of the skin the roots colour
    ragged: float = 0.0  # how much longer some strands are than their neighbours, in u


_NAMES: Final = tuple(field.name for field in fields(HairStyle))


def pack_styles(styles: list[HairStyle]) -> Tensor:
    """Styles as ``[P, fields]`` float32 for ``StyleTable``."""
    return torch.tensor([astuple(style) for style in styles], dtype=torch.float32)


class StyleTable:
    """Packed styles with named columns that broadcast over the sheet: each is ``[P, 1, 1]``."""

    def __init__(self, packed: Tensor) -> None:
        self._packed = packed

    def __getitem__(self, name: str) -> Tensor:
        return self._packed[:, _NAMES.index(name), None, None]


def angles() -> Floats:
    """Angle of each column, ``[COLUMNS]``, from -pi; 0 is the face, pi/2 the person's left ear."""
    return ((np.arange(COLUMNS) / COLUMNS * 2 - 1) * np.pi).astype(np.float32)


def path_rays() -> tuple[Floats, Floats]:
    """Origins and directions ``[COLUMNS, PATH_STEPS, 3]`` of the rays that meet the skull along every strand."""
    angle = angles()[:, None]
    u = (np.arange(PATH_STEPS, dtype=np.float32) / STEPS_PER_UNIT)[None]
    polar = np.minimum(u, 1.0) * np.float32(np.pi / 2)
    out, up = np.sin(polar), np.cos(polar)
    directions = np.stack([np.sin(angle) * out, up + 0 * angle, np.cos(angle) * out], -1)
    origins = np.broadcast_to(CENTRE, directions.shape).copy()
    origins[..., 1] -= np.maximum(u - 1.0, 0.0)
    return origins.astype(np.float32), directions.astype(np.float32)


def sheet_triangles() -> NDArray[np.int64]:
    """Triangles of the sheet ``[2 COLUMNS (ROWS - 1), 3]``; vertex ``column * ROWS + row``, columns close in a ring."""
    column, row = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS - 1), indexing="ij")
    here, beside = column * ROWS + row, (column + 1) % COLUMNS * ROWS + row
    pairs = [(here, here + 1, beside), (beside, here + 1, beside + 1)]
    return np.concatenate([np.stack(pair, -1).reshape(-1, 3) for pair in pairs]).astype(np.int64)


def strand_coordinates(points: Floats) -> tuple[Floats, Floats]:
    """Angle and ``u`` of template points ``[V, 3]``, the inverse of ``path_rays``."""
    x, y, z = (points - CENTRE).T
    out = np.hypot(x, z)
    above = np.arctan2(out, y) / np.float32(np.pi / 2)
    return np.arctan2(x, z).astype(np.float32), np.where(y > 0, above, 1.0 - y).astype(np.float32)


def _step(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bump(x: Tensor, centre: float, width: float) -> Tensor:
    return torch.exp(-(((x - centre) / width) ** 2))


def hairline(style: StyleTable, angle: Tensor) -> Tensor:
    """``u`` of the natural hairline at each angle: ``[P, 1, 1]`` styles by ``[n]`` angles give ``[P, n, 1]``."""
    away = angle.abs()[None, :, None]
    front = style["front"] - style["recede"] * _bump(away, 0.72, 0.2)
    side = EAR_TOP + style["burn"] * _bump(away, 1.2, 0.1)
    ends = torch.lerp(front.expand_as(side), side, _step(away, 0.85, 1.15))
    return torch.lerp(ends, torch.full_like(ends, NAPE), _step(away, 1.8, 2.1))


def _strand_ends(style: StyleTable, angle: Tensor) -> Tensor:
    """``u`` of the strands' tips at each angle, ``[P, n, 1]``."""
    signed = angle[None, :, None]
    away = signed.abs()
    fringe = style["fringe"] * (1.0 + 0.5 * style["sweep"] * torch.sin(signed * 1.5)) * _step(-away, -1.1, -0.75)
    natural = hairline(style, angle) + fringe
    begins = _step(away, style["curtain"] - 0.16, style["curtain"] + 0.16)
    ends = torch.lerp(natural, torch.maximum(natural, style["side_end"]), begins)
    ends = torch.lerp(ends, style["back_end"].expand_as(ends), _step(away, 1.8, 2.1))
    return ends + style["ragged"] * _tips(signed, style["phase"])


def _tips(angle: Tensor, phase: Tensor) -> Tensor:
    """Locks of different lengths, about -1..1: ``[1, n, 1]`` angles and ``[P, 1, 1]`` phases give ``[P, n, 1]``."""
    waves = torch.sin(angle * 13 + 3 * phase) + torch.sin(angle * 23 - 5 * phase) + torch.sin(angle * 34 + 7 * phase)
    return waves / 3


def _thickness(style: StyleTable, angle: Tensor, u: Tensor, ends: Tensor) -> Tensor:
    """How far the hair stands off the skull, ``[P, COLUMNS, ROWS]``; negative under the skin."""
    signed = angle[None, :, None]
    away = signed.abs()
    depth = torch.lerp(style["top"].expand_as(u), style["sides"].expand_as(u), _step(u, 0.45, 1.05))
    depth = depth + style["lift"] * _bump(signed, 0.0, 0.75) * _bump(u, 0.55, 0.22)
    uneven = torch.sin(signed * 9 + u * 5 + style["phase"]) * torch.sin(u * 11 - signed * 4 + 2 * style["phase"])
    depth = depth * (1.0 + style["curl"] * uneven)
    groove = _bump(signed - style["parting"], 0.0, 0.16) * _step(-u, -0.95, -0.6) * _step(u, 0.02, 0.25)
    depth = depth * (1.0 - 0.75 * style["parted"] * groove)
    depth = depth + 0.17 * style["cover"] * _bump(away, 1.5, 0.42) * _bump(u, 1.4, 0.45)
    loose = style["drape"] * _step(ends, 1.15, 1.6)
    taper = torch.lerp(_step((ends - u) / (0.16 + style["sides"]), 0.0, 1.0), torch.ones_like(u), loose)
    return depth * taper - SINK * (1.0 - taper)


def _along(field: Tensor, u: Tensor) -> Tensor:
    """Linear look-up along strands: field ``[P or 1, COLUMNS, PATH_STEPS, C]`` at ``u`` ``[P, COLUMNS, ROWS]``."""
    place = (u * STEPS_PER_UNIT).clamp(0.0, PATH_STEPS - 1.001)
    low = place.floor().long()
    share = (place - low)[..., None]
    table = field.expand(len(u), -1, -1, -1)
    index = low[..., None].expand(-1, -1, -1, table.shape[-1])
    return torch.lerp(table.gather(2, index), table.gather(2, index + 1), share)


def _falling(radius: Tensor, u: Tensor, style: StyleTable) -> Tensor:
    """Long hair does not follow the neck: below the brow it keeps the widest radius that it passed."""
    below = torch.where(u >= 0.85, radius, torch.zeros_like(radius))
    widest = torch.minimum(below.cummax(-1).values, 1.3 * below.amax(-1, keepdim=True).clamp(max=0.95))
    return torch.lerp(radius, torch.maximum(widest, radius.clamp(max=1.0)), style["drape"] * _step(u, 0.9, 1.1))


def sheet(packed: Tensor, skull: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Hair of P people.

    Args:
        packed: ``[P, fields]`` styles.
        skull: ``[COLUMNS, PATH_STEPS]`` radius of the template's skull along the rays.
        moved: ``[P, COLUMNS, PATH_STEPS, 3]`` how each person's skull differs from the template.

    Returns:
        positions ``[P, COLUMNS * ROWS, 3]`` and strand coordinates (angle, u) ``[P, COLUMNS * ROWS, 2]``.
    """
    style = StyleTable(packed)
    angle = torch.from_numpy(angles()).to(packed.device)
    ends = _strand_ends(style, angle)
    u = ends * torch.linspace(0.0, 1.0, ROWS, device=packed.device)
    radius = _along(skull[None, :, :, None], u)[..., 0] + _thickness(style, angle, u, ends)
    radius = _falling(radius, u, style)
    hang = (u - 1.0).clamp(min=0.0)
    radius = radius + style["drape"] * hang * (style["flare"] + 0.05 * torch.sin(hang * 6 + style["phase"]))
    turn = angle[None, :, None] + style["wave"] * hang * torch.sin(hang * 9 + style["phase"])
    polar = u.clamp(max=1.0) * (np.pi / 2)
    centre = torch.from_numpy(CENTRE).to(packed.device)
    out = radius * torch.sin(polar)
    position = torch.stack([turn.sin() * out, radius * torch.cos(polar) - hang, turn.cos() * out], -1) + centre
    position = position + _along(moved, torch.lerp(u, u.clamp(max=1.0), style["drape"].expand_as(u)))
    strand = torch.stack([angle[None, :, None].expand_as(u), u], -1)
    return position.flatten(1, 2), strand.flatten(1, 2)


def growth(packed: Tensor, angle: Tensor, u: Tensor) -> Tensor:
    """How densely hair covers the skin at points with strand coordinates ``[V]``: ``[P, V]`` in 0..1."""
    style = StyleTable(packed)
    return style["density"][..., 0] * _step(hairline(style, angle)[..., 0] - u, -0.02, 0.09)


def skull_binding(vertices: Floats, usable: NDArray[np.bool_], skull: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Nearest usable template vertices of every point on the skull grid, ``[grid, 6]``, and their weights.

    Args: template ``[V, 3]``, which of its vertices may be used ``[V]``, and radius ``[COLUMNS, PATH_STEPS]``.
    """
    candidates = np.flatnonzero(usable)
    origins, directions = path_rays()
    grid = torch.from_numpy((origins + skull[..., None] * directions).reshape(-1, 3))
    distance, index = torch.cdist(grid, torch.from_numpy(vertices[candidates])).topk(_NEIGHBOURS, largest=False)
    weight = torch.exp(-((distance / (distance[:, -1:] + 1e-3)) ** 2) * 3)
    return candidates[index.numpy()], (weight / weight.sum(1, keepdim=True)).numpy()
