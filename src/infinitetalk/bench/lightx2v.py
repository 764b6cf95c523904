"""LightX2V's InfiniteTalk runner from a checkout of ModelTC/LightX2V: its model, scheduler, VAE and kernels.

A mode names how it multiplies matrices and how it attends, in its own words: `Default, flash_attn3`. Of its kernels
those are taken that can be imported here. Two things are lent to it. FlashAttention-3 is known to it by one name only,
`flash_attn_interface`; the wheel `fa3-fwd` brings it under another. And shapes are mended where two kernels do not take
what its own code makes: torch's attention to sound, and the Triton LayerNorm of the sound's tokens.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from infinitetalk.bench.checkouts import absent, bare_package, folder, importing, stand_in
from infinitetalk.bench.clock import Stopwatch
from infinitetalk.bench.random_weights import fill, hollow, inputs, weight
from infinitetalk.bench.task import FORWARD, STEP, TIMESTEP, VAE, WINDOW, Task, network_of
from infinitetalk.core.errors import MachineError
from infinitetalk.models.dit import AudioDiT
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.rates import seconds_of

MODEL = "lightx2v/models/networks/wan/infinitetalk_model.py"
NEEDED = (
    "loguru", "einops", "gguf", "pydantic", "torchvision", "prometheus_client", "requests", "scipy", "imageio", "tqdm",
    "transformers",
)  # fmt: skip
UNUSED = ("imageio_ffmpeg", "zmq", "ftfy")
"""Packages that are imported beside the runner, and of no use to what is measured."""
PLAIN, SDPA, FLAT = "Default", "torch_sdpa", "torch_sdpa_flat"
FP8_LARGEST, INT8_LARGEST = 448.0, 127.0


@torch.inference_mode()
def measure(task: Task) -> Mapping[str, Any]:
    """A forward pass, a step with its guidance, its VAE, and a window after the first one by its runner's methods.

    Raises:
        UsageError: a folder that is no checkout.
        MachineError: a package that is lacking.
    """
    device = Device.choose(task.device)
    where = device.torch_device
    if lacking := [*absent(NEEDED), *(absent(["triton"]) if where.type == "cuda" else [])]:
        raise MachineError(f"LightX2V needs {', '.join(lacking)}: pip install {' '.join(lacking)}")
    with importing("LightX2V"):
        peer = Peer(folder("lightx2v", task.checkout, MODEL), task, where)
    watch = Stopwatch(where, task.repeats)
    watch.figures |= {"kernels": peer.kernels, "branches": peer.branches}
    with watch.peak("forward_peak"):
        if FORWARD in task.parts:
            watch.median("forward", peer.forward)
            if task.answer is not None:
                torch.save(peer.velocity().float().cpu(), Path(task.answer))
        if STEP in task.parts:
            watch.median("step", peer.step)
    if VAE in task.parts:
        with watch.peak("vae_peak"):
            video = torch.zeros(1, 3, task.frames, *task.size, device=where, dtype=torch.bfloat16)
            code = peer.runner.vae_encoder.encode
            watch.median("encode", lambda: (code(video), code(video[:, :, : task.motion])))
            latent = torch.randn(16, *task.latents, device=where)
            watch.median("decode", lambda: peer.runner.run_vae_decoder(latent))
    if WINDOW in task.parts:
        with watch.peak("window_peak"):
            watch.median("window", peer.window, 1)
        watch.figures["frames_per_second"] = task.new_frames / watch.figures["window_seconds"]
    return watch.figures | {"device": device.name, "dtype": "bfloat16"}


class Peer:
    """The runner with random networks, in the middle of a video."""

    def __init__(self, checkout: Path, task: Task, device: torch.device) -> None:
        self._task, self._device = task, device
        linears, _, attends = task.mode.partition(", ")
        _prepare(checkout, device)
        self.kernels = _kernels(task, device)
        self.runner, self.model = self._build(linears or PLAIN, attends or SDPA)
        given = dict(inputs(task, torch.bfloat16, device))
        self._latent = given["latent"][0]
        self._tell(given)

    @property
    def branches(self) -> int:
        """Passes of a step."""
        config = self.runner.config
        return (3 if config["enable_text_cfg"] else 2) if config["enable_cfg"] else 1

    def _build(self, linears: str, attends: str) -> tuple[Any, Any]:
        config = _config(self._task, linears, attends) | self.kernels
        runners = importlib.import_module("lightx2v.models.runners.wan.wan_infinitetalk_runner")
        models: Any = importlib.import_module("lightx2v.models.networks.wan.infinitetalk_model")
        weights = _weights(self._task, linears, self._device)

        class RandomModel(models.WanInfiniteTalkModel):  # type: ignore[misc]
            """Theirs, but for where weights come from."""

            def _init_weights(self, _weights: object = None) -> None:
                super()._init_weights(weights)

        model = RandomModel("random", config, self._device)
        if self._device.type == "cpu":
            model.to_cuda()  # it waits in main memory, and this is where it computes
        runner = runners.InfiniteTalkRunner(config)
        runner.model = model
        model.set_scheduler(runner.scheduler)
        runner.vae_encoder = runner.vae_decoder = _vae(self._task, self._device)
        return runner, model

    def _tell(self, given: Mapping[str, Tensor]) -> None:
        """What its encoders would have said."""
        runner, task = self.runner, self._task
        length = runner.config["text_len"]
        text = torch.zeros(1, length, given["text"].shape[-1], dtype=torch.bfloat16, device=self._device)
        text[:, : given["text"].shape[1]] = given["text"]
        self._given = {
            "text_encoder_output": {"context": text, "context_null": -text},
            "image_encoder_output": {
                "clip_encoder_out": given["clip"][0], "vae_encoder_out": given["condition"][0],
            },
            "audio_encoder_output": given["audio"],
            "ref_target_masks": None,
        }  # fmt: skip
        runner.inputs = {
            "text_encoder_output": self._given["text_encoder_output"],
            "full_audio_embs": [given["audio"][0, :, 0].float().repeat(3, 1, 1)],
            "human_num": 1,
        }
        runner.input_info = SimpleNamespace(seed=0, target_video_length=None, video_duration=None)
        runner.cond_video_duration, runner.expected_frames = None, task.frames + task.new_frames
        runner.cond_file_path, runner.stream_save_video, runner.input_data = "picture.png", False, {}
        runner.src_h, runner.src_w = runner.target_h, runner.target_w = task.size
        runner.run_image_encoder = lambda _picture: given["clip"][0]
        runner._prepare_cond_image = lambda _frame: torch.rand(1, 3, 1, *task.size, device=self._device) * 2 - 1
        runner.init_run()
        runner.get_video_segment_num()
        runner.cond_frame = torch.rand(1, 3, task.motion, *task.size, device=self._device) * 2 - 1

    def _at(self, timestep: float) -> None:
        scheduler = self.runner.scheduler
        scheduler.latents, scheduler.latent_motion_frames = self._latent.clone(), None
        scheduler.timestep_input = torch.tensor([timestep], device=self._device)
        scheduler.step_index, scheduler.infer_condition = 0, True

    def forward(self) -> Tensor:
        """One pass; its velocity has the sign that its scheduler turns."""
        self._at(TIMESTEP)
        found: Tensor = self.model._infer_infinitetalk_branch(self._given, infer_condition=True, use_audio=True)
        return found

    def velocity(self) -> Tensor:
        """Of one pass, [1, 16, T, h, w]."""
        return self.forward()[None]

    def step(self) -> None:
        """All passes of a step, and their guidance."""
        self._at(TIMESTEP)
        self.model.infer(self._given)

    def window(self) -> None:
        """A window after the first, all of it but the picture encoder."""
        self.runner.init_run_segment(1)
        self.runner.end_run_segment(1, self.runner.run_segment(1))
        self.runner.gen_video_list.clear()


def _prepare(checkout: Path, device: torch.device) -> None:
    """Makes it importable, on this kind of device."""
    os.environ |= {"PLATFORM": device.type, "DTYPE": "BF16", "PROFILING_DEBUG_LEVEL": "0"}
    if device.type == "cuda" and absent(["flash_attn_interface"]) and not absent(["fa3_fwd_interface"]):
        sys.modules["flash_attn_interface"] = importlib.import_module("fa3_fwd_interface")
    for name in absent(UNUSED):
        stand_in(name)
    sys.path.insert(0, str(checkout))
    logger: Any = importlib.import_module("loguru").logger
    logger.remove()
    importlib.import_module("lightx2v_platform.base")
    if device.type == "cpu":
        registry: Any = importlib.import_module("lightx2v_platform.registry_factory")
        registry.PLATFORM_DEVICE_REGISTER["cpu"] = _Cpu
        _without_pins()
    bare_package("lightx2v", checkout / "lightx2v")  # its own imports every model there is
    importlib.import_module("lightx2v_platform.set_ai_device")
    importlib.import_module("lightx2v.common.ops")
    registers: Any = importlib.import_module("lightx2v.utils.registry_factory")
    _lend_flat(registers.ATTN_WEIGHT_REGISTER)
    _flatten_norm(registers.LN_WEIGHT_REGISTER)


class _Cpu:
    """A device in its words; it knows none without a driver."""

    @staticmethod
    def init_device_env() -> None:
        """Nothing to do."""

    @staticmethod
    def is_available() -> bool:
        """Always."""
        return True

    @staticmethod
    def get_device() -> str:
        """Where tensors live."""
        return "cpu"


def _without_pins() -> None:
    """Without a GPU no memory can be pinned, and it pins all that waits in main memory."""
    plain = torch.empty

    def empty(*shape: Any, **more: Any) -> Tensor:
        more.pop("pin_memory", None)
        return plain(*shape, **more)

    torch.empty = empty


def _lend_flat(register: Any) -> None:
    def apply(self: Any, *tensors: Any, **more: Any) -> Tensor:
        found: Tensor = register[SDPA].apply(self, *tensors, **more)
        return found.reshape(-1, found.shape[-1])

    register[FLAT] = type("Flat", (register[SDPA],), {"apply": apply})


def _flatten_norm(register: Any) -> None:
    """Its Triton LayerNorm takes two dimensions, and sound has three when it is normalised."""
    if "Triton" not in register:
        return
    known = register["Triton"].apply

    def apply(self: Any, x: Tensor) -> Tensor:
        found: Tensor = known(self, x.reshape(-1, x.shape[-1]))
        return found.view(x.shape)

    register["Triton"].apply = apply


NORMS: Mapping[str, Sequence[str]] = {
    "rms_norm_type": ("sgl-kernel", "one-pass", "torch_native", "torch"),
    "layer_norm_type": ("Triton", "torch"),
}
"""Its kernels for norms by the setting that names them; `sgl-kernel` is plain torch where that library is lacking."""
ROPES = ("flashinfer_rope", "torch_complex_rope", "torch_real_rope")


def _kernels(task: Task, device: torch.device) -> dict[str, str]:
    """Its kernels beside products and attention: on a GPU, the quickest of those that work here."""
    found = {"rope_type": "torch_real_rope", "audio_rope_type": "torch_real_rope"}
    if device.type != "cuda":
        return found | {"rms_norm_type": "torch", "layer_norm_type": "torch", "modulate_type": "torch"}
    registers: Any = importlib.import_module("lightx2v.utils.registry_factory")
    infer: Any = importlib.import_module("lightx2v.models.networks.wan.infer.transformer_infer")
    dim, length = network_of(task).dim, task.latents.frames * task.latents.height * task.latents.width // 4
    x = torch.randn(length, dim, device=device, dtype=torch.bfloat16)
    weights = {"gain": torch.ones_like(x[0]), "bias": torch.zeros_like(x[0])}
    for setting, register, names in (
        ("rms_norm_type", registers.RMS_WEIGHT_REGISTER, ("gain",)),
        ("layer_norm_type", registers.LN_WEIGHT_REGISTER, ("gain", "bias")),
    ):
        ways = {way: _norm(register[way], names, weights, x) for way in NORMS[setting] if way in register}
        found[setting] = _quickest(ways, device)
    turns = {way: _rope(registers.ROPE_REGISTER[way], x, network_of(task).num_heads) for way in ROPES}
    found["rope_type"] = _quickest(turns, device)
    scale = torch.randn(1, dim, device=device, dtype=torch.bfloat16)
    found["modulate_type"] = _quickest(
        {
            "triton": lambda: infer.fuse_scale_shift_kernel(x, scale=scale, shift=scale),
            "torch": lambda: infer.modulate(x, scale, scale),
        },
        device,
    )
    return found


def _norm(
    kind: Callable[..., Any], names: Sequence[str], weights: Mapping[str, Tensor], x: Tensor
) -> Callable[[], object]:
    """A call of one of its norms, made when it is first called."""
    made: list[Any] = []

    def call() -> object:
        if not made:
            layer = kind(*names)
            layer.load(dict(weights))  # it takes them out
            made.append(layer)
        return made[0].apply(x)

    return call


def _rope(kind: Callable[..., Any], x: Tensor, heads: int) -> Callable[[], object]:
    """A call of one of its rotations of queries and keys, made when it is first called."""
    made: list[Any] = []

    def call() -> object:
        if not made:
            turn, width = kind(layout="interleaved", compute_dtype=torch.float32), x.shape[1] // heads
            angles = torch.randn(x.shape[0], 1, width // 2, device=x.device)
            turns = turn.prepare_freqs(torch.polar(torch.ones_like(angles), angles), rotary_dim=width)
            made.extend((turn, turns, turn.prepare_positions(turns)))
        turn, turns, places = made
        q, k = (x.view(x.shape[0], heads, -1) for _ in range(2))
        return turn.apply(q, k, turns) if places is None else turn.apply(q, k, turns, positions=places)

    return call


def _quickest(ways: Mapping[str, Callable[[], object]], device: torch.device) -> str:
    """The name of the quickest call of those that work; the last one is taken for granted."""
    seconds = {}
    for name, call in ways.items():
        try:
            seconds[name] = seconds_of(call, device)
        except Exception:  # noqa: BLE001 - whatever it is: this kernel does not work here
            continue
    return min(seconds, key=lambda name: seconds[name], default=list(ways)[-1])


def _config(task: Task, linears: str, attends: str) -> dict[str, Any]:
    """Its configuration, with the names that its own files have."""
    net = network_of(task)
    flat = FLAT if attends == SDPA else attends
    few = linears != PLAIN
    return {
        "model_cls": "infinitetalk", "task": "s2v", "model_path": "random", "infer_steps": task.steps,
        "num_layers": net.num_layers, "num_heads": net.num_heads, "dim": net.dim, "ffn_dim": net.ffn_dim,
        "in_dim": net.in_dim, "out_dim": net.out_dim, "freq_dim": net.freq_dim, "text_len": net.text_len,
        "target_video_length": task.frames, "motion_frame": task.motion, "target_fps": 25, "sample_shift": 7,
        "sample_text_guide_scale": task.text_scale, "sample_audio_guide_scale": task.audio_scale,
        "enable_cfg": task.audio_scale != 1 or task.text_scale != 1, "enable_text_cfg": task.text_scale != 1,
        "use_image_encoder": True, "feature_caching": "NoCaching", "cpu_offload": False, "seq_parallel": False,
        "cfg_parallel": False, "self_attn_1_type": attends, "cross_attn_1_type": attends,
        "cross_attn_2_type": attends, "audio_cross_attn_type": flat, "audio_window": net.audio_window,
        "dit_quantized": few, "dit_quant_scheme": linears, "adapter_quantized": few, "adapter_quant_scheme": linears,
        "use_prompt_enhancer": False, "mxfp8_fuse_enable": False, "use_timestep_transform": True,
    }  # fmt: skip


def _weights(task: Task, linears: str, device: torch.device) -> dict[str, Tensor]:
    """Random weights under the checkpoint's names, the blocks' matrices as its way of multiplying wants them."""
    shapes = {name: value.shape for name, value in hollow(lambda: AudioDiT(network_of(task))).named_parameters()}
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        made = weight(name, shape, torch.bfloat16, device)
        if linears != PLAIN and name.startswith("blocks.") and len(shape) == 2:
            found[name], found[f"{name.removesuffix('.weight')}.weight_scale"] = _in_eight(made, linears)
        else:
            found[name] = made
    return found


def _in_eight(matrix: Tensor, linears: str) -> tuple[Tensor, Tensor]:
    """A matrix in 8 bits and the scale of each of its rows, [rows, 1]."""
    whole = linears.startswith("int8")
    wide = matrix.float()
    scale = wide.abs().amax(1, keepdim=True).clamp_min(1e-8) / (INT8_LARGEST if whole else FP8_LARGEST)
    shares = wide / scale
    return shares.round().to(torch.int8) if whole else shares.to(torch.float8_e4m3fn), scale


def _vae(task: Task, device: torch.device) -> Any:
    """Its VAE in bfloat16, which is its default."""
    module: Any = importlib.import_module("lightx2v.models.video_encoders.hf.wan.vae")
    width = task.vae_width or 96

    def random(**known: Any) -> nn.Module:
        shape = {"dim": width, "z_dim": known["z_dim"], "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
                 "attn_scales": [], "temperal_downsample": [False, True, True], "dropout": 0.0}  # fmt: skip
        make: Callable[..., nn.Module] = module.WanVAE_
        return fill(hollow(lambda: make(**shape)), known["dtype"], device)

    module._video_vae = random
    return module.WanVAE(dtype=torch.bfloat16, device=device)
