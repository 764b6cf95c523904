"""What a video's length costs: memory at 8, 64 and 256 windows with `tiny`, and the plan of ten hours.

python -m benchmarks.length [--windows 8 64 256] [--frames 81] [--hours 10] [--out FILE]

Each length is a process of its own that runs `infinitetalk generate` for a portrait and a voice in stereo at 48 kHz;
the kernel tells the most memory that it had in main memory at once (VmHWM). Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.quantisation import RESULTS
from infinitetalk.core.defaults import resolve
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME, Pixels
from infinitetalk.core.windows import plan_request
from infinitetalk.weights.folder import ModelFolder

RESULT = "length_cpu.json"
WINDOWS = (8, 64, 256)
RATE = 48_000
SPREAD = 0.05
"""How far the longest may be above the shortest."""
MOTION = 5
"""Frames that a window of `tiny` shares with the one before."""

CHILD = """
import json, sys
from pathlib import Path
from infinitetalk.cli.main import main
from infinitetalk.runtime.cgroups import from_table
code = main(sys.argv[1:])
print(json.dumps({"peak": from_table(Path("/proc/self/status"), "VmHWM:")}))
sys.exit(code)
"""


def write_voice(path: Path, seconds: float, seed: int = 0) -> Path:
    """A WAV file of steady stereo noise, written second by second: nowhere quieter, so that every window is full."""
    rng = np.random.default_rng(seed)
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        left = round(seconds * RATE)
        while left > 0:
            count = min(left, RATE)
            file.writeframes(rng.normal(0, 1500, (count, 2)).astype("<i2").tobytes())
            left -= count
    return path


def seconds_of(windows: int, frames: int) -> float:
    """Seconds of sound that fill so many windows of so many frames."""
    return (frames + (windows - 1) * (frames - MOTION)) / FPS


def measure(model: Path, windows: int, frames: int, folder: Path) -> dict[str, Any]:
    """Makes one video.

    Raises:
        RuntimeError: the command failed, or made another number of windows.
    """
    voice, picture = write_voice(folder / "voice.wav", seconds_of(windows, frames)), folder / "portrait.png"
    Image.new("RGB", (64, 64), (200, 150, 120)).save(picture)
    words = ["generate", "--model", model, "--image", picture, "--audio", voice, "--output", folder / "video.mp4"]
    options = ["--window-frames", str(frames), "--steps", "1", "--device", "cpu", "--no-provenance", "--json"]
    command = [sys.executable, "-c", CHILD, *map(str, words), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    *_, made, memory = map(json.loads, done.stdout.splitlines())
    if made["windows"] != windows:
        raise RuntimeError(f"{made['windows']} windows were made; {windows} were meant")
    return {
        "windows": windows,
        "window_frames": frames,
        "video_seconds": made["seconds"],
        "wall_seconds": made["wall_seconds"],
        "peak_mb": round(memory["peak"] / 1e6, 1),
    }


def plan(model: Path, frames: int, hours: float) -> dict[str, Any]:
    """How long it takes to cut so many hours into windows, how loud they are being known."""
    total = round(hours * 3600 * FPS)
    loudness = np.random.default_rng(0).uniform(-40, 0, total).tolist()
    files: dict[str, Any] = {"image": Path("portrait.png"), "audio": (Path("voice.wav"),)}
    request = TalkRequest(model=str(model), window_frames=frames, **files)
    settings = resolve(request, ModelFolder.open(model).facts, Pixels(64, 64))
    started = time.perf_counter()
    windows = plan_request(request, settings, [total * SAMPLES_PER_FRAME], loudness=loudness)
    return {"hours": hours, "windows": len(windows), "plan_seconds": round(time.perf_counter() - started, 3)}


def run(windows: Sequence[int], frames: int, hours: float) -> dict[str, Any]:
    """All figures."""
    from tools.make_tiny import make_tiny

    with tempfile.TemporaryDirectory() as name:
        model = make_tiny(Path(name) / "tiny")
        rows = []
        for count in windows:
            folder = Path(name) / f"{count}"
            folder.mkdir()
            rows.append(measure(model, count, frames, folder))
            sys.stderr.write(f"{json.dumps(rows[-1])}\n")
        peaks = [row["peak_mb"] for row in rows]
        return {"rows": rows, "spread": round(max(peaks) / min(peaks) - 1, 4), "plan": plan(model, frames, hours)}


def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS)
    parser.add_argument("--frames", type=int, default=81, help="of a window")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=RESULTS / RESULT)
    given = parser.parse_args(words)
    figures = run(given.windows, given.frames, given.hours)
    given.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
