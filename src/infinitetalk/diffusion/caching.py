"""Which steps of a schedule ask the network's blocks, and what stands for their answer in the others.

Both methods decide before the first step, from the schedule and the network alone. So no step waits for an answer of
the device, all branches and all devices agree, and blocks that are not needed are not fetched.
"""

from collections.abc import Sequence

import numpy as np

Course = tuple[float | None, ...]
"""For each step: None where the blocks are asked. Else how far what they add is taken to go on, in units of its change
between the last two times that they were asked: 0 takes what they added last."""

# Functional data of MeiGen-AI/InfiniteTalk (0107cd9), wan/modules/multitalk_model.py, `teacache_init`, Apache 2.0: the
# change of what comes out as a polynomial of the relative change of the modulation, highest power first.
_POLYNOMIAL_480 = (2.57151496e05, -3.54229917e04, 1.40286849e03, -1.35890334e01, 1.32517977e-01)
_POLYNOMIAL_720 = (8.10705460e03, 2.13393892e03, -3.72934672e02, 1.66203073e01, -4.17769401e-02)

_TEACACHE_FIRST, _TAYLORSEER_FIRST = 5, 3
"""Steps at the beginning that all ask."""


def teacache(changes: Sequence[float], threshold: float, *, large: bool) -> Course:
    """TeaCache (arXiv 2411.19108) with the reference's numbers.

    Args:
        changes: of the modulation from each step to the next: mean absolute difference over mean absolute value.
        threshold: sum of estimated changes at which the blocks are asked again.
        large: whether pictures are of the table 720; that of 480 has its own polynomial.
    """
    estimate = np.poly1d(_POLYNOMIAL_720 if large else _POLYNOMIAL_480)
    course: list[float | None] = [None]
    gathered = 0.0
    for step, change in enumerate(changes, start=1):
        gathered += float(estimate(change))
        asks = step < _TEACACHE_FIRST or gathered >= threshold
        gathered = 0.0 if asks else gathered
        course.append(None if asks else 0.0)
    return tuple(course)


def taylorseer(timesteps: Sequence[float], interval: int) -> Course:
    """TaylorSeer (arXiv 2503.06923) of first order: steps that do not ask follow the line through the last two answers.

    Its authors keep a line for each layer and count steps; here there is one for all blocks together, over the noise
    level, so that steps may be of any length.

    Args:
        timesteps: noise levels of the steps, without the 0 at their end.
        interval: from one step that asks to the next.
    """
    course: list[float | None] = []
    asked: list[float] = []
    for step, level in enumerate(timesteps):
        if step < _TAYLORSEER_FIRST or (step - _TAYLORSEER_FIRST + 1) % interval == 0:
            asked.append(level)
            course.append(None)
        else:
            course.append((asked[-1] - level) / (asked[-2] - asked[-1]))
    return tuple(course)
