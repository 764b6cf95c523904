"""A moving average of a network's weights."""

import torch
from torch import Tensor, nn


class Average:
    """Weights averaged over the last 1/(1-decay) steps; early on over fewer, so that the start is forgotten."""

    def __init__(self, network: nn.Module, decay: float, every: int = 2) -> None:
        self._names = [name for name, _ in network.named_parameters()]
        self._live = list(network.parameters())
        self._mean = [parameter.detach().clone() for parameter in self._live]
        self._decay, self._every = decay, every

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Called after every step; works at every `every`-th."""
        if step % self._every == 0:
            decay = min(self._decay, (1 + step) / (10 + step)) ** self._every
            torch._foreach_lerp_(self._mean, [parameter.detach() for parameter in self._live], 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return dict(zip(self._names, self._mean, strict=True))

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over averaged weights."""
        for name, mean in zip(self._names, self._mean, strict=True):
            mean.copy_(state[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges live and averaged weights; called again, changes them back."""
        for live, mean in zip(self._live, self._mean, strict=True):
            kept = live.detach().clone()
            live.copy_(mean)
            mean.copy_(kept)
