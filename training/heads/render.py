"""Pictures of one to three talking heads, with boxes and maps of where everyone is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.heads.blendshapes import JAW_OPEN
from training.heads.geometry import HeadMesh, People, Posed
from training.heads.identity import Identity
from training.heads.materials import Looks, Surface, materials, pack_looks
from training.heads.mesh import HAIR, LEFT_EYE, RIGHT_EYE
from training.heads.motion import Motion
from training.heads.raster import Rasteriser, rasterise
from training.heads.scene import MAX_PEOPLE, Background, Light, Place, paint_background
from training.heads.shading import contact_shadow, shade

SUPERSAMPLING: Final = 2
_EYE_CENTRE_X: Final = 0.30775


@dataclass(frozen=True, kw_only=True)
class PersonSpec:
    """One person of a clip: who, how they move, and where they stand."""

    identity: Identity
    motion: Motion
    place: Place


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """One to three people, from left to right, before one background in one light."""

    people: tuple[PersonSpec, ...]
    light: Light
    background: Background

    def __post_init__(self) -> None:
        if not 1 <= len(self.people) <= MAX_PEOPLE:
            raise ValueError(f"people = {len(self.people)}: a clip holds 1 to {MAX_PEOPLE}")
        lengths = {len(person.motion.weights) for person in self.people}
        if len(lengths) != 1:
            raise ValueError(f"frames = {sorted(lengths)}: all people of a clip need motion of the same length")


@dataclass(frozen=True)
class Clip:
    """F frames of P people; boxes are x0, y0, x1, y1 in pixels of the picture and may reach beyond its edge."""

    frames: Tensor  # [F, S, S, 3] uint8
    person_map: Tensor  # [F, S, S] uint8: 0 background, 1 to P the people from left to right
    mouth_boxes: Tensor  # [F, P, 4] float32
    eye_boxes: Tensor  # [F, P, 2, 4] float32, the person's left and right eye
    face_boxes: Tensor  # [F, P, 4] float32
    weights: Tensor  # [F, P, 52] ARKit weights that were applied

    @property
    def openness(self) -> Tensor:
        """Jaw openness ``[F, P]``."""
        return self.weights[..., JAW_OPEN]


class HeadRenderer:
    """Renders clips on one device. ``method`` picks the rasteriser: ``cuda`` needs CuPy, ``torch`` runs anywhere.

    ``frames_at_once`` bounds memory: about 60 MB per frame at 128 pixels. ``compiled`` fuses the shading with
    torch.compile, worth it for many clips of the same length on a GPU.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        method: Rasteriser | None = None,
        *,
        size: int = 128,
        frames_at_once: int | None = None,
        compiled: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.mesh = HeadMesh(self.device)
        self.size = size
        self._method: Rasteriser = method or ("cuda" if self.device.type == "cuda" else "torch")
        self._at_once = frames_at_once or (96 if self.device.type == "cuda" else 8)
        self._paint = torch.compile(_paint, dynamic=False) if compiled else _paint

    @torch.no_grad()
    def render(self, spec: ClipSpec) -> Clip:
        """Draw all frames of a clip."""
        people = self.mesh.at_rest([person.identity for person in spec.people])
        looks = pack_looks([person.identity for person in spec.people]).to(self.device)
        weights, pose, sway = (
            self._stack([getattr_of(person.motion) for person in spec.people])
            for getattr_of in (lambda m: m.weights, lambda m: m.pose, lambda m: m.sway)
        )
        backdrop = paint_background(spec.background, self.size, self.device)
        parts = [
            self._draw(people, looks, weights[i : i + self._at_once], pose[i : i + self._at_once],
                       sway[i : i + self._at_once], spec, backdrop)
            for i in range(0, len(weights), self._at_once)
        ]
        frames, maps, mouths, eyes, faces = (torch.cat(column) for column in zip(*parts, strict=True))
        return Clip(frames, maps, mouths, eyes, faces, weights)

    def _stack(self, arrays: Sequence[NDArray[np.float32]]) -> Tensor:
        return torch.from_numpy(np.stack(arrays, 1)).to(self.device)

    def _draw(
        self, people: People, looks: Tensor, weights: Tensor, pose: Tensor, sway: Tensor, spec: ClipSpec, backdrop: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        large = self.size * SUPERSAMPLING
        posed = self.mesh.pose(people, weights, pose, sway, [person.place for person in spec.people], large)
        code, distance = rasterise(
            posed.screen, posed.depth, self.mesh.triangles, self.mesh.two_sided, large, self._method
        )
        covered = code >= 0
        person = code.clamp(min=0) // len(self.mesh.triangles)
        triangle = code.clamp(min=0) % len(self.mesh.triangles)
        attributes, normal = _interpolate(self.mesh, people, posed, person, triangle)
        colour = self._paint(attributes, normal, self.mesh.parts[triangle], person, looks, distance, covered, spec.light)
        picture = torch.where(covered[..., None], colour, _enlarge(backdrop))
        frames = F.avg_pool2d(picture.permute(0, 3, 1, 2), SUPERSAMPLING).permute(0, 2, 3, 1)
        boxes = {name: self.mesh.box(posed, name) / SUPERSAMPLING for name in ("mouth", "left_eye", "right_eye", "face")}
        eyes = torch.stack([boxes["left_eye"], boxes["right_eye"]], 2)
        frames = (frames * 255).round().clamp(0, 255).to(torch.uint8)
        return frames, _person_map(person, covered, len(spec.people)), boxes["mouth"], eyes, boxes["face"]


def _enlarge(picture: Tensor) -> Tensor:
    """Repeat each pixel of ``[S, S, 3]`` for supersampling."""
    return picture.repeat_interleave(SUPERSAMPLING, 0).repeat_interleave(SUPERSAMPLING, 1)


def _person_map(person: Tensor, covered: Tensor, people: int) -> Tensor:
    """Who covers at least half of each final pixel: ``[F, S, S]`` uint8, 0 for the background."""
    shares = torch.stack([covered & (person == index) for index in range(people)], 1).float()
    shares = F.avg_pool2d(shares, SUPERSAMPLING)
    best, index = shares.max(1)
    return torch.where(best >= 0.5, index + 1, 0).to(torch.uint8)


def _interpolate(
    mesh: HeadMesh, people: People, posed: Posed, person: Tensor, triangle: Tensor
) -> tuple[Tensor, Tensor]:
    """Attributes ``[F, S, S, 12]`` and unit normals ``[F, S, S, 3]`` at the middle of every pixel."""
    size = person.shape[-1]
    frame = torch.arange(len(person), device=person.device)[:, None, None, None]
    who = person[..., None].expand(-1, -1, -1, 3)
    corners = mesh.triangles[triangle]  # [F, S, S, 3]
    (ax, ay), (bx, by), (cx, cy) = (corner.unbind(-1) for corner in posed.screen[frame, who, corners].unbind(-2))
    middle = torch.arange(size, device=person.device) + 0.5
    x, y = middle[None, None, :], middle[None, :, None]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    area = torch.where(area.abs() < 1e-9, torch.ones_like(area), area)
    w0 = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
    w1 = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
    share = torch.stack([w0, w1, 1.0 - w0 - w1], -1)[..., None]
    attributes = (people.fixed[who, corners] * share).sum(-2)
    normal = F.normalize((posed.normals[frame, who, corners] * share).sum(-2), dim=-1)
    part = mesh.parts[triangle]
    eye = (part == LEFT_EYE) | (part == RIGHT_EYE)
    ball = _eyeball_normal(attributes[..., :3], posed.turn[frame[..., 0], person])
    normal = torch.where(eye[..., None], ball, normal)
    inner = (part == HAIR) & (area > 0)
    # The inner side of the hair is in its own shadow.
    attributes = torch.cat([attributes[..., :8], torch.where(inner, 0.25, 1.0)[..., None] * attributes[..., 8:9],
                            attributes[..., 9:]], -1)
    flipped = (normal[..., 2] < 0) & (part > RIGHT_EYE + 3)
    return attributes, torch.where(flipped[..., None], -normal, normal)


def _eyeball_normal(place: Tensor, turn: Tensor) -> Tensor:
    """Smooth normals of the eyeballs, which the coarse mesh would facet."""
    from training.heads.materials import EYE_CENTRE

    left = place.new_tensor(EYE_CENTRE)
    centre = torch.where(place[..., :1] > 0, left, left * left.new_tensor([-1.0, 1.0, 1.0]))
    return (turn @ F.normalize(place - centre, dim=-1)[..., None])[..., 0]


def _paint(
    attributes: Tensor, normal: Tensor, part: Tensor, person: Tensor, packed: Tensor, distance: Tensor, covered: Tensor,
    light: Light,
) -> Tensor:
    surface = Surface(
        part=part,
        place=attributes[..., :3],
        normal=normal,
        masks=attributes[..., 3:8],
        light=attributes[..., 8],
        growth=attributes[..., 9],
        strand=attributes[..., 10:12],
        looks=Looks(packed, person),
    )
    return shade(surface, materials(surface), contact_shadow(distance, covered, part.shape[-1]), light)
