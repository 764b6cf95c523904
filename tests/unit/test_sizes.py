"""Sizes refuse what would need rounding; the tables are the ones the networks were trained on."""

import pytest

from infinitetalk.core.errors import RequestError
from infinitetalk.core.sizes import (
    BUCKETS_480,
    BUCKETS_720,
    Latents,
    Pixels,
    choose_bucket,
    nearest_window,
    parse_size,
)


def test_latents_of_a_window() -> None:
    assert Latents.of(81, Pixels(640, 640)) == Latents(21, 80, 80)
    assert Latents.of(1, Pixels(16, 32)) == Latents(1, 2, 4)


@pytest.mark.parametrize(("frames", "size"), [(80, Pixels(64, 64)), (0, Pixels(64, 64)), (81, Pixels(72, 64))])
def test_latents_refuse_rounding(frames: int, size: Pixels) -> None:
    with pytest.raises(RequestError):
        Latents.of(frames, size)


def test_tables_have_trained_areas() -> None:
    assert len(BUCKETS_480) == 15 and len(BUCKETS_720) == 21
    for table, side in ((BUCKETS_480, 627), (BUCKETS_720, 960)):
        for ratio, size in table.items():
            assert size.height % 64 == 0 and size.width % 64 == 0
            assert abs(size.height / size.width - ratio) < 0.06
            assert 0.8 < size.height * size.width / side**2 < 1.25


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Pixels(1080, 1920), Pixels(448, 896)),
        (Pixels(100, 100), Pixels(640, 640)),
        (Pixels(1920, 1080), Pixels(832, 448)),
    ],
)
def test_bucket_is_the_nearest_shape(source: Pixels, expected: Pixels) -> None:
    assert choose_bucket(source, BUCKETS_480) == expected


def test_parse_size_names_a_size_that_works() -> None:
    assert parse_size("832x448") == Pixels(448, 832)
    with pytest.raises(RequestError, match="640x640 would work"):
        parse_size("641x639")


def test_nearest_window_is_of_the_form_4n_plus_1() -> None:
    assert [nearest_window(frames) for frames in (1, 5, 78, 80, 82)] == [5, 5, 77, 81, 81]
