"""Muon: momentum followed by an orthogonalised update, for weights of two and more dimensions.

The update of every matrix is scaled to the root mean square that Adam's has (0.2), so one learning rate serves both.
Convolutions are seen as matrices (output channels x everything else). Equal shapes are stacked into one batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ADAM_RMS = 0.2


@torch.no_grad()
def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearly orthogonal matrices of the same row and column spaces, by a quintic Newton-Schulz iteration.

    Args:
        matrices: (k, rows, columns), any shape; worked on with the shorter side as rows.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x if wide else x.mT).to(matrices.dtype)
    return result


@dataclass(slots=True)
class _Group:
    parameters: list[nn.Parameter]
    momentum: Tensor


class Muon:
    """The optimiser. `rate` is a tensor, so that a captured graph reads its present value.

    Args:
        parameters: weights with at least two dimensions.
        rate: learning rate, in Adam's units.
        momentum: share of the old direction (Nesterov).
        decay: decoupled weight decay.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], rate: float, momentum: float = 0.95, decay: float = 0.0
    ) -> None:
        shapes: dict[tuple[int, int], list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.dim() < 2:
                raise ValueError(f"Muon takes matrices, not a parameter of shape {tuple(parameter.shape)}")
            shapes.setdefault((parameter.shape[0], parameter[0].numel()), []).append(parameter)
        self.groups = [
            _Group(members, torch.zeros(len(members), *shape, device=members[0].device))
            for shape, members in shapes.items()
        ]
        device = parameters[0].device
        self.rate = torch.tensor(rate, device=device)
        self.share, self.decay = momentum, decay

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients; parameters without a gradient are an error."""
        for group in self.groups:
            gradients = torch.stack([_gradient(parameter).flatten(1) for parameter in group.parameters]).float()
            group.momentum.mul_(self.share).add_(gradients)
            update = orthogonalise(gradients + self.share * group.momentum)
            scale = ADAM_RMS * max(update.shape[1:]) ** 0.5
            update = update * (self.rate * -scale)
            parameters: list[Tensor] = list(group.parameters)
            if self.decay:
                torch._foreach_mul_(parameters, 1 - self.rate * self.decay)
            pieces = [piece.view_as(parameter) for piece, parameter in zip(update, parameters, strict=True)]
            torch._foreach_add_(parameters, pieces)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The momenta, one tensor per shape."""
        return {"momentum": [group.momentum for group in self.groups]}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Takes over the momenta of `state_dict`."""
        for group, momentum in zip(self.groups, state["momentum"], strict=True):
            group.momentum.copy_(momentum)


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise ValueError(f"no gradient for a parameter of shape {tuple(parameter.shape)}")
    return parameter.grad
