"""From identities and ARKit weights to positions on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.heads import hair
from training.heads.blendshapes import shape_indices
from training.heads.identity import Identity
from training.heads.mesh import (
    BODY,
    HAIR,
    LEFT_EYE,
    LOWER_LASHES,
    LOWER_TEETH,
    MASK_EARS,
    MASK_EYELIDS,
    MASK_FACE,
    MASK_INSIDE,
    MASK_LIPS,
    RIGHT_EYE,
    TONGUE,
    UPPER_LASHES,
    UPPER_TEETH,
    head_data,
    incident_triangles,
    vertex_normals,
)
from training.heads.scene import Place

CAMERA: Final = 14.0  # decimetres from the eyes
FIELD: Final = 3.5  # decimetres over the picture's width at zoom 1
FACE_HEIGHT: Final = 1.12  # eyes to chin of the template; every face is scaled to it
MIDDLE: Final = 0.24  # the middle of a face lies this far below the eyes
PIVOT: Final = (0.0, -1.1, -1.1)  # the head turns around the top of the neck, seen from the eyes
BEHIND: Final = 3.0  # each further person stands this much behind, for the order of drawing only
_EYE_RADIUS: Final = 0.15
# Edges of the left upper and lower lid on the template, and how far the blink shape lowers the upper one.
_LIDS: Final = ((0.311, 7.332, 1.411), (0.311, 7.240, 1.405))
_BLINK_TRAVEL: Final = 0.118
_BLINK: Final = shape_indices("eyeBlink")
# The template's teeth touch the lips and its tongue fills the mouth: move them (up, forward), decimetres.
_SETTLED: Final = {UPPER_TEETH: (-0.07, -0.05), LOWER_TEETH: (-0.02, -0.07), TONGUE: (-0.07, -0.10)}


@dataclass(frozen=True)
class People:
    """P people at rest: V vertices of the head and N of the hair."""

    body: Tensor  # [P, V, 3]
    hair: Tensor  # [P, N, 3]
    eyes: Tensor  # [P, 3] midpoint between the eyes
    scale: Tensor  # [P] template face height / own face height
    blink: Tensor  # [P] share of the blink shape that just closes the eyes
    fixed: Tensor  # [P, V + N, 12] rest position, masks, light, growth, strand angle and u


@dataclass(frozen=True)
class Movement:
    """F frames of what P people do, see ``motion.Motion``."""

    weights: Tensor  # [F, P, 52] ARKit weights
    pose: Tensor  # [F, P, 3] yaw, pitch, roll in radians; yaw turns the nose to the picture's right
    sway: Tensor  # [F, P, 2] shift right and up, decimetres

    def window(self, start: int, stop: int) -> Movement:
        """Some of the frames."""
        return Movement(self.weights[start:stop], self.pose[start:stop], self.sway[start:stop])


@dataclass(frozen=True)
class Posed:
    """F frames of P people in front of the camera."""

    screen: Tensor  # [F, P, V + N, 2] pixels, y down
    depth: Tensor  # [F, P, V + N]
    normals: Tensor  # [F, P, V + N, 3]
    turn: Tensor  # [F, P, 3, 3] rotation of the head


class HeadMesh:
    """The shared mesh on a device: triangles of head and hair, and what never changes between people."""

    def __init__(self, device: torch.device) -> None:
        data = head_data()
        self.device = device
        count = len(data.vertices)
        sheet = hair.sheet_triangles() + count
        triangles = np.concatenate([data.triangles, sheet])
        parts = np.concatenate([data.triangle_parts, np.full(len(sheet), HAIR)])
        self.template = torch.from_numpy(data.vertices).to(device)
        self.vertex_parts = torch.from_numpy(data.vertex_parts).to(device)
        self.masks = torch.from_numpy(data.masks).to(device)
        self.light = torch.from_numpy(data.light).to(device)
        self.triangles = torch.from_numpy(triangles).to(device)
        self.parts = torch.from_numpy(parts).to(device)
        self.two_sided = self.parts > TONGUE
        self.incident = torch.from_numpy(incident_triangles(triangles, count + hair.COLUMNS * hair.ROWS)).to(device)
        self.targets = torch.from_numpy(data.targets).to(device).flatten(1)
        self.shapes = torch.from_numpy(data.shapes).to(device).flatten(1)
        self.skull = torch.from_numpy(data.skull).to(device)
        solid = (data.vertex_parts == BODY) & (data.masks[:, MASK_EARS] < 0.3) & (data.masks[:, MASK_INSIDE] < 0.3)
        index, weight = hair.skull_binding(data.vertices, solid, data.skull)
        self._bound, self._bound_weight = torch.from_numpy(index).to(device), torch.from_numpy(weight).to(device)
        angle, u = hair.strand_coordinates(data.vertices)
        self._strand_angle, self._strand_u = torch.from_numpy(angle).to(device), torch.from_numpy(u).to(device)
        self._lids = [self._nearest(x, y, z) for x, y, z in _LIDS]
        self._settled = torch.zeros_like(self.template)
        for part, offset in _SETTLED.items():
            self._settled[self.vertex_parts == part, 1:] = self.template.new_tensor(offset)
        self._turning = self._share_of_turn()
        self._groups = self._landmark_groups()

    def _share_of_turn(self) -> Tensor:
        """How far each vertex follows the head's rotation: the shoulders stay, ``[V + N, 1]``."""
        height = ((self.template[:, 1] - 5.3) / 1.0).clamp(0.0, 1.0)
        share = height * height * (3.0 - 2.0 * height)
        share = torch.where(self.vertex_parts == BODY, share, torch.ones_like(share))
        return torch.cat([share, share.new_ones(hair.COLUMNS * hair.ROWS)])[:, None]

    def _nearest(self, x: float, y: float, z: float) -> Tensor:
        """The template's vertices nearest to a point of the left side and to its mirror image."""
        points = self.template.new_tensor([[x, y, z], [-x, y, z]])
        return torch.cdist(points, self.template).argmin(1)

    def _landmark_groups(self) -> dict[str, Tensor]:
        """Vertices whose extent on the screen bounds the lips, each eye and the face."""
        body = self.vertex_parts == BODY
        lids = body & (self.masks[:, MASK_EYELIDS] > 0.5)
        lips = body & (self.masks[:, MASK_LIPS] > 0.5)
        face = body & (self.masks[:, MASK_FACE] > 0.5)
        skull = body & (self.template[:, 1] > 7.3)
        side = self.template[:, 0]
        groups = {"mouth": lips, "left_eye": lids & (side > 0), "right_eye": lids & (side < 0), "face": face | skull}
        return {name: members.nonzero()[:, 0] for name, members in groups.items()}

    def at_rest(self, identities: Sequence[Identity]) -> People:
        """Shape the heads and hair of ``P`` identities."""
        weights = torch.from_numpy(np.stack([person.targets for person in identities])).to(self.device)
        moved = (weights @ self.targets).view(len(identities), -1, 3)
        lashes = torch.tensor([person.lashes for person in identities], device=self.device)
        body = self._short_lashes(self.template + self._settled + moved, lashes)
        styles = hair.pack_styles([person.style for person in identities]).to(self.device)
        field = (moved[:, self._bound] * self._bound_weight[..., None]).sum(2)
        sheet, strand = hair.sheet(styles, self.skull, field.view(len(identities), hair.COLUMNS, hair.PATH_STEPS, 3))
        grown = hair.growth(styles, self._strand_angle, self._strand_u) * (1.0 - self.masks[:, MASK_EARS])
        grown = grown * (self.vertex_parts == BODY)
        eyes = torch.stack([body[:, self.vertex_parts == part].mean(1) for part in (LEFT_EYE, RIGHT_EYE)]).mean(0)
        chin = body[:, self._groups["face"], 1].amin(1)
        scale = FACE_HEIGHT / (eyes[:, 1] - chin)
        return People(body, sheet, eyes, scale, self._closing(body), self._fixed(grown, sheet, strand))

    def _closing(self, body: Tensor) -> Tensor:
        """The blink shape is made for wide eyes: beyond this share the lids would slide over each other."""
        upper, lower = (body[:, members, 1].mean(1) for members in self._lids)
        return ((upper - lower) / _BLINK_TRAVEL * 1.02).clamp(0.3, 1.1)

    def _fixed(self, grown: Tensor, sheet: Tensor, strand: Tensor) -> Tensor:
        people = len(grown)
        shared = torch.cat([self.template, self.masks, self.light[:, None]], 1).expand(people, -1, -1)
        own = torch.stack([self._strand_angle, self._strand_u], 1).expand(people, -1, -1)
        body = torch.cat([shared, grown[..., None], own], 2)
        blank = sheet.new_zeros(people, sheet.shape[1], self.masks.shape[1])
        ones = sheet.new_ones(people, sheet.shape[1], 2)
        return torch.cat([body, torch.cat([sheet, blank, ones, strand], 2)], 1)

    def _short_lashes(self, body: Tensor, length: Tensor) -> Tensor:
        """Pull the lash cards towards the eyeball; full length looks like thick eyeliner."""
        body = body.clone()
        for eye, cards in (
            (LEFT_EYE, (LOWER_LASHES[0], UPPER_LASHES[0])),
            (RIGHT_EYE, (LOWER_LASHES[1], UPPER_LASHES[1])),
        ):
            ball = body[:, self.vertex_parts == eye]
            centre = ((ball.amax(1) + ball.amin(1)) / 2)[:, None]
            for card, share in zip(cards, (0.2, 0.62), strict=True):
                members = self.vertex_parts == card
                offset = body[:, members] - centre
                radius = offset.norm(dim=-1, keepdim=True).clamp(min=1e-6)
                wanted = _EYE_RADIUS + (radius - _EYE_RADIUS) * (share * length)[:, None, None].clamp(0.0, 1.0)
                body[:, members] = centre + offset * (wanted / radius)
        return body

    def pose(self, people: People, movement: Movement, places: Sequence[Place], size: int) -> Posed:
        """Move and project onto a picture of ``size`` pixels; one place per person."""
        frames, crowd = movement.weights.shape[:2]
        weights = movement.weights.clone()
        weights[..., _BLINK] *= people.blink[:, None]
        body = people.body + (weights @ self.shapes).view(frames, crowd, -1, 3)
        vertices = torch.cat([body, people.hair.expand(frames, -1, -1, -1)], 2)
        flat = vertices.flatten(0, 1)
        normals = vertex_normals(flat, self.triangles, self.incident).view_as(vertices)
        turn = rotation(movement.pose)
        pivot = (people.eyes + people.eyes.new_tensor(PIVOT))[None, :, None]
        offset = vertices - pivot
        turned = offset @ turn.transpose(-1, -2)
        turned = torch.lerp(offset, turned, self._turning) + pivot
        screen, depth = self._project(people, turned, movement.sway, places, size)
        return Posed(screen, depth, normals @ turn.transpose(-1, -2), turn)

    def _project(
        self, people: People, vertices: Tensor, sway: Tensor, places: Sequence[Place], size: int
    ) -> tuple[Tensor, Tensor]:
        view = (vertices - people.eyes[None, :, None]) * people.scale[None, :, None, None]
        x = view[..., 0] + sway[..., 0, None]
        y = view[..., 1] + sway[..., 1, None] + MIDDLE
        depth = CAMERA - view[..., 2]
        zoom, across, down = (
            torch.tensor(list(values), device=self.device)[None, :, None]
            for values in zip(*((place.zoom, place.x, place.y) for place in places), strict=True)
        )
        pixels = size * zoom / FIELD * CAMERA / depth
        screen = torch.stack([size * across + x * pixels, size * down - y * pixels], -1)
        order = torch.arange(len(places), device=self.device)[None, :, None] * BEHIND
        return screen, depth + order

    def box(self, posed: Posed, group: str) -> Tensor:
        """Extent on the screen of a landmark group (mouth, left_eye, right_eye, face): ``[F, P, 4]`` x0 y0 x1 y1."""
        points = posed.screen[:, :, self._groups[group]]
        return torch.cat([points.amin(2), points.amax(2)], -1)


def rotation(pose: Tensor) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` of yaw, pitch, roll ``[..., 3]``: roll first, then pitch, then yaw."""
    (cy, cp, cr), (sy, sp, sr) = pose.cos().unbind(-1), pose.sin().unbind(-1)
    zero, one = torch.zeros_like(cy), torch.ones_like(cy)
    yaw = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1)
    pitch = torch.stack([one, zero, zero, zero, cp, -sp, zero, sp, cp], -1)
    roll = torch.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], -1)
    shape = (*pose.shape[:-1], 3, 3)
    return yaw.view(shape) @ pitch.view(shape) @ roll.view(shape)
