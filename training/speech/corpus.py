"""The speech corpus on disk: Ogg Opus streams with phone segments, one file ``SPLIT-ENGINE.npz`` per engine.

Needs only numpy and soundfile, so that it loads on a bare GPU machine.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MediaError
from training.heads.visemes import PHONE_CLASSES, Segment

RATE = 16_000
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Utterance:
    """A stream of one voice: 16 kHz mono ``audio``; ``segments`` cover it from 0 to its end without gaps."""

    audio: NDArray[np.int16]
    segments: list[Segment]
    engine: str
    voice: str
    split: str

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / RATE


@dataclass(frozen=True)
class Encoded:
    """An utterance whose audio is Ogg Opus."""

    data: bytes
    segments: list[Segment]
    engine: str
    voice: str


def encode(utterance: Utterance, compression: float) -> Encoded:
    """Encode as Ogg Opus; ``compression`` 0.9 is about 25 kbit/s, 0.97 about 12 kbit/s."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, utterance.audio, RATE, format="OGG", subtype="OPUS", compression_level=compression)
    return Encoded(buffer.getvalue(), utterance.segments, utterance.engine, utterance.voice)


def save(path: Path, streams: Sequence[Encoded]) -> None:
    """Write one file of the corpus."""
    counts = [len(stream.segments) for stream in streams]
    rows = [segment for stream in streams for segment in stream.segments]
    np.savez(
        path,
        audio=np.frombuffer(b"".join(stream.data for stream in streams), dtype=np.uint8),
        sizes=np.array([len(stream.data) for stream in streams], dtype=np.int32),
        counts=np.array(counts, dtype=np.int32),
        phones=np.array([row.phone for row in rows], dtype=np.uint8),
        starts=np.array([round(row.start * RATE) for row in rows], dtype=np.int32),
        ends=np.array([round(row.end * RATE) for row in rows], dtype=np.int32),
        names=np.array(json.dumps([(stream.engine, stream.voice) for stream in streams])),
        classes=np.array(json.dumps(PHONE_CLASSES)),
    )


def load(folder: Path, splits: Iterable[str] = SPLITS) -> list[Utterance]:
    """Every utterance of these splits, decoded.

    Raises ``MediaError`` if a split has no file or a file was made with other phone classes.
    """
    found: list[Utterance] = []
    for split in splits:
        paths = sorted(Path(folder).glob(f"{split}-*.npz"))
        if not paths:
            raise MediaError(folder, f"has no {split}-*.npz; make them with python -m training.speech.make_corpus")
        for path in paths:
            found += _load_file(path, split)
    return found


def read(path: Path) -> list[Encoded]:
    """The streams of one file.

    Raises ``MediaError`` if it was made with other phone classes.
    """
    with np.load(path) as file:
        table = dict(file)
    if tuple(json.loads(str(table["classes"]))) != PHONE_CLASSES:
        raise MediaError(
            path, "made with other phone classes; make it again with python -m training.speech.make_corpus"
        )
    packets = np.split(table["audio"], np.cumsum(table["sizes"])[:-1])
    rows = list(zip(table["phones"].tolist(), table["starts"].tolist(), table["ends"].tolist(), strict=True))
    ends = np.cumsum(table["counts"]).tolist()
    names = json.loads(str(table["names"]))
    return [
        Encoded(packet.tobytes(), [Segment(phone, start / RATE, stop / RATE) for phone, start, stop in rows[begin:end]],
                engine, voice)
        for (engine, voice), packet, begin, end in zip(names, packets, [0, *ends[:-1]], ends, strict=True)
    ]  # fmt: skip


def _load_file(path: Path, split: str) -> list[Utterance]:
    streams = read(path)
    with ThreadPoolExecutor() as pool:  # the decoder works outside Python's lock
        sounds = pool.map(_decode, [stream.data for stream in streams])
        return [Utterance(audio, stream.segments, stream.engine, stream.voice, split)
                for stream, audio in zip(streams, sounds, strict=True)]  # fmt: skip


def _decode(packet: bytes) -> NDArray[np.int16]:
    import soundfile

    audio, _ = soundfile.read(io.BytesIO(packet), dtype="int16")
    return np.asarray(audio, dtype=np.int16)


def summary(utterances: Iterable[Utterance]) -> dict[str, tuple[float, int]]:
    """Minutes and number of voices per ``split/engine``."""
    minutes: dict[str, float] = {}
    voices: dict[str, set[str]] = {}
    for utterance in utterances:
        key = f"{utterance.split}/{utterance.engine}"
        minutes[key] = minutes.get(key, 0.0) + utterance.seconds / 60
        voices.setdefault(key, set()).add(utterance.voice)
    return {key: (minutes[key], len(voices[key])) for key in sorted(minutes)}
