"""Live talk: frames made while the sound arrives, chunk after chunk.

    sound      ...silence...|####|####|####|##      each chunk hears the last 8 seconds
    chunk 0               |mm####|
    chunk 1                    |mm####|
    chunk 2                         |mm####|

The first frames of a chunk (m) repeat the one before, and are not shown again. Those of the first chunk fall into the
silence before the sound; it starts from the portrait.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.core.defaults import Settings
from infinitetalk.core.live import HEARD_FRAMES
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLES_PER_FRAME, Latents
from infinitetalk.core.stages import Stage
from infinitetalk.core.windows import Window, frames_of
from infinitetalk.engine.codec import latent_count
from infinitetalk.engine.company import Company
from infinitetalk.engine.denoise import Conditions, Script
from infinitetalk.engine.failures import finite
from infinitetalk.engine.keyframes import KeyFrames, condition
from infinitetalk.engine.progress import Progress
from infinitetalk.engine.protocols import NoiseSource, SpeechSource, Waveform
from infinitetalk.engine.results import rgb
from infinitetalk.engine.seams import soften
from infinitetalk.engine.tasks import EncodeAside, Station
from infinitetalk.engine.voices import surround
from infinitetalk.media.arriving import blocks
from infinitetalk.media.color import match_colors
from infinitetalk.media.loudness import speech_gain
from infinitetalk.runtime.fetch import fetch


@dataclass(frozen=True, slots=True, eq=False)
class LiveChunk:
    """New frames. All tensors are float32 on the CPU."""

    index: int
    first_frame: int
    """Number of the first of `frames` in the video."""
    frames: Tensor
    """[3, F, H, W] in [-1, 1]."""
    latent: Tensor
    """What was denoised, overlap included, [16, T, h, w]."""
    latency: float
    """Seconds from the chunk's last sample to its frames."""

    def rgb(self) -> NDArray[np.uint8]:
        """The new frames as RGB pictures [F, H, W, 3]."""
        return rgb(self.frames)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a chunk hears."""

    samples: Waveform
    """The last 8 seconds at 16 kHz, silence before the beginning and behind the end included."""
    frames: int
    """New frames that the sound lasts; fewer than a chunk has only at the end."""
    since: float
    """When the last sample arrived, by `time.perf_counter`."""


def slide(sound: Iterable[Waveform], step: int) -> Iterator[Heard]:
    """The last 8 seconds of a sound each time that `step` video frames of it are there, and once more for the rest."""
    last = np.zeros(HEARD_FRAMES * SAMPLES_PER_FRAME, np.float32)
    for fresh in blocks(sound, step * SAMPLES_PER_FRAME):
        since = time.perf_counter()
        padded = np.pad(fresh, (0, step * SAMPLES_PER_FRAME - len(fresh)))
        last = np.concatenate([last[len(padded) :], padded])
        yield Heard(last, frames_of(len(fresh)), since)


@dataclass(slots=True, kw_only=True)
class LiveTalk:
    """A talk under way: what stays the same, and the frames that the next chunk continues."""

    request: TalkRequest
    settings: Settings
    script: Script
    keys: KeyFrames
    prompt: Tensor | None
    negative: Tensor | None
    speech: SpeechSource
    company: Company
    """The other processes, if there are any."""
    station: Station
    decode: Callable[[Tensor], Tensor]
    denoise: Callable[[Tensor, Conditions], Iterator[Tensor]]
    """Noise of all steps [steps, 16, T, h, w] and what the network is told → the latent [16, T, h, w] after each."""
    noise: NoiseSource
    device: torch.device
    listener: Progress
    _index: int = 0
    _tail: Tensor | None = None
    """The last decoded frames, [1, 3, motion frames, H, W], as they were shown."""
    _drawn: Tensor | None = None
    """The next chunk's noise, which takes the host some 25 ms."""

    def __post_init__(self) -> None:
        # Before the first sample arrives, as it takes time; all of it is remembered.
        self.keys.tokens(self._portrait()[0])

    @property
    def new_frames(self) -> int:
        """Frames that a chunk adds."""
        return self.settings.window_frames - self.settings.motion_frames

    def listen(self, sound: Iterable[Waveform]) -> Iterator[Heard]:
        """What each chunk hears of a sound at 16 kHz."""
        return slide(sound, self.new_frames)

    @torch.inference_mode()
    def make(self, heard: Heard) -> LiveChunk:
        """Makes the next chunk: a function of what it hears, its number and the frames before it."""
        told = self._conditions(heard.samples)
        with self.listener.stage(Stage.DENOISING):
            latent = self._denoise(told)
        with self.listener.stage(Stage.LIP_SYNC):
            video = self.decode(latent[None])[0]
            pixels, _ = self._portrait()
            fused = self.station.model.vae.pixels.fused
            video = match_colors(video, pixels[0], self.settings.color_strength, fused=fused)
            motion = self.settings.motion_frames
            if self._tail is not None:
                video = soften(video, self._tail[0], motion, self.settings.seam_frames)
            self._tail = video[None, :, -motion:].clone()
            frames = fetch(finite(video[:, motion : motion + heard.frames], self._index))
            latent = latent.cpu()
        index, self._index = self._index, self._index + 1
        return LiveChunk(index, index * self.new_frames, frames, latent, time.perf_counter() - heard.since)

    def _portrait(self) -> tuple[Tensor, Tensor]:
        """The portrait's pixels [1, 3, 1, H, W], and its latents [16, T, h, w] with grey frames behind it."""
        with self.listener.stage(Stage.KEY_FRAMES):
            pixels = self.keys.pixels(Window(0, 0, self.settings.window_frames, 0, 0))
            return pixels, self.keys.latent(pixels)

    def _conditions(self, samples: Waveform) -> Conditions:
        pixels, key = self._portrait()
        if self._tail is None:
            motion, audio = key[:, :1], self._hear(samples)
        else:
            # The last process sees where the chunk before ended while the first one hears.
            seen = EncodeAside(self._tail, self.company.size - 1)
            with self.company.together(seen):
                audio = self._hear(samples)
                with self.listener.stage(Stage.KEY_FRAMES):
                    motion = seen.run(self.station)[0]
        picture = condition(key, latent_count(self.settings.window_frames), self.settings.motion)
        return Conditions(picture, motion, audio, None, self.prompt, self.negative, self.keys.tokens(pixels))

    def _hear(self, samples: Waveform) -> Tensor:
        """Features around each frame of the chunk, [1, frames, width, layers, channels]."""
        with self.listener.stage(Stage.AUDIO_ENCODING):
            level = self.speech.normalise(samples * speech_gain(samples))
            features = self.speech.encode(level, HEARD_FRAMES, 0)
            frames = range(HEARD_FRAMES - self.settings.window_frames, HEARD_FRAMES)
            # On a processor with many cores, waking torch's threads takes longer than all else of it.
            return surround(features.to(self.device), frames, self.script.dit.config.audio_window)[None]

    def _denoise(self, told: Conditions) -> Tensor:
        """The finished latent [16, T, h, w]; one draw of noise holds that of all steps."""
        settings = self.settings
        latents = Latents.of(settings.window_frames, settings.size)
        shape = (settings.steps, told.motion.shape[0], *latents)
        drawn = self.noise(self.request.seed, self._index, shape) if self._drawn is None else self._drawn
        latent = noise = drawn.to(self.device)
        for step in self.denoise(noise, told):
            latent = step
            self.listener.advance()
        # The device is busy for long, and what it does next has not to be told yet.
        self._drawn = self.noise(self.request.seed, self._index + 1, shape)
        return latent
