"""Rotary position embeddings: three-dimensional for video tokens, one-dimensional for telling people apart."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

BASE = 10_000.0


class Grid(NamedTuple):
    """Frames, rows and columns of video tokens; tokens run frame by frame, row by row."""

    frames: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        return self.frames * self.rows * self.columns

    @property
    def frame_tokens(self) -> int:
        return self.rows * self.columns


class Rotation(NamedTuple):
    """Cosines and sines of the angles, float32, broadcastable to [B, L, heads, d / 2]."""

    cos: Tensor
    sin: Tensor

    def part(self, tokens: slice) -> "Rotation":
        """That of some tokens of [L, 1, d / 2]; of all, itself."""
        if tokens == slice(0, len(self.cos)):
            return self
        return Rotation(self.cos[tokens], self.sin[tokens])


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """Channels of one head that turn with the frame, the row and the column; all even."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def _axis_angles(length: int, width: int) -> Tensor:
    """Angles [length, width / 2] in float64: position over BASE ** (2i / width)."""
    positions = torch.arange(length, dtype=torch.float64, device="cpu")
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width
    return torch.outer(positions, BASE**-exponents)


@lru_cache(maxsize=4)
def video_rotation(grid: Grid, head_dim: int, device: torch.device) -> Rotation:
    """Rotation [L, 1, d / 2] of a video's tokens.

    Angles are computed in float64 on the CPU (some devices have no float64) and kept for the last few grids.
    """
    with torch.inference_mode(mode=False):  # tables made while sampling may be used while training
        angles = torch.cat(
            [
                _axis_angles(length, width).view(*shape, -1).expand(*grid, -1)
                for length, width, shape in zip(
                    grid,
                    axis_widths(head_dim),
                    ((grid.frames, 1, 1), (1, grid.rows, 1), (1, 1, grid.columns)),
                    strict=True,
                )
            ],
            dim=-1,
        ).reshape(grid.tokens, 1, head_dim // 2)
        return Rotation(angles.cos().float().to(device), angles.sin().float().to(device))


def line_rotation(positions: Tensor, head_dim: int) -> Rotation:
    """Rotation [..., L, 1, d / 2] of tokens on a line.

    Args:
        positions: [..., L], any real numbers.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    angles = (positions.float().unsqueeze(-1) * (1.0 / BASE**exponents)).unsqueeze(-2)
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turns neighbouring channel pairs of x [B, L, heads, d] by the rotation, in float32, and returns float32."""
    even, odd = x.float().view(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = rotation
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
