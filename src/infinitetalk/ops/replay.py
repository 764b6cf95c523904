"""Passes that are recorded once and replayed: what a device does in one, without the host telling it again.

A pass of short kernels takes as long as the host needs to start them. A recording starts all of them at once. It reads
and writes the same memory each time, so what differs between passes is copied to where the recorded one read it.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import ref

from torch import Tensor

Compute = Callable[[Any], list[Tensor]]
"""Answers to tuples, nested, of tensors and of what can be a key."""


class Recorder(Protocol):
    """Records what a device does."""

    def room(self) -> bool:
        """Whether there is memory for one more recording."""

    def record(self, compute: Callable[[], list[Tensor]]) -> tuple[Callable[[], object], list[Tensor]]:
        """What does it again, and where its answers will be."""


class Recording(NamedTuple):
    """One pass."""

    inputs: list[Tensor]
    """What it reads."""
    copied: list[ref[Tensor]]
    """Of which these are copies; whoever made them may let them go."""
    again: Callable[[], object]
    answers: list[Tensor]


class Replay:
    """Replays passes over inputs of a kind that came before; others it lets compute.

    Args:
        recorder: of the device.
        most: recordings that are kept, each with memory of its own; the oldest one goes.
        largest: numbers between two products (tokens times channels squared is the work of a product) from which on
            recording is not worth it; None records all.
    """

    def __init__(self, recorder: Recorder, most: int = 4, largest: float | None = None) -> None:
        self._recorder, self._most, self._largest = recorder, most, largest
        self._seen: dict[Hashable, None] = {}
        self._known: dict[Hashable, Recording] = {}

    def worth(self, work: float) -> bool:
        """Whether passes of so much work are short enough."""
        return self._largest is None or work < self._largest

    def __call__(self, compute: Compute, fresh: Any, told: Any, how: Hashable) -> list[Tensor]:
        """Answers to `(fresh, told)`.

        Args:
            fresh: differs each time.
            told: tensors that nobody writes to: they are copied only if they are others than the last time.
            how: all else that the answers depend on.
        """
        new, old = list(tensors(fresh)), list(tensors(told))
        kind = how, shape((fresh, told))
        recording = self._known.get(kind)
        if recording is None:
            # Kernels are compiled and chosen, and processes find each other, in a pass that is not recorded.
            if kind not in self._seen or not self._recorder.room():
                self._see(kind)
                return compute((fresh, told))
            recording = self._known[kind] = self._record(compute, (fresh, told), [*new, *old])
        for number, tensor in enumerate([*new, *old]):
            if number < len(new) or recording.copied[number]() is not tensor:
                recording.inputs[number].copy_(tensor)
                recording.copied[number] = ref(tensor)
        recording.again()
        return [answer.clone() for answer in recording.answers]

    def clear(self) -> None:
        """Forgets all recordings, from any thread."""
        self._known.clear()
        self._seen.clear()

    def _see(self, kind: Hashable) -> None:
        self._seen[kind] = None
        if len(self._seen) > 4 * self._most:
            self._seen.pop(next(iter(self._seen)))

    def _record(self, compute: Compute, given: Any, now: Sequence[Tensor]) -> Recording:
        while len(self._known) >= self._most:
            self._known.pop(next(iter(self._known)))
        inputs = [tensor.clone() for tensor in now]
        own = with_tensors(given, iter(inputs))
        again, answers = self._recorder.record(lambda: compute(own))
        return Recording(inputs, [ref(tensor) for tensor in now], again, answers)


def tensors(given: Any) -> Iterator[Tensor]:
    """All tensors of nested tuples, in order."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, tuple | list):
        for item in given:
            yield from tensors(item)


def shape(given: Any) -> Hashable:
    """What two nested tuples have in common whose tensors can take each other's place; all else is the same."""
    if isinstance(given, Tensor):
        return tuple(given.shape), given.stride(), given.dtype, given.device
    if isinstance(given, tuple | list):
        return type(given), tuple(shape(item) for item in given)
    known: Hashable = given
    return known


def with_tensors(given: Any, others: Iterator[Tensor]) -> Any:
    """The same nested tuples with other tensors."""
    if isinstance(given, Tensor):
        return next(others)
    if not isinstance(given, tuple | list):
        return given
    items = [with_tensors(item, others) for item in given]
    named = hasattr(given, "_fields")
    return type(given)(*items) if named else type(given)(items)
