"""Several GPUs of one machine train one network: each learns from its own batches, and all take the mean gradients.

`python -m torch.distributed.run --nproc-per-node 4 -m training.nano.train_dit …` starts such a training; without
`torch.distributed.run` there is one process, and everything here does nothing.
"""

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def begin(device: str) -> torch.device:
    """Joins the other processes, if there are any; returns this one's device, `cuda` being the GPU of its own."""
    if "LOCAL_RANK" not in os.environ:
        return torch.device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    if device != "cuda":
        return torch.device(device)
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def end() -> None:
    """Waits for the others and leaves them."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0 on."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this process is the one that writes files and the log."""
    return rank() == 0


def agreed(*values: float) -> tuple[float, ...]:
    """The first process's numbers, in all of them: clocks differ, and all must stop at the same step."""
    if not dist.is_initialized():
        return values
    told = torch.tensor(values, dtype=torch.float64)
    dist.broadcast(told, 0)
    return tuple(told.tolist())


def mean_gradients(parameters: Sequence[Tensor]) -> None:
    """Puts the mean over all processes in the place of every gradient."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    _put(flat / dist.get_world_size(), gradients)


@torch.no_grad()
def same(parameters: Sequence[Tensor]) -> None:
    """Gives all processes the first one's values."""
    if not dist.is_initialized():
        return
    flat = torch.cat([parameter.flatten() for parameter in parameters])
    dist.broadcast(flat, 0)
    _put(flat, list(parameters))


def _put(flat: Tensor, tensors: list[Tensor]) -> None:
    """Writes joined values back to where they come from."""
    pieces = flat.split([one.numel() for one in tensors])
    torch._foreach_copy_(tensors, [piece.view_as(one) for piece, one in zip(pieces, tensors, strict=True)])
