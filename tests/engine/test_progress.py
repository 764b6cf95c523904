"""The clock: every moment counts for exactly one stage, also around generators."""

from collections.abc import Iterator

import pytest

from infinitetalk.core.stages import Stage
from infinitetalk.engine.progress import StageClock


class Hands:
    """A time that moves when told."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_innermost_stage_gets_the_time() -> None:
    now = Hands()
    clock = StageClock(now=now)
    now.time = 1
    with clock.stage(Stage.DENOISING):
        now.time = 3
        with clock.stage(Stage.KEY_FRAMES):
            now.time = 7
        now.time = 8
    now.time = 10
    with clock.stage(Stage.DENOISING):
        now.time = 11
    assert clock.seconds[Stage.DENOISING] == 4
    assert clock.seconds[Stage.KEY_FRAMES] == 4
    assert clock.outside == 3
    assert sum(clock.seconds.values()) + clock.outside == now.time


def test_what_the_consumer_does_is_the_consumer_s() -> None:
    now = Hands()
    clock = StageClock(now=now)

    def windows() -> Iterator[int]:
        for index in range(3):
            with clock.stage(Stage.DENOISING):
                now.time += 10
            yield index

    for _ in windows():
        with clock.stage(Stage.ASSEMBLY):
            now.time += 1
    assert clock.seconds[Stage.DENOISING] == 30
    assert clock.seconds[Stage.ASSEMBLY] == 3
    assert clock.outside == 0


def test_a_failing_stage_is_closed() -> None:
    now = Hands()
    clock = StageClock(now=now)
    with pytest.raises(ValueError, match="broken"), clock.stage(Stage.LIP_SYNC):
        now.time += 2
        raise ValueError("broken")
    now.time += 1
    with clock.stage(Stage.ASSEMBLY):
        now.time += 4
    assert (clock.seconds[Stage.LIP_SYNC], clock.outside, clock.seconds[Stage.ASSEMBLY]) == (2, 1, 4)


def test_a_listener_hears_everything() -> None:
    inner = StageClock(now=Hands())
    clock = StageClock(inner, now=Hands())
    clock.plan({Stage.DENOISING: 3})
    with clock.stage(Stage.DENOISING):
        clock.advance()
    clock.skip(Stage.INTERPOLATION)
    assert inner.skipped == clock.skipped == {Stage.INTERPOLATION}
