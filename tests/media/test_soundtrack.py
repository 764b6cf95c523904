"""What AAC cannot hold is changed, and said."""

import pytest

from infinitetalk.media.soundtrack import for_aac

from .conftest import sine


def test_what_aac_holds_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    sound = sine(44100, 0.1, 0.25, 0.25, layout="stereo")
    kept = for_aac(sound)
    assert (kept.rate, kept.layout) == (44100, "stereo")
    assert kept.samples is sound.samples
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("rate", "layout", "channels", "told"),
    [
        (192000, "mono", 1, "the sound has 192000 Hz; the video gets 96000"),
        (48000, "10 channels", 10, "the sound has the speakers '10 channels'; the video gets mono"),
    ],
)
def test_what_aac_cannot_hold_is_told(
    rate: int, layout: str, channels: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    for_aac(sine(rate, 0.1, *(0.25,) * channels, layout=layout))
    assert told in caplog.text
