"""Compares our video network with the reference's own class: the same weights, the same inputs, one process.

python -m benchmarks.parity CHECKOUT IMPORTER --out parity.json              (one GPU with 80 GB: all 40 blocks)
python -m benchmarks.parity CHECKOUT IMPORTER --out parity.json --layers 2 --dtype float32 --size 128 --frames 9 \
    --device cpu                                                             (two blocks of full width, exactly)
python -m benchmarks.parity CHECKOUT IMPORTER --out parity.json --rounding   (both in bf16 against it in float32)

CHECKOUT is MeiGen-AI/InfiniteTalk at 0107cd9; IMPORTER is a Python file whose `load(CHECKOUT)` makes its class
importable without the attention libraries that it asks for. Weights are random; ours are the reference's own tensors,
taken over through our key map. The reference's seconds are not
its best: where it is used, its attention map is compiled.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.reference import make_reference, reference_class
from benchmarks.rounding import ask_ours, relative, rounding
from infinitetalk.bench.reference import ask as ask_reference
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.sizes import Latents, Pixels
from infinitetalk.models.dit import AudioDiT
from infinitetalk.weights import keymaps
from infinitetalk.weights.load import assemble


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
    device = given["latent"].device.type
    truth, slow = timed(lambda: ask_reference(theirs, given, dtype), device, repeats)
    found, fast = timed(lambda: ask_ours(ours, given), device, repeats)
    figures = {
        "relative_error": relative(found, truth),
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
    parser.add_argument("--heads", type=int, default=40, help="fewer make all widths smaller")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--size", type=int, default=640, help="pixels of each side")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounding", action="store_true", help="hold both in bf16 against the reference in float32")
    arguments = parser.parse_args(words)
    if arguments.rounding and arguments.dtype == "float32":
        parser.error("--rounding holds bfloat16 against float32: leave --dtype float32 away")
    return arguments


def narrowed(layers: int, heads: int) -> DiTConfig:
    """The 14B model with other numbers of blocks and heads; all widths keep their proportions."""
    full = DiTConfig()
    dim, hidden = (width * heads // full.num_heads for width in (full.dim, full.ffn_dim))
    return replace(full, num_layers=layers, num_heads=heads, dim=dim, ffn_dim=hidden)


@torch.inference_mode()
def main(words: Sequence[str] | None = None) -> None:
    """Compares and writes one JSON object."""
    arguments = read_arguments(words)
    torch.backends.cudnn.allow_tf32 = False
    dtype: torch.dtype = getattr(torch, arguments.dtype)
    config = narrowed(arguments.layers, arguments.heads)
    size = Latents.of(arguments.frames, Pixels(arguments.size, arguments.size))
    network = reference_class(arguments.checkout, arguments.importer)
    theirs = make_reference(network, config, dtype, arguments.device)
    tensors = {name: value for name, value in theirs.state_dict().items() if name != "freqs"}
    ours = assemble(lambda: AudioDiT(config), tensors, keymaps.DIT, dtype=dtype, device=arguments.device)
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU",
        "torch": torch.__version__, "dtype": arguments.dtype, "blocks": arguments.layers, "heads": arguments.heads,
        "size": list(size),
        "parameters": sum(value.numel() for value in tensors.values()),
    }  # fmt: skip
    for people in arguments.people:
        given = inputs(config, size, people, dtype, arguments.device)
        if arguments.rounding:
            told: dict[str, Any] = rounding(theirs, ours, given, dtype)
        else:
            told = compare(theirs, ours, given, dtype, arguments.repeats)
        figures[f"{people}_people"] = told
        sys.stdout.write(json.dumps({people: told}) + "\n")
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
