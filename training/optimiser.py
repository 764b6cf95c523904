"""The optimiser of both trainings: Muon for chosen matrices, AdamW for everything else, one rate."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training import parallel
from training.muon import Muon

Choice = Callable[[str, nn.Parameter], bool]


class MuonAdam:
    """Muon for the parameters that `chosen` picks, AdamW for the rest, both with gradients clipped to norm 1.

    Args:
        network: what is trained; parameters without gradients are left out.
        rate: peak learning rate of AdamW.
        muon_scale: Muon's rate as a multiple of AdamW's.
        chosen: says by name and parameter whether Muon takes it.
        decay: weight decay of matrices.
    """

    def __init__(
        self, network: nn.Module, rate: float, *, chosen: Choice, muon_scale: float = 1.0, decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.97),
    ) -> None:  # fmt: skip
        named = [(name, value) for name, value in network.named_parameters() if value.requires_grad]
        matrices = [value for name, value in named if value.dim() > 1 and chosen(name, value)]
        taken = {id(value) for value in matrices}
        rest = [value for _, value in named if id(value) not in taken]
        self.parameters = [value for _, value in named]
        device = self.parameters[0].device
        on_gpu = device.type == "cuda"
        self._rate, self._scale = rate, muon_scale
        self._adam_rate = torch.tensor(rate, device=device) if on_gpu else torch.tensor(rate)
        self.muon = Muon(matrices, rate * muon_scale, decay=decay)
        groups = [
            {"params": [value for value in rest if value.dim() > 1], "weight_decay": decay},
            {"params": [value for value in rest if value.dim() <= 1], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=self._adam_rate, betas=betas, fused=on_gpu,
            capturable=on_gpu,
        )  # fmt: skip

    def set_rate(self, share: float) -> None:
        """Sets both rates to this share of their peaks."""
        self._adam_rate.fill_(self._rate * share)
        self.muon.rate.fill_(self._rate * self._scale * share)

    def forget_gradients(self) -> None:
        """Drops all gradients, so that the next backward pass writes rather than adds."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> Tensor:
        """Clips, updates, and returns the gradients' norm before clipping."""
        parallel.mean_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.adam.step()
        self.muon.step()
        return norm

    def state_dict(self) -> dict[str, object]:
        """Both states."""
        return {"adam": self.adam.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Takes over both states; rates are set anew by `set_rate`."""
        self.adam.load_state_dict(state["adam"])  # type: ignore[arg-type]
        for group in self.adam.param_groups:
            group["lr"] = self._adam_rate
        self.muon.load_state_dict(state["muon"])  # type: ignore[arg-type]
