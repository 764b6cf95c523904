"""Times the full-size networks with random weights: same shapes, same memory and same speed as the released ones.

python -m benchmarks.full_size --out full_size.json    (one GPU with 80 GB)
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig, VAEConfig
from infinitetalk.core.sizes import Latents, Pixels
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE


def with_random_weights(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """Builds on meta and fills the weights on the GPU, matrices with variance 1 / fan-in."""
    with torch.device("meta"):
        net = make()
    net = net.to(dtype).to_empty(device="cuda")
    generator = torch.Generator("cuda").manual_seed(1)
    for weight in net.parameters():
        scale = 1.0 if weight.ndim == 1 else (weight.numel() / weight.shape[0]) ** -0.5
        weight.requires_grad_(False).normal_(generator=generator).mul_(scale)
    return net.eval()


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds of a call, timed by device events after one warm-up."""
    call()
    times: list[float] = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(float(start.elapsed_time(end)) / 1000)
    return statistics.median(times)


def dit_inputs(config: DiTConfig, size: Latents, people: int) -> dict[str, Tensor | None]:
    """Random inputs of one forward pass, batch 1."""

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    grid = (size.frames, size.height, size.width)
    frames = (size.frames - 1) * 4 + 1
    masks = torch.zeros(people + 1, size.height, size.width, device="cuda")
    for person in range(people):
        masks[person, :, person * size.width // people : (person + 1) * size.width // people] = 1
    return {
        "condition": random(1, 20, *grid),
        "audio": random(people, frames, config.audio_window, config.audio_blocks, config.audio_channels),
        "masks": masks if people > 1 else None,
        "text": random(1, config.text_len, config.text_dim),
        "clip": random(1, config.clip_tokens, config.clip_dim),
    }


def measure_dit(size: Latents) -> dict[str, float]:
    """Seconds per forward for one and two people, and the peak of memory."""
    config = DiTConfig()
    net = with_random_weights(lambda: AudioDiT(config), torch.bfloat16)
    latent = torch.randn(1, 16, *size, device="cuda")
    time = torch.tensor([700.0], device="cuda")
    figures = {"parameters": float(sum(weight.numel() for weight in net.parameters()))}
    for people in (1, 2):
        inputs = dit_inputs(config, size, people)
        torch.cuda.reset_peak_memory_stats()
        figures[f"forward_seconds_{people}_people"] = seconds(lambda given=inputs: net(latent, time, **given))  # type: ignore[misc]
        figures[f"peak_gib_{people}_people"] = torch.cuda.max_memory_allocated() / 2**30
        figures[f"finite_{people}_people"] = float(torch.isfinite(net(latent, time, **inputs)).all())
    return figures


def measure_vae(size: Latents) -> dict[str, float]:
    """Seconds to encode and decode one window in bf16, and the peak of memory."""
    net = with_random_weights(lambda: VideoVAE(VAEConfig()), torch.bfloat16)
    assert isinstance(net, VideoVAE)
    latent = torch.randn(1, 16, *size, device="cuda", dtype=torch.bfloat16)
    video = torch.randn(
        1, 3, (size.frames - 1) * 4 + 1, size.height * 8, size.width * 8, device="cuda", dtype=torch.bfloat16
    )
    figures = {}
    for name, call in (
        ("encode", lambda: list(net.encode_stream(pieces(video, 1, 4)))),
        ("decode", lambda: list(net.decode_stream(pieces(latent, 1, 1)))),
    ):
        torch.cuda.reset_peak_memory_stats()
        figures[f"vae_{name}_seconds"] = seconds(call, repeats=3)
        figures[f"vae_{name}_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return figures


def pieces(whole: Tensor, first: int, rest: int) -> list[Tensor]:
    """Cuts along time: `first` frames, then `rest` at a time."""
    return [whole[:, :, :first], *whole[:, :, first:].split(rest, dim=2)]


@torch.inference_mode()
def main() -> None:
    """Measures and writes one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    size = Latents.of(81, Pixels(640, 640))
    figures: dict[str, object] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "size": "640x640x81",
    }
    figures |= measure_vae(size)
    torch.cuda.empty_cache()
    figures |= measure_dit(size)
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
