"""Which kernel computes attention on a device: the one asked for, or the quickest, measured once and remembered."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from infinitetalk.core.attention import AUTO, BACKENDS, Place, check, find, obstacle, source, usable
from infinitetalk.core.errors import RequestError
from infinitetalk.ops.attention import Kernel, sdpa
from infinitetalk.ops.attention_kernels import load_kernel
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.platform import cache_folder
from infinitetalk.runtime.rates import seconds_of

_log = logging.getLogger(__name__)

Seconds = Mapping[str, float | None]
"""Back end → seconds of a call; None for one that fails or whose answers are wrong."""

TOLERANCE = 0.03
"""Relative error, against float32, of a kernel that computes in 16 bits and is right: ten times what it has."""


def place(device: Device, width: int | None = None, dtype: torch.dtype | None = None) -> Place:
    """A device as the table of back ends asks for it; `width` is the number of channels of a head."""
    return Place(
        name=device.name,
        kind=device.torch_device.type if device.capability is None else "cuda",
        capability=device.capability,
        dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        width=width,
    )


@cache
def installed(module: str) -> bool:
    """Whether a library is there; it is not imported."""
    return find_spec(module) is not None


def usable_backends(device: Device) -> tuple[str, ...]:
    """Names of the back ends that can be asked for on a device."""
    return usable(place(device), installed)


def check_attention(device: Device, name: str, width: int) -> None:
    """Refuses a back end that cannot serve a network with heads of `width` channels on this device.

    Raises:
        RequestError: why it cannot, and which ones would work.
    """
    check(name, place(device, width, device.dtype), installed)


def choose_attention(device: Device, name: str, width: int) -> Kernel:
    """The kernel for a network with heads of `width` channels.

    `auto` on a GPU measures those that serve at the first call of each kind, and remembers. On other devices it is
    torch's own choice: they have one that is fused. So is, where a card is pretended, what this machine cannot run.

    Raises:
        RequestError: a back end that cannot serve here, or whose library is broken.
    """
    check_attention(device, name, width)
    here = device.torch_device.type
    if name == AUTO:
        if here != "cuda":
            return sdpa
        return Quickest(device, None if device.pretended is not None else Remembered.in_cache(device))
    if (runs_on := find(name).devices) and here not in runs_on:
        return sdpa
    try:
        return _load(name, place(device, width, device.dtype))
    except (ImportError, OSError) as error:
        raise RequestError("attention", name, f"its library is installed, but cannot be imported: {error}") from error


def _load(name: str, where: Place) -> Kernel:
    library = source(find(name), where, installed)
    return load_kernel(name, None if library is None else library.module)


class Remembered:
    """What was measured on one kind of device with one version of torch, in a file that all of them share."""

    def __init__(self, path: Path, machine: str) -> None:
        self._path = path
        self._machine = machine
        self._told = False

    @classmethod
    def in_cache(cls, device: Device) -> "Remembered":
        """The file in the user's folder for what can be made again."""
        return cls(cache_folder() / "attention.json", f"{device.name}, torch {torch.__version__}")

    def recall(self, kind: str) -> Seconds:
        """What is known of one kind of call; nothing for an unknown one."""
        return self._read().get(self._machine, {}).get(kind, {})

    def remember(self, kind: str, seconds: Seconds) -> None:
        """Adds to the file; other programs see the old one or the new one, never a part."""
        known = self._read()
        known.setdefault(self._machine, {})[kind] = dict(seconds)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(prefix="attention-", suffix=".part", dir=self._path.parent)
            try:
                with os.fdopen(number, "w", encoding="utf-8") as file:
                    json.dump(known, file, indent=1)
                Path(name).replace(self._path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            self._tell(f"{self._path} cannot be written ({error.strerror or error}): attention is measured every time")

    def _read(self) -> dict[str, dict[str, dict[str, float | None]]]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self._tell(f"{self._path} cannot be read ({error}): attention is measured anew")
            return {}
        try:
            return _checked(json.loads(text))
        except ValueError:
            self._tell(f"{self._path} is damaged: attention is measured anew")
            return {}

    def _tell(self, line: str) -> None:
        if not self._told:
            _log.warning("%s", line)
        self._told = True


def _checked(found: object) -> dict[str, dict[str, dict[str, float | None]]]:
    """Machine → kind of call → seconds of each back end.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(found, dict):
        raise ValueError("no object")
    for kinds in found.values():
        for seconds in kinds.values() if isinstance(kinds, dict) else [None]:
            if not isinstance(seconds, dict) or not all(_is_time(value) for value in seconds.values()):
                raise ValueError("no seconds")
    return found


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0)


class Quickest:
    """The kernel `auto`: for each kind of call the quickest of those that serve there."""

    def __init__(self, device: Device, memory: Remembered | None = None) -> None:
        """Measures nothing yet; without `memory`, what is measured holds for this object alone."""
        self._device = device
        self._memory = memory
        self._chosen: dict[tuple[object, ...], Kernel] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `ops.attention.Kernel`."""
        shapes = (q.dtype, q.shape, k.shape)
        kernel = self._chosen.get(shapes)
        if kernel is None:
            kernel = self._chosen[shapes] = self._choose(q, k, v)
        return kernel(q, k, v)

    def _choose(self, q: Tensor, k: Tensor, v: Tensor) -> Kernel:
        where = place(self._device, q.shape[-1], q.dtype)
        names = [one.name for one in BACKENDS if one.automatic and obstacle(one, where, installed) is None]
        if len(names) > 1:
            names = _ranked(self._seconds(names, where, q, k, v))
        for name in names:
            # What was measured at another length may not serve at this one: then the next one does.
            if (kernel := _working(name, where, q, k, v)) is not None:
                return kernel
        return sdpa

    def _seconds(self, names: Sequence[str], where: Place, q: Tensor, k: Tensor, v: Tensor) -> Seconds:
        kind = kind_of_call(q, k)
        known = {} if self._memory is None else self._memory.recall(kind)
        if set(names) <= set(known):
            return {name: known[name] for name in names}
        measured = {name: measure(name, where, q, k, v) for name in names}
        if self._memory is not None:
            self._memory.remember(kind, measured)
        return measured


def kind_of_call(q: Tensor, k: Tensor) -> str:
    """Number format, channels of a head, and lengths up to the next power of two: what a measurement holds for."""
    long, short = (1 << (part.shape[1] - 1).bit_length() for part in (q, k))
    return f"{str(q.dtype).removeprefix('torch.')}, head {q.shape[-1]}, {long} x {short}"


def _ranked(seconds: Seconds) -> list[str]:
    """Those that work, the quickest first."""
    return [name for _, name in sorted((spent, name) for name, spent in seconds.items() if spent is not None)]


def _working(name: str, where: Place, q: Tensor, k: Tensor, v: Tensor) -> Kernel | None:
    """A kernel that answers this call; None if it cannot.

    Raises:
        OutOfMemoryError, AcceleratorError: what no other kernel would mend.
    """
    try:
        kernel = _load(name, where)
        kernel(q, k, v)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (RuntimeError, ImportError, OSError) as error:
        _log.info("attention by %s does not work here: %s", name, error)
        return None
    return kernel


def measure(name: str, where: Place, q: Tensor, k: Tensor, v: Tensor) -> float | None:
    """Seconds of one call; None for a kernel that fails or whose answers are wrong."""
    kernel = _working(name, where, q, k, v)
    if kernel is None:
        return None
    error = error_of(kernel, q, k, v)
    if not error <= TOLERANCE:  # no number is no answer, either
        _log.warning("attention by %s is wrong here by %.2g and is not used", name, error)
        return None
    return seconds_of(partial(kernel, q, k, v), q.device)


def error_of(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, rows: int = 64) -> float:
    """Relative error of a kernel's answers against plain float32, over a few queries of the first head."""
    part = slice(0, 1), slice(0, rows), slice(0, 1)
    keys, values = k[:1, :, :1].float(), v[:1, :, :1].float()
    weights = torch.einsum("blhd,bshd->bhls", q[part].float() / q.shape[-1] ** 0.5, keys).softmax(-1)
    truth = torch.einsum("bhls,bshd->blhd", weights, values)
    return float((kernel(q, k, v)[part].float() - truth).norm() / truth.norm().clamp_min(1e-30))
