"""From what each engine reports to phone segments that lie where the sound is.

Every engine errs in its own way. Measured against forced alignment (``python -m training.speech.check_labels``), whose
own bias of 6 ms was measured on engines with exact times:

* Kokoro and hibari report each letter about 47 ms late, count the gap between words as an own letter, and give the
  silence after a clause to the clause's last phone;
* espeak-ng counts the closure of p, t and k as part of the phone before it;
* pocketsphinx reports each phone 6 ms early.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from training.heads.visemes import CLASS_INDEX, SILENCE, Alphabet, Segment, is_mark, segments_from_symbols

RATE = 16_000
NETWORK_DELAY = 0.047
ALIGNER_DELAY = -0.006
CLOSURE = 0.03
QUIET_DB = -38.0  # below the loud parts: no speech there
MIN_PAUSE = 0.12  # longer than the closure of a stop
_SILENCE = CLASS_INDEX[SILENCE]
_AH, _AX = CLASS_INDEX["AH"], CLASS_INDEX["AX"]
_VOICELESS_STOPS = frozenset(CLASS_INDEX[name] for name in ("P", "T", "K"))
_CLAUSE_ENDS = frozenset(",.!?;:…—")


def network_segments(
    tokens: Sequence[str],
    durations: Sequence[int],
    step: float,
    audio: NDArray[np.int16],
    *,
    alphabet: Alphabet = "kokoro",
    delay: float = NETWORK_DELAY,
) -> list[Segment]:
    """Segments from the durations that a network gives to start, each token and end, in ``step`` seconds.

    ``delay`` is how much later than the sound it reports them.
    """
    times = np.cumsum(durations) * step - delay
    symbols = []
    before = ""
    for index, token in enumerate(tokens):
        # Between words is no pause: the next phone has begun.
        symbol = "ˈ" if token == " " and before not in _CLAUSE_ENDS else token
        symbols.append((symbol, float(times[index]), float(times[index + 1])))
        before = token
    return cut_pauses(_merge_stray_marks(symbols, alphabet), audio)


def espeak_segments(symbols: Iterable[tuple[str, float, float]]) -> list[Segment]:
    """Segments from espeak-ng's phoneme events."""
    segments = _merge_stray_marks(symbols, "ipa")
    for index in range(1, len(segments)):
        before, stop = segments[index - 1], segments[index]
        if stop.phone in _VOICELESS_STOPS and before.phone != _SILENCE:
            start = stop.start - min(CLOSURE, 0.4 * (before.end - before.start))
            segments[index - 1 : index + 1] = [before._replace(end=start), stop._replace(start=start)]
    return segments


def aligned_segments(symbols: Iterable[tuple[str, float, float]]) -> list[Segment]:
    """Segments from pocketsphinx's alignment."""
    return shift(segments_from_symbols(symbols, "arpabet"), -ALIGNER_DELAY)


def with_schwas(segments: Sequence[Segment], ipa: str) -> list[Segment]:
    """The segments with AX where ``ipa`` of the same text has one: pocketsphinx's dictionary writes AH for both."""
    letters = [(letter, float(index), float(index + 1)) for index, letter in enumerate(ipa) if letter.strip()]
    wanted = [segment.phone for segment in segments_from_symbols(letters, "ipa") if segment.phone != _SILENCE]
    places = [index for index, segment in enumerate(segments) if segment.phone != _SILENCE]
    heard = [segments[index].phone for index in places]
    result = list(segments)
    # Where the phones around agree, those between differ in the dictionary alone.
    for kind, first, last, other, stop in SequenceMatcher(None, heard, wanted, autojunk=False).get_opcodes():
        if kind == "replace" and last - first == stop - other:
            for index, phone in zip(range(first, last), wanted[other:stop], strict=True):
                if heard[index] == _AH and phone == _AX:
                    result[places[index]] = segments[places[index]]._replace(phone=_AX)
    return result


def shift(segments: Iterable[Segment], seconds: float) -> list[Segment]:
    """The same segments, later by ``seconds``."""
    return [Segment(phone, start + seconds, end + seconds) for phone, start, end in segments]


def _merge_stray_marks(symbols: Iterable[tuple[str, float, float]], alphabet: Alphabet) -> list[Segment]:
    """As ``segments_from_symbols``; a mark after a phone and before a pause lengthens the phone."""
    kept = [(symbol, start, end) for symbol, start, end in symbols if end > start]
    rows: list[tuple[str, float, float]] = []
    for index, (symbol, start, end) in enumerate(kept):
        following = kept[index + 1][0] if index + 1 < len(kept) else " "
        if rows and is_mark(symbol) and not is_mark(rows[-1][0]) and not following.strip(" .,!?;:_"):
            rows[-1] = (rows[-1][0], rows[-1][1], end)
        else:
            rows.append((symbol, start, end))
    return segments_from_symbols(rows, alphabet)


def pauses(audio: NDArray[np.int16]) -> list[tuple[float, float]]:
    """Stretches (start, end in seconds) of at least ``MIN_PAUSE`` without speech in clean 16 kHz ``audio``."""
    hop = RATE // 200
    frames = audio[: len(audio) // hop * hop].astype(np.float32).reshape(-1, hop)
    power = np.convolve((frames**2).mean(1), np.ones(3) / 3, mode="same")
    quiet = power < np.percentile(power, 95) * 10 ** (QUIET_DB / 10)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    spans = [(start * hop / RATE, end * hop / RATE) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return [(start, end) for start, end in spans if end - start >= MIN_PAUSE]


def cut_pauses(segments: list[Segment], audio: NDArray[np.int16]) -> list[Segment]:
    """Segments shortened, split or dropped where ``audio`` pauses."""
    for start, end in pauses(audio):
        kept: list[Segment] = []
        for segment in segments:
            before = segment._replace(end=min(segment.end, start))
            after = segment._replace(start=max(segment.start, end))
            # A remainder shorter than 15 ms is an error of the label, not a phone.
            kept += [part for part in (before, after) if part.end - part.start > 0.015]
        segments = kept
    return segments


def cover(segments: Iterable[Segment], seconds: float) -> list[Segment]:
    """Non-overlapping segments from 0 to ``seconds``: gaps become silence, equal neighbours are joined."""
    rows: list[Segment] = []
    position = 0.0
    for phone, start, end in sorted(segments, key=lambda segment: segment.start):
        begin = min(max(start, position), seconds)
        stop = min(end, seconds)
        if stop <= begin:
            continue
        if begin > position:
            rows.append(Segment(_SILENCE, position, begin))
        rows.append(Segment(phone, begin, stop))
        position = stop
    if position < seconds:
        rows.append(Segment(_SILENCE, position, seconds))
    return _join_silences(rows)


def _join_silences(segments: list[Segment]) -> list[Segment]:
    rows: list[Segment] = []
    for segment in segments:
        if rows and segment.phone == _SILENCE == rows[-1].phone:
            rows[-1] = rows[-1]._replace(end=segment.end)
        else:
            rows.append(segment)
    return rows
