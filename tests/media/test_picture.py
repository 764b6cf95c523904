"""Pictures of every mode and format, upright and in sRGB; masks."""

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.core.errors import MediaError
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.picture import StillSource, read_mask, read_picture, require_size

from .conftest import FIXTURES, assert_upright, quarters

QUARTERED = ["rgb16.png", "turned.jpg", "palette.png", "picture.tga", "bitmap.bmp", "cmyk.tiff", "cmyk.jpg", "lab.tiff"]
TOLERANCE = {"turned.jpg": 4, "cmyk.jpg": 4, "lab.tiff": 35}  # that Lab is relative to another white


@pytest.mark.parametrize("name", QUARTERED)
def test_files_that_others_wrote(name: str) -> None:
    picture = read_picture(FIXTURES / name)
    assert picture.shape == (48, 64, 3)
    assert picture.dtype == np.uint8
    assert_upright(picture, grey=100, tolerance=TOLERANCE.get(name, 1))


def test_first_frame_of_animations() -> None:
    assert_upright(read_picture(FIXTURES / "moving.webp"), grey=40, tolerance=1)
    assert_upright(read_picture(FIXTURES / "moving.gif"), grey=40, tolerance=8)


def test_transparent_parts_are_white() -> None:
    assert_upright(read_picture(FIXTURES / "clear.png"), grey=255, tolerance=0)


@pytest.mark.parametrize("name", ["grey16.png", "grey16.tiff"])
def test_sixteen_bit_grey_keeps_its_shades(name: str) -> None:
    picture = read_picture(FIXTURES / name)
    row = picture[8, :, 0].astype(int)
    steps = np.abs(np.diff(row))
    assert sorted({int(row[0]), int(row[-1])}) == [0, 255]
    assert steps.max() <= 5  # an even gradient of 64 steps, not clipped to white
    assert (picture[:, :, 0] == picture[:, :, 2]).all()


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 0), (255, 255, 255)),
        ("LA", (77, 255), (77, 77, 77)),
        ("P", 0, (0, 0, 0)),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 257 * 9, (9, 9, 9)),
        ("I", 257 * 9, (9, 9, 9)),
        ("F", 0.5, (128, 128, 128)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_modes(tmp_path: Path, mode: str, value: float | tuple[int, ...], expected: tuple[int, ...]) -> None:
    path = tmp_path / "picture.tiff"
    Image.new(mode, (20, 18), value).save(path)
    picture = read_picture(path)
    assert picture.shape == (18, 20, 3)
    assert tuple(picture[9, 9]) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """Turned back as the tag says; the table is the EXIF standard's (where row 0 and column 0 are as seen)."""
    upright = np.asarray(Image.open(FIXTURES / "bitmap.bmp").convert("RGB"))
    stored: dict[int, NDArray[np.uint8]] = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored[orientation])).save(path, exif=exif)
    np.testing.assert_array_equal(read_picture(path), upright)


def test_wrong_extension(tmp_path: Path) -> None:
    odd = tmp_path / "picture.mp4"
    odd.write_bytes((FIXTURES / "turned.jpg").read_bytes())
    assert_upright(read_picture(odd), grey=100, tolerance=4)


def _profile(columns: tuple[tuple[float, float, float], ...]) -> bytes:
    """A minimal ICC display profile: linear light, the given red, green and blue in XYZ (D50)."""
    fixed = [b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(part * 65536) for part in column)) for column in columns]
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78
    data = dict(zip(("rXYZ", "gXYZ", "bXYZ"), fixed, strict=True))
    data |= {"rTRC": curve, "gTRC": curve, "bTRC": curve, "wtpt": white, "desc": text}
    body, table, offset = b"", b"", 128 + 4 + 12 * len(data)
    for tag, value in data.items():
        padded = value + b"\0" * (-len(value) % 4)
        table += tag.encode() + struct.pack(">2I", offset + len(body), len(value))
        body += padded
    size = 128 + 4 + len(table) + len(body)
    head = struct.pack(
        ">I4s4s4s4s4s12s4s", size, b"\0" * 4, b"\x02\x10\0\0", b"mntr", b"RGB ", b"XYZ ", b"\0" * 12, b"acsp"
    )
    head += b"\0" * 28 + struct.pack(">3i", 63190, 65536, 54061)
    return head + b"\0" * (128 - len(head)) + struct.pack(">I", len(data)) + table + body


RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_profiles_are_applied(tmp_path: Path, mode: str) -> None:
    """Red and green swapped by the profile, in linear light: (128, 0, 0) is half green, which sRGB writes as 188."""
    path = tmp_path / "wide.png"
    Image.new(mode, (16, 16), (128, 0, 0, 255)[: len(mode)]).save(path, icc_profile=_profile((GREEN, RED, BLUE)))
    red, green, blue = (int(part) for part in read_picture(path)[8, 8])
    assert green == pytest.approx(188, abs=2)
    assert max(red, blue) <= 3


def test_a_broken_profile_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    Image.new("RGB", (16, 16), (10, 20, 30)).save(path, icc_profile=b"no profile")
    assert tuple(read_picture(path)[0, 0]) == (10, 20, 30)


def test_pictures_just_inside_the_limits(tmp_path: Path) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "least.png")
    assert read_picture(tmp_path / "least.png").shape == (16, 16, 3)
    require_size(Path("most.png"), "picture", Pixels(8_000, 12_500))


def test_a_picture_as_a_source() -> None:
    picture = read_picture(FIXTURES / "bitmap.bmp")
    source = StillSource(picture)
    assert source.size == Pixels(48, 64)
    assert source.frame_at(12.0) is picture
    assert source.frame_index(99) is picture


def test_masks(tmp_path: Path) -> None:
    Image.new("L", (32, 24), 0).save(tmp_path / "mask.png")
    drawn = Image.open(tmp_path / "mask.png")
    drawn.paste(255, (0, 0, 16, 12))
    drawn.save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", Pixels(48, 64))
    assert mask.shape == (48, 64)
    assert mask.dtype == np.bool_
    assert mask[:24, :32].all()
    assert mask.sum() == 24 * 32


def test_the_transparent_part_of_a_mask_is_outside(tmp_path: Path) -> None:
    cut_out = Image.new("RGBA", (64, 48), (255, 255, 255, 0))
    cut_out.paste((255, 255, 255, 255), (10, 10, 20, 20))
    cut_out.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", Pixels(48, 64)).sum() == 100


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    with pytest.raises(MediaError, match="64x64, the picture 64x48"):
        read_mask(tmp_path / "mask.png", Pixels(48, 64))


def test_quarters_are_told_apart() -> None:
    """The helper would see a picture that lies on its side."""
    turned = np.rot90(read_picture(FIXTURES / "bitmap.bmp"))
    assert tuple(quarters(turned)["top left"]) == (40, 200, 40)
