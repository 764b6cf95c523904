"""Phonemes of several alphabets, their classes, and the mouth shapes (visemes) they are spoken with.

One table serves both sides of the training: the speech encoder learns ``PHONE_CLASSES`` as labels, and the renderer
moves the lips by ``GESTURES``. Symbols come from espeak-ng (IPA), Kokoro (IPA with own letters for diphthongs) and the
ARPAbet of flite and pocketsphinx. The alphabets clash (``Y`` is a glide in ARPAbet and a diphthong in Kokoro), so a
symbol is read together with its alphabet.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final, Literal, NamedTuple

Alphabet = Literal["ipa", "kokoro", "arpabet"]

SILENCE: Final = "SIL"

# ARPAbet's 39 phones, plus schwa (AX), a back fricative (X) and front rounded vowels (UE) for other languages.
PHONE_CLASSES: Final[tuple[str, ...]] = (
    SILENCE,
    *("AA", "AE", "AH", "AO", "AW", "AX", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY"),
    *("JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UE", "UH", "UW", "V", "W", "X"),
    *("Y", "Z", "ZH"),
)
CLASS_INDEX: Final[Mapping[str, int]] = {name: index for index, name in enumerate(PHONE_CLASSES)}


class Segment(NamedTuple):
    """One phone: its class (index into ``PHONE_CLASSES``) and its start and end in seconds."""

    phone: int
    start: float
    end: float


def _rows(table: str) -> dict[str, str]:
    """Read lines of ``CLASS: symbol symbol ...`` into ``{symbol: CLASS}``."""
    rows: dict[str, str] = {}
    for line in table.strip().splitlines():
        name, symbols = line.split(":", 1)
        rows.update(dict.fromkeys(symbols.split(), name.strip()))
    return rows


# The longest entry that a symbol starts with decides, so "aɪə" is AY and "ts" is S rather than T.
_IPA: Final[dict[str, str]] = _rows("""
    AA: ɑ a ɑː aː ɒː
    AE: æ
    AH: ʌ ɐ
    AO: ɔ ɒ o ɔː oː ɔə oɹ ɔɹ
    AW: aʊ æʊ au aw ɑu
    AX: ə ɘ ᵊ ɵ ɯ ɤ ɨ ᵻ
    AY: aɪ ai aj ɑɪ ɑi
    B: b β ɓ bʰ bʲ
    CH: tʃ ʧ tɕ ʈʂ tʂ tɹ̝̊
    D: d ɖ ɗ ɾ ɽ
    DH: ð
    EH: ɛ e ɛː eː eə ɛə œ̃
    ER: ɜ ɚ ɝ əɹ ɜɹ
    EY: eɪ ei ej ɛɪ ɛi
    F: f ɸ
    G: ɡ g ɣ ɠ ʛ
    HH: h ɦ ʔ
    IH: ɪ ɪə iə iɐ
    IY: i iː
    JH: dʒ ʤ dʑ ɟ ʝ ɖʐ
    K: k c q
    L: l ɫ ɬ ɭ ʎ ʟ ɺ ɮ
    M: m ɱ
    N: n ɲ ɳ
    NG: ŋ ɴ
    OW: oʊ əʊ ou ow ɔʊ
    OY: ɔɪ oi oj ɔø ɔy ɔʏ
    P: p
    R: ɹ r ɻ ʀ ʁ ɾɾ rr
    S: s ts t͡s dz ʦ ʣ
    SH: ʃ ɕ ʂ ç
    T: t ʈ
    TH: θ
    UE: y ʏ ø œ ɥ yː øː œː
    UH: ʊ ʊə
    UW: u uː ʉ
    V: v ʋ pf
    W: w ʍ ɰ
    X: x χ ħ ʕ ɧ
    Y: j
    Z: z
    ZH: ʒ ʑ ʐ
""")
_KOKORO: Final[dict[str, str]] = {**_IPA, "A": "EY", "I": "AY", "O": "OW", "Q": "OW", "W": "AW", "Y": "OY", "T": "D"}
_ARPABET: Final[dict[str, str]] = {
    **{name.lower(): name for name in PHONE_CLASSES},
    **_rows("""
        SIL: pau h# # sp spn nsn +spn+ +nsn+ <s> </s> ssil brth
        AX: ax ax-h ix ah0
        UW: ux
        ER: axr
        D: dx
        N: nx en
        L: el
        M: em
        NG: eng
        HH: hv q
        W: wh
    """),
}
_ALPHABETS: Final[Mapping[Alphabet, Mapping[str, str]]] = {"ipa": _IPA, "kokoro": _KOKORO, "arpabet": _ARPABET}

# Stress, length, tone and secondary articulation: they colour a neighbour and are no phones.
_MARKS: Final = frozenset("ˈˌːˑʰʲʷˠˤˀʼ˞ⁿˡ‿'ˑ˥˦˧˨˩→↓↑↗↘̩-|^_0123456789")
_PAUSES: Final = frozenset(' .,!?;:…—–"()“”«»¡¿\t\n')


def is_mark(symbol: str) -> bool:
    """Whether the symbol is only stress, length, tone or another modifier (so its time belongs to a neighbour)."""
    return bool(symbol) and all(letter in _MARKS or bool(unicodedata.combining(letter)) for letter in symbol)


@cache
def phone_class(symbol: str, alphabet: Alphabet = "ipa") -> int:
    """Index into ``PHONE_CLASSES`` of one symbol; empty symbols, blanks and punctuation are silence.

    Raises ``ValueError`` for a symbol outside the table; ask ``is_mark`` first where modifiers come as own symbols.
    """
    if all(letter in _PAUSES or letter == "_" for letter in symbol):
        return CLASS_INDEX[SILENCE]
    name = _arpabet(symbol) if alphabet == "arpabet" else _longest_match(symbol, _ALPHABETS[alphabet])
    if name is None:
        raise ValueError(f"phoneme {symbol!r} is not in the {alphabet} table; add it to training/heads/visemes.py")
    return CLASS_INDEX[name]


def _arpabet(symbol: str) -> str | None:
    lowered = symbol.strip().lower()
    return _ARPABET.get(lowered) or _ARPABET.get(lowered.rstrip("012"))


def _longest_match(symbol: str, table: Mapping[str, str]) -> str | None:
    letters = unicodedata.normalize("NFC", symbol.strip().replace("͡", ""))
    for start in range(len(letters)):
        for end in range(len(letters), start, -1):
            if letters[start:end] in table:
                return table[letters[start:end]]
        if not (is_mark(letters[start]) or letters[start] in _PAUSES):
            decomposed = unicodedata.normalize("NFD", letters[start])[0]
            return table.get(decomposed)
    return None


def segments_from_symbols(symbols: Iterable[tuple[str, float, float]], alphabet: Alphabet = "ipa") -> list[Segment]:
    """Labelled symbols ``(symbol, start, end)`` in seconds as segments; a mark's time goes to the phone after it."""
    segments: list[Segment] = []
    pending: float | None = None
    for symbol, start, end in symbols:
        if is_mark(symbol):
            pending = start if pending is None else pending
            continue
        phone = phone_class(symbol, alphabet)
        segments.append(Segment(phone, start if pending is None else pending, end))
        pending = None
    return segments


def _both(name: str, weight: float) -> dict[str, float]:
    return {name + "Left": weight, name + "Right": weight}


# Mouth shape -> ARKit weights at normal speech. Closure for PP and FF is enforced on top, see tracks.py.
VISEMES: Final[Mapping[str, Mapping[str, float]]] = {
    "rest": {},
    "PP": {**_both("mouthPress", 0.3), "mouthRollLower": 0.25, "mouthRollUpper": 0.25},
    "FF": {"jawOpen": 0.06, "mouthRollLower": 0.75, **_both("mouthUpperUp", 0.35)},
    "TH": {"jawOpen": 0.14, "tongueOut": 0.3, **_both("mouthLowerDown", 0.25)},
    "DD": {"jawOpen": 0.13, **_both("mouthLowerDown", 0.28), **_both("mouthUpperUp", 0.18)},
    "KK": {"jawOpen": 0.17, **_both("mouthLowerDown", 0.22), **_both("mouthUpperUp", 0.12)},
    "SS": {
        "jawOpen": 0.06,
        **_both("mouthStretch", 0.3),
        **_both("mouthLowerDown", 0.38),
        **_both("mouthUpperUp", 0.28),
    },
    "CH": {"jawOpen": 0.09, "mouthFunnel": 0.5, **_both("mouthLowerDown", 0.22)},
    "RR": {"jawOpen": 0.11, "mouthFunnel": 0.35, "mouthPucker": 0.2},
    "AA": {"jawOpen": 0.62, **_both("mouthLowerDown", 0.25), **_both("mouthUpperUp", 0.18)},
    "AH": {"jawOpen": 0.45, **_both("mouthLowerDown", 0.25), **_both("mouthUpperUp", 0.15)},
    "EH": {
        "jawOpen": 0.32,
        **_both("mouthStretch", 0.35),
        **_both("mouthSmile", 0.15),
        **_both("mouthLowerDown", 0.22),
        **_both("mouthUpperUp", 0.12),
    },
    "AX": {"jawOpen": 0.20, **_both("mouthStretch", 0.1), **_both("mouthLowerDown", 0.2)},
    "IY": {
        "jawOpen": 0.14,
        **_both("mouthSmile", 0.32),
        **_both("mouthStretch", 0.3),
        **_both("mouthLowerDown", 0.28),
        **_both("mouthUpperUp", 0.15),
    },
    "OH": {"jawOpen": 0.38, "mouthFunnel": 0.7},
    "UU": {"jawOpen": 0.12, "mouthPucker": 0.85, "mouthFunnel": 0.2},
}

# Phone class -> the visemes it passes through in equal parts; an empty tuple takes the shape of what follows (h).
GESTURES: Final[Mapping[str, tuple[str, ...]]] = {
    SILENCE: ("rest",),
    **dict.fromkeys(("P", "B", "M"), ("PP",)),
    **dict.fromkeys(("F", "V"), ("FF",)),
    **dict.fromkeys(("TH", "DH"), ("TH",)),
    **dict.fromkeys(("T", "D", "N", "L"), ("DD",)),
    **dict.fromkeys(("K", "G", "NG", "X"), ("KK",)),
    **dict.fromkeys(("S", "Z"), ("SS",)),
    **dict.fromkeys(("CH", "JH", "SH", "ZH"), ("CH",)),
    **dict.fromkeys(("R", "ER"), ("RR",)),
    **dict.fromkeys(("IH", "IY", "Y"), ("IY",)),
    **dict.fromkeys(("UH", "UW", "UE", "W"), ("UU",)),
    **dict.fromkeys(("AE", "AH"), ("AH",)),
    "AA": ("AA",),
    "AO": ("OH",),
    "EH": ("EH",),
    "AX": ("AX",),
    "AW": ("AA", "UU"),
    "AY": ("AA", "IY"),
    "EY": ("EH", "IY"),
    "OW": ("OH", "UU"),
    "OY": ("OH", "IY"),
    "HH": (),
}
LIPS_CLOSED: Final = frozenset({"P", "B", "M"})
LIP_ON_TEETH: Final = frozenset({"F", "V"})
