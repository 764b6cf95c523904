"""The other processes that share a model's work, as the engine sees them; mostly there are none."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from infinitetalk.engine.tasks import Task
    from infinitetalk.ops.ranks import Ranks


class Company(Protocol):
    """The other processes, if there are any."""

    @property
    def size(self) -> int:
        """How many processes there are with this one."""

    @property
    def all(self) -> "Ranks | None":
        """The group of everybody; None for one process."""

    @property
    def alive(self) -> bool:
        """Whether they can be asked."""

    def together(self, task: "Task") -> AbstractContextManager[None]:
        """Lets all others do a task while the block does it here."""

    def watching(self) -> AbstractContextManager[None]:
        """While it lasts, the failure of another process is this one's.

        Raises:
            MachineError, ModelError: another process failed.
        """

    def close(self) -> None:
        """Sends them home."""


class Nobody:
    """No other process."""

    size, alive, all = 1, True, None

    def together(self, task: "Task") -> AbstractContextManager[None]:  # noqa: ARG002 - nobody to tell
        """Nothing."""
        return nullcontext()

    def watching(self) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def close(self) -> None:
        """Nothing."""
