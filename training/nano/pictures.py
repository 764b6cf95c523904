"""Photographs of fur, grass, stones and more: `python -m training.nano.pictures CORPUS`. One shows a man from the side.

People are drawn, and drawn skin and hair are smoother than any camera's. What lies in CORPUS/pictures teaches the VAE
to carry finer detail, and gives it to the drawn. All of them are in the public domain (CC0, or NASA's) and come with
the package scikit-image.
"""

import argparse
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from infinitetalk.core.errors import MachineError

FOLDER = "pictures"
NAMES = ("brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png", "hubble_deep_field.jpg",
         "moon.png", "retina.jpg", "rocket.jpg")  # fmt: skip
SMALLER = 0.5
"""Photographs are also shown at half and a quarter of their size, where details are finer."""


@dataclass(frozen=True, slots=True)
class PictureBank:
    """Photographs on a device."""

    pictures: tuple[Tensor, ...]
    """(3, height, width) each, in [-1, 1]"""

    @staticmethod
    def load(folder: Path, device: torch.device, least: int) -> "PictureBank":
        """Reads all photographs of a folder, at every scale at which an edge has `least` pixels.

        Raises:
            MachineError: there is none.
        """
        found = []
        for path in sorted(folder.glob("*")):
            pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).to(device)
            picture = pixels.permute(2, 0, 1).float() / 127.5 - 1
            while min(picture.shape[1:]) >= least:
                found.append(picture)
                picture = F.interpolate(picture[None], scale_factor=SMALLER, mode="bilinear", antialias=True)[0]
        if not found:
            raise MachineError(
                f"{folder} holds no photographs; python -m training.nano.pictures CORPUS puts some there"
            )
        return PictureBank(tuple(found))

    def crops(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Squares (count, 3, size, size), half of them mirrored, each in its own brightness and contrast.

        Args:
            generator: on any device.
        """
        draws = torch.rand(count, 6, generator=generator, device=generator.device).tolist()
        made = []
        for which, down, across, mirror, gain, lift in draws:
            picture = self.pictures[int(which * len(self.pictures))]
            top, left = (int(share * (length - size + 1))
                         for share, length in zip((down, across), picture.shape[1:], strict=True))  # fmt: skip
            part = picture[:, top : top + size, left : left + size]
            part = part.flip(-1) if mirror < 0.5 else part
            made.append(part * (0.6 + 0.6 * gain) + 0.4 * (lift - 0.5))
        return torch.stack(made).clamp(-1, 1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    options = parser.parse_args()
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise MachineError("the package scikit-image is not installed; pip install scikit-image brings the photographs")
    folder = options.corpus / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shutil.copyfile(Path(spec.submodule_search_locations[0]) / "data" / name, folder / name)


if __name__ == "__main__":
    main()
