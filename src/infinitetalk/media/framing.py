"""Face-aware framing: what a cut of the source must keep, so that nobody loses head or shoulders."""

from typing import NamedTuple

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.faces import Face, can_find_faces, find_faces
from infinitetalk.media.fit import Focus
from infinitetalk.media.inputs import FrameSource

# Head and shoulders around the box of a face (brows to chin), in edges of that box.
_ABOVE, _BELOW, _ASIDE = 0.6, 0.9, 0.8


class Framing(NamedTuple):
    """What is kept, and one line if it could not be found."""

    focus: Focus | None
    note: str = ""


def frame_faces(request: TalkRequest, source: FrameSource) -> Framing:
    """What `framing = face` keeps of the source's first frame; the middle, with a line that says why, if it cannot."""
    if request.framing != "face":
        return Framing(None)
    if not can_find_faces():
        return Framing(None, "framing: cut around the middle, as faces need the package ai-edge-litert")
    faces = find_faces(source.frame_at(0.0))
    if not faces:
        return Framing(None, "framing: no face found, so cut around the middle")
    return Framing(shoulders(faces, source.size))


def shoulders(faces: list[Face], size: Pixels) -> Focus:
    """A box around all heads and shoulders, as fractions of the picture."""
    sides = []
    for face in faces:
        x0, y0, x1, y1 = face.box
        across, down = x1 - x0, y1 - y0
        sides.append((x0 - _ASIDE * across, y0 - _ABOVE * down, x1 + _ASIDE * across, y1 + _BELOW * down))
    left, top, right, bottom = zip(*sides, strict=True)
    return Focus(
        max(0.0, min(left) / size.width),
        max(0.0, min(top) / size.height),
        min(1.0, max(right) / size.width),
        min(1.0, max(bottom) / size.height),
    )
