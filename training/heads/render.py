"""Pictures of one to three talking heads, with boxes and maps of where everyone is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.heads.blendshapes import JAW_OPEN
from training.heads.details import Details, relief
from training.heads.geometry import FIELD, HeadMesh, Movement, People, Posed
from training.heads.identity import Identity
from training.heads.materials import Looks, Surface, eyeball_direction, is_eye, materials, pack_looks
from training.heads.mesh import BODY, HAIR
from training.heads.motion import Motion
from training.heads.raster import Rasteriser, rasterise
from training.heads.scene import MAX_PEOPLE, Background, Grade, Light, Place, paint_background
from training.heads.shading import contact_shadow, shade, thrown_shadow

SUPERSAMPLING: Final = 2


@dataclass(frozen=True, kw_only=True)
class PersonSpec:
    """One person of a clip: who, how they move, and where they stand."""

    identity: Identity
    motion: Motion
    place: Place


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """One to three people, from left to right, before one background in one light, seen by one camera."""

    people: tuple[PersonSpec, ...]
    light: Light
    background: Background
    grade: Grade = Grade()

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

    ``frames_at_once`` bounds memory: about 60 MB per frame at 128 pixels. ``compiled`` shades people with details by
    compiled code, which pays from a few hundred clips on.
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
        self._at_once = frames_at_once or ((96 if size <= 128 else 41) if self.device.type == "cuda" else 8)
        self._compiled = torch.compile(_lit, dynamic=False) if compiled else None

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
        surface, turn = _surface_at(mesh, scene, posed, code, seen)
        thrown = None
        if scene.casts:
            thrown = thrown_shadow(distance, covered, scene.light, large * scene.places[0].zoom / FIELD).flatten()[seen]
        colour = self._lit(surface, turn, shadow.flatten(0, 2)[seen], scene.light, thrown)
        picture = scene.backdrop.repeat(len(code), 1, 1, 1).flatten(0, 2).index_copy(0, seen, colour)
        picture = picture.view(len(code), large, large, 3).permute(0, 3, 1, 2)
        picture = scene.grade.applied(F.avg_pool2d(picture, SUPERSAMPLING))
        frames = (picture.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8)
        boxes = {name: mesh.box(posed, name) / SUPERSAMPLING for name in ("mouth", "left_eye", "right_eye", "face")}
        eyes = torch.stack([boxes["left_eye"], boxes["right_eye"]], 2)
        person_map = _person_map(code, len(mesh.triangles), len(scene.places))
        return frames, person_map, boxes["mouth"], eyes, boxes["face"]

    def _lit(self, surface: Surface, turn: Tensor, contact: Tensor, light: Tensor, thrown: Tensor | None) -> Tensor:
        """Colours ``[N, 3]`` of the surface; compiled in pieces of one size."""
        if self._compiled is None or surface.plain:
            return _lit(surface.parts(), turn, contact, light, thrown, plain=surface.plain)
        count = len(surface.part)
        thrown = contact.new_zeros(count) if thrown is None else thrown
        whole = [*surface.parts(), turn, contact, thrown]
        made = []
        for begin in range(0, count, PIECE):
            *parts, turns, contacts, darks = [_piece(value, begin, count) for value in whole]
            made.append(self._compiled(parts, turns, contacts, light, darks, plain=False)[: count - begin])
        return torch.cat(made)


PIECE: Final = 1 << 20
"""Pixels that compiled code shades together."""


def _piece(value: Tensor, begin: int, count: int) -> Tensor:
    """``PIECE`` rows of one value per pixel, the last repeated where there are fewer; what all pixels share, whole."""
    if len(value) != count:
        return value
    rows = value[begin : begin + PIECE]
    missing = PIECE - len(rows)
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows


def _lit(
    parts: Sequence[Tensor], turn: Tensor, contact: Tensor, light: Tensor, thrown: Tensor | None, *, plain: bool
) -> Tensor:
    """Colours ``[N, 3]`` of a surface taken apart; ``turn [N, 3, 3]`` is the rotation of the head at each pixel."""
    surface = Surface.of(parts, plain=plain)
    if not plain:
        bend = (turn @ relief(surface)[..., None])[..., 0] * (surface.part == BODY)[..., None]
        surface = replace(surface, normal=F.normalize(surface.normal + bend, dim=-1))
    return shade(surface, materials(surface), contact, light, thrown)


@dataclass(frozen=True)
class _Scene:
    """What stays the same during a clip, on the device."""

    people: People
    looks: Tensor
    light: Tensor
    backdrop: Tensor  # [S, S, 3] supersampled
    places: list[Place]
    grade: Grade
    casts: bool  # whether the light throws shadows
    plain: bool  # whether nobody has details

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
            grade=spec.grade,
            casts=spec.light.cast > 0,
            plain=all(who.details == Details() for who in identities),
        )


def _person_map(code: Tensor, triangles: int, people: int) -> Tensor:
    """Who covers at least half of each final pixel: ``[F, S, S]`` uint8, 0 for the background."""
    who = torch.where(code >= 0, code // triangles, -1)
    shares = torch.stack([who == index for index in range(people)], 1).float()
    best, index = F.avg_pool2d(shares, SUPERSAMPLING).max(1)
    return torch.where(best >= 0.5, index + 1, 0).to(torch.uint8)


def _surface_at(mesh: HeadMesh, scene: _Scene, posed: Posed, code: Tensor, seen: Tensor) -> tuple[Surface, Tensor]:
    """Attributes at the middle of the N pixels ``seen`` (indices into flat ``code``), and the heads' rotations."""
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
    turn = posed.turn[frame, person]
    ball = turn @ eyeball_direction(fixed[:, :3])[..., None]
    normal = torch.where(eye[:, None], ball[..., 0], normal)
    inner = (part == HAIR) & (area > 0)  # the far side of the sheet: in its own shadow
    flip = mesh.two_sided[triangle] & (normal[:, 2] < 0)
    surface = Surface(
        part=part,
        place=fixed[:, :3],
        normal=torch.where(flip[:, None], -normal, normal),
        masks=fixed[:, 3:8],
        light=fixed[:, 8] * torch.where(inner, 0.3, 1.0),
        growth=fixed[:, 9],
        strand=fixed[:, 10:12],
        looks=Looks(scene.looks, person),
        plain=scene.plain,
    )
    return surface, turn


def _barycentric(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Shares ``[N, 3, 1]`` of the three corners ``[N, 3, 2]`` at points x, y ``[N]``, and twice the signed area."""
    (ax, ay), (bx, by), (cx, cy) = (corner.unbind(-1) for corner in corners.unbind(1))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    w0 = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
    w1 = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
    return torch.stack([w0, w1, 1.0 - w0 - w1], 1)[..., None], area
