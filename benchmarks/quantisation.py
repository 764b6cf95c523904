"""What storing the video network's matrices in fewer bits costs: errors against bf16, and those of bf16 for scale.

python -m benchmarks.quantisation --out nano.json              (the bundled model: a CPU, ten minutes)
python -m benchmarks.quantisation --full --out full.json       (the shapes of the 14B network: one GPU, two minutes)
python -m benchmarks.quantisation --table docs/performance.md  (writes the committed results into the document)

For each kind: the relative error of a forward pass, which is asked what bf16 was asked at the first, middle and last
step; the relative error of the latent after all steps, where each kind goes its own way from the same noise; and the
PSNR of the decoded video, in 8 bits. Matrices of linear layers inside blocks are stored in fewer bits, as
`infinitetalk convert` does it; all arithmetic is bf16.

The bundled model makes the first window of the demo, through the engine.

`--full` has random weights, bf16: in each matrix one input channel in 500 has 20 times the spread of the others. One
block is drawn; in each of the 40 layers, every matrix has its rows in another order. No kind minds the order of rows:
so one block has to be quantised, and two are in memory. Its passes have 320x320 pixels and 17 frames: time goes into
dequantising, and an error of weights does not depend on how many tokens there are. One pass a step and four steps, as
distilled models have. The video is decoded by the bundled model's VAE and shows nothing: its PSNR tells how kinds
compare, not how they look.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quantisers import KINDS, Pack, find_ggml, lacks, quantisers
from benchmarks.subjects import Bundled, Outcome, Random, Subject
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Latents, Pixels
from infinitetalk.ops.stored import Stored
from infinitetalk.weights.folder import ModelFolder

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "src" / "infinitetalk" / "assets" / "demo"
RESULTS = ROOT / "benchmarks" / "results"
TINY = DiTConfig(
    text_len=80, dim=256, ffn_dim=512, freq_dim=16, text_dim=10, num_heads=4, num_layers=2, clip_dim=14, clip_tokens=5,
    audio_blocks=2, audio_channels=6, intermediate_dim=8, output_dim=256, context_tokens=3,
)  # fmt: skip


def relative(found: Tensor, truth: Tensor) -> float:
    """Norm of the difference over the norm of what it should be."""
    return float((found.float() - truth.float()).norm() / truth.float().norm())


def psnr(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float | None:
    """Peak signal-to-noise ratio in dB; None for equal pictures."""
    square = float(np.square(found.astype(np.float32) - truth.astype(np.float32)).mean())
    return 10 * float(np.log10(255**2 / square)) if square else None


class Bench:
    """Measures one subject, kind after kind.

    Args:
        subject: the network.
        packs: what makes each kind.
        say: is told each row.
    """

    def __init__(self, subject: Subject, packs: Mapping[str, Pack], say: Callable[[Mapping[str, Any]], None]) -> None:
        self._subject, self._packs, self._say = subject, packs, say

    def measure(self, kinds: Sequence[str]) -> dict[str, Any]:
        """A row for bf16 against float32, and one for each kind against bf16; kinds that cannot be made, and why."""
        dense = self._subject.matrices()
        widths = {matrix.shape[1] for matrix in dense.values()}
        left = {kind: why for kind in kinds if (why := lacks(kind, self._packs, widths))}
        truth = self._go(dense, torch.bfloat16)
        rows = [self._compared(truth, self._go(dense, torch.float32), "bf16", "float32", 16.0)]
        rows += [self._row(kind, dense, truth) for kind in kinds if kind not in left]
        return {"rows": rows, "left_out": left}

    def _go(self, matrices: Mapping[str, Tensor | Stored], dtype: torch.dtype) -> tuple[Outcome, list[Tensor]]:
        self._subject.take(matrices, dtype)
        return self._subject.run(), self._subject.answers()

    def _row(self, kind: str, dense: Mapping[str, Tensor], truth: tuple[Outcome, list[Tensor]]) -> dict[str, Any]:
        begun = time.perf_counter()
        stored = {name: self._packs[kind](matrix) for name, matrix in dense.items()}
        packed = time.perf_counter() - begun
        weights = sum(matrix.numel() for matrix in dense.values())
        bits = 8 * sum(matrix.bytes for matrix in stored.values()) / weights
        wrong = [relative(stored[name].dequantise(torch.float32), matrix) for name, matrix in dense.items()]
        row = self._compared(self._go(stored, torch.bfloat16), truth, kind, "bf16", bits)
        inside = sorted({matrix.kind for matrix in stored.values()})
        spent = {"packing_seconds": packed, "seconds": time.perf_counter() - begun}
        return row | {"stored_as": inside, "weights_median": statistics.median(wrong)} | spent

    def _compared(
        self,
        found: tuple[Outcome, list[Tensor]],
        truth: tuple[Outcome, list[Tensor]],
        kind: str,
        against: str,
        bits: float,
    ) -> dict[str, Any]:
        each = [relative(*pair) for pair in zip(found[1], truth[1], strict=True)]
        row = {
            "kind": kind,
            "against": against,
            "bits_per_weight": bits,
            "forward": statistics.fmean(each),
            "forward_each": each,
            "latent": relative(found[0].latent, truth[0].latent),
            "psnr_db": psnr(found[0].video, truth[0].video),
        }
        self._say(row)
        return row


def bundled(steps: int | None, frames: int | None) -> tuple[Subject, dict[str, Any]]:
    """The bundled model with what `infinitetalk demo` asks for, and a description."""
    request = TalkRequest(
        image=DEMO / "portrait_1.png", audio=(DEMO / "voice_1.flac",), steps=steps, window_frames=frames
    )
    folder = ModelFolder.open(request.model)
    usual = folder.defaults
    told = {
        "model": f"the bundled model {folder.name}",
        "weights": "trained; the bundled file stores matrices as int8 with a scale for each row",
        "size": str(next(iter(folder.buckets[usual.size].values()))),
        "frames": frames or usual.window_frames,
        "steps": steps or usual.steps,
    }
    return Bundled(request), told


def random(arguments: argparse.Namespace) -> tuple[Subject, dict[str, Any]]:
    """A network with random weights, and a description."""
    config = TINY if arguments.tiny else DiTConfig()
    config = replace(config, num_layers=arguments.layers or config.num_layers)
    frames, steps, side = arguments.frames or 17, arguments.steps or 4, arguments.size
    told = {
        "model": f"a network of width {config.dim} with {config.num_layers} blocks",
        "weights": "random; one input channel in 500 has 20 times the spread of the others",
        "size": f"{side}x{side}",
        "frames": frames,
        "steps": steps,
    }
    return Random(config, Latents.of(frames, Pixels(side, side)), arguments.device, steps), told


def machine(device: str) -> str:
    """What computes, in words."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {os.cpu_count()} cores"


# --- The document's tables ---

TABLES = {"nano": "quantisation_nano.json", "full": "quantisation_full.json"}


def table(figures: Mapping[str, Any]) -> str:
    """One result in Markdown: a line about it, and its rows."""
    about = "{model}; weights: {weights}; {size}, {frames} frames, {steps} steps; {machine}; torch {torch}".format(
        **figures
    )
    head = (
        "| matrices | against | bits per weight | error of a forward pass | error of the latent | PSNR of the video |"
    )
    lines = [about[0].upper() + about[1:] + ".", "", head, "|---|---|---|---|---|---|"]
    for row in figures["rows"]:
        quality = "equal" if row["psnr_db"] is None else f"{row['psnr_db']:.1f} dB"
        name = row["kind"] if row["kind"] != "q4" else f"q4 ({' and '.join(map(str.upper, row['stored_as']))})"
        lines.append(
            f"| {name} | {row['against']} | {row['bits_per_weight']:.2f} | {percent(row['forward'])} | "
            f"{percent(row['latent'])} | {quality} |"
        )
    return "\n".join(lines)


def percent(share: float) -> str:
    """In per cent, two digits that count."""
    return "0" if share == 0 else f"{float(f'{100 * share:.2g}'):g} %"


def put(document: str, name: str, text: str) -> str:
    """A document with a text between the marks of a name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if document.count(begin) != 1 or document.count(end) != 1:
        raise SystemExit(f"the document needs one pair of marks {begin} … {end}")
    before, rest = document.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def filled(document: str, results: Path) -> str:
    """A document with the tables of all results that are there between their marks."""
    for name, file in TABLES.items():
        if (results / file).is_file():
            made = table(json.loads((results / file).read_text(encoding="utf-8")))
            document = put(document, f"quantisation {name}", made)
    return document


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, metavar="DOCUMENT")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--ggml", type=Path, default=find_ggml(), help="libggml-base.so, for Q2_K to Q6_K")
    parser.add_argument("--steps", type=int, help="default: the model's own; 4 with --full")
    parser.add_argument("--frames", type=int, help="of the window")
    parser.add_argument("--full", action="store_true", help="random weights in the shapes of the 14B network")
    parser.add_argument("--layers", type=int, help="fewer blocks, with --full")
    parser.add_argument("--size", type=int, default=320, help="pixels of each side, with --full")
    parser.add_argument("--tiny", action="store_true", help="a tiny network, with --full")
    parser.add_argument("--device", default="cuda", help="with --full")
    arguments = parser.parse_args(words)
    if (arguments.out is None) == (arguments.table is None):
        parser.error("give --out FILE or --table DOCUMENT")
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes one JSON object, or writes tables."""
    arguments = read_arguments(words)
    if arguments.table is not None:
        text = arguments.table.read_text(encoding="utf-8")
        arguments.table.write_text(filled(text, RESULTS), encoding="utf-8")
        return
    torch.backends.cudnn.allow_tf32 = False
    begun, device = time.perf_counter(), arguments.device if arguments.full else "cpu"
    with torch.inference_mode():
        subject, told = random(arguments) if arguments.full else bundled(arguments.steps, arguments.frames)
        measured = Bench(subject, quantisers(arguments.ggml), print_row).measure(arguments.kinds)
    figures = {"machine": machine(device), "torch": torch.__version__, **told, **measured}
    figures["seconds"] = time.perf_counter() - begun
    if device == "cuda":
        figures["peak_allocated_gib"] = torch.cuda.max_memory_allocated() / 2**30
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def print_row(row: Mapping[str, Any]) -> None:
    """Says a row as soon as it is known."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
