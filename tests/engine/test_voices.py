"""What each window hears: silence behind the end, neighbours around each frame, long voices piece by piece."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.core.windows import Window, frames_of, plan, reference_frames_of
from infinitetalk.engine.level import Level
from infinitetalk.engine.protocols import Waveform
from infinitetalk.engine.voices import (
    CONTEXT,
    PIECE,
    MirroredVoices,
    PaddedVoices,
    mirror,
    surround,
)
from infinitetalk.models.speech import normalise


@dataclass
class Meter:
    """Hears the mean of each frame's samples, and notes how much it was given."""

    given: list[tuple[int, int, int]] = field(default_factory=list)

    def normalise(self, samples: Waveform) -> Waveform:
        return samples

    def encode(self, samples: Waveform, frames: int, person: int) -> Tensor:
        self.given.append((len(samples), frames, person))
        values = torch.from_numpy(samples[: frames * SAMPLES_PER_FRAME])
        return values.view(frames, SAMPLES_PER_FRAME).mean(1)[:, None, None]


def counting(frames: int) -> Waveform:
    """A voice whose frame k is constantly k + 1."""
    return np.repeat(np.arange(1, frames + 1, dtype=np.float32), SAMPLES_PER_FRAME)


def test_frames_of_samples() -> None:
    assert [frames_of(count) for count in (1, 640, 641, 1280)] == [1, 1, 2, 2]
    # The reference divides first: 29 frames' worth of samples are 28.999… of its frames.
    assert [reference_frames_of(count * 640) for count in (13, 28, 29, 30)] == [13, 28, 28, 30]


def test_neighbours_are_clamped_at_the_ends() -> None:
    features = torch.arange(6.0)[:, None, None]
    around = surround(features, range(6), 5)[..., 0, 0]
    assert around[0].tolist() == [0, 0, 0, 1, 2]
    assert around[3].tolist() == [1, 2, 3, 4, 5]
    assert around[5].tolist() == [3, 4, 5, 5, 5]


def test_silence_follows_each_voice() -> None:
    source = Meter()
    windows = plan([7, 20], 13, 5)
    heard = PaddedVoices(source, [counting(7), counting(20)], frames=windows[-1].end + 2, width=5, reach=15)
    first = heard.hear(windows[0])[..., 0, 0]
    assert first.shape == (2, 13, 5)
    assert first[0, :, 2].tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0]
    assert first[1, :, 2].tolist() == list(range(1, 14))
    last = heard.hear(windows[-1])[1, :, :, 0, 0]
    assert last[:, 2].tolist() == [*range(9, 21), 0]
    assert last[-1].tolist() == [19, 20, 0, 0, 0]
    assert len(source.given) == 2


@pytest.mark.parametrize("total", [PIECE + 500, 3 * PIECE + 7])
def test_long_voices_are_encoded_in_pieces_that_windows_do_not_notice(total: int) -> None:
    windows = plan([total], 81, 9)
    source = Meter()
    heard = PaddedVoices(source, [counting(total)], frames=windows[-1].end + 2, width=5, reach=83)
    whole = np.append(counting(total)[::SAMPLES_PER_FRAME], np.zeros(200, dtype=np.float32))
    loads = 0
    for window in windows:
        loads += heard.load(window)
        expected = whole[np.clip(np.arange(window.start, window.end)[:, None] + np.arange(-2, 3), 0, len(whole) - 1)]
        assert np.array_equal(heard.hear(window)[0, :, :, 0, 0].numpy(), expected), window
    assert loads == len(source.given) == heard.pieces(windows) > 1
    assert max(frames for _, frames, _ in source.given) <= PIECE + 2 * CONTEXT + 83


def test_a_piece_does_not_depend_on_the_windows_before() -> None:
    windows = plan([PIECE * 2], 81, 9)
    walked, fresh = (
        PaddedVoices(Meter(), [counting(PIECE * 2)], frames=PIECE * 2 + 2, width=5, reach=83) for _ in range(2)
    )
    *_, last = (walked.hear(window) for window in windows)
    assert torch.equal(fresh.hear(windows[-1]), last)


def test_short_voices_are_heard_whole() -> None:
    source = Meter()
    windows = plan([PIECE - 10], 81, 9)
    heard = PaddedVoices(source, [counting(PIECE - 10)], frames=PIECE - 5, width=5, reach=83)
    assert heard.pieces(windows) == 1
    for window in windows:
        heard.hear(window)
    assert source.given == [((PIECE - 5) * SAMPLES_PER_FRAME, PIECE - 5, 0)]


def test_reference_encodes_the_whole_voice_and_mirrors_its_end() -> None:
    source = Meter()
    windows = plan([13], 9, 5, reference=True)
    heard = MirroredVoices(source, [counting(13)[: 13 * SAMPLES_PER_FRAME]], width=5)
    assert heard.hear(windows[0])[0, :, 2, 0, 0].tolist() == list(range(1, 10))
    # 13 frames end in the window of frames 4 to 12; three more are mirrored, of which the last window hears two.
    assert heard.hear(windows[1])[0, -1, :, 0, 0].tolist() == [11, 12, 13, 13, 12]
    assert source.given == [(13 * SAMPLES_PER_FRAME, 13, 0)]


def test_mirror_only_where_a_voice_ends() -> None:
    features = torch.arange(10.0)[:, None]
    last = Window(2, 8, 9, 5, 4, mirror=True)
    assert mirror(features, last)[:, 0].tolist() == [*range(10), *range(9, -1, -1)]
    assert mirror(features, Window(2, 3, 9, 5, 4, mirror=True))[:, 0].tolist() == [*range(10), 9, 8, 7, 6, 5]
    assert mirror(features, Window(1, 8, 9, 5, 4)) is features
    assert mirror(features, Window(1, 0, 9, 5, 4, mirror=True)) is features


def test_a_voice_that_is_not_in_memory_has_the_same_level() -> None:
    wave = np.random.default_rng(0).standard_normal(600_000).astype(np.float32) * 0.1 + np.float32(0.02)
    level, whole = Level(wave), normalise(torch.from_numpy(wave)).numpy()
    assert len(level) == len(wave)
    np.testing.assert_allclose(level[250_000:270_000], whole[250_000:270_000], atol=2e-6)
    assert not Level(np.zeros(10, np.float32))[:].any()
