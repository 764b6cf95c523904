"""What lies between the convolutions of the VAE: norms with their activation, and sums.

`Pixels` is the plain form, which runs everywhere and is differentiable; convolutions add their biases themselves.
`ops.pixels_triton` has the same in one kernel each, adds the biases too, and writes frames to where the next
convolution reads them. A network is given one or the other.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.ops.conv import Reading, lay
from infinitetalk.ops.parallel import Edges


class Pixels:
    """The plain form."""

    biases = False
    """Whether the biases of convolutions are left to it."""
    fused = False
    """Whether it is Triton's."""

    def lively(self, x: Tensor, gamma: Tensor, bias: Tensor | None = None) -> Tensor:
        """`channel_norm` of x [..., C], or of x + bias, and SiLU; gamma [C, ...]."""
        normed = channel_norm(x if bias is None else x + bias, gamma)
        return F.silu(normed, inplace=not torch.is_grad_enabled())

    def frames(
        self, x: Tensor, reading: Reading, gamma: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`ops.conv.lay` of what `lively` makes of frames [B, T, H, W, C], which the edges are like."""
        if reading.edges is not None:
            edges = (None if rows is None else self.lively(rows, gamma, bias) for rows in reading.edges)
            reading = reading._replace(edges=Edges(*edges))
        return lay(self.lively(x, gamma, bias), reading)

    def joined(self, x: Tensor, answer: Tensor, bias: Tensor | None = None) -> Tensor:
        """x + answer + bias, all [..., C] but the bias [C]."""
        return x + (answer if bias is None else answer + bias)


def channel_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """Brings every pixel's channels x [..., C] to length sqrt(C), times gamma [C, ...]."""
    channels = gamma.shape[0]
    if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled():
        # torch's own norm takes four passes over the pixels there. (The length of a black pixel has no gradient.)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=1e-12)
        normed: Tensor = x * (gamma.flatten() * channels**0.5)
        return normed.div_(length)
    # x / max(|x|, 1e-12) * sqrt(C), written as a root-mean-square norm. Autocast would widen the answer.
    with torch.autocast(x.device.type, enabled=False):
        return F.rms_norm(x, (channels,), gamma.to(x.dtype).flatten(), least(channels))


def least(channels: int) -> float:
    """What is added to the mean square of so many channels."""
    return 1e-24 / channels
