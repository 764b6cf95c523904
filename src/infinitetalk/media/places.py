"""Where each person is: boxes and masks of a request, on the grid of latent cells."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import Box, TalkRequest, check_single_voice
from infinitetalk.core.sizes import PIXEL_MULTIPLE, SPATIAL_STRIDE, Pixels
from infinitetalk.media.fit import Focus, fit_masks
from infinitetalk.media.inputs import Mask

_SAME = 0.8
"""Share of the smaller of two places from which both mean the same person."""

_COVER = 0.25
"""Share of a token that must show a person."""

_MARGIN = 0.05
"""Share of each half picture that the reference leaves out around a person it has no box for."""


def places(
    request: TalkRequest,
    size: Pixels,
    masks: Sequence[Mask],
    target: Pixels,
    *,
    found: Sequence[Box] = (),
    focus: Focus | None = None,
    first: bool = True,
) -> Tensor | None:
    """Which latent cells show each person and, last, nobody: [people + 1, h, w] of zeros and ones; None for one person.

    Args:
        size: of the source.
        masks: the request's masks, [height, width] of the source each.
        target: size of the video.
        found: boxes of people for whom the request has no place, in pixels.
        focus: what the cut keeps.
        first: whether this is the video's first picture. In later ones people may walk out of what the cut keeps, as
            well as out of the picture, and cross.

    Raises:
        RequestError: in the first picture, a place of which nothing is left in the video, or two that mean the same
            person; a place for the only one.
    """
    check_single_voice(request)
    if request.people == 1:
        return None
    people = _source_masks(request, size, masks, found)
    fitted = fit_masks(people, target, request.framing, focus)
    grid = _nearest_cells(fitted) if request.reference else _covered_cells(fitted)
    if first or request.reference:
        shown = people.flatten(1).any(1)  # who comes later in a mask video may be nowhere yet
        _check_visible(grid[:-1], request, shown.tolist())
    if first and not request.reference:
        _check_apart(people, request)
    return grid


def _covered_cells(people: Tensor) -> Tensor:
    """Cells of the tokens that show enough of somebody, so that a small face does not slip between two samples."""
    tokens = (F.avg_pool2d(people[None], PIXEL_MULTIPLE)[0] >= _COVER).float()
    cells = F.interpolate(tokens[None], scale_factor=PIXEL_MULTIPLE // SPATIAL_STRIDE, mode="nearest")[0]
    return torch.cat([cells, 1 - cells.amax(dim=0, keepdim=True)])


def _nearest_cells(people: Tensor) -> Tensor:
    """Cells whose first pixel shows somebody, as the reference samples them."""
    cells = (F.interpolate(people[None], scale_factor=1 / SPATIAL_STRIDE, mode="nearest")[0] > 0).float()
    return torch.cat([cells, 1 - cells.amax(dim=0, keepdim=True)])


def _source_masks(request: TalkRequest, size: Pixels, masks: Sequence[Mask], found: Sequence[Box]) -> Tensor:
    """One mask [height, width] of the source per person."""
    if masks:
        return torch.from_numpy(np.stack(masks))
    boxes = [pixels_of(box, size) for box in request.boxes or found] or _halves(size, request.people)
    return torch.from_numpy(np.stack([_filled(box, size) for box in boxes]))


def pixels_of(box: Box, size: Pixels) -> tuple[int, int, int, int]:
    """A box as whole pixels x0, y0, x1, y1 (the last two exclusive); fractions are scaled by the picture's size."""
    across, down = (size.width, size.height) if max(box) <= 1 else (1, 1)
    return round(box.x0 * across), round(box.y0 * down), round(box.x1 * across), round(box.y1 * down)


def is_shown(box: Box, size: Pixels, target: Pixels, framing: str, focus: Focus | None = None) -> bool:
    """Whether a video shows enough of a box in a source of a size that the network can address it."""
    mask = torch.from_numpy(_filled(pixels_of(box, size), size))[None]
    return bool(_covered_cells(fit_masks(mask, target, framing, focus))[0].any())


def _halves(size: Pixels, people: int) -> list[tuple[int, int, int, int]]:
    """Where the reference looks for two people that nobody placed: the picture's halves, less a margin."""
    if people != 2:
        raise RequestError("boxes", "nothing", f"{people} voices need a box or a mask each, in the same order")
    half = size.width // 2
    top, bottom = int(size.height * _MARGIN), int(size.height * (1 - _MARGIN))
    return [(int(half * _MARGIN + offset), top, int(half * (1 - _MARGIN) + offset), bottom) for offset in (0, half)]


def _filled(box: tuple[int, int, int, int], size: Pixels) -> Mask:
    x0, y0, x1, y1 = box
    mask = np.zeros(tuple(size), dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def _named(request: TalkRequest, index: int) -> tuple[str, object]:
    """The field that places a person, and its value."""
    if request.masks:
        return "masks", request.masks[index]
    return "boxes", tuple(request.boxes[index]) if request.boxes else "nothing"


def _check_visible(people: Tensor, request: TalkRequest, shown: Sequence[bool]) -> None:
    """Refuses a person without a token, as the network could not address anybody."""
    tokens = F.interpolate(people[None], scale_factor=0.5, mode="nearest")[0]
    for index, person in enumerate(tokens):
        if shown[index] and not person.any():
            need = "nothing of it is left in the video; give a larger place nearer the middle"
            raise RequestError(*_named(request, index), need)


def _check_apart(people: Tensor, request: TalkRequest) -> None:
    """Refuses two people [people, height, width] at one place."""
    areas = people.flatten(1).sum(1).tolist()
    for second in range(len(areas)):
        for first in range(second):
            shared = int((people[first] & people[second]).sum())
            if shared >= _SAME * min(areas[first], areas[second]) > 0:
                need = f"lies over the place of person {first + 1}, so both mean the same; give places side by side"
                raise RequestError(*_named(request, second), need)
