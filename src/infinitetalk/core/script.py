"""What is to be spoken: a text for one person, or `(s1) … (s2) …` for several."""

import re
from typing import NamedTuple

from infinitetalk.core.errors import RequestError

_MARK = re.compile(r"\(\s*s(\d+)\s*\)", re.IGNORECASE)


class Turn(NamedTuple):
    """Words of one speaker."""

    speaker: int
    """Counted from 0."""
    words: str


def read_script(text: str) -> tuple[Turn, ...]:
    """The turns of a text, in their order.

    >>> read_script("(s1) Hello. (s2) Good morning.")
    (Turn(speaker=0, words='Hello.'), Turn(speaker=1, words='Good morning.'))

    Raises:
        RequestError: nothing to speak, words before the first mark, or a speaker between others who says nothing.
    """
    before, *rest = _MARK.split(text)
    if not rest:
        turns = [Turn(0, " ".join(text.split()))]
    else:
        if before.strip():
            raise RequestError("text", _short(before), "stands before the first (s1); say who speaks it")
        pairs = zip(rest[::2], rest[1::2], strict=True)
        turns = [Turn(int(number) - 1, " ".join(words.split())) for number, words in pairs]
    for turn in turns:
        if not any(letter.isalnum() for letter in turn.words):
            whose = f" of (s{turn.speaker + 1})" if rest else ""
            raise RequestError("text", _short(turn.words) or "nothing", f"there is nothing to speak in the text{whose}")
    speakers = {turn.speaker for turn in turns}
    if speakers != set(range(len(speakers))):
        said = ", ".join(f"s{speaker + 1}" for speaker in sorted(speakers))
        raise RequestError("text", said, f"{len(speakers)} speakers must be s1 to s{len(speakers)}, none left out")
    return tuple(turns)


def count_speakers(text: str) -> int:
    """How many people speak in a text.

    Raises:
        RequestError: as `read_script`.
    """
    return len({turn.speaker for turn in read_script(text)})


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
