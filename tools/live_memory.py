"""Counts the bytes of tensors that live at once while a network runs, without running it: on the meta device.

So peaks of the full-size networks are known on any machine, from the code that will run. A GPU's allocator adds what it
rounds and cuts up; `core/calibration.json` holds both, and says which is which.
"""

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """While it lasts: bytes of storages made under it that are still alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if str(func).startswith("aten.scaled_dot_product_attention"):
            result: Any = _fused_attention(*args[:3])
        elif str(func).startswith("aten.rms_norm"):
            result = torch.empty_like(args[0])  # one kernel on a GPU
        else:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
            result = func(*args, **kwargs)
        # Views of weights that were there before are nothing new.
        old = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in old:
                self._watch(leaf.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self.now += size
        self.peak = max(self.peak, self.now)
        self._seen[key] = weakref.ref(storage, lambda _gone: self._forget(key, size))

    def _forget(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size


def _fused_attention(q: Tensor, _k: Tensor, v: Tensor) -> Tensor:
    """What a fused kernel allocates: its answer [B, heads, L, e], laid out as [B, L, heads, e]."""
    batch, heads, length, _ = q.shape
    return v.new_empty(batch, length, heads, v.shape[-1]).transpose(1, 2)


@torch.inference_mode()
def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes that tensors made by `call` held at once."""
    # The meta device has no autocast to switch off.
    with patch.object(torch, "autocast", lambda *_, **__: nullcontext()), LiveMemory() as memory:
        call()
    return int(memory.peak)
