"""A part of `benchmarks.speed`: the fused kernels against their plain forms, at the sizes of a window."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed_network import Bench
from infinitetalk.core.memory import MemorySettings
from infinitetalk.ops import attention_eight
from infinitetalk.ops.conv import Reading, side_by_side
from infinitetalk.ops.pixels import Pixels
from infinitetalk.runtime.regions import choose_pixels, runs_fused

Frames = Callable[[], tuple[Tensor, Tensor | None]]
"""Frames as a convolution reads them, and those that are kept."""

SIZES: Sequence[Mapping[str, Any]] = (
    {},
    {"heads_first": False},
    {"splits": 1},
    {"splits": 8},
    {"stages": 1},
    {"stages": 2},
    {"stages": 4},
    {"tiles": 2},
    {"tiles": 4},
    {"tiles": 16},
    {"warps": 8},
    {"tile": 32, "tiles": 8},
    {"tile": 128, "tiles": 4},
    {"tile": 128, "tiles": 4, "warps": 8},
    {"tile": 128, "tiles": 2, "warps": 8, "stages": 2},
    {"tile": 128, "tiles": 8, "warps": 8, "stages": 2},
)
"""Changes to the sizes that are in use."""


def kernels(bench: Bench) -> dict[str, Any]:
    """Milliseconds of both forms, and the error of the fused one."""
    fused = runs_fused(bench.device)
    ready: Callable[..., Any] = attention_eight.ready
    if fused:
        from infinitetalk.ops import attention_triton

        ready = attention_triton.ready
    tokens, heads, side = (64, 2, 16) if bench.tiny else (33600, 40, 640)
    generator = torch.Generator(bench.where).manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=bench.where, generator=generator, dtype=bench.device.dtype)

    asked = [normal(1, tokens, heads, 128) for _ in range(3)]
    asked[1] += 3 * normal(1, 1, heads, 128)
    found: dict[str, Any] = {"fused": fused}
    pairs = zip(("queries", "keys", "values"), ready(*asked), attention_eight.ready(*asked), strict=True)
    errors = {name: _relative(_wide(made), _wide(truth)) for name, made, truth in pairs}
    row = _times(bench, partial(ready, *asked), partial(attention_eight.ready, *asked))
    found["ready for 8 bits"] = {"error": errors} | row
    asked.clear()
    bench.tidy()
    pixels, plain = choose_pixels(bench.device, MemorySettings()), Pixels()
    for channels in (96, 192, 384):
        x, other = (normal(1, 4, side, side, channels) for _ in range(2))
        bias, gamma = normal(channels), normal(channels, 1, 1, 1)
        for name, given in (("lively", (x, gamma, bias)), ("joined", (x, other, bias))):
            ours, theirs = getattr(pixels, name), getattr(plain, name)
            row = _times(bench, partial(ours, *given), partial(theirs, *given))
            found[f"{name}, {channels} channels"] = {"error": _relative(ours(*given), theirs(*given))} | row
        weight = torch.empty(channels, channels, 3, 3, 3, device="meta")
        reading = Reading(2, normal(1, 2, side, side, channels), taps=side_by_side(x, weight), keep=True)
        forms = [partial(form.frames, x, reading, gamma, bias) for form in (pixels, plain)]
        found[f"frames, {channels} channels"] = {"taps": reading.taps, "error": _frames_error(*forms)} | _times(
            bench, *forms
        )
    return found


def ready_sizes(bench: Bench) -> dict[str, Any]:
    """Milliseconds that making attention ready for 8 bits takes with its work divided in several ways."""
    if not runs_fused(bench.device):
        return {"left_out": "it needs Triton and an NVIDIA GPU"}
    from triton.errors import TritonError

    from infinitetalk.ops import attention_triton as own

    generator = torch.Generator(bench.where).manual_seed(1)
    shape = 1, 33600, 40, 128
    q, k, v = (torch.randn(shape, device=bench.where, generator=generator, dtype=bench.device.dtype) for _ in range(3))
    truth = own.divided(q, k, v, own.SIZES)
    found: dict[str, Any] = {}
    for change in SIZES:
        sizes = own.SIZES._replace(**change)
        name = ", ".join(f"{field} {value}" for field, value in sizes._asdict().items())
        try:
            made = own.divided(q, k, v, sizes)
            same = all(torch.equal(ours.scale, theirs.scale) for ours, theirs in zip(made, truth, strict=True))
            error = max(_relative(_wide(ours), _wide(theirs)) for ours, theirs in zip(made, truth, strict=True))
            spent = bench.seconds(partial(own.divided, q, k, v, sizes), 20)["seconds"]
        except (RuntimeError, TritonError) as failure:  # too little shared memory, too
            found[name] = {"failed": str(failure).partition("\n")[0]}
            continue
        found[name] = {"ms": spent * 1e3, "same_scales": same, "difference": error}
        sys.stderr.write(f"{name}: {found[name]}\n")
    return found


def _frames_error(ours: Frames, theirs: Frames) -> float:
    pairs = zip(ours(), theirs(), strict=True)
    return max(_relative(made, truth) for made, truth in pairs if made is not None and truth is not None)


def _times(bench: Bench, fused: Callable[[], object], plain: Callable[[], object]) -> dict[str, float]:
    return {
        f"{name}_ms": bench.seconds(call, 10)["seconds"] * 1e3 for name, call in (("fused", fused), ("plain", plain))
    }


def _wide(one: attention_eight.Ready) -> Tensor:
    return one.data.float() * one.scale[:, None, :, None]


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found.float() - truth.float()).norm() / truth.float().norm())
