"""People's places: boxes drawn on the picture with the mouse, a finger or the keyboard."""

import base64
from io import BytesIO
from pathlib import Path

import gradio as gr
import numpy as np

from infinitetalk.core.sizes import Pixels
from infinitetalk.media.faces import find_faces
from infinitetalk.media.inputs import Picture
from infinitetalk.media.people import face_boxes
from infinitetalk.media.picture import read_picture
from infinitetalk.media.video import VideoSource

_SHOWN = 960
"""Pixels of the longer side of what the browser gets."""

_TEMPLATE = """
<div class="places">
  <div class="picture" hidden><img alt="the first frame of the source" draggable="false"><svg role="group"
    aria-label="boxes around people; drag on the picture to draw one"></svg></div>
  <p class="none">Give a picture or a video first; then draw a box around each person here.</p>
  <div class="tools" hidden>
    <button type="button" data-do="add">Add a box</button>
    <button type="button" data-do="undo">Remove the last</button>
    <button type="button" data-do="clear">Remove all</button>
  </div>
</div>
"""


def editor() -> gr.HTML:
    """Where boxes are drawn. Its value is the text of the request's boxes, in pixels of the source."""
    script = Path(__file__).with_name("places.js").read_text(encoding="utf-8")
    return gr.HTML(value="", html_template=_TEMPLATE, js_on_load=script, elem_id="places", src="", width=0, height=0)


def first_frame(image: str | None, video: str | None) -> Picture | None:
    """What the editor shows: the picture, or the video's first frame.

    Raises:
        MediaError: a file that cannot be used.
    """
    if image:
        return read_picture(Path(image))
    if video:
        with VideoSource(Path(video)) as source:
            return source.frame_at(0.0)
    return None


def shown(frame: Picture | None, boxes: str = "") -> gr.HTML:
    """The update that lets the editor show a frame."""
    if frame is None:
        return gr.HTML(value="", src="", width=0, height=0)
    height, width = frame.shape[:2]
    return gr.HTML(value=boxes, src=_address(frame), width=width, height=height)


def faces(frame: Picture) -> str:
    """Boxes around all faces of a frame, left to right, as text.

    Raises:
        MachineError: the detector cannot run here.
    """
    found = face_boxes(find_faces(frame), Pixels(*frame.shape[:2]))
    return "; ".join(",".join(f"{side:g}" for side in box) for box in found)


def _address(frame: Picture) -> str:
    from PIL import Image

    picture = Image.fromarray(np.asarray(frame))
    picture.thumbnail((_SHOWN, _SHOWN))
    file = BytesIO()
    picture.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
