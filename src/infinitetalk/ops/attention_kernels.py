"""The kernels behind the back ends that `core.attention` lists. Other libraries are imported when theirs is loaded."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from infinitetalk.ops.attention import Kernel, only, sdpa
from infinitetalk.ops.attention_eight import EightAttention, Prepare, Ready, ready


def _of_torch(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with only([backend]):
        return sdpa(q, k, v)


def _flash3(library: Any) -> Kernel:
    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Older versions of the interface give the sums of the exponentials as well.
        made = library.flash_attn_func(q, k, v)
        answer: Tensor = made[0] if isinstance(made, tuple) else made
        return answer

    return kernel


def _sage(library: Any) -> Kernel:
    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Version 1 takes the keys' mean off in place. They are the caller's, and often asked again.
        own = k.clone(memory_format=torch.contiguous_format)
        answer: Tensor = library.sageattn(q.contiguous(), own, v.contiguous(), tensor_layout="NHD")
        return answer

    return kernel


def _flash3_eight(library: Any) -> Kernel:
    def compute(q: Ready, k: Ready, v: Ready) -> Tensor:
        made = library.flash_attn_func(
            q.data, k.data, v.data, q_descale=q.scale, k_descale=k.scale, v_descale=v.scale
        )  # fmt: skip
        answer: Tensor = made[0] if isinstance(made, tuple) else made
        return answer

    return EightAttention(compute, _flash3(library), prepare=_fused_ready())


def _fused_ready() -> Prepare | None:
    """The form in fused kernels, for tensors on a GPU; None where Triton is not installed: the numbers are the same."""
    if find_spec("triton") is None:
        return None

    def prepare(q: Tensor, k: Tensor, v: Tensor) -> tuple[Ready, Ready, Ready]:
        if not q.is_cuda:
            return ready(q, k, v)
        from infinitetalk.ops import attention_triton

        return attention_triton.ready(q, k, v)

    return prepare


_TORCHS: Mapping[str, SDPBackend] = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}

_OTHERS: Mapping[str, Callable[[Any], Kernel]] = {"fa3": _flash3, "sage": _sage, "fp8": _flash3_eight}


def load_kernel(name: str, module: str | None) -> Kernel:
    """The kernel of a back end; `module` is the library that has it, for those that torch has not.

    Raises:
        ImportError, OSError: a library that is there but broken.
    """
    if name in _TORCHS:
        return partial(_of_torch, _TORCHS[name])
    assert module is not None
    return _OTHERS[name](import_module(module))
