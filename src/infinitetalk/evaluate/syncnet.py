"""LSE-C and LSE-D by SyncNet (Chung and Zisserman 2016), with weights that the user has.

The network sees five frames of a face and the 0.2 s of sound under them, each as 1024 numbers. LSE-D is the smallest
mean distance of the two over lags of up to 15 frames; LSE-C is how far it lies under the median of all lags' distances.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infinitetalk.core.errors import ModelError
from infinitetalk.core.sizes import SAMPLE_RATE, SAMPLES_PER_FRAME
from infinitetalk.evaluate.faces import Look
from infinitetalk.evaluate.series import Floats
from infinitetalk.media.inputs import Picture, Wave
from infinitetalk.media.paths import require_file

SIDE: Final = 224
FRAMES: Final = 5
REACH: Final = 15
"""Lags in frames, to both sides."""
_STEPS: Final = 4
"""Steps of the sound's numbers in a frame."""
_BLOCK: Final = 50
"""Faces that are compared at a time."""
_MARGIN: Final = 0.4
"""Of a face's size, around it."""


def _conv(layers: int, kind: type[nn.Module], norm: type[nn.Module], *shape: object, **more: object) -> list[nn.Module]:
    """A convolution, its norm and its rectifier."""
    return [kind(*shape, **more), norm(layers), nn.ReLU()]


def _sound_tower() -> nn.Sequential:
    conv = nn.Conv2d
    norm = nn.BatchNorm2d
    return nn.Sequential(
        *_conv(64, conv, norm, 1, 64, 3, padding=1), nn.Identity(),
        *_conv(192, conv, norm, 64, 192, 3, padding=1), nn.MaxPool2d(3, (1, 2)),
        *_conv(384, conv, norm, 192, 384, 3, padding=1),
        *_conv(256, conv, norm, 384, 256, 3, padding=1),
        *_conv(256, conv, norm, 256, 256, 3, padding=1), nn.MaxPool2d(3, 2),
        *_conv(512, conv, norm, 256, 512, (5, 4)),
    )  # fmt: skip


def _face_tower() -> nn.Sequential:
    conv = nn.Conv3d
    norm = nn.BatchNorm3d
    small, stride, pad = (1, 3, 3), (1, 2, 2), (0, 1, 1)
    return nn.Sequential(
        *_conv(96, conv, norm, 3, 96, (5, 7, 7), stride), nn.MaxPool3d(small, stride),
        *_conv(256, conv, norm, 96, 256, (1, 5, 5), stride, padding=pad), nn.MaxPool3d(small, stride, pad),
        *_conv(256, conv, norm, 256, 256, small, padding=pad),
        *_conv(256, conv, norm, 256, 256, small, padding=pad),
        *_conv(256, conv, norm, 256, 256, small, padding=pad), nn.MaxPool3d(small, stride),
        *_conv(512, conv, norm, 256, 512, (1, 6, 6)),
    )  # fmt: skip


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """The two towers; its parameters have the names of its authors' file."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud, self.netfcaud = _sound_tower(), _head()
        self.netcnnlip, self.netfclip = _face_tower(), _head()

    @staticmethod
    def read(path: Path) -> "SyncNet":
        """Reads its authors' file, syncnet_v2.model.

        Raises:
            MediaError: no such file.
            ModelError: it holds something else.
        """
        require_file(path, "file with SyncNet's weights")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            network = SyncNet()
            network.load_state_dict(state)
        except Exception as error:  # whatever torch says of a file that is another
            raise ModelError(f"{path}: does not hold SyncNet's weights; give its authors' syncnet_v2.model") from error
        return network.eval()

    @torch.inference_mode()
    def faces(self, frames: Tensor) -> Tensor:
        """Faces [n, 3, 5, 224, 224], BGR from 0 to 255 → numbers [n, 1024]."""
        out: Tensor = self.netfclip(self.netcnnlip(frames).flatten(1))
        return out

    @torch.inference_mode()
    def sounds(self, numbers: Tensor) -> Tensor:
        """Cepstra [n, 1, 13, 20] → numbers [n, 1024]."""
        out: Tensor = self.netfcaud(self.netcnnaud(numbers).flatten(1))
        return out


def cepstra(sound: NDArray[np.int16]) -> NDArray[np.float64]:
    """Mel cepstra [steps, 13] of a sound at 16 kHz as 16-bit integers: every 10 ms, over 25 ms each.

    26 triangular filters over 512 points, a pre-emphasis of 0.97, a lifter of 22, and the logarithm of the energy in
    place of the first: the usual numbers of speech recognition.
    """
    length, hop, size, filters = 400, 160, 512, 26
    signal = sound.astype(np.float64)
    signal = np.append(signal[:1], signal[1:] - 0.97 * signal[:-1])
    count = 1 if len(signal) <= length else 1 + -(-(len(signal) - length) // hop)
    padded = np.pad(signal, (0, max(0, (count - 1) * hop + length - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop][:count]
    power = np.square(np.abs(np.fft.rfft(frames, size))) / size
    least = np.finfo(float).eps
    energy = power.sum(1)
    banded = power @ _triangles(filters, size).T
    logs = np.log(np.where(banded == 0, least, banded))
    order = np.arange(13)[:, None] * (2 * np.arange(filters) + 1) * np.pi / (2 * filters)
    basis = np.cos(order) * np.sqrt(2 / filters)
    basis[0] = np.sqrt(1 / filters)
    found = logs @ basis.T * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
    found[:, 0] = np.log(np.where(energy == 0, least, energy))
    return np.asarray(found)


def _triangles(filters: int, size: int) -> NDArray[np.float64]:
    """Filters [filters, size / 2 + 1] whose corners lie on bins, evenly on the mel scale up to 8 kHz."""
    mels = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), filters + 2)
    corners = np.floor((size + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE)
    bank = np.zeros((filters, size // 2 + 1))
    for row, (low, top, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        rising, falling = np.arange(int(low), int(top)), np.arange(int(top), int(high))
        bank[row, rising] = (rising - low) / (top - low)
        bank[row, falling] = (high - falling) / (high - top)
    return bank


def crop(look: Look, last: Floats | None) -> tuple[Picture, Floats | None]:
    """The face as the network sees it [224, 224, 3], and where it is (x, y, half of its size), steadied over time."""
    place = last
    if look.face is not None:
        now = np.array([*look.face.middle, max(look.face.box[2] - look.face.box[0], look.face.height) / 2], np.float32)
        place = now if last is None else last + (now - last) * np.float32(0.25)
    if place is None:
        return np.zeros((SIDE, SIDE, 3), np.uint8), None
    x, y, half = (float(value) for value in place)
    edge = 2 * half * (1 + _MARGIN)
    share = SIDE / edge
    left, top = x - half * (1 + _MARGIN), y - half
    move = np.array([[share, 0, -left * share], [0, share, -top * share]])
    part = cv2.warpAffine(look.picture, move, (SIDE, SIDE), borderMode=cv2.BORDER_CONSTANT, borderValue=(110, 110, 110))
    return np.asarray(part, np.uint8), place


@dataclass(frozen=True, slots=True)
class Lse:
    """SyncNet's figures."""

    confidence: float
    """LSE-C: more is better."""
    distance: float
    """LSE-D: less is better."""
    offset_frames: int
    """Frames by which the sound is early, as its authors count."""


class Listener:
    """Gathers what SyncNet sees and hears of a video; what it holds does not grow with the video's length."""

    def __init__(self, network: SyncNet, wave: Wave, frames: int) -> None:
        self._network, self._wave = network, wave
        self._count = frames - FRAMES
        self._held: list[Tensor] = []
        self._place: Floats | None = None
        self._seen: list[Tensor] = []
        self._judged = 0
        self._sums = torch.zeros(2 * REACH + 1, dtype=torch.float64)

    def see(self, look: Look) -> None:
        """The next frame."""
        picture, self._place = crop(look, self._place)
        self._held = [*self._held, torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1).float()][-FRAMES:]
        if len(self._held) < FRAMES or self._judged + len(self._seen) >= self._count:
            return
        self._seen.append(self._network.faces(torch.stack(self._held, 1)[None])[0])
        if len(self._seen) == _BLOCK:
            self._judge()

    def _judge(self) -> None:
        """Compares the faces that wait with the sound around them."""
        first, last = self._judged, self._judged + len(self._seen)
        begin, end = max(0, first - REACH), min(self._count, last + REACH)
        heard = heard_by(self._network, self._wave, begin, end)
        padded = nn.functional.pad(heard, (0, 0, begin - first + REACH, last + REACH - end))
        self._sums += distances(torch.stack(self._seen), padded)
        self._judged, self._seen = last, []

    def result(self) -> Lse | None:
        """The figures; None for a video that is too short."""
        if self._seen:
            self._judge()
        return lse(self._sums / self._judged) if self._judged else None


def heard_by(network: SyncNet, wave: Wave, first: int, last: int) -> Tensor:
    """Numbers [last - first, 1024] of the sound under each five frames that begin with these."""
    before = min(first, 1)  # pre-emphasis looks one sample back
    end = last + FRAMES
    sound = wave[(first - before) * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME + 400]
    whole = np.clip(np.round(sound * 32767), -32768, 32767).astype(np.int16)
    steps = torch.from_numpy(cepstra(whole)[before * _STEPS :].T.copy()).float()
    steps = nn.functional.pad(steps, (0, max(0, (end - first) * _STEPS - steps.shape[1])), mode="replicate")
    parts = [steps[None, :, at * _STEPS : (at + FRAMES) * _STEPS] for at in range(last - first)]
    return network.sounds(torch.stack(parts))


def distances(faces: Tensor, sounds: Tensor) -> Tensor:
    """Sums over faces [n, 1024] of their distances to sounds [n + 2 * REACH, 1024], for each lag."""
    lags = range(2 * REACH + 1)
    apart = [nn.functional.pairwise_distance(faces, sounds[lag : lag + len(faces)]).sum() for lag in lags]
    return torch.stack(apart).double()


def lse(means: Tensor) -> Lse:
    """The figures of the mean distance [2 * REACH + 1] for each lag."""
    best = int(means.argmin())
    return Lse(float(means.median() - means[best]), float(means[best]), REACH - best)
