"""Step caching: its methods by name, and what they take where a request says nothing."""

from enum import StrEnum


class StepCache(StrEnum):
    """How steps are chosen in which the blocks are not asked again, and what stands for their answer."""

    OFF = "off"
    TEACACHE = "teacache"
    TAYLORSEER = "taylorseer"

    @property
    def kept(self) -> int:
        """How many times what the blocks added is kept."""
        return {StepCache.OFF: 0, StepCache.TEACACHE: 1, StepCache.TAYLORSEER: 2}[self]


THRESHOLD = 0.2
"""Estimated change that TeaCache lets gather; the reference's default."""

INTERVAL = 3
"""From which step to the next TaylorSeer asks."""

FEWEST = 5
"""Steps from which on a cache makes sense: with fewer, each is needed."""
