"""Trains nano's video VAE on rendered clips: `python -m training.nano.train_vae DATA OUT --seconds 430`.

DATA holds `clips/` and `held/` as `training.nano.make_data` writes them. OUT receives `vae-1.safetensors`,
`vae_config.json` (with the latents' mean and spread), `vae_log.txt`, `vae_sheet.jpg` and a checkpoint to go on from.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import VAEConfig
from infinitetalk.models.vae import VideoVAE
from training import checkpoint
from training.checkpoint import Progress, Rhythm
from training.clock import Budget, RunLog, cosine, warm
from training.ema import Average
from training.graphs import CapturedStep
from training.nano.pictures import PictureBank
from training.nano.pixels import Crop, PixelBank, box_mask, psnr, to_bytes, to_video
from training.nano.settings import EDITIONS, SHARE_OF_WARM_RATE, VAES
from training.nano.store import FRAMES, SIZE, load
from training.optimiser import MuonAdam
from training.parts import load_parts, save_parts
from training.sheets import save_rows

RATE, MUON_SCALE = 8e-4, 2.0
GRADIENT, CHANGE, KL = 0.6, 0.6, 3e-4
"""Weights of edges, of changes from frame to frame, and of the latents' divergence."""
AVERAGE = 0.998
ENDS = 17
"""Frames at a window's beginning and end that are judged apart."""
TEXTURES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Phase:
    """One shape of crops, used until this share of the time is over."""

    until: float
    crop: Crop


PHASES = (
    Phase(0.62, Crop(size=64, frames=17, batch=32)),
    Phase(0.82, Crop(size=128, frames=17, batch=8)),
    # Whole windows last: late frames see more past than short crops have.
    Phase(1.0, Crop(size=128, frames=FRAMES, batch=2)),
)


def large_phases(size: int) -> tuple[Phase, ...]:
    """For larger pictures, by a VAE that knows smaller ones already.

    Mostly whole windows: one that saw 17 frames for three quarters of its time had wrong colours from the twentieth
    frame on.
    """
    return (
        Phase(0.25, Crop(size=SIZE, frames=17, batch=8)),
        Phase(0.65, Crop(size=SIZE, frames=FRAMES, batch=2)),
        Phase(1.0, Crop(size=size, frames=FRAMES, batch=1)),
    )


@dataclass(frozen=True, slots=True)
class Means:
    """How the training goes, over the last batch."""

    l1: Tensor
    marked: Tensor
    gradient: Tensor
    kl: Tensor
    norm: Tensor

    def text(self) -> str:
        """One line."""
        return (f"l1 {float(self.l1):.4f} mouth and eyes {float(self.marked):.4f} gradient {float(self.gradient):.4f} "
                f"kl {float(self.kl):.2f} norm {float(self.norm):.2f}")  # fmt: skip


class Trainer:
    """A VAE with its optimiser, average and captured step.

    With `decoder_only` the latents stay what they are, and so do their statistics in `config`.
    """

    def __init__(
        self, config: VAEConfig, device: torch.device, *, capture: bool, kl: float = KL, seed: int = 0,
        rate: float = RATE, decoder_only: bool = False,
    ) -> None:  # fmt: skip
        self.config, self.device, self.kl, self.decoder_only = config, device, kl, decoder_only
        self.vae = VideoVAE(config)
        self.vae.init_weights(torch.Generator().manual_seed(seed))
        self.vae.to(device)
        if decoder_only:
            for part in (self.vae.encoder, self.vae.conv1):
                part.requires_grad_(False)
        self.optimiser = MuonAdam(
            self.vae, rate, chosen=lambda _name, _value: True, muon_scale=MUON_SCALE, betas=(0.9, 0.99)
        )
        self.average = Average(self.vae, AVERAGE, every=4)
        self.capture = capture and device.type == "cuda"
        self.steps = 0
        self._step = CapturedStep(self.learn, capture=self.capture)
        self._shape: Crop | None = None

    def step(
        self, bank: PixelBank, crop: Crop, share: float, generator: torch.Generator, *, texture: int | None = None,
        pictures: PictureBank | None = None,
    ) -> Means:  # fmt: skip
        """One training step at this share of the peak rate, with textures of this scale and photographs if any."""
        if crop != self._shape:
            self._step, self._shape = CapturedStep(self.learn, capture=self.capture), crop
        self.optimiser.set_rate(share * warm(self.steps, 100))
        means = Means(*self._step(*bank.crops(crop, generator, texture=texture, pictures=pictures)))
        self.steps += 1
        self.average.update(self.steps)
        return means

    def learn(self, video: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Forward, backward and update for crops (B, 3, F, h, w) and weights (B, 1, 1, h, w)."""
        self.optimiser.forget_gradients()
        with half(self.device):
            mean, logvar = self.vae.moments(video)
            mean, logvar = mean.float(), logvar.float().clamp(-20, 4)
            drawn = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
            made = decode_raw(self.vae, drawn)
        error = (made - video).abs()
        gradient = edge_error(made, video, weight)
        kl = -0.5 * (1 + logvar - mean.square() - logvar.exp()).mean()
        steps = change_error(made, video, weight)
        loss = (error * weight).mean() + GRADIENT * gradient + CHANGE * steps + self.kl * kl
        loss.backward()
        norm = self.optimiser.step()
        marked = (weight > 1).float()
        at_marks = (error * marked).sum() / (marked.sum() * error.shape[1] * error.shape[2]).clamp(min=1)
        return tuple(value.detach() for value in (error.mean(), at_marks, gradient, kl, norm))

    def save(self, path: Path, spent: float) -> None:
        """Writes everything that `resume` needs."""
        state = {"vae": self.vae.state_dict(), "average": self.average.state(), "steps": self.steps,
                 "optimiser": self.optimiser.state_dict(), "spent": spent}  # fmt: skip
        checkpoint.save(state, path)

    def adopt(self, folder: Path) -> None:
        """Begins with the weights of an earlier training: the same shapes, another size of pictures."""
        weights = load_parts(folder, "vae")
        self.vae.load_state_dict(weights)
        self.average.load({name: value.to(self.device) for name, value in weights.items()})

    def resume(self, path: Path) -> float:
        """Goes on from a checkpoint and returns the seconds it has cost."""
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.vae.load_state_dict(state["vae"])
        self.average.load(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]
        return float(state["spent"])


def half(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU. Without the cache of cast weights, which a captured graph must not keep."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=False)


def decode_raw(vae: VideoVAE, latent: Tensor) -> Tensor:
    """Decodes latents (B, 16, T, h, w) before normalisation, whose statistics a captured graph must not copy."""
    video: Tensor = vae.decoder(vae.conv2(latent.permute(0, 2, 3, 4, 1)))
    return video.permute(0, 4, 1, 2, 3).float()


def edge_error(made: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean difference of neighbouring pixels' differences: keeps edges sharp."""
    difference = made - truth
    across = (difference[..., 1:] - difference[..., :-1]).abs() * weight[..., 1:]
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weight[..., 1:, :]
    return across.mean() + down.mean()


def change_error(made: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean difference of changes from frame to frame, of videos (B, 3, F, h, w) with F > 1.

    Without it the frames of one latent resemble each other, and the picture steps where the next latent begins.
    """
    difference = made - truth
    return ((difference[:, :, 1:] - difference[:, :, :-1]).abs() * weight).mean()


@torch.no_grad()
def spread(vae: VideoVAE, bank: PixelBank, clips: int = 192) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every latent channel over clips, (16,) each."""
    kept = []
    for begin in range(0, min(clips, len(bank.frames)), 4):
        with half(bank.frames.device):
            kept.append(vae.moments(to_video(bank.frames[begin : begin + 4, :FRAMES]))[0].float())
    latents = torch.cat(kept)
    return latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))


@torch.no_grad()
def reconstruct(vae: VideoVAE, frames: Tensor) -> Tensor:
    """Clips of bytes (n, F, size, size, 3) through the VAE and back."""
    made = []
    for clip in frames.split(2 if frames.shape[2] <= SIZE else 1):
        with half(frames.device):
            made.append(to_bytes(vae.decode(vae.encode(to_video(clip)).float())))
    return torch.cat(made)


def judge(vae: VideoVAE, bank: PixelBank) -> tuple[dict[str, float], Tensor]:
    """PSNR of held-out clips as a whole, at mouths, at eyes, of their first and last frames; and the clips as made."""
    truth = bank.frames[:, :FRAMES]
    made = reconstruct(vae, truth)
    mouth, eyes = (box_mask(boxes, bank.size, 0).amax(1)[:, None] for boxes in (bank.mouth, bank.eyes))
    scores = {"all": psnr(made, truth), "mouth": psnr(made, truth, mouth), "eyes": psnr(made, truth, eyes)}
    ends = {"begin": slice(ENDS), "end": slice(-ENDS, None)}
    return scores | {name: psnr(made[:, part], truth[:, part]) for name, part in ends.items()}, made


def finish(trainer: Trainer, bank: PixelBank, held: PixelBank, out: Path, log: RunLog) -> None:
    """Writes the averaged network with its latents' statistics, and shows held-out clips."""
    trainer.average.swap()
    config = trainer.config
    if not trainer.decoder_only:
        mean, deviation = spread(trainer.vae, bank)
        config = replace(config, mean=tuple(mean.tolist()), std=tuple(deviation.tolist()))
    vae = VideoVAE(config).to(trainer.device)
    vae.load_state_dict(trainer.vae.state_dict())
    vae.requires_grad_(False)
    save_parts(vae.state_dict(), out, "vae")
    (out / "vae_config.json").write_text(json.dumps(asdict(config), indent=1))
    scores, made = judge(vae, held)
    log(f"latent spread {[round(value, 2) for value in config.std]}")
    log(f"held-out PSNR {' '.join(f'{name} {value:.2f}' for name, value in scores.items())}")
    (out / "vae_scores.json").write_text(json.dumps(scores))
    shown = range(4, FRAMES, 8)
    rows = [clip[list(shown)] for pair in zip(held.frames[:8, :FRAMES], made[:8], strict=True) for clip in pair]
    save_rows(out / "vae_sheet.jpg", rows)


def train(
    trainer: Trainer,
    bank: PixelBank,
    budget: Budget,
    log: RunLog,
    *,
    phases: Sequence[Phase] = PHASES,
    at_most: float = math.inf,
    keep: Callable[[], None] = lambda: None,
    textured: bool = False,
    pictures: PictureBank | None = None,
) -> None:
    """Trains until the budget is spent, with foreign textures or photographs if wanted; calls `keep` every minute."""
    rhythm = Rhythm(keep)
    generator = torch.Generator(bank.frames.device).manual_seed(trainer.steps + 1)
    begun, before = trainer.steps, budget.spent
    for _, fraction in budget.steps(bank.frames.device, at_most):
        phase = next((phase for phase in phases if fraction < phase.until), phases[-1])
        texture = TEXTURES[trainer.steps % len(TEXTURES)] if textured else None
        means = trainer.step(bank, phase.crop, cosine(fraction), generator, texture=texture, pictures=pictures)
        if log.due():
            pace = (trainer.steps - begun) / max(1e-9, budget.spent - before)
            log(f"vae {trainer.steps} {phase.crop.size}x{phase.crop.frames} {means.text()} {pace:.2f} it/s")
        rhythm.beat()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=430, help="of the whole training")
    parser.add_argument("--at-most", type=float, default=math.inf, help="seconds of this run; the next one goes on")
    parser.add_argument("--config", choices=tuple(VAES), help="default the edition's")
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="1")
    parser.add_argument("--start", type=Path, help="folder with the weights of a VAE to begin with")
    parser.add_argument("--clips", type=int, default=None, help="use so many clips; default all")
    parser.add_argument("--pictures", type=Path, help="folder with photographs that are carried, too")
    parser.add_argument("--kl", type=float, default=KL)
    parser.add_argument(
        "--decoder-only",
        action="store_true",
        help="teach the decoder of --start alone: transformers that know its latents go on with it",
    )
    parser.add_argument("--no-graph", action="store_true", help="launch every kernel, capture nothing")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.decoder_only and not options.start:
        parser.error("--decoder-only needs --start, the folder of a VAE whose encoder is kept")
    if options.decoder_only and options.config:
        parser.error(f"--config {options.config}: with --decoder-only the VAE of --start says what it is; leave it out")
    device = torch.device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    log = RunLog(options.out / "vae_log.txt")
    fast_kernels()
    torch.manual_seed(0)
    edition = EDITIONS[options.edition]
    bank = PixelBank.take(load(options.data / "clips"), device, options.clips)
    held = PixelBank.take(load(options.data / "held"), device, 16 if edition.size == SIZE else 8)
    name, share = options.config or edition.vae, SHARE_OF_WARM_RATE if options.start else 1.0
    # Read also where a checkpoint goes on: it does not hold the latents' statistics.
    config = written_config(options.start) if options.decoder_only else VAES[name]
    trainer = Trainer(config, device, capture=not options.no_graph, kl=options.kl, rate=RATE * share,
                      decoder_only=options.decoder_only)  # fmt: skip
    log(f"{len(bank.frames)} clips; vae {name}: {millions(trainer.vae):.2f} M")
    place = options.out / "vae_checkpoint.pt"
    if options.start and not place.exists():
        trainer.adopt(options.start)
        log(f"before, held-out PSNR: {judge(trainer.vae, held)[0]}")
    budget = Budget(options.seconds, trainer.resume(place) if place.exists() else 0.0)
    pictures = PictureBank.load(options.pictures, device, edition.size) if options.pictures else None
    train(trainer, bank, budget, log, at_most=options.at_most, keep=lambda: trainer.save(place, budget.spent),
          phases=PHASES if bank.size == SIZE else large_phases(bank.size), textured=edition.varied,
          pictures=pictures)  # fmt: skip
    trainer.save(place, budget.spent)
    log(f"trained {trainer.steps} steps")
    if budget.over:
        finish(trainer, bank, held, options.out, log)
    Progress(budget.spent, budget.seconds, trainer.steps, budget.over).write(options.out / "vae_progress.json")


def written_config(folder: Path) -> VAEConfig:
    """Configuration of the VAE that a training wrote, its latents' statistics among it."""
    return VAEConfig.read(json.loads((folder / "vae_config.json").read_text(encoding="utf-8")))


def millions(network: nn.Module) -> float:
    """Parameters in millions."""
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def fast_kernels() -> None:
    """Lets float32 products use the GPU's matrix units."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True


if __name__ == "__main__":
    main()
