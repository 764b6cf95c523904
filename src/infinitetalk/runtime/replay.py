"""Recordings of what an NVIDIA GPU does: CUDA graphs."""

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from infinitetalk.core.errors import RequestError
from infinitetalk.core.memory import AUTO, OFF, ON, MemorySettings, Tier
from infinitetalk.ops.replay import Replay
from infinitetalk.runtime.device import Device

SHORT = 2e11
"""Tokens of one process times channels squared below which `auto` records: up to there, an H100 is done with the
kernels of a block in 8 bits before a host has started them."""
SPARE = 6 * 2**30
"""Bytes of a GPU that must be free for `auto` to record."""

_CHOSEN: WeakSet[Replay] = WeakSet()


def forget() -> None:
    """Forgets all recordings of this process; from any thread.

    A group of GPUs cannot be left while a recording that exchanges tensors within it is kept.
    """
    for replay in list(_CHOSEN):
        replay.clear()


class CudaRecorder:
    """Records kernels, those that exchange tensors with other GPUs too."""

    def __init__(self, device: Device, spare: int = 0) -> None:
        self._device, self._spare = device, spare
        self._pool: Any = None
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def room(self) -> bool:
        """See `Recorder`."""
        return not self._spare or (self._device.free_memory or 0) >= self._spare

    def record(self, compute: Callable[[], list[Tensor]]) -> tuple[Callable[[], object], list[Tensor]]:
        """See `Recorder`."""
        if not self._graphs:  # torch lets go of the memory with the last graph that was recorded in it
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads fetch frames meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            answers = compute()
        self._graphs.add(graph)
        return graph.replay, answers


def check_replay(device: Device, settings: MemorySettings) -> None:
    """Refuses recordings that a device cannot make.

    Raises:
        RequestError: why, and what would work.
    """
    if settings.graphs != ON:
        return
    if device.capability is None or device.torch_device.type != "cuda":
        raise RequestError("graphs", ON, f"CUDA graphs need an NVIDIA GPU, and this is {device.name}; {OFF} would work")
    if settings.tier not in (None, Tier.RESIDENT):
        raise RequestError(
            "graphs", ON, f"the weights must stay on the GPU, and memory is {settings.memory}; resident would work"
        )


def choose_replay(device: Device, settings: MemorySettings, tier: Tier) -> Replay | None:
    """What replays passes of a network whose weights are in this tier; None where nothing does.

    Raises:
        RequestError: as `check_replay`; also weights that did not find room on the GPU.
    """
    check_replay(device, settings)
    if settings.graphs == ON and tier != Tier.RESIDENT:
        raise RequestError("graphs", ON, f"the weights must stay on the GPU, and found no room; {OFF} would work")
    on_gpu = device.torch_device.type == "cuda" and tier == Tier.RESIDENT
    if settings.graphs == OFF or not on_gpu or (settings.graphs == AUTO and settings.vram is not None):
        return None
    wanted = settings.graphs == ON
    chosen = Replay(CudaRecorder(device)) if wanted else Replay(CudaRecorder(device, SPARE), largest=SHORT)
    _CHOSEN.add(chosen)
    return chosen
