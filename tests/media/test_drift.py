"""The figures of a window, on frames whose differences are known."""

import pytest
import torch

from infinitetalk.media.color import match_colors
from infinitetalk.media.drift import measure_drift


def test_figures_of_known_frames() -> None:
    reference = torch.zeros(3, 1, 8, 8)
    video = torch.zeros(3, 9, 8, 8)
    video[:, 4:] += torch.arange(1, 6)[None, :, None, None] * 2 / 255  # a shade brighter from frame to frame
    figures = measure_drift(video, video, reference, 0.0, new=slice(4, 9), before=video[:, 3])
    assert figures.border == pytest.approx(1, abs=1e-2)
    assert figures.motion == pytest.approx(1, abs=1e-2)
    assert figures.color_made == figures.color_shown
    # Greys at half the range: a shade is 0.39 of L*.
    assert figures.color_shown == pytest.approx(3 * 0.39, abs=0.05)


def test_matched_colours_and_first_windows() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(3, 1, 32, 32, generator=generator) - 0.5
    made = reference.expand(3, 5, 32, 32) * 0.7 + 0.3
    figures = measure_drift(made, match_colors(made, reference), reference, 1.0, new=slice(0, 5), before=None)
    assert figures.border is None
    assert figures.motion == 0
    assert figures.color_made > 5
    assert figures.color_shown < 0.5
    assert figures.color_strength == 1
    single = measure_drift(made, made, reference, 0.0, new=slice(4, 5), before=made[:, 3])
    assert (single.border, single.motion) == (0, None)
