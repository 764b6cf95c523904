"""What a video costs on this machine's CPU, by the product's own command in a process of its own."""

import json
import os
import subprocess
import sys
import time

from infinitetalk.core.sizes import FPS
from infinitetalk.media.paths import sidecar_path
from infinitetalk.weights.locate import ASSETS
from training.evaluate.bench import ADDED, WINDOW, Bench
from training.evaluate.report import Check

KIB = 1024


def cost(bench: Bench, windows: int) -> list[Check]:
    """Seconds of computing for a second of video, and the most memory. Means something on a quiet machine alone."""
    demo, output = ASSETS / "demo", bench.out / "cost.mp4"
    seconds = (WINDOW + (windows - 1) * ADDED) / FPS
    words = ["--image", demo / "portrait_1.png", "--audio", demo / "voice_1.flac", "--output", output]
    command = [sys.executable, "-m", "infinitetalk", "generate", "--model", bench.model, "--device", "cpu",
               "--duration", f"{seconds:g}", *words]  # fmt: skip
    for old in (output, sidecar_path(output)):
        old.unlink(missing_ok=True)  # or nothing would be made
    begun = time.perf_counter()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begun
    if child.returncode:
        raise RuntimeError(f"generate ended with {child.returncode}")
    told = json.loads(sidecar_path(output).read_text(encoding="utf-8"))
    made = told["frames"] / FPS
    computing = sum(told["stage_seconds"].values()) / made
    bench.details["cost"] = {"stages": told["stage_seconds"], "wall": wall, "cpu": used.ru_utime + used.ru_stime}
    note = f"{os.cpu_count()} cores, load before {os.getloadavg()[1]:.1f}; whole command {wall:.0f} s for {made:.1f} s"
    return [
        Check("CPU: seconds of computing for a second of video", computing, "<=", 6, note),
        Check("CPU: largest memory, GiB", used.ru_maxrss * KIB / 2**30, "<=", 2.5),
    ]
