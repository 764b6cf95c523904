"""ComfyUI's pictures, sounds, masks and videos as files that the engine reads, and its finished files back."""

import hashlib
import io
import wave
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def folder(*parts: str) -> Path:
    """A folder below ComfyUI's temporary one."""
    made = Path(folder_paths.get_temp_directory(), "infinitetalk", *parts)
    made.mkdir(parents=True, exist_ok=True)
    return made


def _kept(content: bytes, suffix: str) -> Path:
    """A file named after its content, so that equal inputs make an equal request, which can go on where it stopped."""
    path = folder("inputs") / f"{hashlib.sha256(content).hexdigest()[:24]}{suffix}"
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)
    return path


def _png(array: NDArray[np.floating[Any]]) -> Path:
    content = io.BytesIO()
    Image.fromarray((array * 255).round().clip(0, 255).astype(np.uint8)).save(content, "PNG")
    return _kept(content.getvalue(), ".png")


def picture(image: Any) -> Path:
    """IMAGE [1, H, W, 3] in 0 to 1 → a PNG file.

    Raises:
        ValueError: several pictures.
    """
    if len(image) != 1:
        raise ValueError(f"image holds {len(image)} pictures: give one, or make a video of them with Create Video")
    return _png(image[0].cpu().numpy())


def mask(values: Any) -> Path:
    """MASK [1, H, W] or [H, W] → a PNG file, white where a person is.

    Raises:
        ValueError: several masks.
    """
    flat = values[0] if values.ndim == 3 else values
    if values.ndim == 3 and len(values) != 1:
        raise ValueError(f"a person's mask holds {len(values)} pictures: one would work")
    return _png(flat.cpu().numpy())


def sound(audio: Any) -> Path:
    """AUDIO {"waveform": [1, channels, samples], "sample_rate"} → a WAV file of 16 bits.

    Raises:
        ValueError: several sounds, or none.
    """
    samples = audio["waveform"]
    if samples.ndim != 3 or len(samples) != 1 or not samples.shape[-1]:
        raise ValueError(f"audio of the shape {tuple(samples.shape)}: one sound with samples would work")
    values = (samples[0].cpu().numpy().T * 32767).round().clip(-32768, 32767).astype("<i2")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(2)
        file.setframerate(int(audio["sample_rate"]))
        file.writeframes(values.tobytes())
    return _kept(content.getvalue(), ".wav")


def footage(video: Any) -> Path:
    """VIDEO → its file."""
    source = video.get_stream_source()
    return Path(source) if isinstance(source, str) else _kept(source.getvalue(), ".mp4")


def last_frame(segment: Path) -> Image.Image | None:
    """The last frame of a finished window, to be shown while the next one is made."""
    import av

    try:
        with av.open(str(segment)) as container:
            frames = deque(container.decode(video=0), maxlen=1)
            return frames[0].to_image() if frames else None  # type: ignore[no-untyped-call]
    except (OSError, av.FFmpegError):
        return None


class Watch:
    """Follows a job's board: moves ComfyUI's bar, shows finished windows, stops when ComfyUI is told to."""

    STEPS = 1000
    SIDE = 512

    def __init__(self, windows: Path, bar: Any, stop: Callable[[], None]) -> None:
        self._windows, self._bar, self._stop = windows, bar, stop
        self._shown = ""
        self._share = 0.0

    def __call__(self, board: Any) -> None:
        """Is told of every change; raises what ComfyUI raises for an interrupt."""
        self._stop()
        self._share = max(self._share, board.fraction)
        self._bar.update_absolute(int(self._share * self.STEPS), self.STEPS, self._preview())

    def _preview(self) -> tuple[str, Image.Image, int] | None:
        segments = sorted(self._windows.glob("window-*.mp4"))
        if not segments or segments[-1].name == self._shown:
            return None
        frame = last_frame(segments[-1])
        if frame is None:
            return None
        self._shown = segments[-1].name
        return "JPEG", frame, self.SIDE
