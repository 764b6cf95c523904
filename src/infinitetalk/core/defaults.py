"""What a model uses where a request says nothing: one record per model folder, and the resolved settings of a job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from infinitetalk.core.caching import FEWEST, INTERVAL, THRESHOLD, StepCache
from infinitetalk.core.configs import NetConfig
from infinitetalk.core.errors import RequestError
from infinitetalk.core.loras import DISTILLED_SHIFT, Lora
from infinitetalk.core.recipes import Cook, follow
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import (
    BUCKETS_480,
    BUCKETS_720,
    FPS,
    LARGEST_SIDE,
    TEMPORAL_STRIDE,
    Buckets,
    Pixels,
    choose_bucket,
    parse_size,
)

PROMPT = "A person looks into the camera and talks with natural expressions, lively eyes and slight head movements."

# Functional data of the reference implementation: guidance away from these words is part of its look.
NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, "
    "poorly drawn hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, "
    "messy background, three legs, many people in the background, walking backwards"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefaults(NetConfig):
    """A model's own settings, from the `defaults` of its model folder. The values here are the 14B model's."""

    size: str = "480"
    window_frames: int = 81
    motion_frames: int = 9
    overlap_frames: int = 0
    steps: int = 40
    shift: float | None = None
    """None: 11 for the 720 table, else 7."""
    text_scale: float = 5.0
    audio_scale: float = 4.0
    prompt: str = PROMPT
    negative_prompt: str = NEGATIVE_PROMPT


SEAM_FRAMES = 8
"""A third of a second: long enough that no step is seen, short enough that nothing old lingers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A request's numbers with every default filled in."""

    size: Pixels
    """Of what the networks make."""
    output_size: Pixels
    """Of the finished video."""
    rate: Fraction = Fraction(FPS)
    """Frames a second of the finished video."""
    window_frames: int
    motion_frames: int
    seam_frames: int
    overlap_frames: int = 0
    steps: int
    first_step: int = 0
    """Steps that are left out at high noise, where denoising starts from the source's own frames."""
    strength: float = 1.0
    """Level of the noise that is put onto these frames, 0 to 1."""
    shift: float
    text_scale: float
    audio_scale: float
    color_strength: float
    motion: float = 1.0
    """How much people move beside their speech, 0 to 2."""
    scheduler: str = "euler"
    step_cache: str = StepCache.OFF
    cache_threshold: float | None = None
    cache_interval: int | None = None
    prompt: str = field(default="")
    negative_prompt: str = field(default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What must be known of a model to check a request before any weight is loaded."""

    name: str
    defaults: ModelDefaults
    buckets: Mapping[str, Buckets]
    has_text: bool
    max_people: int
    motion: float | None = None
    """How much people move beside their speech unless told otherwise, 0 to 2; None where it cannot be told."""
    loras: tuple[Lora, ...] = ()
    """LoRAs that belong to it."""
    encoder: str | None = None
    """What its user put in the place of its own speech encoder."""
    encoder_advice: str = ""
    """One line for every job: which encoder it was trained on; empty if it hears with one of its own."""
    encoder_doubt: str = ""
    """One line for after a job, if it hears with another encoder than it was trained on."""


STANDARD_BUCKETS: Mapping[str, Buckets] = {"480": BUCKETS_480, "720": BUCKETS_720}


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def choose_size(wanted: str, source: Pixels, buckets: Mapping[str, Buckets]) -> Pixels:
    """The output size: from a named table by the source's shape, or as given in numbers.

    Raises:
        RequestError: a table that this model does not have.
    """
    if wanted in buckets:
        return choose_bucket(source, buckets[wanted])
    if wanted.isdecimal():
        raise RequestError("size", wanted, f"this model has the sizes {', '.join(buckets)}, or give WIDTHxHEIGHT")
    return parse_size(wanted)


def check_text(request: TalkRequest, facts: ModelFacts) -> None:
    """Refuses words for a model without a text part.

    Raises:
        RequestError: a prompt, negative prompt or text scale that this model would have to ignore.
    """
    if facts.has_text:
        return
    for name, value in (
        ("prompt", request.prompt),
        ("prompts", ", ".join(map(str, request.prompts)) or None),
        ("negative_prompt", request.negative_prompt),
        ("text_scale", request.text_scale),
    ):
        if value is not None:
            raise RequestError(name, value, f"the model {facts.name} has no text part; leave it out")


def check_motion(request: TalkRequest, facts: ModelFacts) -> None:
    """Refuses a strength of motion for a model that cannot be told.

    Raises:
        RequestError: one is given.
    """
    if request.motion is None or facts.motion is not None:
        return
    instead = "say it in the prompt instead" if facts.has_text else "leave it out"
    raise RequestError("motion", request.motion, f"the model {facts.name} did not learn it; {instead}")


def cook_of(request: TalkRequest, facts: ModelFacts) -> Cook:
    """What a request's recipe must know of the model."""
    loras = (*facts.loras, *request.loras)
    return Cook(name=facts.name, has_text=facts.has_text, steps=facts.defaults.steps, loras=loras)


def _distilled_shift(request: TalkRequest) -> float | None:
    """The shift that a distilled LoRA asks for; None without one."""
    return DISTILLED_SHIFT if any(lora.distilled and lora.strength for lora in request.loras) else None


def _check_cache(request: TalkRequest, steps: int) -> None:
    if request.step_cache != StepCache.OFF and steps < FEWEST:
        need = f"with {steps} steps each one is needed; leave it out, or take {FEWEST} or more (20 to 40 are usual)"
        raise RequestError("step_cache", request.step_cache, need)


def _first_step(steps: int, strength: float) -> int:
    """The step at which denoising starts; at least one is made."""
    return min(steps - 1, round(steps * (1 - strength)))


def _overlap(request: TalkRequest, own: ModelDefaults, window: int, motion: int) -> int:
    """Frames that both windows make at a border."""
    most = max(0, (window - motion - TEMPORAL_STRIDE) // 2)
    wanted = request.overlap_frames
    if wanted is not None and wanted > most:
        need = f"two borders do not fit into windows of {window} frames; up to {most} would work"
        raise RequestError("overlap_frames", wanted, need)
    overlap = 0 if request.reference else min(own.overlap_frames, most) if wanted is None else wanted
    if request.reanchor and not overlap:
        need = "windows that start from the picture alone must fade in: overlap_frames 8 would work"
        raise RequestError("reanchor", request.reanchor, need)
    return overlap


SLOWEST, FASTEST = 1, 120
"""Frames a second that a finished video may have."""


def _rate(request: TalkRequest, own: Fraction | None) -> Fraction:
    """Frames a second of the finished video; `own` is the source's."""
    rate = own if request.rate is None else request.rate
    if rate is None:
        raise RequestError("fps", request.fps, "the source does not say its rate; 25, 50 or 60 would work")
    if not SLOWEST <= rate <= FASTEST:
        need = f"the source has {float(rate):.6g} frames a second, and {SLOWEST} to {FASTEST} work; give 25, 50 or 60"
        raise RequestError("fps", request.fps, need)
    return rate


def _output_size(request: TalkRequest, made: Pixels, source: Pixels) -> Pixels:
    """The finished video's size; H.264 halves the sides of colour planes, so an odd source loses its last line."""
    if request.output_size == "model":
        return made
    if max(source) > LARGEST_SIDE:
        need = f"the source is {source}, and sides up to {LARGEST_SIDE} work; make it smaller, or leave this out"
        raise RequestError("output_size", request.output_size, need)
    return Pixels(*(side - side % 2 for side in source))


def resolve(request: TalkRequest, facts: ModelFacts, source: Pixels, source_rate: Fraction | None = None) -> Settings:
    """Fills in the model's defaults.

    Args:
        request: what is asked for.
        facts: the model's.
        source: size of the picture or video.
        source_rate: frames a second of the video, if they are known.

    Raises:
        RequestError: a request that this model cannot follow.
    """
    check_text(request, facts)
    check_motion(request, facts)
    if request.voice_count + (request.people > request.voice_count) > facts.max_people:
        sound = "audio" if request.text is None else "text"
        name = sound if request.voice_count == request.people else "boxes" if request.boxes else "masks"
        need = f"the model {facts.name} can voice {facts.max_people} at most, all silent people counting as one"
        raise RequestError(name, request.people, need)
    own, recipe = facts.defaults, follow(request.recipe, cook_of(request, facts))
    size_name = _first(request.size, own.size)
    window, motion = _first(request.window_frames, own.window_frames), _first(request.motion_frames, own.motion_frames)
    if motion >= window:
        raise RequestError("motion_frames", motion, f"must be fewer than the {window} frames of a window")
    steps: int = _first(request.steps, recipe.get("steps"), own.steps)
    _check_cache(request, steps - _first_step(steps, request.strength))
    cache = request.step_cache
    size = choose_size(size_name, source, facts.buckets)
    return Settings(
        size=size,
        output_size=_output_size(request, size, source),
        rate=_rate(request, source_rate),
        window_frames=window,
        motion_frames=motion,
        seam_frames=_first(request.seam_frames, 0 if request.reference else SEAM_FRAMES),
        overlap_frames=_overlap(request, own, window, motion),
        steps=steps,
        first_step=_first_step(steps, request.strength),
        strength=request.strength,
        shift=_first(
            request.shift,
            recipe.get("shift"),
            _distilled_shift(request),
            own.shift,
            11.0 if size_name == "720" else 7.0,
        ),
        text_scale=_first(request.text_scale, recipe.get("text_scale"), own.text_scale) if facts.has_text else 1.0,
        audio_scale=_first(request.audio_scale, recipe.get("audio_scale"), own.audio_scale),
        scheduler=_first(request.scheduler, recipe.get("scheduler"), "euler"),
        step_cache=cache,
        cache_threshold=_first(request.cache_threshold, THRESHOLD) if cache == StepCache.TEACACHE else None,
        cache_interval=_first(request.cache_interval, INTERVAL) if cache == StepCache.TAYLORSEER else None,
        # The reference leaves the colours of videos alone; here it depends on each window's light.
        color_strength=_first(request.color_strength, 0.0 if request.reference and request.video else 1.0),
        motion=_first(request.motion, _first(facts.motion, 1.0)),
        prompt=_first(request.prompt, own.prompt),
        negative_prompt=_first(request.negative_prompt, own.negative_prompt),
    )
