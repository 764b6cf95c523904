"""Pictures of one to three talking heads, with boxes and maps of where everyone is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.heads.blendshapes import JAW_OPEN
from training.heads.geometry import HeadMesh, Movement, People, Posed
from training.heads.identity import Identity
from training.heads.materials import Looks, Surface, eyeball_direction, is_eye, materials, pack_looks
from training.heads.mesh import HAIR
from training.heads.motion import Motion
from training.heads.raster import Rasteriser, rasterise
from training.heads.scene import MAX_PEOPLE, Background, Light, Place, paint_background
from training.heads.shading import contact_shadow, shade

SUPERSAMPLING: Final = 2


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

    ``frames_at_once`` bounds memory: about 60 MB per frame at 128 pixels.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        method: Rasteriser | None = None,
        *,
        size: int = 128,
        frames_at_once: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.mesh = HeadMesh(self.device)
        self.size = size
        self._method: Rasteriser = method or ("cuda" if self.device.type == "cuda" else "torch")
        self._at_once = frames_at_once or (96 if self.device.type == "cuda" else 8)

    @torch.no_grad()
    def render(self, spec: ClipSpec) -> Clip:
        """Draw all frames of a clip."""
        scene = _Scene.of(spec, self.mesh, self.size)
        motions = [person.motion for person in spec.people]
        movement = Movement(
            *(
                torch.from_numpy(np.stack(arrays, 1)).to(self.device)
                for arrays in zip(*((motion.weights, motion.pose, motion.sway) for motion in motions), strict=True)
            )
        )
        starts = range(0, len(movement.weights), self._at_once)
        parts = [self._draw(scene, movement.window(start, start + self._at_once)) for start in starts]
        frames, maps, mouths, eyes, faces = (torch.cat(column) for column in zip(*parts, strict=True))
        return Clip(frames, maps, mouths, eyes, faces, movement.weights)

    def _draw(self, scene: _Scene, movement: Movement) -> tuple[Tensor, ...]:
        mesh, large = self.mesh, self.size * SUPERSAMPLING
        posed = mesh.pose(scene.people, movement, scene.places, large)
        code, distance = rasterise(
            posed.screen, posed.depth, mesh.triangles, mesh.two_sided, size=large, method=self._method
        )
        covered = code >= 0
        shadow = contact_shadow(distance, covered)
        seen = covered.flatten().nonzero()[:, 0]
        surface = _surface_at(mesh, scene, posed, code, seen)
        colour = shade(surface, materials(surface), shadow.flatten(0, 2)[seen], scene.light)
        picture = scene.backdrop.repeat(len(code), 1, 1, 1).flatten(0, 2).index_copy(0, seen, colour)
        picture = picture.view(len(code), large, large, 3).permute(0, 3, 1, 2)
        frames = (F.avg_pool2d(picture, SUPERSAMPLING).permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8)
        boxes = {name: mesh.box(posed, name) / SUPERSAMPLING for name in ("mouth", "left_eye", "right_eye", "face")}
        eyes = torch.stack([boxes["left_eye"], boxes["right_eye"]], 2)
        person_map = _person_map(code, len(mesh.triangles), len(scene.places))
        return frames, person_map, boxes["mouth"], eyes, boxes["face"]


@dataclass(frozen=True)
class _Scene:
    """What stays the same during a clip, on the device."""

    people: People
    looks: Tensor
    light: Tensor
    backdrop: Tensor  # [S, S, 3] supersampled
    places: list[Place]

    @staticmethod
    def of(spec: ClipSpec, mesh: HeadMesh, size: int) -> _Scene:
        identities = [person.identity for person in spec.people]
        backdrop = paint_background(spec.background, size, mesh.device)
        return _Scene(
            people=mesh.at_rest(identities),
            looks=pack_looks(identities).to(mesh.device),
            light=spec.light.packed().to(mesh.device),
            backdrop=backdrop.repeat_interleave(SUPERSAMPLING, 0).repeat_interleave(SUPERSAMPLING, 1),
            places=[person.place for person in spec.people],
        )


def _person_map(code: Tensor, triangles: int, people: int) -> Tensor:
    """Who covers at least half of each final pixel: ``[F, S, S]`` uint8, 0 for the background."""
    who = torch.where(code >= 0, code // triangles, -1)
    shares = torch.stack([who == index for index in range(people)], 1).float()
    best, index = F.avg_pool2d(shares, SUPERSAMPLING).max(1)
    return torch.where(best >= 0.5, index + 1, 0).to(torch.uint8)


def _surface_at(mesh: HeadMesh, scene: _Scene, posed: Posed, code: Tensor, seen: Tensor) -> Surface:
    """Attributes at the middle of the N pixels ``seen`` (flat indices into ``code [F, S, S]``)."""
    size, count = code.shape[-1], len(mesh.triangles)
    visible = code.flatten()[seen]
    person, triangle = visible // count, visible % count
    frame = seen // (size * size)
    corners = mesh.triangles[triangle]  # [N, 3]
    crowd, vertices = posed.screen.shape[1:3]
    moving = torch.cat([posed.screen, posed.normals], -1).flatten(0, 2)
    moving = moving[corners + ((frame * crowd + person) * vertices)[:, None]]  # [N, 3, 5]
    share, area = _barycentric(moving[..., :2], seen % size + 0.5, seen // size % size + 0.5)
    fixed = scene.people.fixed.flatten(0, 1)[corners + (person * vertices)[:, None]]  # [N, 3, 12]
    fixed = (fixed * share).sum(1)
    part = mesh.parts[triangle]
    normal = F.normalize((moving[..., 2:] * share).sum(1), dim=-1)
    eye = is_eye(part)
    ball = posed.turn[frame, person] @ eyeball_direction(fixed[:, :3])[..., None]
    normal = torch.where(eye[:, None], ball[..., 0], normal)
    inner = (part == HAIR) & (area > 0)  # the far side of the sheet: in its own shadow
    flip = mesh.two_sided[triangle] & (normal[:, 2] < 0)
    return Surface(
        part=part,
        place=fixed[:, :3],
        normal=torch.where(flip[:, None], -normal, normal),
        masks=fixed[:, 3:8],
        light=fixed[:, 8] * torch.where(inner, 0.3, 1.0),
        growth=fixed[:, 9],
        strand=fixed[:, 10:12],
        looks=Looks(scene.looks, person),
    )


def _barycentric(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Shares ``[N, 3, 1]`` of the three corners ``[N, 3, 2]`` at points x, y ``[N]``, and twice the signed area."""
    (ax, ay), (bx, by), (cx, cy) = (corner.unbind(-1) for corner in corners.unbind(1))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    w0 = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
    w1 = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
    return torch.stack([w0, w1, 1.0 - w0 - w1], 1)[..., None], area
