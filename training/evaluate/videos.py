"""Makes the videos that are judged, with the product's engine, and keeps them in a folder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from infinitetalk.core.defaults import resolve
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, Pixels
from infinitetalk.engine.codec import decode, encode
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.protocols import Inputs, Picture, Waveform
from infinitetalk.engine.results import rgb
from infinitetalk.media.cutting import plan_windows

Video = NDArray[np.uint8]
"""[F, height, width, 3]"""


@dataclass(frozen=True, slots=True)
class Still:
    """A picture from memory as the engine's source, and the voice that goes with it: the engine's files."""

    picture: Picture
    voice: Waveform

    @property
    def size(self) -> Pixels:
        """Height and width."""
        return Pixels(*self.picture.shape[:2])

    def frame_at(self, seconds: float) -> Picture:  # noqa: ARG002 - a picture does not change
        """The picture."""
        return self.picture

    def frame_index(self, index: int) -> Picture:  # noqa: ARG002
        """The picture."""
        return self.picture

    def open(self, request: TalkRequest) -> Inputs:  # noqa: ARG002
        """Both, whatever the request names."""
        return Inputs(self, (self.voice,))


class Camera:
    """A model that makes videos, each kept as NAME.npy in a folder that belongs to these very weights."""

    def __init__(self, model: str | Path, folder: Path, device: str = "auto") -> None:
        self.engine = Engine.from_pretrained(model, device=device)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _forget_others(folder, fingerprint(Path(model)))

    def shoot(
        self, name: str, picture: Picture, voice: Waveform, frames: int, *, seed: int = 0, motion: float | None = None
    ) -> Video:
        """A video of so many frames of the picture's person who says this."""
        path = self._folder / f"{name}.npy"
        if not path.exists():
            made = Engine(self.engine.model, media=Still(picture, voice)).generate(_request(frames, seed, motion)).rgb()
            np.save(path, made)
        video: Video = np.load(path)
        return video

    def windows(self, picture: Picture, voice: Waveform, frames: int) -> list[int]:
        """The frames with which the windows of such a video begin."""
        request, still = _request(frames), Still(picture, voice)
        settings = resolve(request, self.engine.model.facts, still.size)
        return [window.first_frame for window in plan_windows(request, settings, still.open(request))]

    @torch.inference_mode()
    def through_vae(self, frames: Video) -> Video:
        """Frames [4n+1, height, width, 3] encoded and decoded."""
        vae, device = self.engine.model.vae, self.engine.model.device
        video = torch.from_numpy(frames).to(device).permute(3, 0, 1, 2)[None] / 127.5 - 1
        return rgb(decode(vae, encode(vae, video))[0].cpu())


def _request(frames: int, seed: int = 0, motion: float | None = None) -> TalkRequest:
    return TalkRequest(image=Path("picture"), audio=(Path("voice"),), duration=frames / FPS, seed=seed, motion=motion)


def fingerprint(model: Path) -> str:
    """Tells one model folder from another by all of its content but the model card, which changes no video."""
    from infinitetalk.weights.locate import locate

    digest = hashlib.sha256()
    for path in sorted(item for item in locate(model).rglob("*") if item.is_file() and item.suffix != ".md"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _forget_others(folder: Path, mark: str) -> None:
    """Removes videos that another model made."""
    note = folder / "model.txt"
    if note.exists() and note.read_text() == mark:
        return
    for path in folder.glob("*.npy"):
        path.unlink()
    note.write_text(mark)
