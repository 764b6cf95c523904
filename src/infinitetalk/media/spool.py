"""Voices on disk: samples that are written once and asked for in parts, so that memory does not grow with them."""

import tempfile
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from infinitetalk.core.errors import MachineError
from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.inputs import Wave, Waveform

PIECE: Final = 16 * SAMPLE_RATE
"""Samples that are worked on at a time: a whole number of video frames and of measurements of the level."""


def pieces(wave: Wave) -> Iterator[Waveform]:
    """All of a voice, some seconds at a time."""
    for begin in range(0, len(wave), PIECE):
        yield wave[begin : begin + PIECE]


class Spool:
    """Mono samples [n] in a temporary file, which is gone when nobody refers to it any more.

    Raises:
        MachineError: no folder for temporary files, or a full disk.
    """

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as this object
        except OSError as error:
            raise MachineError(f"no folder for temporary files can be used ({error}); TMPDIR names one") from error
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> Waveform:
        begin, end, _ = part.indices(self._count)
        content = bytearray(max(0, end - begin) * 4)
        view = memoryview(content)
        self._file.seek(begin * 4)
        while view:
            view = view[self._file.readinto(view) :]
        return np.frombuffer(content, np.float32)

    def append(self, samples: Waveform) -> None:
        """Adds samples [n] at the end."""
        self._write(self._count, samples)
        self._count += len(samples)

    def append_silence(self, count: int) -> None:
        """Adds so many zeros, which take no room on most disks."""
        self._count += count
        self._file.truncate(self._count * 4)

    def change(self, begin: int, change: Callable[[int, Waveform], Waveform]) -> None:
        """Replaces all from `begin` on: `change` is given pieces and how many samples lie between `begin` and them."""
        for at in range(begin, self._count, PIECE):
            self._write(at, change(at - begin, self[at : at + PIECE]))

    def _write(self, at: int, samples: Waveform) -> None:
        content = memoryview(np.asarray(samples, np.float32).tobytes())
        try:
            self._file.seek(at * 4)
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            need = "room for the samples of a voice is needed; TMPDIR names another folder"
            raise MachineError(f"{tempfile.gettempdir()}: cannot be written ({error.strerror}); {need}") from error


class Tail:
    """A voice from some sample on."""

    def __init__(self, wave: Wave, begin: int) -> None:
        self._wave = wave
        self._begin = min(begin, len(wave))

    def __len__(self) -> int:
        return len(self._wave) - self._begin

    def __getitem__(self, part: slice) -> Waveform:
        begin, end, _ = part.indices(len(self))
        return self._wave[self._begin + begin : self._begin + max(begin, end)]


class Silence:
    """A voice that says nothing for so many samples."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> Waveform:
        return np.zeros(len(range(self._count)[part]), np.float32)
