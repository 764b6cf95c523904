"""The head mesh: template, identity targets, blendshapes and baked attributes, as arrays and on a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DATA: Final = Path(__file__).parent / "data"

# Part numbers of the triangles and vertices, as stored in head.npz; HAIR is the mesh that hair.py makes.
BODY, LEFT_EYE, RIGHT_EYE, UPPER_TEETH, LOWER_TEETH, TONGUE = range(6)
LOWER_LASHES: Final = (6, 7)
UPPER_LASHES: Final = (8, 9)
HAIR: Final = 10

# Columns of the painted masks.
MASK_LIPS, MASK_INSIDE, MASK_EARS, MASK_EYELIDS, MASK_FACE = range(5)


@dataclass(frozen=True)
class HeadData:
    """Arrays of ``data/head.npz`` (CC0, MakeHuman) and ``data/baked.npz``; lengths in decimetres, y up, z forward.

    V = 5649 vertices without the stored hair, T triangles, K identity targets.
    """

    vertices: NDArray[np.float32]  # [V, 3] template
    triangles: NDArray[np.int64]  # [T, 3]
    triangle_parts: NDArray[np.int64]  # [T]
    vertex_parts: NDArray[np.int64]  # [V]
    masks: NDArray[np.float32]  # [V, 5] lips, inside of the mouth, ears, eyelids, face
    targets: NDArray[np.float32]  # [K, V, 3] identity displacements
    target_names: tuple[str, ...]
    shapes: NDArray[np.float32]  # [52, V, 3] expression displacements, ARKit order
    light: NDArray[np.float32]  # [V] share of the sky that reaches the vertex, 0..1
    skull: NDArray[np.float32]  # [columns, rows] radius of the skull without ears, see hair.py


@cache
def head_data() -> HeadData:
    """Read the bundled data once per process."""
    with np.load(DATA / "head.npz", allow_pickle=False) as head, np.load(DATA / "baked.npz") as baked:
        # MakeHuman's own hair is a few flat cards: drop it, keep the order of all other vertices.
        keep, solid = head["VP"] != HAIR, head["P"] != HAIR
        return HeadData(
            vertices=head["V"][keep],
            triangles=(np.cumsum(keep) - 1)[head["T"][solid]],
            triangle_parts=head["P"][solid],
            vertex_parts=head["VP"][keep],
            masks=head["M"][keep].clip(0.0, 1.0),
            targets=head["D"][:, keep].astype(np.float32),
            shapes=head["E"][:, keep].astype(np.float32),
            target_names=tuple(str(name) for name in head["names"]),
            light=baked["light"].astype(np.float32) / 255.0,
            skull=baked["skull"],
        )


def incident_triangles(triangles: NDArray[np.int64], vertices: int) -> NDArray[np.int64]:
    """For each vertex the triangles that touch it, ``[vertices, most]``, padded with ``len(triangles)``.

    Summing over this table in a fixed order makes normals repeatable, which atomic adds on a GPU are not.
    """
    flat = triangles.ravel()
    order = np.argsort(flat, kind="stable")
    counts = np.bincount(flat, minlength=vertices)
    table = np.full((vertices, counts.max()), len(triangles), np.int64)
    slot = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[flat[order], slot] = order // 3
    return table


def vertex_normals(positions: Tensor, triangles: Tensor, incident: Tensor) -> Tensor:
    """Unit normals ``[B, V, 3]``: area-weighted mean of the touching triangles' normals."""
    a, b, c = (positions[:, triangles[:, k]] for k in range(3))
    facing = torch.cross(b - a, c - a, dim=-1)
    facing = torch.cat([facing, facing.new_zeros(len(facing), 1, 3)], 1)
    return torch.nn.functional.normalize(facing[:, incident].sum(2), dim=-1)
