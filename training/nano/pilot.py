"""Measures the speed of every stage at its real size: `python -m training.nano.pilot OUT`, about four minutes of a GPU.

Renders some clips, trains the candidate VAEs for a while each (steps per second and the error after equal time), the
candidate transformers on random latents, and the speech encoder, and writes a table to OUT/pilot.txt.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from infinitetalk.core.configs import SpeechConfig
from infinitetalk.models.speech import SpeechEncoder
from training.clock import Budget, RunLog, cosine
from training.heads.render import HeadRenderer
from training.nano import train_dit, train_vae
from training.nano.encode import encode_clips, encode_references
from training.nano.flow import Kind
from training.nano.latents import ClipLatents
from training.nano.make_data import mouth_tracks, render
from training.nano.pixels import Crop, PixelBank
from training.nano.settings import DITS, VAES
from training.nano.store import FRAMES, Clips, create, load
from training.nano.voices import VoiceBank, spoken
from training.sheets import save_rows


def wait(device: torch.device) -> None:
    """Until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def timed(log: RunLog, name: str, device: torch.device) -> Iterator[None]:
    """Logs how long something took, or what went wrong: one failing candidate must not end the pilot."""
    wait(device)
    begun = time.perf_counter()
    try:
        yield
        wait(device)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        log(f"{name}: FAILED {type(error).__name__}: {str(error)[:300]}")
    else:
        log(f"{name}: {time.perf_counter() - begun:.1f} s")
    if device.type == "cuda":
        log(f"  peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def pace(step: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Steps per second after a few for warming up."""
    for _ in range(5):
        step()
    wait(device)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds or count < 1:
        step()
        count += 1
        if count % 4 == 0:
            wait(device)
    wait(device)
    return count / (time.perf_counter() - begun)


def render_clips(out: Path, corpus: Path, clips: int, device: torch.device, log: RunLog) -> Clips:
    """Renders training clips, and a few held-out ones."""
    renderer = HeadRenderer(device)
    speech = mouth_tracks(spoken(corpus, "train"), seed=1)
    log("tracks made")
    begun = time.perf_counter()
    render(create(out / "clips", clips), range(clips), speech, "train", renderer=renderer, log=log)
    wait(device)
    log(f"render: {clips * (FRAMES + 1) / (time.perf_counter() - begun):.0f} frames/s")
    speech, few = mouth_tracks(spoken(corpus, "test"), seed=1), min(12, clips)
    render(create(out / "held", few), range(few), speech, "heldout", renderer=renderer, log=log)
    return load(out / "clips")


def try_vae(
    name: str, bank: PixelBank, held: PixelBank, seconds: float, log: RunLog, *, capture: bool
) -> train_vae.Trainer:
    """Trains a candidate for a while and tells its pace and error."""
    trainer = train_vae.Trainer(VAES[name], bank.frames.device, capture=capture)
    generator = torch.Generator(bank.frames.device).manual_seed(0)
    size = train_vae.millions(trainer.vae)
    crop, begun = train_vae.PHASES[0].crop, time.perf_counter()
    means = trainer.step(bank, crop, 1.0, generator)
    for _ in range(5):
        means = trainer.step(bank, crop, 1.0, generator)
    wait(bank.frames.device)
    log(f"vae {name} ({size:.2f} M, captured {capture}): first steps {time.perf_counter() - begun:.1f} s")
    budget, first = Budget(seconds), trainer.steps
    for _, fraction in budget.steps(bank.frames.device):
        means = trainer.step(bank, crop, cosine(fraction), generator)
    log(f"  {(trainer.steps - first) / budget.spent:.2f} it/s of {crop}; {means.text()}")
    scores, _ = train_vae.judge(trainer.vae, held)
    log(f"  held-out PSNR after {trainer.steps} steps: { ({key: round(value, 2) for key, value in scores.items()}) }")
    return trainer


def try_phases(trainer: train_vae.Trainer, bank: PixelBank, log: RunLog) -> None:
    """The pace of the later, larger crops, and of encoding."""
    device = bank.frames.device
    generator = torch.Generator(device).manual_seed(0)
    for crop in (*(phase.crop for phase in train_vae.PHASES[1:]), Crop(64, 17, 64)):
        speed = pace(lambda crop=crop: trainer.step(bank, crop, 0.1, generator), 3.0, device)  # type: ignore[misc]
        log(f"  {speed:.2f} it/s of {crop}")
    with torch.no_grad(), train_vae.half(device):
        speed = pace(lambda: encode_references(trainer.vae, bank.frames[:8, 0]), 2.0, device)
    log(f"  references {8 * speed:.0f} a second")


def random_latents(count: int, device: torch.device) -> tuple[ClipLatents, VoiceBank]:
    """Latents and voices of the right shapes."""

    def draw(frames: int) -> torch.Tensor:
        return torch.randn(count, 16, frames, 16, 16, device=device, dtype=torch.bfloat16)

    box = torch.tensor([40.0, 70, 88, 110], device=device).expand(count, 3, 4)
    people = torch.ones(count, dtype=torch.long, device=device)
    people[: count // 4], people[: count // 8] = 2, 3
    index = torch.zeros(count, 3, dtype=torch.long, device=device)
    voices = VoiceBank(
        torch.randn(5000, 4, 192, device=device, dtype=torch.bfloat16), index[:1, 0], index[:1, 0] + 5000
    )
    return ClipLatents(draw(21), draw(21), draw(21), draw(4), people > 1, people, index, index, box, box, box,
                       torch.ones(count, device=device)), voices  # fmt: skip


def try_dit(name: str, batch: int, device: torch.device, log: RunLog, seconds: float) -> None:
    """The pace of a candidate transformer with compiled blocks."""
    data = train_dit.Data(*random_latents(128, device))
    trainer = train_dit.Trainer(DITS[name], device, compiled=train_dit.COMPILED if device.type == "cuda" else ())
    size = train_vae.millions(trainer.dit)
    generator = torch.Generator(device).manual_seed(0)
    kind = train_dit.MAIN if batch == train_dit.MAIN.batch else Kind(1, train_dit.LATENTS, batch)
    begun = time.perf_counter()
    trainer.step(data, kind, 0.1, generator)
    wait(device)
    log(f"dit {name} ({size:.2f} M): first step {time.perf_counter() - begun:.1f} s")
    speed = pace(lambda: trainer.step(data, kind, 0.1, generator), seconds, device)
    log(f"  {speed:.2f} it/s at batch {kind.batch}")
    for other, _ in train_dit.SHARES[1:4]:
        few = Kind(other.people, other.latents, min(other.batch, batch))
        speed = pace(lambda few=few: trainer.step(data, few, 0.1, generator), seconds / 4, device)  # type: ignore[misc]
        log(f"  {speed:.2f} it/s of {few}")


def try_speech(device: torch.device, log: RunLog) -> None:
    """How fast features are made."""
    encoder = SpeechEncoder(SpeechConfig(hidden_size=192, num_hidden_layers=4, num_attention_heads=4,
                                         intermediate_size=768, conv_dim=(192,) * 7)).to(device).eval()  # fmt: skip
    sound = torch.randn(14 * 16_000, device=device)
    with torch.inference_mode():
        log(f"speech features: {14 * pace(lambda: encoder(sound, 350), 2.0, device):.0f} s of sound a second")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", type=Path, default=Path(".corpus"))
    parser.add_argument("--data", type=Path, default=Path("/dev/shm/pilot"))
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--vaes", nargs="*", default=["middle", "narrow", "deep"], choices=tuple(VAES))
    parser.add_argument("--dits", nargs="*", default=["320x8", "384x6"], choices=tuple(DITS))
    parser.add_argument("--seconds", type=float, default=12.0, help="of training each candidate VAE")
    parser.add_argument("--batch", type=int, default=train_dit.MAIN.batch)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    log = RunLog(options.out / "pilot.txt")
    train_vae.fast_kernels()
    clips = render_clips(options.data, options.corpus, options.clips, device, log)
    shown = [torch.from_numpy(clips.frames[index, [0, 20, 40, 60, 81]].copy()) for index in range(min(12, clips.count))]
    save_rows(options.out / "pilot_clips.jpg", shown)
    bank, held = PixelBank.take(clips, device), PixelBank.take(load(options.data / "held"), device)
    with timed(log, "vae without capture", device):
        trainer = try_vae(options.vaes[0], bank, held, options.seconds / 3, log, capture=False)
    with timed(log, f"encode {clips.count} clips fully", device):
        encode_clips(trainer.vae.requires_grad_(False), clips, device)
    for index, name in enumerate(options.vaes):
        with timed(log, f"vae {name}", device):
            trainer = try_vae(name, bank, held, options.seconds, log, capture=device.type == "cuda")
            if index == 0:
                try_phases(trainer, bank, log)
    for name in options.dits:
        with timed(log, f"dit {name}", device):
            try_dit(name, options.batch, device, log, 8.0)
    with timed(log, "speech", device):
        try_speech(device, log)


if __name__ == "__main__":
    main()
