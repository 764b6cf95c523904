"""Trains nano's transformer on latents: `python -m training.nano.train_dit DATA OUT --seconds 480`.

DATA holds what `training.nano.encode` writes, and the VAE. OUT receives a checkpoint to go on from every minute and,
when the time of the training or of this run is over, `dit-*.safetensors` (averaged weights), `dit_config.json`,
`dit_progress.json` and `dit_sheet.jpg`. Where weights and their progress lie, but no checkpoint, it goes on from them.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import EVERY, FIRST, DiTConfig
from infinitetalk.diffusion.schedule import STEPS_OF_TRAINING
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.dit_blocks import VELOCITY
from training import checkpoint, parallel
from training.checkpoint import Progress, Rhythm
from training.clock import Budget, RunLog, cosine, warm
from training.ema import Average
from training.graphs import CapturedStep
from training.nano.chains import FRESH, LENGTH, POOL, Chains
from training.nano.flow import Batch, Kind, Levels, Remake, assemble, draw, loss, noise_levels
from training.nano.growing import grown
from training.nano.kernels import use_fastest
from training.nano.latents import ClipLatents
from training.nano.preview import Told, follow, load_vae, preview
from training.nano.reading import WEIGHT, WINDOWS, MouthReader, begin
from training.nano.settings import DITS, EDITIONS, RATE, SHARE_OF_WARM_RATE, WINDOW, Candidate, Edition, fit_audio
from training.nano.train_vae import fast_kernels, millions
from training.nano.voices import VoiceBank
from training.optimiser import MuonAdam
from training.parts import load_parts, save_parts
from training.speech.encoder import MOUTH

DECAY = 0.02
AVERAGE = 0.9985
UNTAUGHT = 500
"""Steps after which the network's own beginnings are worth going on from."""
REMADE_IN = 3
"""Steps in which it makes them."""
HARD = 0.3
"""Share of noise below which a network that names the clean video is not pressed harder: an error of it counts as much
more in a velocity as there is less noise, and hardly any step is made from there."""
APART = 1_000_003
"""Between the seeds of processes that train together."""
TOGETHER = 200
"""Steps after which such processes are given the same weights again: equal updates are rounded differently."""
CLOSE = 0.8
"""Share of noise up to which heads stay where the clip has them."""
LATENTS = (WINDOW - 1) // 4 + 1
MAIN, PAIRS = Kind(people=1, latents=LATENTS, batch=64), Kind(people=2, latents=LATENTS, batch=48)
CHAINED = Kind(people=1, latents=LENGTH, batch=64, chained=True)
SHARES = ((MAIN, 0.64), (CHAINED, 0.16), (PAIRS, 0.08), (Kind(3, LATENTS, 32), 0.03),
          (Kind(1, 13, 64), 0.03), (Kind(1, 9, 64), 0.02), (Kind(1, 5, 64), 0.02), (Kind(1, 2, 64), 0.02))  # fmt: skip
"""What batches hold, and how many of them: whole windows of one face above all."""
COMPILED = (MAIN, PAIRS)
"""The frequent kinds. Compiling each of the others would cost more than it saves."""


@dataclass(frozen=True, slots=True)
class Data:
    """Latents and voices on one device."""

    clips: ClipLatents
    voices: VoiceBank
    chains: Chains | None = None

    @staticmethod
    def load(folder: Path, prefix: str, device: torch.device, key_frame: str = FIRST) -> "Data":
        """Reads the training clips (no prefix), which also come as chains, or the held-out ones (`held_`).

        Args:
            key_frame: of the transformer's configuration.
        """
        paths = [folder / f"{prefix}latents.pt"] if prefix else sorted((folder / "latents").glob("*.pt"))
        clips, voices = ClipLatents.load(paths, device), VoiceBank.load(folder / f"{prefix}voices.pt", device)
        clips = clips.shown_always() if key_frame == EVERY else clips
        return Data(clips, voices, None if prefix else Chains.begin(clips, voices, load_vae(folder, device)))


class Trainer:
    """A transformer with its optimiser and average.

    Blocks are compiled for the kinds in `compiled`; with `capture`, steps of the kind `main` (`MAIN` by
    default) become one CUDA graph.
    """

    untaught = UNTAUGHT

    def __init__(
        self, config: DiTConfig, device: torch.device, *, compiled: Sequence[Kind], rate: float = RATE, seed: int = 0,
        capture: bool = False, main: Kind | None = None,
    ) -> None:  # fmt: skip
        self.config, self.device, self.compiled, self.main = config, device, compiled, main or MAIN
        self.dit = AudioDiT(config)
        self.dit.init_weights(torch.Generator().manual_seed(seed))
        self.dit.to(device)
        self.reader = MouthReader(config, len(MOUTH)).to(device)
        self.optimiser = MuonAdam(
            nn.ModuleDict({"dit": self.dit, "reader": self.reader}), rate, chosen=_in_blocks, decay=DECAY
        )
        self.average = Average(self.dit, AVERAGE, every=2)
        self.steps = self.begun = 0
        self.error = torch.zeros(())
        self.dice = torch.Generator().manual_seed(seed)
        self._learn_main = CapturedStep(self._learn, capture=capture and device.type == "cuda")
        if compiled:
            for block in self.dit.blocks:
                block.compile(dynamic=False)

    def step(self, data: Data, kind: Kind, share: float, generator: torch.Generator) -> Tensor:
        """One training step at this share of the peak rate; returns the loss."""
        self.optimiser.set_rate(share * warm(self.steps - self.begun, 200))
        batch = self.batch(data, kind, generator)
        learn = self._learn_main if kind == self.main else self._learn
        people = batch.audio.shape[1]
        compiled = kind in self.compiled and kind.people == people
        with torch.compiler.set_stance("default" if compiled else "force_eager"):
            given = (batch.noisy, batch.timestep, batch.condition, batch.audio, batch.target, batch.weight)
            spoken = data.voices.sample(4 * kind.latents - 3, WINDOWS, generator)
            value, self.error = learn(*given, *spoken, *(() if batch.masks is None else (batch.masks,)))
        self.steps += 1
        self.average.update(self.steps)
        return value

    def batch(self, data: Data, kind: Kind, generator: torch.Generator) -> Batch:
        """What a step learns from."""
        batch = self.draw(data, kind, generator)
        if self.config.prediction == VELOCITY:
            return batch
        level = batch.timestep.view(-1, 1, 1, 1, 1) / STEPS_OF_TRAINING
        return replace(batch, weight=batch.weight * (level / level.clamp(min=HARD)) ** 2)

    def draw(
        self, data: Data, kind: Kind, generator: torch.Generator, *, dropout: float = 0.12,
        levels: Levels = noise_levels,
    ) -> Batch:  # fmt: skip
        """A random batch: of chains that go on with the network as it is now, or of clips.

        Raises:
            ValueError: chains are wanted, and the data have none.
        """
        if not kind.chained or self.steps - self.begun < self.untaught:
            return draw(kind, data.clips, data.voices, generator, dice=self.dice, dropout=dropout, levels=levels,
                        remake=self.remake(generator))  # fmt: skip
        if data.chains is None:
            raise ValueError("batches of chains need Data with chains")
        # The first time all of them begin.
        rounds = 1 if data.chains.turn else POOL // FRESH
        for _ in range(rounds):
            data.chains.grow(self.dit, self.way(CLOSE), generator)
        return data.chains.batch(kind, generator, dropout=dropout, levels=levels)

    def remake(self, generator: torch.Generator) -> Remake | None:
        """In half of the batches, what makes worn beginnings anew as the network would: with its own mistakes.

        They are made noisy, all but the first latent, and denoised by the network as it is now. Before it has learned
        anything, in none.
        """
        if self.steps - self.begun < self.untaught or float(torch.rand((), generator=self.dice)) < 0.5:
            return None

        def made(rough: Tensor, condition: Tensor, audio: Tensor) -> Tensor:
            levels = self.way()
            noise = torch.randn(rough.shape, generator=generator, device=rough.device)
            noisy = (1 - levels[0]) * rough + levels[0] * noise
            times = [level * STEPS_OF_TRAINING for level in levels]
            with torch.compiler.set_stance("force_eager"):
                return follow(self.dit, Told(condition, audio), noisy, times, rough[:, :, :1])

        return made

    def way(self, limit: float = 0.95) -> list[float]:
        """Falling shares of noise from `limit` at most to 0, by which the network makes something anew."""
        most = 0.4 + (limit - 0.4) * float(torch.rand((), generator=self.dice))
        return [most * (1 - step / REMADE_IN) for step in range(REMADE_IN + 1)]

    def _learn(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Forward, backward and update for a batch, spoken windows with their moves, and masks if there are any.

        Returns:
            The flow's loss, and the reader's error.
        """
        noisy, timestep, condition, audio, target, weight, heard, moves, *more = given
        masks = more[0] if more else None
        self.optimiser.forget_gradients()
        # A captured graph must not keep the cache of cast weights.
        on_gpu = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            velocity = self.dit(noisy, timestep, condition=condition, audio=audio, masks=masks)
            error = self.reader(self.dit.audio_proj(heard), moves)
        value = loss(velocity, Batch(noisy, timestep, condition, audio, masks, target, weight))
        (value + WEIGHT * error).backward()
        self.optimiser.step()
        return value.detach(), error.detach()

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
        state = {"dit": self.dit.state_dict(), "reader": self.reader.state_dict(),
                 "average": self.average.state(), "steps": self.steps,
                 "optimiser": self.optimiser.state_dict(), "spent": spent}  # fmt: skip
        checkpoint.save(state, path)

    def resume(self, path: Path) -> float:
        """Goes on from a checkpoint and returns the seconds it has cost."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.dit.load_state_dict(state["dit"])
        self.reader.load_state_dict(state["reader"])
        self.average.load(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]
        self.dice.manual_seed(self.steps)
        return float(state["spent"])

    def begin_as(self, folder: Path) -> None:
        """Takes over what fits of another transformer's weights, in a folder as `training.nano.unpack` writes it."""
        old = DiTConfig.read(json.loads((folder / "dit_config.json").read_text(encoding="utf-8")))
        weights = grown(load_parts(folder, "dit"), self.dit.state_dict(), old, self.config)
        self.dit.load_state_dict(weights)
        self.average.load({name: value.to(self.device) for name, value in weights.items()})

    def adopt(self, folder: Path) -> float:
        """Goes on from a folder's averaged weights with a fresh optimiser; returns the seconds they cost, or 0."""
        progress = Progress.read(folder / "dit_progress.json")
        if progress is None:
            return 0.0
        weights = load_parts(folder, "dit")
        self.dit.load_state_dict(weights)
        self.average.load({name: value.to(self.device) for name, value in weights.items()})
        self.steps = self.begun = progress.steps
        return progress.spent


def _in_blocks(name: str, value: nn.Parameter) -> bool:
    return name.startswith("dit.blocks.") and value.dim() == 2


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


def train(
    trainer: Trainer, data: Data, held: Data, budget: Budget, log: RunLog, *,
    shares: Sequence[tuple[Kind, float]] | None = None, at_most: float = math.inf,
    keep: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Trains until the budget is spent, on batches of `SHARES` unless told otherwise; calls `keep` every minute."""
    generator = torch.Generator(trainer.device).manual_seed(trainer.steps + 1 + APART * parallel.rank())
    dice = torch.Generator().manual_seed(trainer.steps + 1)
    kinds = available(shares or SHARES, data.clips)
    rhythm = Rhythm(keep if parallel.first() else lambda: None)
    begun, before, recent = trainer.steps, budget.spent, []
    for step, fraction in budget.steps(trainer.device, at_most):
        if step % TOGETHER == 0:
            parallel.same([*trainer.dit.parameters(), *trainer.reader.parameters()])
        kind = pick(kinds, float(torch.rand((), generator=dice))) if step else trainer.main
        value = trainer.step(data, kind, cosine(fraction, 0.01), generator)
        if kind == trainer.main:
            recent.append(value.clone())  # a captured step overwrites its result
        if log.due():
            mean = float(torch.stack(recent).mean()) if recent else float("nan")
            recent.clear()
            pace = (trainer.steps - begun) / max(1e-9, budget.spent - before)
            log(f"dit {trainer.steps} loss {mean:.4f}, reader's error {float(trainer.error):.3f}, {pace:.2f} it/s")
        if trainer.steps % 1500 == 0:
            log("held-out loss with right and swapped voices: {:.4f} {:.4f}".format(*trainer.judge(held)))
        rhythm.beat()


def finish(
    trainer: Trainer, data: Path, held: Data, out: Path, log: RunLog, *, name: str = "dit",
    manner: Edition = EDITIONS["1"],
) -> None:  # fmt: skip
    """Writes the averaged network and shows held-out clips. The trainer keeps the averaged weights."""
    trainer.average.swap()
    save_parts(trainer.dit.state_dict(), out, name)
    (out / f"{name}_config.json").write_text(json.dumps(asdict(trainer.config), indent=1))
    right, swapped = trainer.judge(held)
    log(f"held-out loss with right and swapped voices: {right:.4f} {swapped:.4f}")
    (out / f"{name}_scores.json").write_text(json.dumps({"held_out": right, "swapped_voices": swapped}))
    with torch.compiler.set_stance("force_eager"):
        preview(trainer.dit, load_vae(data, trainer.device), held.clips, held.voices, out / f"{name}_sheet.jpg",
                manner=manner)  # fmt: skip


def tokens_of(config: DiTConfig, clips: ClipLatents) -> int:
    """Tokens of a whole window of such clips."""
    frames, rows, columns = config.patch_size
    return LATENTS // frames * (clips.video.shape[-2] // rows) * (clips.video.shape[-1] // columns)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=480, help="of the whole training")
    parser.add_argument("--at-most", type=float, default=math.inf, help="seconds of this run; the next one goes on")
    parser.add_argument("--config", type=Candidate.parse, help="NAME or NAME@RATE; default what `compare` chose")
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="1")
    # The second name: torch.distributed.run takes the first for one of its own.
    parser.add_argument("--start", "--start-from", type=Path, help="folder with another transformer to begin as")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--graph", action="store_true", help="capture the frequent step as one CUDA graph")
    parser.add_argument(
        "--careful", action="store_true", help="compile one kind of batches only, torch's own attention, no graph"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = parallel.begin(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    log = RunLog(options.out / "dit_log.txt")
    fast_kernels()
    edition = EDITIONS[options.edition]
    choice = options.config or Candidate.chosen(options.data, edition.dit)
    shown = DITS[choice.name].key_frame
    data, held = Data.load(options.data, "", device, shown), Data.load(options.data, "held_", device, shown)
    config = fit_audio(DITS[choice.name], *data.voices.features.shape[1:])
    main_kind = MAIN.times(edition.batches)
    kinds = [kind.times(edition.batches) for kind in (COMPILED[:1] if options.careful else COMPILED)]
    if device.type == "cuda" and not options.careful:
        use_fastest(config, main_kind.batch, tokens_of(config, data.clips), device, log)
    compiled = kinds if device.type == "cuda" and not options.no_compile else ()
    rate = choice.rate * (SHARE_OF_WARM_RATE if options.start else 1.0)
    trainer = Trainer(config, device, compiled=compiled, rate=rate, capture=options.graph and not options.careful,
                      main=main_kind)  # fmt: skip
    log(f"{data.clips.count} clips; dit {choice}: {millions(trainer.dit):.2f} M")
    place = options.out / "dit_checkpoint.pt"
    spent = trainer.resume(place) if place.exists() else trainer.adopt(options.out)
    if not spent:
        begun = time.monotonic()
        if options.start:
            trainer.begin_as(options.start)
        begin(trainer.dit.audio_proj, trainer.reader, data.voices, frames=WINDOW, seed=0, log=log,
              keep=options.start is not None)  # fmt: skip
        spent = time.monotonic() - begun
    budget = Budget(options.seconds, spent)
    train(trainer, data, held, budget, log, shares=[(kind.times(edition.batches), share) for kind, share in SHARES],
          at_most=options.at_most, keep=lambda: trainer.save(place, budget.spent))  # fmt: skip
    if parallel.first():
        trainer.save(place, budget.spent)
        log(f"trained {trainer.steps} steps in {budget.spent:.0f} s")
        finish(trainer, options.data, held, options.out, log)
        Progress(budget.spent, budget.seconds, trainer.steps, budget.over).write(options.out / "dit_progress.json")
    parallel.end()


if __name__ == "__main__":
    main()
