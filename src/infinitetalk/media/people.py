"""Where each person is, window after window: as the request says, or by the faces that are found."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.faces import Face, find_faces
from infinitetalk.media.fit import Focus
from infinitetalk.media.inputs import Mask, MaskSource, Picture
from infinitetalk.media.places import places

_SPARE = 0.2
"""Share of a face's box that is added on each side, for hair and chin."""


class People:
    """The places of a job's people.

    Boxes and mask pictures stay. Mask videos, and faces in a video, are looked at anew for each window. Where not as
    many faces as people are found, people are where they were in the first frame, so that places depend on the window
    alone.
    """

    def __init__(
        self,
        request: TalkRequest,
        masks: Sequence[MaskSource],
        target: Pixels,
        focus: Focus | None = None,
        most: int | None = None,
    ) -> None:
        """Looks at nothing yet.

        Args:
            request: names the people.
            masks: the request's masks.
            target: size of the video.
            focus: what the cut keeps.
            most: people that the network tells apart; silent ones beyond it share a place.
        """
        self._most = most
        self._request, self._masks, self._target, self._focus = request, masks, target, focus
        self._first: tuple[Box, ...] = ()
        self._found: tuple[Box, ...] = ()
        self._looked: tuple[Picture, tuple[Mask, ...]] | None = None
        self._grid: Tensor | None = None

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The request's boxes, or those around the faces that were found last."""
        return self._request.boxes or self._found

    def begin(self, frame: Picture) -> None:
        """Looks for faces in the source's first frame, if the request needs them.

        Raises:
            RequestError: another number of faces than voices.
            MachineError: the detector cannot run here.
        """
        if not self._request.finds_faces:
            return
        boxes = face_boxes(find_faces(frame), Pixels(*frame.shape[:2]))
        if len(boxes) != self._request.people:
            raise _miscounted(boxes, self._request.people)
        self._first = self._found = boxes

    def at(self, seconds: float, frame: Picture) -> Tensor | None:
        """The grid of `media.places` for a window that starts at a time of the source, with its frame of that time.

        The very same tensor as the last time if nothing has moved.

        Raises:
            RequestError: places that cannot work, or another number of faces than voices, in the first frame.
            MachineError: faces are to be found, and the detector cannot run here.
        """
        if self._request.people == 1 and not (self._request.boxes or self._request.masks):
            return None
        masks = tuple(mask.mask_at(seconds) for mask in self._masks)
        if self._looked is None or not self._same(frame, masks):
            if self._request.finds_faces:
                self._look(frame)
            size = Pixels(*frame.shape[:2])
            grid = places(
                self._request, size, masks, self._target, found=self._found, focus=self._focus, first=not seconds
            )
            self._grid = grid if grid is None or self._most is None else _sharing(grid, self._most)
            self._looked = frame, masks
        return self._grid

    def _same(self, frame: Picture, masks: tuple[Mask, ...]) -> bool:
        assert self._looked is not None
        old_frame, old_masks = self._looked
        moved = any(old is not new for old, new in zip(old_masks, masks, strict=True))
        return not moved and (old_frame is frame or not self._request.finds_faces)

    def _look(self, frame: Picture) -> None:
        if not self._first:
            self.begin(frame)
            return
        boxes = face_boxes(find_faces(frame), Pixels(*frame.shape[:2]))
        self._found = boxes if len(boxes) == self._request.people else self._first


def face_boxes(faces: Sequence[Face], size: Pixels) -> tuple[Box, ...]:
    """Boxes in whole pixels around whole heads, from left to right, inside the picture and none reaching the next."""
    grown = []
    for face in faces:
        x0, y0, x1, y1 = face.box
        across, down = (x1 - x0) * _SPARE, (y1 - y0) * _SPARE
        grown.append([x0 - across, y0 - 2 * down, x1 + across, y1 + down])
    for index, (left, right) in enumerate(pairwise(faces)):
        between = (left.middle[0] + right.middle[0]) / 2
        if grown[index][2] > grown[index + 1][0] and left.box[3] > right.box[1] and right.box[3] > left.box[1]:
            grown[index][2], grown[index + 1][0] = min(grown[index][2], between), max(grown[index + 1][0], between)
    limit = np.array([size.width, size.height] * 2)
    return tuple(Box(*np.rint(np.clip(box, 0, limit)).tolist()) for box in grown)


def _sharing(grid: Tensor, most: int) -> Tensor:
    """The grid [people + 1, h, w] for so many people at most: those beyond, who are silent, share the last place."""
    if len(grid) <= most + 1:
        return grid
    return torch.cat([grid[: most - 1], grid[most - 1 : -1].amax(0, keepdim=True), grid[-1:]])


def _miscounted(boxes: Sequence[Box], voices: int) -> RequestError:
    seen = "no face" if not boxes else "1 face" if len(boxes) == 1 else f"{len(boxes)} faces"
    where = f" ({' '.join(','.join(f'{side:g}' for side in box) for box in boxes)})" if boxes else ""
    more = ", those of silent people last" if len(boxes) > voices else ""
    need = f"{seen} found for {voices} voices{where}; give a box or a mask for each person{more}"
    return RequestError("boxes", "nothing", need)
