"""Binding to the espeak-ng library: speech with the start of every phoneme, and text to IPA.

The library is loaded at run time only (GPL); nothing of it is part of this package.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Segment = tuple[str, float, float]  # symbol, start and end in seconds

SYNCHRONOUS = 2
PHONEME_EVENTS_IN_IPA = 1 | 2
PHONEME_EVENT = 7
UTF8 = 1
END_PAUSE = 0x1000
IPA = 2
RATE, PITCH, RANGE = 1, 3, 4


class _Id(ctypes.Union):
    _fields_: ClassVar = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_: ClassVar = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Spoken:
    """Speech as float32 in [-1, 1] with its sample rate and phoneme segments in seconds."""

    audio: NDArray[np.float32]
    rate: int
    segments: list[Segment]


class Espeak:
    """One espeak-ng instance; the library allows one per process."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = int(self._library.espeak_Initialize(SYNCHRONOUS, 0, data, PHONEME_EVENTS_IN_IPA))
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._chunks: list[NDArray[np.int16]] = []
        self._events: list[tuple[str, int]] = []
        self._callback = _Callback(self._receive)  # kept: the library holds only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != 0:
            if events[index].type == PHONEME_EVENT:
                name = bytes(events[index].id.string).split(b"\0")[0].decode("utf-8", "ignore")
                self._events.append((name, events[index].sample))
            index += 1
        return 0

    def select(self, voice: str) -> bool:
        """Make ``voice`` (such as ``en-us+f3``) current; False if the library does not have it."""
        return bool(self._library.espeak_SetVoiceByName(voice.encode()) == 0)

    def say(self, text: str, voice: str, rate: int = 165, pitch: int = 50, pitch_range: int = 50) -> Spoken:
        """Speak ``text``; ``rate`` in words per minute, pitch and its range from 0 to 99."""
        if not self.select(voice):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self._chunks.clear()
        self._events.clear()
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, UTF8 | END_PAUSE, None, None)
        audio = np.concatenate(self._chunks).astype(np.float32) / np.float32(32768)
        starts = [sample / self.rate for _, sample in self._events] + [len(audio) / self.rate]
        segments = [(name, starts[i], starts[i + 1]) for i, (name, _) in enumerate(self._events)]
        return Spoken(audio, self.rate, segments)

    def ipa(self, text: str, voice: str = "en-us") -> str:
        """IPA of ``text`` with stress marks and the text's punctuation."""
        if not self.select(voice):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        parts = []
        for part in re.split(r"([,.!?;:])", text):
            parts.append(part if part in {",", ".", "!", "?", ";", ":"} else self._clause(part))
        return re.sub(r"\s+([,.!?;:])", r"\1", " ".join(p for p in parts if p)).strip()

    def _clause(self, text: str) -> str:
        if not text.strip():
            return ""
        pointer = ctypes.pointer(ctypes.c_char_p(text.encode()))
        words = []
        while pointer.contents.value:
            found = self._library.espeak_TextToPhonemes(ctypes.cast(pointer, ctypes.c_void_p), UTF8, IPA)
            words.append((found or b"").decode())
        return " ".join(words)
