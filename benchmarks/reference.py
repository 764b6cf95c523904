"""The reference's own network class: made, asked as its pipeline asks, and watched from outside."""

import importlib.util
import itertools
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from infinitetalk.core.configs import DiTConfig
from infinitetalk.ops.attention import attention

OURS_ALONE = {"clip_dim", "clip_tokens", "audio_blocks", "audio_channels", "class_range", "class_interval"}
"""Numbers of our configuration that the reference's class has written into it."""


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
    """The reference's network with random weights: gains near 1, small biases, matrices that keep the variance."""
    settings = {name: value for name, value in asdict(config).items() if name not in OURS_ALONE}
    with torch.device("meta"):
        net = network(weight_init=False, **settings)
    net = net.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(1)
    for name, weight in net.named_parameters():
        weight.requires_grad_(False).normal_(generator=generator)
        if weight.ndim == 1:
            weight.mul_(0.05 if name.endswith("bias") else 0.1).add_(0.0 if name.endswith("bias") else 1.0)
        else:
            weight.mul_(0.8 * (weight.numel() / weight.shape[0]) ** -0.5)
    bare: Any = net
    bare.init_freqs()
    bare.freqs = bare.freqs.to(device)
    bare.enable_teacache = False
    return net.eval()


class _LikeCuda(TorchFunctionMode):
    """Autocast on a CPU as a GPU has it: sums, softmax and layer norms in float32, all where a region asks for it.

    A CPU's own autocast leaves those in the narrow type, and has no regions of float32 inside it.
    """

    WIDE = (torch.Tensor.softmax, torch.Tensor.sum, F.layer_norm)

    def __init__(self) -> None:
        super().__init__()
        self.all = False

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.WIDE or (self.all and func is F.linear):
            args = tuple(_wide(value) for value in args)
            kwargs = {name: _wide(value) for name, value in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))

    @contextmanager
    def region(self, *, dtype: torch.dtype | None = None, enabled: bool = True) -> Iterator[None]:
        """What the reference's `amp.autocast` is asked for: all in float32, or no autocast."""
        before, self.all = self.all, enabled and dtype == torch.float32
        try:
            with torch.autocast("cpu", enabled=False):
                yield
        finally:
            self.all = before


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


@contextmanager
def _manner(net: nn.Module, device: str, dtype: torch.dtype) -> Iterator[None]:
    """How the reference's pipeline runs its network: under autocast, but for float32."""
    module: Any = sys.modules[type(net).__module__]
    with ExitStack() as stack:
        if dtype != torch.float32:
            stack.enter_context(torch.autocast(device, dtype))
        if dtype != torch.float32 and device == "cpu" and hasattr(module, "amp"):
            mode = stack.enter_context(_LikeCuda())
            stack.callback(setattr, module, "amp", module.amp)
            module.amp = types.SimpleNamespace(autocast=mode.region)
        yield


def ask_reference(net: nn.Module, given: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """The reference's velocity, asked as its pipeline asks."""
    latent = given["latent"]
    with _manner(net, latent.device.type, dtype):
        velocity: Tensor = net(
            [latent[0]], t=torch.tensor([700.0], device=latent.device), context=[given["text"][0]],
            seq_len=latent[0, 0].numel() // 4, clip_fea=given["clip"], y=given["condition"], audio=given["audio"],
            ref_target_masks=given["masks"],
        )  # fmt: skip
    return velocity.reshape(latent.shape)


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
