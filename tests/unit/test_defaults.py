"""A model's defaults fill what a request leaves open, and words for a model without text are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infinitetalk.core.defaults import NEGATIVE_PROMPT, PROMPT, STANDARD_BUCKETS, ModelDefaults, ModelFacts, resolve
from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import Pixels

LARGE = ModelFacts(name="large", defaults=ModelDefaults(), buckets=STANDARD_BUCKETS, has_text=True, max_people=2)
MUTE = ModelFacts(
    name="mute",
    defaults=ModelDefaults(size="128", steps=8, shift=3.0, audio_scale=2.0),
    buckets={"128": {1.0: Pixels(128, 128)}},
    has_text=False,
    max_people=1,
)
SOURCE = Pixels(1000, 1000)


def request(**changes: Any) -> TalkRequest:
    given: dict[str, Any] = {"image": Path("a.png"), "audio": (Path("a.wav"),)}
    return TalkRequest(**(given | changes))


def test_a_picture_and_a_sound_alone_get_the_reference_settings() -> None:
    settings = resolve(request(), LARGE, SOURCE)
    assert (settings.window_frames, settings.motion_frames, settings.steps) == (81, 9, 40)
    assert (settings.text_scale, settings.audio_scale, settings.shift) == (5.0, 4.0, 7.0)
    assert settings.size == Pixels(640, 640)
    assert (settings.prompt, settings.negative_prompt) == (PROMPT, NEGATIVE_PROMPT)


def test_the_720_table_shifts_further() -> None:
    settings = resolve(request(size="720"), LARGE, SOURCE)
    assert (settings.size, settings.shift) == (Pixels(960, 960), 11.0)


def test_an_overlap_is_the_requests_or_the_models() -> None:
    own = replace(LARGE, defaults=ModelDefaults(overlap_frames=8))
    assert resolve(request(), LARGE, SOURCE).overlap_frames == 0
    assert resolve(request(overlap_frames=34), LARGE, SOURCE).overlap_frames == 34
    assert resolve(request(), own, SOURCE).overlap_frames == 8
    assert resolve(request(overlap_frames=0), own, SOURCE).overlap_frames == 0
    assert resolve(request(window_frames=21), own, SOURCE).overlap_frames == 4, "two borders fit into every window"
    assert resolve(request(reference=True), own, SOURCE).overlap_frames == 0


def test_what_the_request_says_wins() -> None:
    settings = resolve(request(steps=4, shift=2.0, size="320x320", color_strength=0.3, prompt="hi"), LARGE, SOURCE)
    assert (settings.steps, settings.shift, settings.size) == (4, 2.0, Pixels(320, 320))
    assert (settings.color_strength, settings.prompt) == (0.3, "hi")


def test_colours_of_footage_are_matched_but_in_the_reference() -> None:
    assert resolve(request(), LARGE, SOURCE).color_strength == 1.0
    footage: dict[str, Any] = {"image": None, "video": Path("a.mp4")}
    assert resolve(request(**footage), LARGE, SOURCE).color_strength == 1.0
    assert request(**footage).watches_light
    assert resolve(request(**footage, reference=True), LARGE, SOURCE).color_strength == 0.0
    for asked in (request(), request(**footage, color_strength=1.0), request(**footage, reference=True)):
        assert not asked.watches_light


def test_a_model_without_text_has_one_text_branch() -> None:
    assert resolve(request(), MUTE, SOURCE).text_scale == 1.0


@pytest.mark.parametrize("changes", [{"prompt": "hello"}, {"negative_prompt": "blur"}, {"text_scale": 5.0}])
def test_words_for_a_model_without_text_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="no text part"):
        resolve(request(**changes), MUTE, SOURCE)


def test_a_strength_of_motion_is_for_models_that_learned_it() -> None:
    assert resolve(request(), MUTE, SOURCE).motion == 1
    able = replace(MUTE, motion=0.3)
    assert [resolve(request(motion=value), able, SOURCE).motion for value in (None, 0, 2)] == [0.3, 0, 2]
    with pytest.raises(RequestError, match=r"^motion = 0\.0: the model mute did not learn it; leave it out$"):
        resolve(request(motion=0), MUTE, SOURCE)
    with pytest.raises(RequestError, match=r"^motion = 2\.0: the model large did not learn it; .* the prompt instead$"):
        resolve(request(motion=2), LARGE, SOURCE)
    with pytest.raises(RequestError, match="the reference has no such thing"):
        request(motion=0.5, reference=True)


@pytest.mark.parametrize(
    ("changes", "facts", "field"),
    [
        ({"size": "720"}, MUTE, "size"),
        ({"window_frames": 9, "motion_frames": 9}, LARGE, "motion_frames"),
        ({"overlap_frames": 35}, LARGE, "overlap_frames"),
        ({"reanchor": 3}, LARGE, "reanchor"),
        ({"overlap_frames": 0, "reanchor": 3}, LARGE, "reanchor"),
        ({"audio": (Path("a"), Path("b")), "boxes": (Box(0, 0, 1, 1),) * 2}, MUTE, "audio"),
    ],
)
def test_what_this_model_cannot_follow_is_refused(changes: dict[str, Any], facts: ModelFacts, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        resolve(request(**changes), facts, SOURCE)
    assert caught.value.field == field


def test_a_model_folder_cannot_invent_settings() -> None:
    with pytest.raises(ModelError, match="wobble"):
        ModelDefaults.read({"steps": 8, "wobble": 1})
