"""The reference's own network class: made, asked as its pipeline asks, and watched from outside."""

import importlib.util
import itertools
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infinitetalk.bench.reference import make
from infinitetalk.core.configs import DiTConfig
from infinitetalk.ops.attention import attention


def reference_class(checkout: Path, importer: Path, *, compiled: bool = False) -> Callable[..., nn.Module]:
    """The reference's network class; what else its modules import at the top is stood in for.

    With `compiled`, its attention map is compiled, as it is where the reference is used.
    """
    lacking = [name for name in ("torchvision", "optimum") if importlib.util.find_spec(name) is None]
    sys.modules.update({name: types.ModuleType(name) for name in lacking})
    spec = importlib.util.spec_from_file_location("importer", importer)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded = module.load(checkout)
    utils: Any = sys.modules["wan.utils.multitalk_utils"]
    attend = utils.calculate_x_ref_attn_map
    if not compiled:  # compiling would take longer than a few calls
        utils.calculate_x_ref_attn_map = getattr(attend, "_torchdynamo_orig_callable", attend)
    network: Callable[..., nn.Module] = loaded.WanModel
    return network


def make_reference(network: Callable[..., nn.Module], config: DiTConfig, dtype: torch.dtype, device: str) -> nn.Module:
    """The reference's network with random weights: gains near 1, small biases, matrices that keep the variance.

    One sequence for all, in their order: committed results are of these weights.
    """
    net = make(network, config, dtype, torch.device(device))
    generator = torch.Generator(device).manual_seed(1)
    for name, weight in net.named_parameters():
        weight.normal_(generator=generator)
        if weight.ndim == 1:
            weight.mul_(0.05 if name.endswith("bias") else 0.1).add_(0.0 if name.endswith("bias") else 1.0)
        else:
            weight.mul_(0.8 * (weight.numel() / weight.shape[0]) ** -0.5)
    return net


def _attention(q: Tensor, k: Tensor, v: Tensor, k_lens: Tensor | None = None, **_: Any) -> Tensor:
    """The reference's attention in the type that it is given; its own knows only half the bits on a GPU."""
    length = k.shape[1] if k_lens is None else int(k_lens[0])
    return attention(q, k[:, :length], v[:, :length])


@contextmanager
def in_float32(net: nn.Module) -> Iterator[None]:
    """While it lasts, the reference computes in float32.

    A block's weights are widened only while it works: all of them together would not fit on a GPU of 80 GB.
    """
    module: Any = sys.modules[type(net).__module__]
    narrow: dict[nn.Parameter, Tensor] = {}

    def widen(weights: Iterable[nn.Parameter]) -> None:
        for weight in weights:
            narrow[weight] = weight.data
            weight.data = weight.data.float()

    def restore(weights: Iterable[nn.Parameter]) -> None:
        for weight in weights:
            weight.data = narrow.pop(weight)

    bare: Any = net
    others = [weight for name, weight in net.named_parameters() if not name.startswith("blocks.")]
    with ExitStack() as stack:
        if hasattr(module, "flash_attention"):
            stack.callback(setattr, module, "flash_attention", module.flash_attention)
            module.flash_attention = _attention
        for block in bare.blocks:
            before = block.register_forward_pre_hook(lambda block, _: widen(block.parameters()))
            after = block.register_forward_hook(lambda block, *_: restore(block.parameters()))
            stack.callback(before.remove)
            stack.callback(after.remove)
        widen(others)
        stack.callback(restore, others)
        yield


@contextmanager
def reference_stands(net: nn.Module, told: Sequence[Tensor] | None = None) -> Iterator[list[Tensor]]:
    """Takes down whose voice each token hears, as rotary positions [L] per block; told ones take their place."""
    noted: list[Tensor] = []
    bare: Any = net

    def watch(rope: nn.Module, number: int) -> Callable[[], None]:
        queries = itertools.cycle((True, False))  # it turns the video's tokens, then the voices'

        def note(_: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
            if not next(queries):
                return None
            noted.append(given[1].float().cpu())
            return None if told is None else (given[0], told[number].to(given[1].device))

        return rope.register_forward_pre_hook(note).remove

    with ExitStack() as stack:
        for number, block in enumerate(bare.blocks):
            stack.callback(watch(block.audio_cross_attn.rope_1d, number))
        yield noted
