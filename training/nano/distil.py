"""Teaches nano's transformer to make in few steps, in one pass each, what it makes in many with guidance.

    python -m training.nano.distil DATA OUT --seconds 150

DATA holds what `training.nano.train_dit` read and wrote. The network that it wrote is the teacher, and the student
begins as the same. From a noisy video at one of the student's few noise levels the teacher goes on to the next one in
several small steps under guidance; the student learns to get there in one. OUT receives `few-*.safetensors` and
`few_config.json`, `few_progress.json`, `few_sheet.jpg`, and a checkpoint to go on from.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.diffusion.schedule import STEPS_OF_TRAINING, timesteps
from infinitetalk.models.dit import AudioDiT
from training import parallel
from training.checkpoint import Progress
from training.clock import Budget, RunLog
from training.nano.chains import LENGTH
from training.nano.flow import Batch, Kind
from training.nano.kernels import use_fastest
from training.nano.preview import Told, guided
from training.nano.settings import EDITIONS, RATE, Edition
from training.nano.train_dit import LATENTS, Data, Trainer, finish, tokens_of, train
from training.nano.train_vae import fast_kernels
from training.parts import load_parts

SUBSTEPS = 3
"""Steps of the teacher for one of the student's."""
GUIDANCE = 2.0
"""How strongly the teacher is guided by the sound."""
SHARE_OF_RATE = 0.2
"""Of the transformer's peak learning rate."""
LEAST = 0.01
"""Share of noise that a step must take away to be worth learning."""
MAIN = Kind(people=1, latents=LATENTS, batch=48)
SHARES = ((MAIN, 0.70), (Kind(1, LENGTH, 48, chained=True), 0.18), (Kind(2, LATENTS, 24), 0.08),
          (Kind(3, LATENTS, 16), 0.04))  # fmt: skip
NAME = "few"


class Distiller(Trainer):
    """A student with its teacher."""

    untaught = 0

    def __init__(
        self, teacher: AudioDiT, edition: Edition, device: torch.device, *, compiled: Sequence[Kind],
        rate: float = RATE * SHARE_OF_RATE, capture: bool = False,
    ) -> None:  # fmt: skip
        main = MAIN.times(edition.batches)
        super().__init__(teacher.config, device, compiled=compiled, rate=rate, capture=capture, main=main)
        self.dit.load_state_dict(teacher.state_dict())
        self.average.load({name: value.to(device) for name, value in teacher.state_dict().items()})
        self.teacher = teacher.to(device).requires_grad_(False)
        if compiled:
            for block in self.teacher.blocks:
                block.compile(dynamic=False)
        self.times = [time / STEPS_OF_TRAINING for time in timesteps(edition.steps, edition.shift)]
        self.levels = torch.tensor(self.times, device=device)
        """Shares of noise from 1 to 0: the student's steps lead from each to the next."""
        self.worth = int((self.levels.diff().abs() > LEAST).sum())
        """How many of these steps, the first ones, do anything: the schedule's last one is next to nothing."""

    def batch(self, data: Data, kind: Kind, generator: torch.Generator) -> Batch:
        """Noisy videos at the student's levels, and the velocity that leads to where the teacher gets."""

        def levels(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
            step = torch.randint(self.worth, (count,), generator=generator, device=device)
            return self.levels[step]

        batch = self.draw(data, kind, generator, dropout=0.0, levels=levels)
        on_gpu = self.device.type == "cuda"
        with (
            torch.no_grad(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu, cache_enabled=False),
            torch.compiler.set_stance("default" if kind in self.compiled else "force_eager"),
        ):
            return replace(batch, target=self.course(batch))

    def way(self, limit: float = 0.95) -> list[float]:
        """The student's own levels from any but the first on, none of them above `limit`."""
        least = next((step for step in range(1, self.worth) if self.times[step] <= limit), self.worth - 1)
        first = int(torch.randint(least, self.worth, (), generator=self.dice))
        return [*self.times[first : self.worth], 0.0]

    def course(self, batch: Batch) -> Tensor:
        """The mean velocity (B, 16, T, h, w) of the teacher between each video's level and the student's next one."""
        here = batch.timestep / STEPS_OF_TRAINING
        step = (self.levels[None] - here[:, None]).abs().argmin(dim=1)
        way = (here - self.levels[step + 1]).view(-1, 1, 1, 1, 1)
        made = batch.weight > 0  # latents that stay clean are no part of the way
        x, told = batch.noisy, Told(batch.condition, batch.audio, batch.masks)
        for part in range(SUBSTEPS):
            time = batch.timestep - way.flatten() * (STEPS_OF_TRAINING * part / SUBSTEPS)
            velocity = guided(self.teacher, x, time, told, GUIDANCE)
            x = torch.where(made, x - way / SUBSTEPS * velocity.float(), x)
        return (batch.noisy - x) / way


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=150, help="of the whole training")
    parser.add_argument("--at-most", type=float, default=math.inf, help="seconds of this run; the next one goes on")
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="2")
    parser.add_argument("--rate", type=float, default=RATE * SHARE_OF_RATE, help="peak learning rate (%(default)g)")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device, edition = parallel.begin(options.device), EDITIONS[options.edition]
    options.out.mkdir(parents=True, exist_ok=True)
    log = RunLog(options.out / f"{NAME}_log.txt")
    fast_kernels()
    teacher = AudioDiT(DiTConfig.read(json.loads((options.data / "dit_config.json").read_text(encoding="utf-8"))))
    teacher.load_state_dict(load_parts(options.data, "dit"))
    shown = teacher.config.key_frame
    data, held = Data.load(options.data, "", device, shown), Data.load(options.data, "held_", device, shown)
    main_kind = MAIN.times(edition.batches)
    if device.type == "cuda":
        use_fastest(teacher.config, main_kind.batch, tokens_of(teacher.config, data.clips), device, log)
    compiled = (main_kind,) if device.type == "cuda" and not options.no_compile else ()
    student = Distiller(teacher, edition, device, compiled=compiled, rate=options.rate)
    place = options.out / f"{NAME}_checkpoint.pt"
    budget = Budget(options.seconds, student.resume(place) if place.exists() else 0.0)
    shares = [(kind.times(edition.batches), share) for kind, share in SHARES]
    train(student, data, held, budget, log, shares=shares, at_most=options.at_most,
          keep=lambda: student.save(place, budget.spent))  # fmt: skip
    if parallel.first():
        student.save(place, budget.spent)
        log(f"trained {student.steps} steps in {budget.spent:.0f} s")
        finish(student, options.data, held, options.out, log, name=NAME, manner=edition)
        Progress(budget.spent, budget.seconds, student.steps, budget.over).write(options.out / f"{NAME}_progress.json")
    parallel.end()


if __name__ == "__main__":
    main()
