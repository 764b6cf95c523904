"""The group of processes within which tensors are exchanged: formed, split, and left, also when one is missing."""

import os
import traceback
from contextlib import suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store, TCPStore

from infinitetalk.core.errors import MachineError
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.links import HOST
from infinitetalk.runtime.replay import forget

PATIENCE = timedelta(minutes=30)
"""How long an exchange may take; whoever is gone is noticed at once, by other means."""


def begin_store() -> TCPStore:
    """Where the processes find each other; held by the first one."""
    return TCPStore(HOST, 0, is_master=True, wait_for_workers=False)


def find_store(port: int) -> TCPStore:
    """The same for all others."""
    return TCPStore(HOST, port, is_master=False)


def check_free() -> None:
    """Refuses to form a group in a process that belongs to another one.

    Raises:
        MachineError: it does.
    """
    if not dist.is_available():
        raise MachineError("this torch has no torch.distributed, which several GPUs need; another build would work")
    if dist.is_initialized():
        raise MachineError("this process is part of a torch.distributed group already; start several GPUs from another")


def join(store: Store, device: Device, rank: int, size: int) -> None:
    """Forms the group of all processes, each with its device; returns when all are there."""
    where = device.torch_device
    if where.type == "cuda":
        torch.cuda.set_device(where)
        # Else the exchanges of a CUDA graph agree on its memory while it is recorded, and wait for each other for ever.
        os.environ.setdefault("NCCL_GRAPH_REGISTER", "0")
        dist.init_process_group("nccl", store=store, rank=rank, world_size=size, timeout=PATIENCE, device_id=where)
    else:
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)


def leave() -> None:
    """Leaves the group, also while an exchange will never end."""
    if not dist.is_initialized():
        return
    with suppress(RuntimeError, ValueError):  # what is left of a broken group says so in many ways
        if dist.get_backend() == "nccl":
            forget()
            dist.distributed_c10d._abort_process_group()
        else:
            dist.destroy_process_group()


def wake() -> None:
    """Ends an exchange that another thread waits for in vain, because a process is gone.

    Processors notice by themselves when a connection ends; GPUs wait.
    """
    if dist.is_initialized() and dist.get_backend() == "nccl":
        leave()


def split(groups: int) -> tuple[dist.ProcessGroup, dist.ProcessGroup]:
    """Groups of neighbours, and across them those with the same place in each: this process' own two.

    All processes must call it together.
    """
    size, rank = dist.get_world_size(), dist.get_rank()
    each = size // groups
    inner = [dist.new_group(list(range(first, first + each))) for first in range(0, size, each)]
    across = [dist.new_group(list(range(place, size, each))) for place in range(each)]
    own, other = inner[rank // each], across[rank % each]
    assert own is not None
    assert other is not None
    return own, other


def from_exchange(error: BaseException) -> bool:
    """Whether an error came up while tensors were exchanged, and so may be another process' fault."""
    return any("torch/distributed" in frame.filename for frame in traceback.extract_tb(error.__traceback__)) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("NCCL", "gloo", "closed by peer"))
    )
