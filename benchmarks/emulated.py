"""What computing in 8 bits costs the bundled model's video, on a CPU that computes with the same numbers.

python -m benchmarks.emulated --out nano.json   (a minute or two)

The first window of the demo, as the engine makes it, against the exact one: with products of 8-bit numbers, with
attention in 8-bit floats made ready in several ways, and with both. Rounding is that of a GPU; sums are in float32. The
model has few tokens: attention is in 8 bits wherever there are as many keys as tokens, as large pictures have it.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.quantisation import DEMO, psnr, relative
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Latents
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.results import rgb
from infinitetalk.models.dit_blocks import Block
from infinitetalk.ops.attention import sdpa
from infinitetalk.ops.attention_eight import EightAttention, Prepare, Ready, emulated, ready, scaled, seen
from infinitetalk.ops.eight import FP8, INT8, Eight
from infinitetalk.ops.regions import Regions


def plainly(q: Tensor, k: Tensor, v: Tensor, *, centred: bool) -> tuple[Ready, Ready, Ready]:
    """Without the Hadamard matrix; keys without their mean, or as they are."""
    if centred:
        k = k - seen(k).mean(dim=1, keepdim=True)
    made = [scaled(x, x.abs().amax(dim=(1, 3))) for x in (q, k, v)]
    return made[0], made[1], made[2]


class Wider(EightAttention):
    """Attention in 8 bits for heads of any width: channels of zeros are added up to a power of two."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `ops.attention.Kernel`."""
        width = q.shape[-1]
        wide = 1 << (width - 1).bit_length()
        q = q * (wide / width) ** 0.5  # products are divided by the root of the width
        padded = [F.pad(part, (0, wide - width)) for part in (q, k, v)]
        return super().__call__(*padded)[..., :width]


PREPARED: Mapping[str, Prepare] = {
    "as it is done": ready,
    "no Hadamard matrix": partial(plainly, centred=True),
    "no Hadamard matrix, keys with their mean": partial(plainly, centred=False),
}


def rows(steps: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each way and number of steps. Networks are loaded anew where products change."""
    found: list[dict[str, Any]] = []
    truths: dict[int, tuple[Tensor, Tensor]] = {}
    formats: list[Eight | None] = [None, FP8, INT8]
    for eight in formats:
        engine = Engine.from_pretrained(
            TalkRequest(image=DEMO / "portrait_1.png", audio=(DEMO / "voice_1.flac",)).model
        )
        dit = engine.model.dit
        if eight is not None:
            for block in dit.blocks:
                assert isinstance(block, Block)
                block.hold_eight(eight)
            dit.regions = Regions(eight)
        ways: dict[str, Prepare | None] = {"exact": None}
        if eight is not INT8:
            ways |= PREPARED
        for count in steps:
            for words, prepare in ways.items():
                eighth = None if prepare is None else Wider(emulated, sdpa, _tokens(engine), prepare)
                dit.attend_by = eighth or sdpa
                made = _window(engine, count)
                if not (eight or prepare):
                    truths[count] = made
                    continue
                row: dict[str, Any] = {"products": eight.name if eight else "exact", "attention": words, "steps": count}
                row |= {"latent": relative(made[0], truths[count][0])}
                row |= {"psnr_db": psnr(rgb(made[1]), rgb(truths[count][1]))}
                found.append(row)
                sys.stdout.write(json.dumps(row) + "\n")
                sys.stdout.flush()
    return found


def _tokens(engine: Engine) -> int:
    """Keys of the self-attention in the bundled model's window."""
    facts = engine.model.facts
    pixels = next(iter(facts.buckets[facts.defaults.size].values()))
    return engine.model.dit.grid(torch.empty(1, 16, *Latents.of(facts.defaults.window_frames, pixels))).tokens


def _window(engine: Engine, steps: int) -> tuple[Tensor, Tensor]:
    """Latent and frames of the demo's first window."""
    made = next(iter(engine.stream(_request(steps))))
    return made.latent, made.frames


def _request(steps: int) -> TalkRequest:
    """The demo."""
    return TalkRequest(image=DEMO / "portrait_1.png", audio=(DEMO / "voice_1.flac",), steps=steps)


def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 20])
    arguments = parser.parse_args(words)
    figures: Mapping[str, Any] = {
        "machine": f"CPU, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "model": "the bundled model",
        "rows": rows(arguments.steps),
    }
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
