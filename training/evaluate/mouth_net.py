"""Reads mouth shapes from pictures: a small network that `training.evaluate.train_mouth_net` teaches on true renders.

What it sees of each frame is a square around the mouth, placed by points that speech does not move, and how that
differs from the clip's own mean: so it need not know whose mouth it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinitetalk.evaluate.series import filled
from infinitetalk.weights.packed import Unpacked, pack
from training.evaluate.probes import SHAPES

Floats = NDArray[np.float32]

WEIGHTS: Final = Path(__file__).parent.parent / "checkpoints" / "mouth_net.safetensors"
EDGE: Final = 64
"""Pixels of the square that the network sees."""
FIRM: Final = (33, 133, 362, 263, 168, 6, 2, 98, 327)
"""Landmarks that place it: corners of the eyes, from the person's right to the left, root and base of the nose."""
ANCHORS: Final = (*FIRM, 61, 291)
"""With the corners of the mouth, which say where it lies in the mean."""

_RIGHT_EYE, _LEFT_EYE, _NOSE, _MOUTH = slice(0, 2), slice(2, 4), slice(0, len(FIRM)), slice(len(FIRM), None)
_REACH: Final = 1.35
"""Edge of the square in distances between eyes and mouth."""
_LOWER: Final = 0.12
"""How far its middle lies below the mouth's corners, likewise: jaws open downwards."""
_WIDTHS: Final = (24, 32, 40, 48)


def squares(anchors: Floats) -> Floats:
    """Where the mouth's square lies in each frame.

    Args:
        anchors: points (F, 11, 2) in pixels, those of `ANCHORS`; not a number where there is no face.

    Returns:
        Affine maps (F, 2, 3) from the square (-1..1, y down) to pixels. It moves as the head does and not as the mouth.

    Raises:
        ValueError: there is no face in any frame.
    """
    there = np.isfinite(anchors).all((1, 2))
    if not there.any():
        raise ValueError("no face was found in any frame: there is no mouth to read")
    flat = anchors.reshape(len(anchors), -1)
    whole = np.stack([filled(np.where(there, column, np.nan)) for column in flat.T], -1).reshape(anchors.shape)
    points = whole[..., 0].astype(np.complex128) + 1j * whole[..., 1]
    mean = np.median(whole[there], 0).astype(np.float64)
    like = mean[:, 0] + 1j * mean[:, 1]
    firm, middle = like[_NOSE] - like[_NOSE].mean(), like[_NOSE].mean()
    # A similarity for each frame, by least squares: a turn and a scale, then a shift.
    shift = points[:, _NOSE].mean(1)
    turn = (points[:, _NOSE] - shift[:, None]) @ firm.conj() / np.vdot(firm, firm).real
    corner, half = _square(like)
    return _maps(shift + turn * (corner - middle), turn * half)


def _square(like: NDArray[np.complex128]) -> tuple[complex, complex]:
    """The middle of a mean face's square, and the way from there to the middle of its right edge."""
    right, left, mouth = (complex(like[part].mean()) for part in (_RIGHT_EYE, _LEFT_EYE, _MOUTH))
    level = (left - right) / max(1e-6, abs(left - right))
    # Between eyes and mouth across the eyes' line: that does not shrink when a head turns aside.
    down = abs(((mouth - (left + right) / 2) / level).imag)
    return mouth + 1j * level * _LOWER * down, level * _REACH / 2 * down


def _maps(middle: NDArray[np.complex128], half: NDArray[np.complex128]) -> Floats:
    c, s = half.real, half.imag
    return np.stack([np.stack([c, -s, middle.real], -1), np.stack([s, c, middle.imag], -1)], 1).astype(np.float32)


def cut(frames: Tensor, maps: Tensor, edge: int = EDGE, reach: float = 1.0) -> Tensor:
    """Squares (F, 3, edge, edge) of pictures (F, height, width, 3), 0..255, `reach` times as wide as maps say."""
    pictures = frames.permute(0, 3, 1, 2).float()
    size = torch.tensor(pictures.shape[:1:-1], device=frames.device)
    scaled = torch.cat([maps[..., :2] * reach, maps[..., 2:]], -1) * 2 / size[:, None]
    scaled[..., 2] -= 1
    grid = F.affine_grid(scaled, [len(frames), 3, edge, edge], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


class MouthNet(nn.Module):
    """Squares (B, F, 3, edge, edge) of clips, in any range, to shapes (B, F, 6), each of a spread of about 1."""

    def __init__(self, edge: int = EDGE, features: int = 40) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 6
        for number, width in enumerate(_WIDTHS):
            kernel = 5 if number == 0 else 3
            layers += [nn.Conv2d(channels, width, kernel, 2, kernel // 2), nn.GroupNorm(4, width), nn.SiLU()]
            channels = width
        self.look = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (edge // 16) ** 2, features))
        # Neighbouring frames help: shapes change smoothly.
        self.tell = nn.Sequential(nn.Conv1d(features, 48, 5, padding=2, padding_mode="replicate"), nn.SiLU(),
                                  nn.Conv1d(48, len(SHAPES), 3, padding=1, padding_mode="replicate"))  # fmt: skip

    def forward(self, squares: Tensor) -> Tensor:
        """Reads whole clips, as each is compared with its own mean."""
        mean = squares.mean(1, keepdim=True)
        level, spread = mean.mean((-2, -1), keepdim=True), mean.std((-2, -1, -3), keepdim=True) + 1e-3
        shown = torch.cat([(squares - level) / spread, 2 * (squares - mean) / spread], 2)
        seen = self.look(shown.flatten(0, 1)).unflatten(0, squares.shape[:2])
        told: Tensor = self.tell(seen.transpose(1, 2)).transpose(1, 2)
        return told


@dataclass(frozen=True, slots=True)
class MouthReader:
    """The trained network."""

    net: MouthNet

    @staticmethod
    def load(path: Path = WEIGHTS) -> "MouthReader":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: the weights are not there.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: python -m training.evaluate.train_mouth_net makes it")
        net = MouthNet()
        net.load_state_dict({name: value.float() for name, value in Unpacked(load_file(path)).items()})
        return MouthReader(net.eval())

    @torch.inference_mode()
    def __call__(self, track: Floats, video: NDArray[np.uint8]) -> Floats:
        """Shapes (F, 6), those of `SHAPES`, of a video [F, height, width, 3] with landmarks (F, 468, 2)."""
        maps = squares(track[:, list(ANCHORS)])
        told: Floats = self.net(cut(torch.from_numpy(video), torch.from_numpy(maps))[None])[0].numpy()
        return told


def save(net: MouthNet, path: Path) -> None:
    """Writes the weights: matrices in 8 bits with a scale for each row, the rest in half precision."""
    half = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in net.state_dict().items()}
    save_file(pack(half, lambda _, __: True, torch.float16), path)
