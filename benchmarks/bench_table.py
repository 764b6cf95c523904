"""Writes committed results of `infinitetalk bench` into the document about speed.

python -m benchmarks.bench_table --table docs/performance.md
python -m benchmarks.bench_table --plot docs/images            (pictures; needs matplotlib)

A result is what `infinitetalk bench ... --save FILE` wrote, as `benchmarks/results/bench_NAME.json`; the document has a
pair of marks `bench NAME` for each. Pictures are `bench_NAME_stages.png`, `bench_NAME_compared.png`, and of
`benchmarks/results/parallel_NAME.json`, which `benchmarks.parallel` wrote, `parallel_NAME_scaling.png`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quantisation import RESULTS, put
from infinitetalk.bench.plots import draw

HEAD = "| | forward | step | encode | decode | window | frames/s | peak | roofline | error |"


def _seconds(row: Mapping[str, Any], part: str) -> str:
    value, ratio = row.get(f"{part}_seconds"), row.get(f"times_ours_{part}")
    if value is None:
        return ""
    text = f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"
    return text if ratio is None else f"{text} ({ratio:.2f}x)"


def _row(row: Mapping[str, Any]) -> str:
    name = f"{row['subject']}, {row['mode']}" if row["mode"] else row["subject"]
    if row.get("error"):
        return f"| {name} | {row['error']} |" + " |" * 8
    cells = [_seconds(row, part) for part in ("forward", "step", "encode", "decode", "window")]
    peaks = [value for key, value in row.items() if key.endswith("_peak_gib")]
    speed, share, error = (row.get(key) for key in ("frames_per_second", "share_of_roofline", "error_to_ours"))
    cells += ["" if speed is None else f"{speed:.2f}", f"{max(peaks):.1f} GiB" if peaks else ""]
    cells += ["" if share is None else f"{100 * share:.0f} %", "" if error is None else f"{100 * error:.2g} %"]
    return f"| {name} | {' | '.join(cells)} |"


def table(report: Mapping[str, Any]) -> str:
    """A result in Markdown: a line about the machine, and its rows."""
    rates, shape = report["rates"], report["shape"]
    about = f"{rates['device']}, {rates['dtype']}; products {rates['product_rate'] / 1e12:.3g} TFLOP/s, attention "
    about += f"{rates['attention_rate'] / 1e12:.3g} TFLOP/s; {report['model']}, {shape['size']}, windows of "
    about += f"{shape['frames']} frames, {shape['steps']} steps; torch {rates['torch']}."
    return "\n".join([about, "", HEAD, "|---|---|---|---|---|---|---|---|---|---|", *map(_row, report["rows"])])


def filled(document: str, results: Path) -> str:
    """A document with all results that are there between their marks."""
    for path in sorted(results.glob("bench_*.json")):
        name = path.stem.removeprefix("bench_")
        document = put(document, f"bench {name}", table(json.loads(path.read_text(encoding="utf-8"))))
    return document


def drawn(results: Path, folder: Path) -> Iterator[Path]:
    """Pictures of all results that are there."""
    for path in sorted(results.glob("bench_*.json")):
        yield from draw(json.loads(path.read_text(encoding="utf-8")), folder, name=f"{path.stem}_")
    for path in sorted(results.glob("parallel_*.json")):
        yield from draw({"rows": []}, folder, path, f"{path.stem}_")


def main(words: Sequence[str] | None = None) -> None:
    """Writes the tables, or draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--table", type=Path, metavar="DOCUMENT")
    what.add_argument("--plot", type=Path, metavar="DIR")
    given = parser.parse_args(words)
    if given.plot is not None:
        sys.stdout.writelines(f"{path}\n" for path in drawn(RESULTS, given.plot))
        return
    given.table.write_text(filled(given.table.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
