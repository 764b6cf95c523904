"""The reference's own network class from a checkout of MeiGen-AI/InfiniteTalk, asked as its pipeline asks.

Its attention goes to torch's, because the libraries that it asks for (flash-attn, xformers) have no wheels for recent
versions of torch: as FlashAttention-2 in the mode `flash`, by torch's own choice in the mode `sdpa`. Where flash-attn
is installed, both are the reference's own call. What it imports and does not need for its network is stood in for.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend
from torch.overrides import TorchFunctionMode

from infinitetalk.bench.checkouts import absent, bare_package, folder, importing, stand_in
from infinitetalk.bench.clock import Stopwatch
from infinitetalk.bench.random_weights import fill, hollow, inputs
from infinitetalk.bench.task import FORWARD, TIMESTEP, VAE, Task, network_of
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import MachineError
from infinitetalk.diffusion.guidance import branches
from infinitetalk.ops.attention import only, sdpa
from infinitetalk.runtime.device import Device

OURS_ALONE = {"clip_dim", "clip_tokens", "audio_blocks", "audio_channels", "class_range", "class_interval"}
"""Numbers of our configuration that the reference's class has written into it."""
NETWORK = "wan/modules/multitalk_model.py"
UNUSED = ("soundfile", "imageio", "skimage", "cv2", "decord", "ftfy", "torchvision", "optimum", "tqdm")
"""Packages that are imported beside the network, and not used by it."""


@torch.inference_mode()
def measure(task: Task) -> Mapping[str, Any]:
    """A forward pass, and encoding and decoding a window's frames in float32, which is what its pipeline does.

    Raises:
        UsageError: a folder that is no checkout.
        MachineError: a package that is lacking, or a way of attending that this device does not have.
    """
    device = Device.choose(task.device)
    if task.mode == "flash" and device.torch_device.type != "cuda":
        raise MachineError(f"reference, {task.mode}: FlashAttention-2 runs on an NVIDIA GPU; sdpa would work here")
    watch = Stopwatch(device.torch_device, task.repeats)
    with importing("the reference"):
        network = network_class(folder("reference", task.checkout, NETWORK))
    if FORWARD in task.parts:
        with watch.peak("forward_peak"), attending(task.mode):
            _forward(watch, network, task, device)
    if VAE in task.parts:
        if device.torch_device.type == "cuda":
            torch.cuda.empty_cache()
        with watch.peak("vae_peak"):
            _coding(watch, task, device)
    if {"forward_seconds", "decode_seconds"} <= set(watch.figures):
        _compose(watch.figures, task)
    return watch.figures | {"device": device.name, "dtype": str(device.dtype).removeprefix("torch.")}


def _forward(watch: Stopwatch, network: Callable[..., nn.Module], task: Task, device: Device) -> None:
    net = make(network, network_of(task), device.dtype, device.torch_device)
    given = dict(inputs(task, device.dtype, device.torch_device))
    height, width = task.latents[1:]
    given["masks"] = torch.ones(3, height, width, device=device.torch_device)  # one voice: everybody, everywhere
    watch.median("forward", lambda: ask(net, given, device.dtype))
    if task.answer is not None:
        torch.save(ask(net, given, device.dtype).float().cpu(), Path(task.answer))


def _compose(figures: dict[str, Any], task: Task) -> None:
    """A window from its parts: the pipeline around them needs weights and libraries that are not here."""
    passes = len(branches(task.text_scale, task.audio_scale, reference=True))
    parts = task.steps * passes * figures["forward_seconds"] + figures["encode_seconds"] + figures["decode_seconds"]
    figures |= {"window_seconds": parts, "window_is_sum": True, "frames_per_second": task.new_frames / parts}


@contextmanager
def attending(mode: str) -> Iterator[None]:
    """Which of torch's kernels the stand-in for attention takes."""
    with ExitStack() as stack:
        if mode == "flash":
            stack.enter_context(only([SDPBackend.FLASH_ATTENTION]))
        yield


def _attention(q: Tensor, k: Tensor, v: Tensor, k_lens: Tensor | None = None, **_: Any) -> Tensor:
    """The reference's attention, on [batch, tokens, heads, channels]; on a GPU in 16 bits, as its own is."""
    out = q.dtype
    if q.is_cuda and v.dtype == torch.float32:
        v = v.to(torch.bfloat16)
    length = k.shape[1] if k_lens is None else int(k_lens[0])
    return sdpa(q.to(v.dtype), k[:, :length].to(v.dtype), v[:, :length]).contiguous().to(out)


def network_class(checkout: Path) -> Callable[..., nn.Module]:
    """The reference's network class.

    Raises:
        ModuleNotFoundError: a package that its network needs.
    """
    for name in absent(UNUSED):
        stand_in(name, color=None, VideoReader=None, cpu=None, tqdm=None)
    if absent(["diffusers"]):
        stand_in("diffusers", ModelMixin=nn.Module).__path__ = []
        stand_in("diffusers.configuration_utils", ConfigMixin=object, register_to_config=lambda f: f)
    else:
        importlib.import_module("diffusers").ModelMixin  # noqa: B018 - before the stand-ins: it asks what is installed
    inspect.ArgSpec = None  # type: ignore[attr-defined] # imported, and never used; Python 3.11 has it no more
    own = not absent(["flash_attn"])
    stand_in("xformers").__path__ = []
    stand_in("xformers.ops", memory_efficient_attention=lambda q, k, v, **_: sdpa(q, k, v))
    alone = {
        "get_sequence_parallel_rank": lambda: 0,
        "get_sequence_parallel_world_size": lambda: 1,
        "get_sp_group": lambda: None,
    }
    stand_in("xfuser").__path__ = []
    stand_in("xfuser.core").__path__ = []
    stand_in("xfuser.core.distributed", **alone)
    for package in ("wan", "wan.modules", "wan.utils"):
        bare_package(package, checkout.joinpath(*package.split(".")))
    model: Any = importlib.import_module("wan.modules.multitalk_model")
    attention: Any = importlib.import_module("wan.modules.attention")
    on_gpu = Device.choose().torch_device.type == "cuda"
    if not (own and on_gpu):
        model.flash_attention = attention.flash_attention = _attention
    if not on_gpu:
        _without_gpu(importlib.import_module("wan.utils.multitalk_utils"))
    network: Callable[..., nn.Module] = model.WanModel
    return network


def _without_gpu(utils: Any) -> None:
    """What the reference takes for granted of a GPU."""
    utils.torch_gc = lambda: None
    compiled = utils.calculate_x_ref_attn_map
    utils.calculate_x_ref_attn_map = getattr(compiled, "_torchdynamo_orig_callable", compiled)


def make(network: Callable[..., nn.Module], config: DiTConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The reference's network with random weights, each by its name."""
    settings = {name: value for name, value in asdict(config).items() if name not in OURS_ALONE}
    net = fill(hollow(lambda: network(weight_init=False, **settings)), dtype, device)
    bare: Any = net
    bare.init_freqs()
    bare.freqs = bare.freqs.to(device)
    bare.enable_teacache = False
    return net


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
    module: Any = importlib.import_module(type(net).__module__)
    with ExitStack() as stack:
        if dtype != torch.float32:
            stack.enter_context(torch.autocast(device, dtype))
        if device == "cpu" and hasattr(module, "amp"):
            mode = stack.enter_context(_LikeCuda())
            stack.callback(setattr, module, "amp", module.amp)
            module.amp = _Amp(mode.region)
        yield


class _Amp:
    """Stands for `torch.cuda.amp` in the reference's module."""

    def __init__(self, autocast: Callable[..., Any]) -> None:
        self.autocast = autocast


def ask(net: nn.Module, given: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """The reference's velocity [1, 16, T, h, w], asked as its pipeline asks."""
    latent = given["latent"]
    with _manner(net, latent.device.type, dtype):
        velocity: Tensor = net(
            [latent[0]], t=torch.tensor([TIMESTEP], device=latent.device), context=[given["text"][0]],
            seq_len=latent[0, 0].numel() // 4, clip_fea=given["clip"], y=given["condition"], audio=given["audio"],
            ref_target_masks=given["masks"],
        )  # fmt: skip
    return velocity.reshape(latent.shape)


def _coding(watch: Stopwatch, task: Task, device: Device) -> None:
    """What its pipeline asks of the VAE for every window: a picture and grey frames in, all latents out."""
    module: Any = importlib.import_module("wan.modules.vae")
    where = device.torch_device
    shape = {"dim": task.vae_width or 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
             "attn_scales": [], "temperal_downsample": [False, True, True], "dropout": 0.0}  # fmt: skip
    net: Any = fill(hollow(lambda: module.WanVAE_(**shape)), torch.float32, where)
    scale = [torch.zeros(16, device=where), torch.ones(16, device=where)]
    video = torch.zeros(1, 3, task.frames, *task.size, device=where)
    video[:, :, :1].uniform_(-1, 1)
    latent = torch.randn(1, 16, *task.latents, device=where)
    watch.median("encode", lambda: (net.encode(video, scale), net.encode(video[:, :, : task.motion], scale)))
    watch.median("decode", lambda: net.decode(latent, scale))
