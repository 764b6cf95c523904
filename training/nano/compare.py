"""Compares transformers after equal time: `python -m training.nano.compare DATA 320x8 384x6 320x8@1.4e-3`.

Every candidate (a name of `settings.DITS`, with another learning rate behind @) trains for `--seconds`, its rate
falling to nothing meanwhile; compiling does not count. Prints the held-out losses and writes the best candidate to
DATA/dit_choice.txt, from where `train_dit` takes it.
"""

import argparse
import gc
from pathlib import Path

import torch

from training.clock import Budget, RunLog
from training.nano.kernels import use_fastest
from training.nano.reading import begin
from training.nano.settings import CHOICE, DITS, WINDOW, Candidate, fit_audio
from training.nano.train_dit import MAIN, Data, Trainer, tokens_of, train
from training.nano.train_vae import fast_kernels, millions


def trial(candidate: Candidate, data: Data, held: Data, seconds: float, log: RunLog, *, capture: bool = False) -> float:
    """The held-out loss after so many seconds."""
    device = data.clips.video.device
    config = fit_audio(DITS[candidate.name], *data.voices.features.shape[1:])
    if device.type == "cuda":
        use_fastest(config, MAIN.batch, tokens_of(config, data.clips), device, log)
    trainer = Trainer(config, device, compiled=(MAIN,) if device.type == "cuda" else (), rate=candidate.rate,
                      capture=capture)  # fmt: skip
    generator = torch.Generator(device).manual_seed(0)
    begin(trainer.dit.audio_proj, trainer.reader, data.voices, frames=WINDOW, seed=0, log=log)
    trainer.step(data, MAIN, 0.0, generator)
    log(f"{candidate}: {millions(trainer.dit):.2f} M, compiled")
    train(trainer, data, held, Budget(seconds), log, shares=((MAIN, 1.0),))
    trainer.average.swap()
    right, wrong = trainer.judge(held)
    log(f"{candidate}: {trainer.steps} steps, held-out loss {right:.4f}, with swapped voices {wrong:.4f}")
    return right


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("candidates", nargs="+", type=Candidate.parse)
    parser.add_argument("--seconds", type=float, default=30, help="of each candidate")
    parser.add_argument("--graph", action="store_true", help="capture steps as one CUDA graph")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    shown, *others = {DITS[candidate.name].key_frame for candidate in options.candidates}
    if others:
        parser.error("these candidates are not all shown the portrait at the same latent frames: compare them apart")
    device = torch.device(options.device)
    log = RunLog(options.data / "compare_log.txt")
    fast_kernels()
    data, held = Data.load(options.data, "", device, shown), Data.load(options.data, "held_", device, shown)
    losses: dict[Candidate, float] = {}
    for candidate in options.candidates:
        losses[candidate] = trial(candidate, data, held, options.seconds, log, capture=options.graph)
        gc.collect()
    best = min(losses, key=lambda candidate: losses[candidate])
    (options.data / CHOICE).write_text(str(best), encoding="utf-8")
    log(f"best: {best}")


if __name__ == "__main__":
    main()
