"""Borders of windows: what coding lost of the last common frame fades out over the new ones."""

import pytest
import torch

from infinitetalk.engine.seams import crossfade, soften


def test_what_was_lost_fades_out() -> None:
    tail = torch.full((3, 5, 2, 2), 0.5)
    video = torch.full((3, 9, 2, 2), 0.1)
    made = soften(video, tail, keep_from=5, frames=3)
    assert torch.equal(made[:, :5], video[:, :5])
    assert made[0, 5:, 0, 0].tolist() == pytest.approx([0.1 + 0.3, 0.1 + 0.2, 0.1 + 0.1, 0.1])


def test_frames_behind_the_last_latent_are_not_common() -> None:
    """Of eight frames handed on the network was told five: the others are new in this window and may differ."""
    tail = torch.zeros(3, 8, 2, 2)
    tail[:, 5:] = 1.0
    video = torch.zeros(3, 13, 2, 2)
    assert torch.equal(soften(video, tail, keep_from=8, frames=4), video)


def test_a_short_window_and_none_at_all() -> None:
    tail, video = torch.ones(3, 1, 2, 2), torch.zeros(3, 3, 2, 2)
    assert soften(video, tail, keep_from=1, frames=50).shape == video.shape
    assert soften(video, tail, keep_from=1, frames=0) is video


def test_colours_stay_in_range() -> None:
    tail, video = torch.ones(3, 1, 2, 2), torch.full((3, 5, 2, 2), 0.9)
    video[:, 0] = 0.0
    assert soften(video, tail, keep_from=1, frames=4).max() == 1.0


def test_one_window_fades_into_the_next() -> None:
    before, video = torch.zeros(3, 3, 2, 2), torch.ones(3, 9, 2, 2)
    made = crossfade(video, before, keep_from=4)
    assert made[0, :, 0, 0].tolist() == pytest.approx([1, 1, 1, 1, 0.25, 0.5, 0.75, 1, 1])
