"""Settings that change with time or person: how strongly a voice is heard, and prompts for stretches of the video."""

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from infinitetalk.core.errors import RequestError

_RANGE: Final = r"(?P<start>\d+\.?\d*|\.\d+)-(?P<end>\d+\.?\d*|\.\d+)?"
_STRENGTH: Final = re.compile(rf"\s*(?:(?P<person>\d+):)?(?P<value>\d+\.?\d*|\.\d+)(?:@{_RANGE})?\s*")
_PROMPT: Final = re.compile(rf"\s*{_RANGE}:(?P<text>.*)", re.DOTALL)

MOST_STRENGTH: Final = 3.0


class Strength(NamedTuple):
    """How strongly a voice moves its person: 0 is silence, 1 the voice as it is."""

    value: float
    person: int | None = None
    """Counted from 1 in the order of the voices; None: everybody."""
    start: float = 0.0
    """Second of the video from which it holds."""
    end: float | None = None
    """Second up to which it holds; None: to the end."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads '[PERSON:]X[@START-[END]]'.

        >>> Strength.parse("0.5"), Strength.parse("2:0@3-4.5").person
        (Strength(value=0.5, person=None, start=0.0, end=None), 2)

        Raises:
            RequestError: something else, or numbers that cannot work.
        """
        found = _STRENGTH.fullmatch(text)
        if found is None:
            need = "must be [PERSON:]X[@START-END], such as 0.5, 2:0 or 1:0.3@2-4.5"
            raise RequestError("audio_strength", text, need)
        person = None if found["person"] is None else int(found["person"])
        return cls.checked(float(found["value"]), person, float(found["start"] or 0), _end(found["end"]))

    @classmethod
    def checked(cls, value: float, person: int | None, start: float, end: float | None) -> Self:
        """A strength that can work.

        Raises:
            RequestError: it cannot.
        """
        made = cls(float(value), person, float(start), None if end is None else float(end))
        if not 0 <= made.value <= MOST_STRENGTH:  # not a number is refused as well
            raise RequestError("audio_strength", str(made), f"must be 0 to {MOST_STRENGTH:g}")
        if person is not None and person < 1:
            raise RequestError("audio_strength", str(made), "people are counted from 1")
        _check_range("audio_strength", str(made), made.start, made.end)
        return made

    @classmethod
    def read(cls, value: object) -> Self | None:
        """Reads what Python or JSON may hold: a number, text as `parse` takes it, or [X, PERSON, START, END]."""
        match value:
            case str():
                return cls.parse(value)
            case bool():
                return None
            case int() | float():
                return cls.checked(value, None, 0.0, None)
            case (
                int() | float() as number,
                int() | None as person,
                int() | float() as start,
                int() | float() | None as end,
            ):
                return cls.checked(number, person, start, end)
            case _:
                return None

    def __str__(self) -> str:
        who = "" if self.person is None else f"{self.person}:"
        return f"{who}{self.value:g}{_shown(self.start, self.end, '@')}"


class TimedPrompt(NamedTuple):
    """What a stretch of the video shows."""

    start: float
    end: float | None
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads 'START-[END]:TEXT', in seconds.

        >>> TimedPrompt.parse("4-8.5:She laughs.")
        TimedPrompt(start=4.0, end=8.5, text='She laughs.')

        Raises:
            RequestError: something else, or a stretch that cannot work.
        """
        found = _PROMPT.fullmatch(text)
        if found is None or not found["text"].strip():
            raise RequestError("prompts", text, "must be START-END:TEXT in seconds, such as 4-8:She laughs.")
        return cls.checked(float(found["start"]), _end(found["end"]), found["text"].strip())

    @classmethod
    def checked(cls, start: float, end: float | None, text: str) -> Self:
        """A prompt whose stretch has a length.

        Raises:
            RequestError: it has none.
        """
        _check_range("prompts", f"{_shown(start, end)}:{text}", start, end)
        return cls(float(start), None if end is None else float(end), text)

    @classmethod
    def read(cls, value: object) -> Self | None:
        """Reads what Python or JSON may hold: text as `parse` takes it, or [START, END, TEXT]."""
        match value:
            case str():
                return cls.parse(value)
            case (int() | float() as start, int() | float() | None as end, str() as text):
                return cls.checked(start, end, text)
            case _:
                return None

    def __str__(self) -> str:
        return f"{_shown(self.start, self.end)}:{self.text}"


def strength_at(strengths: Sequence[Strength], person: int, seconds: float) -> float:
    """What holds for a person (from 0) at a time of the video: the last one that names both, or 1."""
    for one in reversed(strengths):
        if one.person in (None, person + 1) and one.start <= seconds and (one.end is None or seconds < one.end):
            return one.value
    return 1.0


def prompt_at(prompts: Sequence[TimedPrompt], seconds: float, otherwise: str) -> str:
    """The prompt at a time of the video: the last one whose stretch holds it."""
    for one in reversed(prompts):
        if one.start <= seconds and (one.end is None or seconds < one.end):
            return one.text
    return otherwise


def _end(text: str | None) -> float | None:
    return None if text is None else float(text)


def _shown(start: float, end: float | None, before: str = "") -> str:
    if before and not start and end is None:
        return ""
    return f"{before}{start:g}-{'' if end is None else f'{end:g}'}"


def _check_range(field: str, value: str, start: float, end: float | None) -> None:
    if not (0 <= start < math.inf) or (end is not None and not start < end < math.inf):
        raise RequestError(field, value, "the stretch must begin before it ends, at 0 seconds or later")
