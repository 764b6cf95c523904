"""The connection to a Ray cluster, and what there is in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from infinitetalk.core.errors import MachineError
from infinitetalk.core.telemetry import switch_off

INSTALL = "pip install 'infinitetalk[ray]'"


def import_ray() -> Any:
    """Ray, which tells nobody that it is used.

    Raises:
        MachineError: it is not installed.
    """
    switch_off()
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MachineError(f"a cluster needs Ray: {INSTALL}") from error
    return ray


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connects this process to a cluster while the block runs; if it is already, that connection is used and stays.

    Args:
        address: `auto` for the cluster that this machine belongs to, `local` for a new one of this machine alone, or
            an address as `ray start` tells it.

    Raises:
        MachineError: there is no cluster, or Ray is not installed.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        start = "start one by `ray start --head`, give its address, or --ray local for this machine alone"
        raise MachineError(f"no Ray cluster answers at {address} ({_short(error)}); {start}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _short(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def living_nodes() -> list[Mapping[str, float]]:
    """What each node that is alive has of each resource."""
    ray = import_ray()
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def uses_gpus(device: str) -> bool:
    """Whether videos are made on GPUs: those of `--device`, and `auto` if any node has one.

    Raises:
        MachineError: a device that cannot be named in a cluster, as Ray gives each worker GPUs of its own.
    """
    if device == "cpu":
        return False
    if device not in ("auto", "cuda"):
        raise MachineError(f"--device {device}: Ray gives each worker its GPUs; auto, cuda or cpu would work")
    return device == "cuda" or any(node.get("GPU", 0) > 0 for node in living_nodes())


def bundle(group: int, *, gpu: bool) -> dict[str, float]:
    """What one worker takes of its node."""
    return {"GPU": float(group), "CPU": float(group)} if gpu else {"CPU": float(group)}


def room_for(need: Mapping[str, float]) -> int:
    """How many workers the cluster has room for, whoever uses it now."""
    return sum(int(min(node.get(name, 0) // count for name, count in need.items())) for node in living_nodes())
