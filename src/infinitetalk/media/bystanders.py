"""Those who stay silent beside a single speaker with a box: the other faces of the first picture."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from infinitetalk.core.defaults import ModelFacts, resolve
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.media.faces import find_faces
from infinitetalk.media.framing import frame_faces
from infinitetalk.media.inputs import FrameSource, Inputs
from infinitetalk.media.people import face_boxes
from infinitetalk.media.places import is_shown, pixels_of


def with_bystanders(request: TalkRequest, facts: ModelFacts, source: FrameSource, rate: Fraction | None) -> TalkRequest:
    """A request with one voice and one box, and with boxes added for the other faces that the video shows.

    Other requests come back as they are, as does one in whose picture nobody else is. `rate` is the source's.

    Raises:
        RequestError: more people than the model can tell apart.
        MachineError: the face detector cannot run here.
    """
    if not request.places_speaker:
        return request
    target, size = resolve(request, facts, source.size, rate).size, source.size
    speaker = Box(*map(float, pixels_of(request.boxes[0], size)))
    faces = find_faces(source.frame_at(0.0))
    focus = frame_faces(request, source).focus
    others = [
        box
        for face, around in zip(faces, face_boxes(faces, size), strict=True)
        if not face.within(speaker) and is_shown(box := beside(around, speaker), size, target, request.framing, focus)
    ]
    if not others:
        return request
    full = replace(request, boxes=(*request.boxes, *others))
    resolve(full, facts, size, rate)  # counts the people
    return full


def with_silence(request: TalkRequest, facts: ModelFacts, inputs: Inputs) -> tuple[TalkRequest, Inputs]:
    """The same for a request whose files are open: with silence for those who were found.

    Of silent people no more are heard than the model tells apart; `media.people` lets the others share a place.

    Raises:
        RequestError: as `with_bystanders`.
        MachineError: as `with_bystanders`.
    """
    full = with_bystanders(request, facts, inputs.source, inputs.rate)
    found = full.people - request.people
    voices = (*inputs.voices, *(np.zeros(len(inputs.voices[0]), np.float32),) * found)
    return full, replace(inputs, voices=voices[: facts.max_people])


def beside(box: Box, speaker: Box) -> Box:
    """What is left of a box when it is cut, by one straight cut, so that it does not reach into the speaker's."""
    if not (box.x0 < speaker.x1 and speaker.x0 < box.x1 and box.y0 < speaker.y1 and speaker.y0 < box.y1):
        return box
    cuts = (
        box._replace(x1=speaker.x0),
        box._replace(x0=speaker.x1),
        box._replace(y1=speaker.y0),
        box._replace(y0=speaker.y1),
    )
    return max(cuts, key=lambda cut: max(0.0, cut.x1 - cut.x0) * max(0.0, cut.y1 - cut.y0))
