"""Strengths and prompts by person and time."""

import json

import pytest

from infinitetalk.core.control import Strength, TimedPrompt, prompt_at, strength_at
from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import TalkRequest

BASE = {"image": "face.png", "audio": ["a.wav", "b.wav"]}


@pytest.mark.parametrize("text", ["0.5", "2:0", "1:0.3@2-4.5", "2@3-"])
def test_strengths_are_read_and_shown(text: str) -> None:
    assert str(Strength.parse(text)) == text


def test_the_last_strength_that_applies_holds() -> None:
    strengths = tuple(map(Strength.parse, ("0.5", "2:0", "1@3-4", "2:2@3.5-")))
    assert [strength_at(strengths, 0, seconds) for seconds in (0, 3, 3.9, 4)] == [0.5, 1, 1, 0.5]
    assert [strength_at(strengths, 1, seconds) for seconds in (0, 3, 3.5, 99)] == [0, 1, 2, 2]
    assert strength_at((), 0, 0) == 1


def test_prompts_of_a_time() -> None:
    prompts = tuple(map(TimedPrompt.parse, ("2-6:She laughs: loudly.", "5-:She sleeps.")))
    said = [prompt_at(prompts, seconds, "She talks.") for seconds in (0, 2, 5, 60)]
    assert said == ["She talks.", "She laughs: loudly.", "She sleeps.", "She sleeps."]


def test_requests_keep_them_through_json() -> None:
    request = TalkRequest.from_json(
        {**BASE, "audio_strength": [0.5, "2:0@1-2"], "prompts": ["0-3:hello", [3, None, "x"]]}
    )
    assert request.audio_strength == (Strength(0.5), Strength(0.0, 2, 1.0, 2.0))
    assert request.prompts == (TimedPrompt(0.0, 3.0, "hello"), TimedPrompt(3.0, None, "x"))
    assert TalkRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


@pytest.mark.parametrize(
    ("field", "value", "need"),
    [
        ("audio_strength", "much", r"\[PERSON:\]X"),
        ("audio_strength", "4", "0 to 3"),
        ("audio_strength", "0:1", "counted from 1"),
        ("audio_strength", "3:1", "there are 2 voices"),
        ("audio_strength", "1@4-4", "begin before it ends"),
        ("audio_strength", [True], "a list of strengths"),
        ("audio_strength", float("nan"), "0 to 3"),
        ("prompts", "hello", "START-END:TEXT"),
        ("prompts", "2-3: ", "START-END:TEXT"),
        ("prompts", "3-2:hello", "begin before it ends"),
        ("prompts", [[1, 2]], "a list of prompts"),
        ("noise_floor", 3, "at least 5"),
        ("voices", "mixed", "parallel, sequence, channels"),
    ],
)
def test_refusals(field: str, value: object, need: str) -> None:
    with pytest.raises(RequestError, match=need) as caught:
        TalkRequest.from_json({**BASE, field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["audio_strength", "prompts", "noise_floor"])
def test_the_reference_knows_none_of_it(field: str) -> None:
    value = {"audio_strength": "0.5", "prompts": "0-1:x", "noise_floor": 25}[field]
    with pytest.raises(RequestError, match="the reference has no such thing"):
        TalkRequest.from_json({**BASE, field: value, "reference": True})
