"""Compare the two rasterisers on a device and measure the speed of making clips.

python -m training.heads.check --device cuda
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from training.heads.dataset import make_clips, sample_clip
from training.heads.example import babble_tracks
from training.heads.render import HeadRenderer


def compare(device: str, clips: int) -> tuple[int, float, float]:
    """Largest pixel difference of the fast and the reference path, share of differing pixels, box difference."""
    fast, reference = HeadRenderer(device), HeadRenderer(device, "torch", frames_at_once=8)
    speech = babble_tracks(4, 8.0, seed=1)
    largest, differing, boxes = 0, 0.0, 0.0
    for index in range(clips):
        spec = sample_clip(speech, index, seed=5).spec
        one, other = fast.render(spec), reference.render(spec)
        difference = (one.frames.int() - other.frames.int()).abs()
        largest = max(largest, int(difference.max()))
        differing += float((difference > 0).any(-1).float().mean()) / clips
        boxes = max(boxes, float((one.mouth_boxes - other.mouth_boxes).abs().max()))
    return largest, differing, boxes


def throughput(device: str, clips: int, workers: int) -> tuple[float, float]:
    """Frames per second of ``make_clips``: the first batch apart (start-up), and the seconds it took."""
    speech = babble_tracks(16, 14.0, seed=2)
    began = time.perf_counter()
    source = make_clips(clips, speech, device, seed=3, workers=workers)
    next(source)
    _wait(device)
    ready = time.perf_counter()
    frames = sum(batch.frames.shape[0] * (batch.frames.shape[1] + 1) for batch in source)
    _wait(device)
    return frames / max(time.perf_counter() - ready, 1e-9), ready - began


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clips", type=int, default=3, help="clips to draw by both paths")
    parser.add_argument("--speed-clips", type=int, default=192, help="clips of the speed test")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 6], help="numbers of worker processes to try")
    arguments = parser.parse_args()
    largest, differing, boxes = compare(arguments.device, arguments.clips)
    out = sys.stdout.write
    out(f"largest pixel difference {largest}, differing pixels {differing:.4%}, mouth boxes {boxes:.2g}\n")
    for workers in arguments.workers:
        speed, start = throughput(arguments.device, arguments.speed_clips, workers)
        out(f"workers {workers}: {speed:.0f} frames/s (first batch {start:.1f} s)\n")


if __name__ == "__main__":
    main()
