"""Train the speech encoder on phone labels: ``python -m training.speech.train CORPUS OUT --seconds 200 --device cuda``.

Everything happens on the device: the whole corpus lies there, crops are cut, resampled and disturbed there. Progress is
measured in wall-clock time. A run that is cut off goes on from ``OUT/speech_checkpoint.pt`` when started again; with
``--start-from`` a new run starts from an earlier run's weights. Once a minute and at the end it writes
``speech.safetensors``, ``speech_config.json`` and ``speech_heads.safetensors`` (averaged weights; the heads are the
phone classifiers, which only training needs).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import SpeechConfig
from training.clock import Budget, RunLog, cosine, warm
from training.ema import Average
from training.graphs import CapturedStep
from training.optimiser import MuonAdam
from training.speech import corpus
from training.speech.augment import augment
from training.speech.batches import Bank
from training.speech.encoder import SMALL, PhoneReader, mouth_loss, phone_loss, save_reader, take_over
from training.speech.evaluate import evaluate

CROP_FRAMES = (75, 125, 125, 250)  # 3, 5 and 10 seconds, so that the encoder knows short and long sounds
SPEEDS = (0.8, 1.25)
WARMUP_STEPS = 200
CHECKPOINT_EVERY = 60.0  # seconds


def block_matrices(name: str, _: nn.Parameter) -> bool:
    """What Muon takes: the matrices of the transformer's layers."""
    return ".encoder.layers." in name


class Training:
    """The encoder in training with its corpus, optimiser and average."""

    def __init__(
        self,
        bank: Bank,
        device: torch.device,
        config: SpeechConfig = SMALL,
        *,
        rate: float,
        seed: int,
        start_from: Path | None = None,
        capture: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.bank = bank
        self.device = device
        self.reader = PhoneReader(config)
        if start_from is not None:
            take_over(self.reader, start_from)
        self.reader.to(device).train()
        self.optimiser = MuonAdam(self.reader, rate, chosen=block_matrices, decay=0.02, betas=(0.9, 0.98))
        self.average = Average(self.reader, 0.9985)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.step_number = 0
        self._capture = capture and device.type == "cuda"
        self._learn: dict[torch.Size, CapturedStep] = {}

    def batch(self, frames: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Disturbed crops [count, 640 frames], their soft labels, and how the mouth moves."""
        low, high = (math.log(speed) for speed in SPEEDS)
        draw = torch.rand(2, count, device=self.device, generator=self.generator)
        speed = torch.where(draw[0] < 0.25, 1.0, (low + (high - low) * draw[1]).exp())
        samples = math.ceil(frames * 640 * SPEEDS[1]) + 8
        start = self.bank.starts(count, samples, self.generator)
        sound, labels, mouth = self.bank.crop(start, speed, frames)
        disturbed, changed = augment(sound, labels, self.generator)
        # Where the speech was taken out, the mouth rests.
        silenced = (changed != labels).any(-1).view(count, frames, -1).any(-1, keepdim=True)
        return disturbed, changed, mouth * ~silenced

    def step(self, batch_seconds: float, fraction: float) -> tuple[Tensor, Tensor]:
        """One update on this many seconds of sound; returns the loss and the last layer's accuracy."""
        frames = CROP_FRAMES[self.step_number % len(CROP_FRAMES)]
        sound, labels, mouth = self.batch(frames, max(2, round(batch_seconds * 25 / frames)))
        self.optimiser.set_rate(warm(self.step_number, WARMUP_STEPS) * cosine(fraction))
        if sound.shape not in self._learn:
            self._learn[sound.shape] = CapturedStep(self.learn, capture=self._capture)
        loss, accuracy = self._learn[sound.shape](sound, labels, mouth)
        self.average.update(self.step_number)
        self.step_number += 1
        return loss, accuracy

    def learn(self, sound: Tensor, labels: Tensor, mouth: Tensor) -> tuple[Tensor, ...]:
        """Forward, backward and update for disturbed crops, their labels and mouths."""
        self.optimiser.forget_gradients()
        # Without the cache of cast weights, which a captured graph must not keep.
        on_gpu = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            logits, moves = self.reader.read(sound)
        loss = phone_loss(logits, labels) + mouth_loss(moves, mouth)
        loss.backward()
        self.optimiser.step()
        accuracy = (logits[-1].argmax(-1) == labels.argmax(-1)).float().mean()
        return loss.detach(), accuracy

    def state(self, spent: float) -> dict[str, object]:
        """Everything that a later run needs to go on."""
        return {
            "reader": self.reader.state_dict(),
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step_number,
            "spent": spent,
        }

    def resume(self, path: Path) -> float:
        """Take over a checkpoint; returns the seconds that it cost."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.reader.load_state_dict(state["reader"])
        self.average.load(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"].cpu())
        self.step_number = state["step"]
        return float(state["spent"])


def run(training: Training, out: Path, log: RunLog, *, seconds: float, batch_seconds: float) -> None:
    """Train until the budget is spent and write the weights; leaves the averaged ones in place of the live ones."""
    checkpoint = out / "speech_checkpoint.pt"
    budget = Budget(seconds, training.resume(checkpoint) if checkpoint.exists() else 0.0)
    saved = budget.spent
    for _, fraction in budget.steps(training.device):
        loss, accuracy = training.step(batch_seconds, fraction)
        if log.due():
            log(f"step {training.step_number}: loss {loss.item():.3f}, accuracy {accuracy.item():.3f}")
        if budget.spent - saved > CHECKPOINT_EVERY:
            saved = budget.spent
            _write(training.state(saved), checkpoint)
            training.average.swap()
            save_reader(training.reader, out)
            training.average.swap()
    log(f"{training.step_number} steps in {budget.spent:.0f} s")
    _write(training.state(budget.spent), checkpoint)
    training.average.swap()
    save_reader(training.reader, out)


def _write(state: dict[str, object], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the small speech encoder on phone labels.")
    parser.add_argument("corpus", type=Path, help="folder that training.speech.make_corpus wrote")
    parser.add_argument("out", type=Path, help="folder for weights, checkpoint and log")
    parser.add_argument("--seconds", type=float, default=200.0, help="time budget of training (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: %(default)s)")
    parser.add_argument(
        "--batch-seconds", type=float, default=200.0, help="seconds of sound per step (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--no-graph", action="store_true", help="launch every kernel, capture nothing")
    parser.add_argument("--start-from", type=Path, help="folder of an earlier run whose weights to start from")
    parser.add_argument(
        "--evaluate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="print scores on held-out voices after training (default: yes, a few seconds)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of weights and crops (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(arguments.device)
    torch.backends.cudnn.benchmark = True  # few shapes, many steps
    torch.set_float32_matmul_precision("high")
    log = RunLog(arguments.out / "speech_log.txt")
    log(f"reading {arguments.corpus}")
    train, test = (corpus.load(arguments.corpus, [split]) for split in corpus.SPLITS)
    bank = Bank(train, device)
    log(f"{len(train)} streams, {bank.seconds / 60:.0f} minutes to train on; {len(test)} streams to test on")
    training = Training(
        bank,
        device,
        rate=arguments.rate,
        seed=arguments.seed,
        start_from=arguments.start_from,
        capture=not arguments.no_graph,
    )
    run(training, arguments.out, log, seconds=arguments.seconds, batch_seconds=arguments.batch_seconds)
    if arguments.evaluate:
        for score in evaluate(training.reader, train, test, device):
            log(score.line())


if __name__ == "__main__":
    main()
