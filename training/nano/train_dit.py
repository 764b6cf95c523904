"""Trains nano's transformer on latents: `python -m training.nano.train_dit DATA OUT --seconds 480`.

DATA holds `latents.pt`, `held_latents.pt`, `voices.pt` and `held_voices.pt` as `training.nano.encode` writes them. OUT
receives `dit-*.safetensors`, `dit_config.json`, `dit_log.txt`, `dit_sheet.jpg` and a checkpoint to go on from.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.models.dit import AudioDiT
from training.clock import Budget, RunLog, cosine, warm
from training.ema import Average
from training.nano.flow import Kind, assemble, draw, loss
from training.nano.latents import ClipLatents
from training.nano.preview import load_vae, preview
from training.nano.settings import DIT, DITS, WINDOW, fit_audio
from training.nano.train_vae import fast_kernels, millions
from training.nano.voices import VoiceBank
from training.optimiser import MuonAdam
from training.parts import save_parts

RATE, DECAY = 8e-4, 0.02
AVERAGE = 0.9985
LATENTS = (WINDOW - 1) // 4 + 1
MAIN = Kind(people=1, latents=LATENTS, batch=64)
SHARES = ((MAIN, 0.78), (Kind(2, LATENTS, 48), 0.08), (Kind(3, LATENTS, 48), 0.03),
          (Kind(1, 13, 64), 0.04), (Kind(1, 9, 64), 0.03), (Kind(1, 5, 64), 0.02), (Kind(1, 2, 64), 0.02))  # fmt: skip
"""What batches hold, and how many of them: whole windows of one face above all."""


@dataclass(frozen=True, slots=True)
class Data:
    """Latents and voices on one device."""

    clips: ClipLatents
    voices: VoiceBank

    @staticmethod
    def load(folder: Path, prefix: str, device: torch.device) -> "Data":
        """Reads `<prefix>latents.pt` and `<prefix>voices.pt`."""
        return Data(ClipLatents.load(folder / f"{prefix}latents.pt", device),
                    VoiceBank.load(folder / f"{prefix}voices.pt", device))  # fmt: skip


class Trainer:
    """A transformer with its optimiser and average. With `compile`, its blocks are compiled for whole windows."""

    def __init__(
        self, config: DiTConfig, device: torch.device, *, compiled: bool, rate: float = RATE, seed: int = 0
    ) -> None:
        self.config, self.device = config, device
        self.dit = AudioDiT(config)
        self.dit.init_weights(torch.Generator().manual_seed(seed))
        self.dit.to(device)
        self.optimiser = MuonAdam(self.dit, rate, chosen=_in_blocks, decay=DECAY)
        self.average = Average(self.dit, AVERAGE, every=2)
        self.steps = 0
        if compiled:
            for block in self.dit.blocks:
                block.compile(dynamic=False)

    def step(self, data: Data, kind: Kind, share: float, generator: torch.Generator) -> Tensor:
        """One training step at this share of the peak rate; returns the loss."""
        self.optimiser.set_rate(share * warm(self.steps, 200))
        batch = draw(kind, data.clips, data.voices, generator)
        self.optimiser.forget_gradients()
        # Rare shapes run as they are: compiling each would cost more than it saves.
        with torch.compiler.set_stance("default" if kind == MAIN else "force_eager"):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                velocity = self.dit(
                    batch.noisy, batch.timestep, condition=batch.condition, audio=batch.audio, masks=batch.masks
                )
            value = loss(velocity, batch)
            value.backward()
        self.optimiser.step()
        self.steps += 1
        self.average.update(self.steps)
        return value.detach()

    @torch.no_grad()
    def judge(self, data: Data) -> tuple[float, float]:
        """Held-out loss with the right voices and with those of the neighbouring clip, at fixed noise."""
        index = data.clips.of_people(1)[:16]
        other = data.clips.part(index)
        swapped = Data(_swap_voices(other), data.voices)
        everything = torch.arange(len(index), device=index.device)
        right, wrong = (self._loss(everything, Data(clips, data.voices)) for clips in (other, swapped.clips))
        return right, wrong

    def _loss(self, index: Tensor, data: Data) -> float:
        total = 0.0
        for seed in range(4):
            generator = torch.Generator(self.device).manual_seed(seed)
            batch = assemble(index, Kind(1, LATENTS, len(index)), data.clips, data.voices, generator, dropout=0.0)
            stance = torch.compiler.set_stance("force_eager")
            with stance, torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                velocity = self.dit(batch.noisy, batch.timestep, condition=batch.condition, audio=batch.audio)
            total += float(loss(velocity, batch))
        return total / 4

    def save(self, path: Path, spent: float) -> None:
        """Writes everything that `resume` needs."""
        state = {"dit": self.dit.state_dict(), "average": self.average.state(), "steps": self.steps,
                 "optimiser": self.optimiser.state_dict(), "spent": spent}  # fmt: skip
        torch.save(state, path)

    def resume(self, path: Path) -> float:
        """Goes on from a checkpoint and returns the seconds it has cost."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.dit.load_state_dict(state["dit"])
        self.average.load(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]
        return float(state["spent"])


def _in_blocks(name: str, value: nn.Parameter) -> bool:
    return name.startswith("blocks.") and value.dim() == 2


def _swap_voices(clips: ClipLatents) -> ClipLatents:
    return replace(clips, utterance=clips.utterance.roll(1, 0), start=clips.start.roll(1, 0))


def pick(kinds: Sequence[tuple[Kind, float]], value: float) -> Kind:
    """The kind whose share of 0..1 holds the value."""
    total = sum(share for _, share in kinds)
    for kind, share in kinds:
        value -= share / total
        if value < 0:
            return kind
    return kinds[-1][0]


def available(kinds: Sequence[tuple[Kind, float]], clips: ClipLatents) -> list[tuple[Kind, float]]:
    """The kinds that these clips can fill."""
    people = set(clips.people.tolist())
    return [(kind, share) for kind, share in kinds if kind.people in people]


def train(trainer: Trainer, data: Data, held: Data, budget: Budget, log: RunLog, *, at_most: float = math.inf) -> None:
    """Trains until the budget is spent."""
    generator = torch.Generator(trainer.device).manual_seed(trainer.steps + 1)
    dice = torch.Generator().manual_seed(trainer.steps + 1)
    kinds = available(SHARES, data.clips)
    begun, recent = trainer.steps, []
    for step, fraction in budget.steps(trainer.device, at_most):
        kind = pick(kinds, float(torch.rand((), generator=dice))) if step else MAIN
        value = trainer.step(data, kind, cosine(fraction, 0.01), generator)
        if kind == MAIN:
            recent.append(value)
        if log.due():
            mean = float(torch.stack(recent).mean()) if recent else float("nan")
            recent.clear()
            log(f"dit {trainer.steps} loss {mean:.4f} {(trainer.steps - begun) / max(1e-9, budget.spent):.2f} it/s")
        if trainer.steps % 1500 == 0:
            log("held-out loss with right and swapped voices: {:.4f} {:.4f}".format(*trainer.judge(held)))


def finish(trainer: Trainer, data: Path, held: Data, out: Path, log: RunLog) -> None:
    """Writes the averaged network and shows held-out clips."""
    trainer.average.swap()
    save_parts(trainer.dit.state_dict(), out, "dit")
    (out / "dit_config.json").write_text(json.dumps(asdict(trainer.config), indent=1))
    log("held-out loss with right and swapped voices: {:.4f} {:.4f}".format(*trainer.judge(held)))
    with torch.compiler.set_stance("force_eager"):
        preview(trainer.dit, load_vae(data, trainer.device), held.clips, held.voices, out / "dit_sheet.jpg")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=480, help="of the whole training")
    parser.add_argument("--at-most", type=float, default=math.inf, help="seconds of this run; the next one goes on")
    parser.add_argument("--config", choices=tuple(DITS), default=DIT)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    log = RunLog(options.out / "dit_log.txt")
    fast_kernels()
    data, held = Data.load(options.data, "", device), Data.load(options.data, "held_", device)
    config = fit_audio(DITS[options.config], *data.voices.features.shape[1:])
    trainer = Trainer(config, device, compiled=not options.no_compile and device.type == "cuda", rate=options.rate)
    log(f"{data.clips.count} clips; dit {options.config}: {millions(trainer.dit):.2f} M")
    checkpoint = options.out / "dit_checkpoint.pt"
    spent = trainer.resume(checkpoint) if checkpoint.exists() else 0.0
    budget = Budget(options.seconds, spent)
    train(trainer, data, held, budget, log, at_most=options.at_most)
    trainer.save(checkpoint, budget.spent)
    log(f"trained {trainer.steps} steps")
    if budget.over:
        finish(trainer, options.data, held, options.out, log)


if __name__ == "__main__":
    main()
