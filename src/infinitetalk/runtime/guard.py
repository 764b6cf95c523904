"""Refuses kernels that a device lacks, so that a small card's path can be tested on a large one.

A bfloat16 product on a pretended T4 would simply work on the CPU or the H100 that pretends it. The guard looks at every
operation before it runs and raises if the device could not run it (or would only do so slowly, in software):

    arithmetic in bfloat16 or in 8-bit floats (storing, moving and converting them is allowed);
    FlashAttention and cuDNN's attention; products of 8-bit floats (`_scaled_mm`);
    Triton kernels, and functions made by `torch.compile`, whose kernels are Triton's on a GPU.
"""

import functools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from infinitetalk.core.errors import MachineError
from infinitetalk.ops.attention import only
from infinitetalk.runtime.device import Device

FP8 = frozenset({torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz})

_SCALED_PRODUCT = re.compile(r"scaled(_grouped)?_mm")
_FUSED_ATTENTION = re.compile(r"flash|fa3|sage|cudnn_attention")

# Operations that compute nothing: they allocate, copy, convert, or pick elements. Views are asked for by themselves.
_MOVED = """
_to_copy to copy copy_ clone contiguous lift_fresh lift_fresh_copy _unsafe_view _reshape_alias set_ resize_
empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros zero_ ones ones_like new_ones
full full_like new_full fill_ scalar_tensor cat stack index index_select index_put_ gather embedding repeat
constant_pad_nd pin_memory _pin_memory is_pinned record_stream _local_scalar_dense equal is_same_size
"""
_MOVES = frozenset(_MOVED.split())

# Where Triton kernels are launched: module, class, method. torch's own launcher does not pass through Triton's, and
# Triton's interpreter, for processors, has another one.
_LAUNCHERS = (
    ("triton.runtime.jit", "JITFunction", "run"),
    ("triton.runtime.interpreter", "GridExecutor", "__call__"),
    ("torch._inductor.runtime.triton_heuristics", "CachingAutotuner", "run"),
)


class ForbiddenKernelError(MachineError):
    """An operation was about to run that the (pretended) device lacks."""


class _Watch(TorchDispatchMode):
    """Looks at every operation of this thread."""

    supports_higher_order_operators = True

    def __init__(self, device: Device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        lacking: dict[torch.dtype, str] = {} if device.bfloat16 else {torch.bfloat16: "bfloat16 arithmetic"}
        self._lacking = lacking if device.fp8 else lacking | dict.fromkeys(FP8, "arithmetic in 8-bit floats")

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._check_name(str(func))
        decompose = getattr(func, "decompose", None)
        if decompose is not None and func is not torch.ops.prim.device.default:
            # Without gradients, operations made of others arrive whole: look at what they are made of.
            with self:
                result = decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if not _moves(func):
            self._check_numbers(func, (args, kwargs))
        result = func(*args, **kwargs)
        if not _moves(func):
            self._check_numbers(func, result)
        return result

    def _check_name(self, name: str) -> None:
        lowered = name.lower()
        if not self._device.fp8 and _SCALED_PRODUCT.search(lowered):
            self._refuse("products of 8-bit floats", name)
        if not self._device.flash and _FUSED_ATTENTION.search(lowered):
            self._refuse("FlashAttention and no cuDNN attention", name)
        if not self._device.triton and "triton" in lowered:
            self._refuse("Triton", name)

    def _check_numbers(self, func: Any, values: Any) -> None:
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and value.dtype in self._lacking:
                self._refuse(self._lacking[value.dtype], str(func))

    def _refuse(self, what: str, operation: str) -> None:
        raise ForbiddenKernelError(f"{self._device.name} has no {what}, but {operation} was called")


def _moves(func: Any) -> bool:
    """Whether an operation computes nothing."""
    return bool(getattr(func, "is_view", False)) or _packet(func) in _MOVES


def _packet(func: Any) -> str:
    """An operation's name without its namespace and overload."""
    return str(getattr(func, "overloadpacket", func)).rpartition(".")[2]


def _refuse_launch(device: Device, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replaces a launcher of Triton kernels."""

    def replace(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def refuse(*_arguments: Any, **_more: Any) -> Any:
            raise ForbiddenKernelError(f"{device.name} has no Triton, but {what} was called")

        return refuse

    return replace


def _refuse_compiled(device: Device) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replaces what every call of a compiled function asks first; functions that switch compiling off ask it too."""

    def replace(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def ask(callback: Any) -> Any:
            if callable(callback):
                raise ForbiddenKernelError(f"{device.name} has no Triton, but a function of torch.compile was called")
            return original(callback)

        return ask

    return replace


@contextmanager
def _replaced(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _without_triton(device: Device) -> ExitStack:
    """Makes launches fail, of Triton kernels and of functions that `torch.compile` made."""
    stack = ExitStack()
    import torch._dynamo.eval_frame as frames

    # Under a dispatch mode a compiled function quietly runs uncompiled, so its kernels would never be seen.
    stack.enter_context(_replaced(frames, "_callback_from_stance", _refuse_compiled(device)))
    for module, kind, method in _LAUNCHERS:
        if module in sys.modules or (module.startswith("triton") and find_spec("triton") is not None):
            owner = getattr(import_module(module), kind)
            stack.enter_context(_replaced(owner, method, _refuse_launch(device, f"a kernel ({kind})")))
    return stack


@contextmanager
def guard(device: Device) -> Iterator[None]:
    """While it lasts, this thread's operations that `device` lacks raise `ForbiddenKernelError`.

    Launches of Triton kernels are refused in every thread. A device that has everything refuses nothing.
    """
    with ExitStack() as stack:
        if not device.triton:
            stack.enter_context(_without_triton(device))
        stack.enter_context(_Watch(device))
        yield


@contextmanager
def at_work(device: Device) -> Iterator[None]:
    """What all work on a device happens in: the attention that it has, and the guard if it is pretended."""
    with ExitStack() as stack:
        stack.enter_context(only(device.attention))
        if device.pretended is not None:
            stack.enter_context(guard(device))
        yield
