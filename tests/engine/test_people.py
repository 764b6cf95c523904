"""Several people from files: places in any form, by faces, silent ones, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from infinitetalk.core.errors import MediaError, RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.media import faces
from infinitetalk.media.bystanders import beside
from infinitetalk.media.faces import find_faces
from infinitetalk.media.files import FileMedia, check, completed
from infinitetalk.media.inputs import Mask
from infinitetalk.media.masks import MovingMask, StillMask
from infinitetalk.media.people import People
from infinitetalk.media.picture import read_picture
from tests.engine.inputs import talk
from tests.faces.conftest import write_voice

PAIR = Path(faces.__file__).parent.parent / "assets" / "demo" / "pair.png"
PLACES = ((8, 16, 40, 80), (56, 16, 88, 80))
SIZE = Pixels(96, 96)


def masked(box: tuple[int, int, int, int]) -> Mask:
    mask = np.zeros(tuple(SIZE), np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def mask_video(path: Path, masks: list[Mask], rate: int = 25) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIZE.width, SIZE.height, "yuv420p"
        for mask in masks:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.uint8(255) * mask[..., None].repeat(3, 2), "rgb24"))
            )
        container.mux(stream.encode(None))
    return path


def mask_picture(path: Path, mask: Mask) -> Path:
    Image.fromarray(np.uint8(255) * mask).save(path)
    return path


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


@pytest.fixture
def voices(tmp_path: Path) -> tuple[Path, Path]:
    return write_voice(tmp_path / "a.wav", 0.4), write_voice(tmp_path / "b.wav", 0.5, pitch=210)


def test_boxes_fractions_pictures_and_videos_give_the_same_tokens(
    tiny: Model, portrait: Path, voices: tuple[Path, Path], tmp_path: Path
) -> None:
    fractions = tuple(Box(*(side / 96 for side in box)) for box in PLACES)
    pictures = tuple(mask_picture(tmp_path / f"{box[0]}.png", masked(box)) for box in PLACES)
    videos = tuple(mask_video(tmp_path / f"{box[0]}.mp4", [masked(box)] * 14) for box in PLACES)
    forms = ({"boxes": PLACES}, {"boxes": fractions}, {"masks": pictures}, {"masks": videos})
    made = [
        Engine(tiny, media=FileMedia()).generate(
            TalkRequest(model="tiny", steps=1, image=portrait, audio=voices, **form)
        )
        for form in forms
    ]
    for other in made[1:]:
        assert torch.equal(other.frames, made[0].frames)
    elsewhere = TalkRequest(model="tiny", steps=1, image=portrait, audio=voices, boxes=PLACES[::-1])  # type: ignore[arg-type]
    assert not torch.equal(Engine(tiny, media=FileMedia()).generate(elsewhere).frames, made[0].frames)


def test_a_mask_video_moves_its_person(tmp_path: Path) -> None:
    """At 50 frames a second the person is left for a second, then right; then out of the picture."""
    left, right, nobody = masked(PLACES[0]), masked(PLACES[1]), np.zeros(tuple(SIZE), np.bool_)
    path = mask_video(tmp_path / "moves.mp4", [left] * 50 + [right] * 50 + [nobody] * 10, rate=50)
    still = StillMask(masked((0, 80, 96, 96)))
    request = talk(2, boxes=(), masks=(path, Path("still.png")))
    frame = np.zeros((*SIZE, 3), np.uint8)
    with MovingMask(path, SIZE) as moving:
        people = People(request, (moving, still), SIZE)
        first, later, last = (people.at(seconds, frame) for seconds in (0.5, 1.5, 2.1))
    assert first is not None
    assert later is not None
    assert last is not None
    assert first[0, :, :6].sum() == later[0, :, 6:].sum() > 0
    assert first[0, :, 6:].sum() == later[0, :, :6].sum() == last[0].sum() == 0
    assert torch.equal(first[1], later[1])


def test_people_may_leave_and_cross_while_the_video_runs(
    tiny: Model, tmp_path: Path, voices: tuple[Path, Path]
) -> None:
    """Beyond what the cut keeps, over each other and out of the picture: a long job does not end for that."""
    aside, nobody = masked((0, 16, 12, 80)), np.zeros(tuple(SIZE), np.bool_)
    left, right = (masked(box) for box in PLACES)
    first = mask_video(tmp_path / "first.mp4", [left] * 8 + [aside] * 4 + [right] * 4 + [nobody] * 4)
    second = mask_video(tmp_path / "second.mp4", [right] * 20)
    film = mask_video(tmp_path / "film.mp4", [left] * 20)
    short: dict[str, Any] = {"steps": 1, "size": "64x96", "window_frames": 5, "motion_frames": 1, "cuts": "ignore"}
    request = TalkRequest(model="tiny", video=film, audio=voices[1:] * 2, masks=(first, second), **short)
    assert Engine(tiny, media=FileMedia()).generate(request).frames.isfinite().all()
    with pytest.raises(RequestError, match="nothing of it is left in the video"):
        Engine(tiny, media=FileMedia()).generate(
            replace(request, masks=(mask_picture(tmp_path / "a.png", aside), second))
        )


def test_people_are_placed_by_their_faces_from_left_to_right() -> None:
    picture = read_picture(PAIR)
    people = People(talk(2, boxes=()), (), Pixels(128, 128))
    grid = people.at(0.0, picture)
    assert grid is not None
    assert grid[0, :, :8].sum() == grid[0].sum() > 4
    assert grid[1, :, 8:].sum() == grid[1].sum() > 4
    assert people.at(9.0, picture) is grid
    blank = np.zeros_like(picture)
    moved = people.at(10.0, blank)
    assert moved is not None
    assert torch.equal(moved, grid), "nobody is found, so everybody stays"
    shifted = np.roll(picture, -32, axis=1)
    gone = people.at(11.0, shifted)
    assert gone is not None
    assert not torch.equal(gone, grid)
    back = people.at(12.0, blank)
    assert back is not None
    assert torch.equal(back, grid), "as in the first frame, whatever was between"


def test_another_number_of_faces_is_refused_with_the_boxes_to_give() -> None:
    picture = read_picture(PAIR)
    with pytest.raises(RequestError, match=r"2 faces found for 3 voices \(\d+,\d+,\d+,\d+ .*give a box or a mask"):
        People(talk(3, boxes=()), (), SIZE).at(0.0, picture)
    with pytest.raises(RequestError, match="no face found for 2 voices"):
        People(talk(2, boxes=()), (), SIZE).at(0.0, np.zeros_like(picture))


def test_a_further_place_is_of_somebody_silent(portrait: Path, voices: tuple[Path, Path]) -> None:
    request = TalkRequest(model="tiny", image=portrait, audio=voices[:1], boxes=PLACES)  # type: ignore[arg-type]
    inputs = FileMedia().open(request)
    speaking, silent = inputs.voices
    assert len(speaking) == len(silent)
    assert speaking[:].any()
    assert not silent[:].any()
    assert request.people == 2


@pytest.mark.parametrize(
    ("boxes", "line"),
    [
        ((PLACES[0], (56, 16, 99, 80)), "reaches beyond the picture: x up to 96 and y up to 96"),
        ((PLACES[0], (0.5, 0, 1.1, 1)), "fractions up to 1"),
        ((PLACES[0], (8, 18, 40, 80)), "lies over the place of person 1"),
    ],
)
def test_boxes_that_cannot_work(
    boxes: tuple[tuple[float, ...], ...], line: str, portrait: Path, voices: tuple[Path, Path], tiny: Model
) -> None:
    with pytest.raises(RequestError, match=line):
        Engine(tiny, media=FileMedia()).generate(
            TalkRequest(model="tiny", image=portrait, audio=voices, boxes=boxes)  # type: ignore[arg-type]
        )


def test_masks_that_cannot_work(tmp_path: Path, portrait: Path, voices: tuple[Path, Path], tiny: Model) -> None:
    nobody = np.zeros(tuple(SIZE), np.bool_)
    good = mask_picture(tmp_path / "good.png", masked(PLACES[0]))
    for bad in (mask_picture(tmp_path / "empty.png", nobody), mask_video(tmp_path / "empty.mp4", [nobody] * 30)):
        with pytest.raises(MediaError, match=f"{bad.name}: the mask is empty"):
            FileMedia().open(TalkRequest(model="tiny", image=portrait, audio=voices, masks=(good, bad)))
    wide = mask_picture(tmp_path / "wide.png", np.ones((40, 96), np.bool_))
    with pytest.raises(MediaError, match="the mask is 96x40, the picture 96x96"):
        FileMedia().open(TalkRequest(model="tiny", image=portrait, audio=voices, masks=(good, wide)))
    same = TalkRequest(model="tiny", image=portrait, audio=voices, masks=(good, good))
    with pytest.raises(RequestError, match=r"masks = .*good.png: lies over the place of person 1"):
        Engine(tiny, media=FileMedia()).generate(same)


LEFT = Box(0.1, 0.2, 0.48, 0.9)


def test_a_single_speakers_box_silences_the_other_face(tiny: Model, voices: tuple[Path, Path]) -> None:
    request = TalkRequest(model="tiny", steps=1, image=PAIR, audio=voices[:1], boxes=(LEFT,))
    full = completed(request, tiny.facts)
    assert full.boxes[0] == LEFT
    (right,) = full.boxes[1:]
    face = find_faces(read_picture(PAIR))[1]
    assert right.x0 < face.box[0] < face.box[2] < right.x1
    assert completed(full, tiny.facts) is full
    engine = Engine(tiny, media=FileMedia())
    made = engine.generate(request).frames
    assert torch.equal(made, engine.generate(full).frames), "as if both boxes had been given"
    other = engine.generate(replace(full, boxes=full.boxes[::-1])).frames
    assert not torch.equal(made, other), "the other one would speak"


@pytest.mark.parametrize(
    "changes",
    [
        {"boxes": (Box(0, 0, 1, 1),)},
        {"image": "portrait.png"},
        {"image": "wide.png", "size": "64x64", "boxes": (Box(600, 99, 900, 400),)},
    ],
)
def test_a_box_where_the_video_shows_nobody_else_is_refused(
    changes: dict[str, Any], tiny: Model, portrait: Path, voices: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box around everybody, a picture without faces, and one of whose faces the cut leaves none."""
    monkeypatch.chdir(portrait.parent)
    wide = np.full((512, 1536, 3), 90, np.uint8)
    wide[:, :512] = read_picture(PAIR)
    Image.fromarray(wide).save("wide.png")
    request = replace(TalkRequest(model="tiny", image=PAIR, audio=voices[:1], boxes=(LEFT,)), **changes)
    for refuses in (lambda: check(request, tiny.facts), lambda: Engine(tiny, media=FileMedia()).generate(request)):
        with pytest.raises(RequestError, match="boxes = 1: no other face was found, and a single voice needs no place"):
            refuses()


def test_a_model_for_one_person_has_nobody_to_silence(tiny: Model, voices: tuple[Path, Path]) -> None:
    request = TalkRequest(model="tiny", image=PAIR, audio=voices[:1], boxes=(LEFT,))
    with pytest.raises(RequestError, match="boxes = 2: the model tiny can voice 1 at most, all silent people counting"):
        check(request, replace(tiny.facts, max_people=1))


def test_silent_people_beyond_what_the_model_tells_apart_share_a_place(
    tiny: Model, portrait: Path, voices: tuple[Path, Path]
) -> None:
    places = (PLACES[0], (56, 16, 88, 48), (56, 56, 88, 88))
    request = TalkRequest(model="tiny", steps=1, image=portrait, audio=voices[:1], boxes=places)  # type: ignore[arg-type]
    pair = replace(tiny, facts=replace(tiny.facts, max_people=2))
    made = Engine(pair, media=FileMedia()).generate(request).frames
    both = np.logical_or(masked(places[1]), masked(places[2]))
    paths = [mask_picture(portrait.with_name(f"{n}.png"), mask) for n, mask in enumerate((masked(places[0]), both))]
    shared = replace(request, boxes=(), masks=tuple(paths))
    assert torch.equal(made, Engine(pair, media=FileMedia()).generate(shared).frames)
    assert not torch.equal(made, Engine(tiny, media=FileMedia()).generate(request).frames), "each one's own place"
    with pytest.raises(RequestError, match="boxes = 3: the model tiny can voice 2 at most, all silent people counting"):
        Engine(pair, media=FileMedia()).generate(replace(request, audio=voices))


@pytest.mark.parametrize(
    ("box", "left"),
    [
        (Box(60, 0, 90, 50), Box(60, 0, 90, 50)),
        (Box(40, 0, 90, 50), Box(50, 0, 90, 50)),
        (Box(10, 0, 45, 90), Box(10, 50, 45, 90)),
    ],
)
def test_a_silent_place_ends_where_the_speakers_begins(box: Box, left: Box) -> None:
    assert beside(box, Box(0, 0, 50, 50)) == left
