"""Compares our video network with the reference's own class: the same weights, the same inputs, one process.

python -m benchmarks.parity CHECKOUT IMPORTER --out parity.json              (one GPU with 80 GB: all 40 blocks)
python -m benchmarks.parity CHECKOUT IMPORTER --out parity.json --layers 2 --dtype float32 --size 128 --frames 9 \
    --device cpu                                                             (two blocks of full width, exactly)

CHECKOUT is MeiGen-AI/InfiniteTalk at 0107cd9; IMPORTER is a Python file whose `load(CHECKOUT)` makes its class
importable without the attention libraries that it asks for. Weights are random; ours are the reference's own tensors,
taken over through our key map. The reference's seconds are not
its best: where it is used, its attention map is compiled.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.sizes import Latents, Pixels
from infinitetalk.models.dit import AudioDiT
from infinitetalk.weights import keymaps
from infinitetalk.weights.load import assemble

OURS_ALONE = {"clip_dim", "clip_tokens", "audio_blocks", "audio_channels", "class_range", "class_interval"}
"""Numbers of our configuration that the reference's class has written into it."""


def reference_class(checkout: Path, importer: Path) -> Callable[..., nn.Module]:
    """The reference's network class; what else its modules import at the top is stood in for."""
    lacking = [name for name in ("torchvision", "optimum") if importlib.util.find_spec(name) is None]
    sys.modules.update({name: types.ModuleType(name) for name in lacking})
    spec = importlib.util.spec_from_file_location("importer", importer)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded = module.load(checkout)
    # Uncompiled: compiling would take longer than the two calls.
    utils: Any = sys.modules["wan.utils.multitalk_utils"]
    compiled = utils.calculate_x_ref_attn_map
    utils.calculate_x_ref_attn_map = getattr(compiled, "_torchdynamo_orig_callable", compiled)
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


def inputs(config: DiTConfig, size: Latents, people: int, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Random inputs of one pass, under our names."""
    generator = torch.Generator(device).manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=generator)

    frames = (size.frames - 1) * config.vae_scale + 1
    masks = torch.zeros(people + 1, size.height, size.width, device=device)
    for person in range(people):
        masks[person, :, person * size.width // people : (person + 1) * size.width // people - 2] = 1
    masks[-1] = 1 - masks[:-1].sum(0)
    return {
        "latent": normal(1, 16, *size),
        "condition": normal(1, 20, *size).to(dtype),
        "audio": normal(people, frames, config.audio_window, config.audio_blocks, config.audio_channels).to(dtype),
        "masks": masks,
        "text": normal(1, 77, config.text_dim).to(dtype),
        "clip": normal(1, config.clip_tokens, config.clip_dim).to(dtype),
    }


def ask_reference(net: nn.Module, given: dict[str, Tensor], tokens: int, dtype: torch.dtype) -> Tensor:
    """The reference's velocity, asked as its pipeline asks."""
    device = given["latent"].device.type
    manner: AbstractContextManager[Any] = nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)
    with manner:
        velocity: Tensor = net(
            [given["latent"][0]], t=torch.tensor([700.0], device=device), context=[given["text"][0]], seq_len=tokens,
            clip_fea=given["clip"], y=given["condition"], audio=given["audio"], ref_target_masks=given["masks"],
        )  # fmt: skip
    return velocity.reshape(given["latent"].shape)


def ask_ours(net: AudioDiT, given: dict[str, Tensor]) -> Tensor:
    """Our velocity."""
    told = {name: value for name, value in given.items() if name != "latent"}
    if given["audio"].shape[0] == 1:
        del told["masks"]
    velocity: Tensor = net(given["latent"], torch.tensor(700.0, device=given["latent"].device), **told)
    return velocity


def timed(call: Callable[[], Tensor], device: str, repeats: int) -> tuple[Tensor, float]:
    """A call's answer, and its median seconds after a first one."""
    answer, seconds = call(), []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        answer = call()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return answer, statistics.median(seconds) if seconds else 0.0


def compare(
    theirs: nn.Module, ours: AudioDiT, given: dict[str, Tensor], dtype: torch.dtype, repeats: int
) -> dict[str, float]:
    """Relative error of our velocity against the reference's, and seconds of both."""
    device, tokens = given["latent"].device.type, given["latent"][0, 0].numel() // 4
    truth, slow = timed(lambda: ask_reference(theirs, given, tokens, dtype), device, repeats)
    found, fast = timed(lambda: ask_ours(ours, given), device, repeats)
    figures = {
        "relative_error": float((found - truth).norm() / truth.norm()),
        "largest_difference": float((found - truth).abs().max()),
        "spread_of_the_reference": float(truth.std()),
    }
    return figures | ({"reference_seconds": slow, "our_seconds": fast} if repeats else {})


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("importer", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--size", type=int, default=640, help="pixels of each side")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args(words)


@torch.inference_mode()
def main(words: Sequence[str] | None = None) -> None:
    """Compares and writes one JSON object."""
    arguments = read_arguments(words)
    torch.backends.cudnn.allow_tf32 = False
    dtype: torch.dtype = getattr(torch, arguments.dtype)
    config = replace(DiTConfig(), num_layers=arguments.layers)
    size = Latents.of(arguments.frames, Pixels(arguments.size, arguments.size))
    network = reference_class(arguments.checkout, arguments.importer)
    theirs = make_reference(network, config, dtype, arguments.device)
    tensors = {name: value for name, value in theirs.state_dict().items() if name != "freqs"}
    ours = assemble(lambda: AudioDiT(config), tensors, keymaps.DIT, dtype=dtype, device=arguments.device)
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU",
        "torch": torch.__version__, "dtype": arguments.dtype, "blocks": arguments.layers, "size": list(size),
        "parameters": sum(value.numel() for value in tensors.values()),
    }  # fmt: skip
    for people in arguments.people:
        given = inputs(config, size, people, dtype, arguments.device)
        told = compare(theirs, ours, given, dtype, arguments.repeats)
        figures[f"{people}_people"] = told
        sys.stdout.write(json.dumps({people: told}) + "\n")
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
