"""Which attention kernel of a GPU is the fastest for this network."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.ops.attention import attention
from training.clock import RunLog

KERNELS: Mapping[str, tuple[bool, bool]] = {"flash": (True, False), "cudnn": (False, True)}
"""Name → whether flash attention and cuDNN's attention may be used."""
ROUNDS, TOLERANCE = 6, 0.02


def use(kernel: str) -> None:
    """Lets the process use this kernel for attention (and slower ones where it cannot serve)."""
    flash, cudnn = KERNELS[kernel]
    torch.backends.cuda.enable_flash_sdp(flash)
    torch.backends.cuda.enable_cudnn_sdp(cudnn)


def use_fastest(config: DiTConfig, batch: int, tokens: int, device: torch.device, log: RunLog) -> None:
    """Times forward and backward passes at the network's shape and uses the fastest kernel from now on.

    A kernel that fails, or whose results differ from those of flash attention, is out.
    """
    shape = (batch, tokens, config.num_heads, config.dim // config.num_heads)
    draws = torch.Generator(device).manual_seed(0)
    inputs = [torch.randn(shape, generator=draws, device=device).to(torch.bfloat16).requires_grad_() for _ in range(4)]
    use("flash")
    truth, seconds = _run(inputs), {"flash": _time(inputs)}
    use("cudnn")
    try:
        made = _run(inputs)
    except RuntimeError as error:
        log(f"attention by cudnn is not possible here: {str(error)[:200]}")
    else:
        if all(_distance(one, two) < TOLERANCE for one, two in zip(made, truth, strict=True)):
            seconds["cudnn"] = _time(inputs)
    best = min(seconds, key=lambda kernel: seconds[kernel])
    log(f"attention: {', '.join(f'{name} {1000 * value:.2f} ms' for name, value in seconds.items())}; {best} is used")
    use(best)


def _run(inputs: list[Tensor]) -> list[Tensor]:
    """The answer and the gradients of queries, keys and values. The fourth input stands for the answer's gradient."""
    answer = attention(*inputs[:3])
    return [answer.detach(), *torch.autograd.grad(answer, inputs[:3], inputs[3].detach())]


def _time(inputs: list[Tensor]) -> float:
    """Seconds of a forward and a backward pass."""
    _run(inputs)
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(ROUNDS):
        _run(inputs)
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / ROUNDS


def _distance(made: Tensor, truth: Tensor) -> float:
    return float((made.float() - truth.float()).norm() / truth.float().norm())
