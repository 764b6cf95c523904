"""What a job will make of people and framing, shown before a weight is loaded."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from infinitetalk.core.defaults import resolve
from infinitetalk.core.errors import MachineError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.media.files import FileMedia, completed
from infinitetalk.media.framing import frame_faces
from infinitetalk.media.inputs import Picture
from infinitetalk.media.layout import draw
from infinitetalk.media.people import People
from infinitetalk.weights.folder import ModelFolder


@dataclass(frozen=True, slots=True)
class Layout:
    """A preview of places and crop."""

    picture: Picture
    """The source with what is cut off darkened, beside the video's first frame with people in colours."""
    boxes: tuple[Box, ...]
    """Those of the request, or those found around faces, in pixels."""
    note: str
    """One line if faces could not be looked for; else empty."""

    def save(self, path: Path) -> None:
        """Writes the picture.

        Raises:
            MachineError: the file cannot be written.
        """
        from PIL import Image

        try:
            Image.fromarray(self.picture).save(path)
        except OSError as error:
            raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error


def layout(request: TalkRequest) -> Layout:
    """Looks where a request's people are in the first frame.

    Raises:
        InfiniteTalkError: whatever making the video would refuse about places, pictures and model.
    """
    facts = ModelFolder.open(request.model, request.encoder).facts
    request = replace(completed(request, facts), separate="none")  # nothing is heard here
    with ExitStack() as files:
        inputs = FileMedia(whole=False).open(request)
        files.enter_context(inputs.files)
        settings = resolve(request, facts, inputs.source.size, inputs.rate)
        frame = inputs.source.frame_at(0.0)
        framing = frame_faces(request, inputs.source)
        people = People(request, inputs.masks, settings.size, framing.focus)
        grid = people.at(0.0, frame)
        picture = draw(request, frame, settings.size, grid, framing.focus)
    return Layout(picture, people.boxes, framing.note)
