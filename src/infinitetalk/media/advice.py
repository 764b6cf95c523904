"""Why a result may be bad: one line for each thing in the inputs that is known to spoil videos."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.defaults import ModelFacts, Settings
from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLE_RATE, Pixels
from infinitetalk.core.windows import Window
from infinitetalk.media.cutting import plan_windows
from infinitetalk.media.faces import Face, can_find_faces, find_faces
from infinitetalk.media.files import FileMedia
from infinitetalk.media.fit import place
from infinitetalk.media.floor import levels
from infinitetalk.media.framing import frame_faces
from infinitetalk.media.inputs import Inputs, Picture, Waveform

SMALL: Final = 32
"""Pixels of a face's height in the video below which there is too little of a mouth."""
SIDEWAYS: Final = 0.75
"""Of `Face.turn`: from here on half of the mouth is hidden."""
NOISY: Final = 15.0
"""Decibels between loud and quiet moments of a voice: fewer mean noise, as speech has pauses."""
TONAL: Final = 0.35
"""Of `tonality`: from here on there is music, even without a voice that pauses."""
MIXED: Final = 0.08
"""Of `tonality`: from here on what fills the pauses is music rather than noise."""
CHANGED: Final = 0.5
"""Share of colours that change at a cut."""

Colors = NDArray[np.float64]

_HEARD: Final = 60 * SAMPLE_RATE
_SEEN: Final = 60
"""Seconds of a source that are looked at for cuts."""
_APART: Final = 5
"""Frames between two looks."""


def advise(request: TalkRequest, settings: Settings, facts: ModelFacts) -> tuple[str, ...]:
    """Looks at the model and the inputs of a finished job. Says nothing of inputs that are gone."""
    encoder = (facts.encoder_doubt,) if facts.encoder_doubt else ()
    try:
        with ExitStack() as files:
            # What was separated for the job would take as long again here, and so would all cuts of a long source.
            looked_at = min(_SEEN, request.duration or _SEEN)
            inputs = FileMedia().open(replace(request, separate="none", duration=looked_at))
            files.enter_context(inputs.files)
            return *encoder, *_advice(request, settings, inputs)
    except (InfiniteTalkError, OSError):
        return encoder


def _advice(request: TalkRequest, settings: Settings, inputs: Inputs) -> Iterator[str]:
    if request.people > 2:
        yield f"{request.people} people: more than two are experimental; make a video for each if voices mix"
    if can_find_faces():
        yield from _of_faces(request, settings, inputs)
    mixed = request.voice_count if not request.separates else 0
    for number, voice in enumerate(inputs.voices[:mixed], 1):
        yield from _of_voice("the sound" if request.voice_count == 1 else f"voice {number}", voice[:_HEARD])
    if request.video is not None and not request.reference:
        windows = plan_windows(request, settings, inputs)
        if at := cut_inside(inputs, windows):
            yield f"the source cuts at about {at:.1f} s within a window: faces may melt there; let cuts be detected"


def _of_faces(request: TalkRequest, settings: Settings, inputs: Inputs) -> Iterator[str]:
    frame = inputs.source.frame_at(0.0)
    faces = find_faces(frame)
    if not faces:
        yield "no face was found in the first picture: a clear one, seen from the front, works best"
        return
    focus = frame_faces(request, inputs.source).focus
    shown = place(inputs.source.size, settings.size, request.framing, focus).size
    scale = shown.height / inputs.source.size.height
    talking = _talking(request, faces, inputs.source.size)
    if (least := min(face.height for face in talking) * scale) < SMALL:
        yield f"a face is {least:.0f} pixels high in the video: cut the picture closer, for {2 * SMALL} or more"
    if any(face.turn > SIDEWAYS for face in talking):
        yield "a face is seen from the side: mouths move best when both eyes are seen"
    if len(faces) > 1 and request.people == 1:
        who = "anybody may talk" if request.blend == "frame" else "the largest is dubbed"
        yield f"{len(faces)} faces and one voice, so {who}: give a box for the speaker"


def _talking(request: TalkRequest, faces: list[Face], size: Pixels) -> list[Face]:
    """The faces that have a voice: those in a voice's box, or all; of a single voice's the one that is blended."""
    from infinitetalk.media.places import pixels_of

    if request.blend != "frame" and request.people == 1:
        return [max(faces, key=lambda face: face.height)]
    boxes = [pixels_of(box, size) for box in request.boxes[: request.voice_count]]
    inside = [face for face in faces if any(map(face.within, boxes))]
    return inside or faces


def _of_voice(name: str, voice: Waveform) -> Iterator[str]:
    if not voice.any():
        yield f"{name} is silent"
        return
    notes, apart = tonality(voice), dynamics(voice)
    if notes > TONAL or (apart < NOISY and notes > MIXED):
        yield f"{name} seems to hold music, which mouths follow like speech: give the voice alone, or --separate vocals"
    elif apart < NOISY:
        yield f"{name} seems noisy ({apart:.0f} dB between speech and pauses): a cleaner one moves lips better"


def dynamics(voice: Waveform) -> float:
    """Decibels between the loud and the quiet moments of a sound at 16 kHz; digital silence does not count."""
    level = levels(voice)
    heard = level[level > -100]
    return float(np.percentile(heard, 90) - np.percentile(heard, 5)) if len(heard) > 20 else 99.0


def tonality(voice: Waveform) -> float:
    """How much of a sound's spectrum stays for a fifth of a second, 0 to 1: notes do, speech glides, noise is new."""
    size, hop, later = 1024, 256, 12
    if len(voice) < size + hop * (later + 1):
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(voice, size)[::hop]
    spectra, energies = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    for begin in range(0, len(windows), 256):  # some at a time, as they are large in double precision
        frames = windows[begin : begin + 256] * np.hanning(size)
        spectra.append(np.log(np.abs(np.fft.rfft(frames, axis=1))[:, 6:200] + 1e-4))
        energies.append(np.square(frames).mean(1))
    power = np.concatenate(spectra)
    peaks = power - np.apply_along_axis(lambda row: np.convolve(row, np.full(15, 1 / 15), mode="same"), 1, power)
    peaks = (peaks - peaks.mean(1, keepdims=True)) / (peaks.std(1, keepdims=True) + 1e-6)
    same = (peaks[:-later] * peaks[later:]).mean(1)
    energy = np.concatenate(energies)[:-later]
    audible = energy > np.percentile(energy, 50)
    return float(np.median(same[audible])) if audible.any() else 0.0


def cut_inside(inputs: Inputs, windows: tuple[Window, ...]) -> float | None:
    """The second of the video at which the source's shot changes within a window; None if none does."""
    for window in windows:
        shown = window.first_frame + window.keep  # what the network makes beyond it is thrown away
        looks = range(window.start, min(shown, _SEEN * FPS), _APART)
        course = [inputs.timeline.source_frame(frame) for frame in looks]
        # Forwards, also where the source runs backwards: going back decodes a stretch of it anew.
        seen = {number: colors(inputs.source.frame_at(number / FPS)) for number in sorted(set(course))}
        for frame, (before, now) in zip(looks[1:], pairwise(course), strict=False):
            if changed(seen[before], seen[now]) > CHANGED:
                return (frame - _APART / 2) / FPS
        if window.end >= _SEEN * FPS:
            break
    return None


def colors(picture: Picture) -> Colors:
    """The share of a picture's pixels that each of 64 colours has."""
    counts = np.bincount((picture[::4, ::4].reshape(-1, 3) // 64) @ np.array([16, 4, 1]), minlength=64)
    shares: Colors = counts / counts.sum()
    return shares


def changed(before: Colors, after: Colors) -> float:
    """The share of pixels whose colour has no counterpart in the other picture, 0 to 1."""
    return float(np.abs(before - after).sum() / 2)
