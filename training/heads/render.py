"""Pictures of one to three talking heads, with boxes and maps of where everyone is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from training.heads.materials import Kind, Looks, Surface, eyeball_direction, is_eye, kind_masks, materials, pack_looks
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

    ``frames_at_once`` bounds memory: about 60 MB per frame at 128 pixels. Every pixel is the mean of ``supersampling``
    squared ones. ``stage`` is entered with the name of each stage of the work, for those who measure it.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        method: Rasteriser | None = None,
        *,
        size: int = 128,
        frames_at_once: int | None = None,
        supersampling: int = SUPERSAMPLING,
        stage: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.device = torch.device(device)
        self.mesh = HeadMesh(self.device)
        self.size = size
        self._method: Rasteriser = method or ("cuda" if self.device.type == "cuda" else "torch")
        self._at_once = frames_at_once or ((96 if size <= 128 else 41) if self.device.type == "cuda" else 8)
        self._supersampling = supersampling
        self._stage = stage

    @torch.no_grad()
    def render(self, spec: ClipSpec) -> Clip:
        """Draw all frames of a clip."""
        with self._stage("bake"):
            scene = _Scene.of(spec, self.mesh, self.size, self._supersampling)
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
        mesh, finer = self.mesh, self._supersampling
        large = self.size * finer
        with self._stage("geometry"):
            posed = mesh.pose(scene.people, movement, scene.places, large)
        with self._stage("raster"):
            code, distance = rasterise(
                posed.screen, posed.depth, mesh.triangles, mesh.two_sided, size=large, method=self._method
            )
        with self._stage("shadows"):
            covered = code >= 0
            contact = contact_shadow(distance, covered).flatten(0, 2)
            scale = large * scene.places[0].zoom / FIELD
            thrown = thrown_shadow(distance, covered, scene.light, scale).flatten() if scene.casts else None
        picture = scene.backdrop.repeat(len(code), 1, 1, 1)
        self._shade(scene, posed, code, (contact, thrown), picture.view(-1, 3))
        with self._stage("finish"):
            picture = scene.grade.applied(F.avg_pool2d(picture.permute(0, 3, 1, 2), finer))
            frames = (picture.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8)
            boxes = {name: mesh.box(posed, name) / finer for name in ("mouth", "left_eye", "right_eye", "face")}
            eyes = torch.stack([boxes["left_eye"], boxes["right_eye"]], 2)
            person_map = _person_map(code, len(mesh.triangles), len(scene.places), finer)
        return frames, person_map, boxes["mouth"], eyes, boxes["face"]

    def _shade(
        self, scene: _Scene, posed: Posed, code: Tensor, shadows: tuple[Tensor, Tensor | None], picture: Tensor
    ) -> None:
        """Paints people into the flat ``picture [F * S * S, 3]``, kind by kind, so that none asks for what it lacks."""
        contact, thrown = shadows
        seen = (code >= 0).flatten().nonzero()[:, 0]
        visible = code.flatten()[seen]
        for kind, chosen in kind_masks(self.mesh.parts[visible % len(self.mesh.triangles)]).items():
            pixels = seen[chosen]
            if not len(pixels):
                continue
            with self._stage("surface"):
                surface, turn = _surface_at(self.mesh, scene, posed, (visible[chosen], pixels, code.shape[-1]), kind)
            with self._stage(f"shade {kind}"):
                dark = None if thrown is None else thrown[pixels]
                picture.index_copy_(0, pixels, _lit(surface, turn, contact[pixels], scene.light, dark))


def _lit(surface: Surface, turn: Tensor, contact: Tensor, light: Tensor, thrown: Tensor | None) -> Tensor:
    """Colours ``[N, 3]`` of the surface; ``turn [3, 3, N]`` is the rotation of the head at each pixel."""
    if surface.kind == "body" and not surface.plain:
        bend = _turned(turn, relief(surface))
        surface = replace(surface, normal=F.normalize(surface.normal + bend, dim=-1))
    return shade(surface, materials(surface), contact, light, thrown)


def _turned(turn: Tensor, vectors: Tensor) -> Tensor:
    """Vectors ``[N, 3]`` after rotations ``[3, 3, N]``; so many small products are slow as products of matrices."""
    x, y, z = vectors.unbind(-1)
    return (turn[:, 0] * x + turn[:, 1] * y + turn[:, 2] * z).T


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
    def of(spec: ClipSpec, mesh: HeadMesh, size: int, finer: int) -> _Scene:
        identities = [person.identity for person in spec.people]
        backdrop = paint_background(spec.background, size, mesh.device)
        return _Scene(
            people=mesh.at_rest(identities),
            looks=pack_looks(identities).to(mesh.device),
            light=spec.light.packed().to(mesh.device),
            backdrop=backdrop.repeat_interleave(finer, 0).repeat_interleave(finer, 1),
            places=[person.place for person in spec.people],
            grade=spec.grade,
            casts=spec.light.cast > 0,
            plain=all(who.details == Details() for who in identities),
        )


def _person_map(code: Tensor, triangles: int, people: int, finer: int) -> Tensor:
    """Who covers at least half of each final pixel: ``[F, S, S]`` uint8, 0 for the background."""
    who = torch.where(code >= 0, code // triangles, -1)
    shares = torch.stack([who == index for index in range(people)], 1).float()
    best, index = F.avg_pool2d(shares, finer).max(1)
    return torch.where(best >= 0.5, index + 1, 0).to(torch.uint8)


def _surface_at(
    mesh: HeadMesh, scene: _Scene, posed: Posed, pixels: tuple[Tensor, Tensor, int], kind: Kind
) -> tuple[Surface, Tensor]:
    """Attributes at the middle of N pixels of one kind, and the heads' rotations ``[3, 3, N]``.

    ``pixels`` are their codes ``[N]``, their indices into the flat frames ``[N]``, and the frames' side. Attributes are
    kept a row each, so that neighbouring pixels' numbers lie side by side.
    """
    visible, index, size = pixels
    person, triangle = visible // len(mesh.triangles), visible % len(mesh.triangles)
    frame = index // (size * size)
    corners = mesh.triangles.T[:, triangle]  # [3, N]
    crowd, vertices = posed.screen.shape[1:3]
    moving = torch.cat([posed.screen, posed.normals], -1).flatten(0, 2).T.contiguous()  # [5, F * P * V]
    here = corners + (frame * crowd + person) * vertices
    x, y = index % size + 0.5, index // size % size + 0.5
    share, area = _barycentric([moving[:2, corner] for corner in here], x, y)
    fixed = _mixed(scene.people.fixed.flatten(0, 1).T.contiguous(), corners + person * vertices, share)
    part = mesh.parts[triangle]
    place = fixed[:3].T
    normal = F.normalize(_mixed(moving[2:], here, share).T, dim=-1)
    turn = posed.turn.flatten(0, 1).permute(1, 2, 0)[:, :, frame * crowd + person]
    if kind == "rest":
        normal = torch.where(is_eye(part)[:, None], _turned(turn, eyeball_direction(place)), normal)
    flip = mesh.two_sided[triangle] & (normal[:, 2] < 0)
    light = fixed[8]
    surface = Surface(
        kind=kind,
        part=part,
        place=place,
        normal=torch.where(flip[:, None], -normal, normal),
        masks=fixed[3:8].T,
        light=torch.where(area > 0, 0.3 * light, light) if kind == "hair" else light,  # the sheet's far side: shadow
        growth=fixed[9],
        strand=fixed[10:12].T,
        looks=Looks(scene.looks, person),
        plain=scene.plain,
    )
    return surface, turn


def _mixed(table: Tensor, corners: Tensor, share: Tensor) -> Tensor:
    """Attributes ``[K, N]`` by ``share [3, N]`` of three corners ``[3, N]``, which are columns of ``table [K, M]``."""
    first, second, third = corners
    return table[:, first] * share[0] + table[:, second] * share[1] + table[:, third] * share[2]


def _barycentric(corners: Sequence[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Shares ``[3, N]`` of three corners ``[2, N]`` at points x, y ``[N]``, and twice the signed area."""
    (ax, ay), (bx, by), (cx, cy) = corners
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    w0 = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
    w1 = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
    return torch.stack([w0, w1, 1.0 - w0 - w1]), area
