"""A part of `benchmarks.speed`: the fused kernels against their plain forms, at the sizes of a window."""

from collections.abc import Callable
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
        past = normal(1, 2, side, side, channels)
        reading = Reading(2, past, taps=side_by_side(x, weight), keep=True)
        ours, theirs = (partial(form.frames, x, reading, gamma, bias) for form in (pixels, plain))
        errors = [_relative(made, truth) for made, truth in zip(ours(), theirs(), strict=True)]
        row = {"taps": reading.taps, "error": max(errors)} | _times(bench, ours, theirs)
        found[f"frames, {channels} channels"] = row
    return found


def _times(bench: Bench, fused: Callable[[], object], plain: Callable[[], object]) -> dict[str, float]:
    return {
        f"{name}_ms": bench.seconds(call, 10)["seconds"] * 1e3 for name, call in (("fused", fused), ("plain", plain))
    }


def _wide(one: attention_eight.Ready) -> Tensor:
    return one.data.float() * one.scale[:, None, :, None]


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found.float() - truth.float()).norm() / truth.float().norm())
