"""The tables of one GPU's speed in the documents, from committed results.

python -m benchmarks.speed_table --table docs/performance.md
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quantisation import RESULTS, percent, put

MARKS = "one GPU"
FORWARDS = (
    ("`--fused off`", "exact", "cudnn, plain"),
    ("cuDNN's attention", "exact", "cudnn, fused"),
    ("FlashAttention-3 (`auto`)", "exact", "fa3, fused"),
    ("`--linears fp8`", "eight", "fp8 products, fused"),
    ("`--linears fp8 --attention fp8`", "eight", "fp8 products, fp8 attention"),
)
EARLIER = " Measured before the fused kernels of the VAE and of attention in 8 bits."
REST = (
    ("decoding a window", "vae", ("decode", "decode, plain")),
    ("encoding motion frames", "vae", ("encode motion frames", "encode motion frames, plain")),
)


def table(first: Mapping[str, Any], latest: Mapping[str, Any], emulated: Mapping[str, Any]) -> str:
    """Two tables: seconds on the GPU, and what 8 bits cost trained weights; `latest` wins over `first`."""
    lines = [
        f"{first['device']}; torch {first['torch']}; {first['size']}, one person, random weights; medians, of windows "
        f"the least after the first.{'' if latest else EARLIER}",
        "",
        "| one forward pass | seconds | error against exact attention in plain operations |",
        "|---|---|---|",
    ]
    for words, part, name in FORWARDS:
        row = latest.get(part, {}).get(name) or first[part][name]
        lines.append(f"| {words} | {row['seconds']:.2f} | {percent(row['error'])} |")
    lines += ["", "| the VAE in bfloat16; windows in 8 bits | seconds | error against float32 |", "|---|---|---|"]
    for words, part, names in REST:
        row = next(found for file in (latest, first) for name in names if (found := file.get(part, {}).get(name)))
        lines.append(f"| {words} | {row['seconds']:.2f} | {percent(row['error'])} |")
    for words in ("one branch", "two branches"):
        row = (latest.get("windows") or first["windows"])[words]
        lines.append(f"| a window of 4 steps, {words}, {row['new_frames']} new frames | {row['seconds']:.2f} | |")
    if cached := latest.get("cached"):
        asks = f"`--step-cache taylorseer --cache-interval 4` asks in {cached['steps_that_ask']}"
        lines.append(f"| a window of {cached['steps']} steps, three branches; {asks} | {cached['seconds']:.1f} | |")
    lines += [
        "",
        f"Nano's first window in {emulated['rows'][0]['steps']} steps, in the same numbers on a {emulated['machine']}:",
        "",
        "| products | attention | error of the latent | PSNR of the video |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['products']} | {_attention(row['attention'])} | {percent(row['latent'])} | {row['psnr_db']:.1f} dB |"
        for row in emulated["rows"]
    ]
    return "\n".join(lines)


def _attention(words: str) -> str:
    return words if words == "exact" else "fp8" + ("" if words == "as it is done" else f", {words}")


def read(name: str) -> dict[str, Any]:
    """A committed result; nothing where there is none."""
    path = RESULTS / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def made() -> str:
    """The tables of the committed results."""
    return table(read("speed_h100.json"), read("speed_fast_h100.json"), read("emulated_nano.json"))


def main(words: Sequence[str] | None = None) -> None:
    """Writes the tables into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, metavar="DOCUMENT", required=True)
    document = parser.parse_args(words).table
    document.write_text(put(document.read_text(encoding="utf-8"), MARKS, made()), encoding="utf-8")


if __name__ == "__main__":
    main()
