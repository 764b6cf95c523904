"""A training step as one CUDA graph: small networks otherwise wait for the launches of their kernels."""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]


class CapturedStep:
    """Calls `step` directly, or replays it as a CUDA graph once it has been warmed up.

    `step` must do the same work for the same input shapes, must not synchronise, and must set gradients to None before
    its backward pass. Inputs are copied into fixed places, results are overwritten by the next call.
    """

    def __init__(self, step: Step, *, capture: bool, warmup: int = 3) -> None:
        self._step = step
        self._warmup = warmup if capture else -1
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._results: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One training step."""
        if self._graph is not None:
            for place, value in zip(self._inputs, inputs, strict=True):
                place.copy_(value)
            self._graph.replay()
            return self._results
        if self._warmup == 0:
            self._capture(inputs)
            return self(*inputs)
        self._warmup -= 1
        return self._direct(inputs)

    def _direct(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._warmup < 0:
            return self._step(*inputs)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            results = self._step(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        return results

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(value.clone() for value in inputs)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._results = self._step(*self._inputs)
        self._graph = graph
