"""Branches of guidance on groups of processes, each of which asks the network about its own."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from infinitetalk.ops.parallel import ALONE, Parallel

T = TypeVar("T")


class Spread:
    """A group's share of the branches.

    Args:
        groups: how many there are; one has all branches.
        number: of this one.
        across: one process of each group.
    """

    def __init__(self, groups: int = 1, number: int = 0, across: Parallel = ALONE) -> None:
        self._groups, self._number, self._across = groups, number, across

    def mine(self, branches: Sequence[T]) -> Sequence[T]:
        """The branches of this group."""
        return branches[self._number :: self._groups]

    def exchange(self, answers: list[Tensor]) -> list[Tensor]:
        """The answers in all branches, in their order, from those in the own ones."""
        if self._groups == 1:
            return answers
        every = self._across.gather(torch.stack(answers), 0, self._groups * len(answers)).unflatten(
            0, (self._groups, -1)
        )
        return list(every.transpose(0, 1).flatten(0, 1).unbind())
