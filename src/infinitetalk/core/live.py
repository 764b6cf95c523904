"""Live talk: which requests it can follow, and the numbers that it runs with."""

from dataclasses import fields, replace
from typing import Any

from infinitetalk.core.defaults import ModelFacts, Settings, check_motion, check_text, resolve
from infinitetalk.core.errors import RequestError
from infinitetalk.core.presets import LIVE_DEFAULTS
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, TEMPORAL_STRIDE, Pixels

HEARD_SECONDS = 8
"""Seconds of sound that are encoded for each chunk: what it shows and what was before (SoulX-FlashTalk, 688982e)."""

HEARD_FRAMES = HEARD_SECONDS * FPS

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000

UNUSED = {
    "text": "live talk hears sound that arrives",
    "voice": "live talk hears sound that arrives",
    "start": "live sound begins when it arrives",
    "duration": "live talk ends when the sound does",
    "mode": "live talk goes on as long as the sound",
    "prompts": "live talk has one prompt",
    "voices": "live talk is for one person",
    "audio_strength": "live talk hears the sound as it arrives",
    "noise_floor": "live talk hears the sound as it arrives",
    "separate": "live talk hears the sound as it arrives",
    "output_size": "live talk has the model's own size",
    "blend": "live talk shows all that the model makes",
    "fps": "live talk has 25 frames a second",
    "preview": "live talk goes on as long as the sound",
    "recipe": "live talk has a recipe of its own",
    "scheduler": "live talk has a method of its own",
    "step_cache": "live talk needs each of its few steps",
    "cache_threshold": "live talk needs each of its few steps",
    "cache_interval": "live talk needs each of its few steps",
    "window_end": "live talk's chunks are all of one length",
    "overlap_frames": "live talk shows a chunk as soon as it is made",
    "reanchor": "live talk goes on from chunk to chunk",
    "soundtrack": "a live video carries the sound that it hears",
    "reference": "the reference implementation has no live talk",
}
"""Fields that live talk has no use for, and why."""


def check_live(request: TalkRequest, facts: ModelFacts) -> None:
    """Refuses what live talk cannot follow.

    Raises:
        RequestError: a setting, named with its value and what would work.
    """
    if request.image is None:
        raise RequestError("video", request.video, "live talk starts from a portrait; give an image instead")
    if len(request.audio) > 1:
        raise RequestError("audio", len(request.audio), "live talk is for one person; give one voice")
    if request.boxes or request.masks:
        raise RequestError("boxes" if request.boxes else "masks", 1, "a single voice needs no place; leave it out")
    for item in fields(request):
        value = getattr(request, item.name)
        if item.name in UNUSED and value != item.default:
            raise RequestError(item.name, value, f"{UNUSED[item.name]}; leave it out")
    if request.window_frames is not None and request.window_frames > HEARD_FRAMES:
        most = (HEARD_FRAMES - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1
        need = f"live talk hears {HEARD_SECONDS} s of sound at a time; up to {most} would work"
        raise RequestError("window_frames", request.window_frames, need)
    check_text(request, facts)
    check_motion(request, facts)


def check_rate(rate: int) -> None:
    """Refuses a sample rate that no voice is recorded at.

    Raises:
        RequestError: not a whole number from 8000 to 192000.
    """
    if isinstance(rate, bool) or not isinstance(rate, int) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise RequestError("rate", rate, f"must be a whole number of samples a second, {LOWEST_RATE} to {HIGHEST_RATE}")


def resolve_live(request: TalkRequest, facts: ModelFacts, source: Pixels) -> Settings:
    """Fills in the recipe's numbers where the request has none, whatever the model's own are.

    Raises:
        RequestError: a request that this model cannot follow.
    """
    numbers: dict[str, Any] = {**LIVE_DEFAULTS, "overlap_frames": 0}
    if not facts.has_text:
        del numbers["text_scale"]
    given = {name: value for name in numbers if (value := getattr(request, name)) is not None}
    return resolve(replace(request, **{**numbers, **given}), facts, source)
