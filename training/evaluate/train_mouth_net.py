"""Teaches a network to read mouths: `python -m training.evaluate.train_mouth_net DATA CORPUS OUT --seconds 75`.

DATA is what `training.nano.make_data` rendered from CORPUS. The network learns from true renders alone, among them some
that went through nano's VAE; most are blurred, noisy, in other colours and placed inexactly: so a soft picture is no
harder for it. OUT receives `mouth_net.safetensors`, for `training/checkpoints`, and a log, which says how well it reads
people that it did not learn from.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.evaluate.series import correlation
from training.clock import Budget, RunLog, cosine, warm
from training.evaluate.mouth_net import EDGE, WEIGHTS, Floats, MouthNet, MouthReader, cut, save, squares
from training.evaluate.probes import COLUMNS, SHAPES
from training.heads.blendshapes import JAW_OPEN
from training.heads.dataset import ClipOptions, SampledClip, Split, sampled_clips
from training.heads.geometry import HeadMesh, Movement
from training.nano.make_data import mouth_tracks
from training.nano.settings import EDITIONS, Edition
from training.nano.store import Clips, load
from training.nano.voices import spoken

VERTICES: Final = (20, 63, 2575, 3560, 169, 134, 312, 286, 2783, 1661, 4066)
"""The head's vertices at `ANCHORS`: those that lie nearest to the landmarks on true renders."""
WIDE: Final = 96
"""Pixels of the squares that are kept; the network's are cut out of them."""
REACH: Final = 1.4
"""Their edge, relative to the network's."""
THROUGH_VAE: Final = 3
"""Of so many clips one is also kept as nano's VAE shows it."""
KEPT: Final = 24
"""Clips of the training people that only judge, at most a tenth of all."""
STILL: Final = 0.02
"""Spread of a shape below which a clip says nothing about it."""
RATE: Final = 2e-3
BATCH: Final = 16
WARM: Final = 100
"""Steps in which the rate rises."""

Look = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Makes a video of a video, as a VAE does."""


@dataclass(frozen=True, slots=True)
class Examples:
    """n clips: mouths and what they do."""

    mouths: Tensor
    """(n, F, 3, WIDE, WIDE) uint8"""
    shapes: Tensor
    """(n, F, 6) true weights"""

    @staticmethod
    def of(items: Sequence[tuple[Tensor, Tensor]]) -> "Examples":
        """Clips of the same length together."""
        mouths, shapes = zip(*items, strict=True)
        return Examples(torch.stack(mouths), torch.stack(shapes))


@dataclass(frozen=True, slots=True)
class Shelf:
    """A store of rendered clips and what they were rendered from."""

    clips: Clips
    speech: Sequence[Floats]
    split: Split
    seed: int
    edition: Edition
    workers: int = 0

    def alone(self) -> NDArray[np.int64]:
        """Clips of one person, which are whole."""
        return np.flatnonzero(self.clips.people == 1)

    def sampled(self, indices: Sequence[int]) -> Iterator[tuple[int, SampledClip]]:
        """Those clips as they were thought of before they were drawn.

        Raises:
            SystemExit: the store's clips were rendered from something else.
        """
        options = ClipOptions(frames=self.clips.jaw.shape[-1] - 1, varied=self.edition.varied, calm=self.edition.calm)
        drawn = sampled_clips(indices, self.speech, seed=self.seed, split=self.split, options=options,
                              workers=self.workers)  # fmt: skip
        for index, item in zip(indices, drawn, strict=True):
            jaw = item.spec.people[0].motion.weights[:, JAW_OPEN]
            if not np.allclose(jaw, self.clips.jaw[index, 0], atol=1e-4):
                raise SystemExit(f"{self.split} clip {index} was rendered from another corpus, or with another --seed "
                                 "or --edition: give those of make_data")  # fmt: skip
            yield index, item


def anchors(mesh: HeadMesh, clip: SampledClip, size: int) -> Floats:
    """Where `ANCHORS` are in all frames but the reference, by the head's geometry: (F, 11, 2) in pixels."""
    person = clip.spec.people[0]
    motion = person.motion
    parts = (torch.from_numpy(part[:-1, None]).to(mesh.device) for part in (motion.weights, motion.pose, motion.sway))
    with torch.no_grad():
        posed = mesh.pose(mesh.at_rest([person.identity]), Movement(*parts), [person.place], size)
    points: Floats = posed.screen[:, 0, list(VERTICES)].cpu().numpy()
    return points


def gathered(shelf: Shelf, indices: Sequence[int], mesh: HeadMesh, look: Look | None, stop: float) -> Examples:
    """Examples of those clips, and of every third one through the VAE, as many as there is time for; at least one.

    Args:
        stop: on `time.monotonic`'s clock.
    """
    items: list[tuple[Tensor, Tensor]] = []
    for number, (index, clip) in enumerate(shelf.sampled(indices)):
        frames = np.array(shelf.clips.frames[index, :-1])
        maps = torch.from_numpy(squares(anchors(mesh, clip, shelf.clips.size))).to(mesh.device)
        shapes = torch.from_numpy(clip.spec.people[0].motion.weights[:-1, COLUMNS]).to(mesh.device)
        shown = [frames] if look is None or number % THROUGH_VAE else [frames, look(frames)]
        for video in shown:
            mouths = cut(torch.from_numpy(video).to(mesh.device), maps, WIDE, REACH)
            items.append((mouths.round().to(torch.uint8), shapes))
        if time.monotonic() > stop:
            break
    return Examples.of(items)


def through_vae(model: str, device: str) -> Look:
    """What a model's VAE makes of a video."""
    # The engine is needed for this alone.
    from infinitetalk.engine.codec import decode, encode
    from infinitetalk.engine.engine import Engine
    from infinitetalk.engine.results import rgb

    parts = Engine.from_pretrained(model, device=device).model

    @torch.inference_mode()
    def look(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        video = torch.from_numpy(frames).to(parts.device).permute(3, 0, 1, 2)[None] / 127.5 - 1
        return rgb(decode(parts.vae, encode(parts.vae, video))[0].cpu())

    return look


def _normal(like: Tensor, *shape: int) -> Tensor:
    return torch.randn(*shape, device=like.device)


def _wandering(like: Tensor, clips: int, frames: int) -> Tensor:
    """Numbers (clips, frames) of a spread of about 1, half of which change slowly and half from frame to frame."""
    slow = F.interpolate(_normal(like, clips, 1, max(2, frames // 8)), size=frames, mode="linear", align_corners=True)
    return 0.9 * slow[:, 0] + 0.5 * _normal(like, clips, frames)


def placed(mouths: Tensor) -> Tensor:
    """The network's squares (B, F, 3, EDGE, EDGE) out of wide ones, as inexact as landmarks, half of them mirrored."""
    count, frames = mouths.shape[:2]
    scale = torch.exp(0.08 * _normal(mouths, count, 1) + 0.012 * _wandering(mouths, count, frames)) / REACH
    turn = 0.06 * _normal(mouths, count, 1) + 0.012 * _wandering(mouths, count, frames)
    across, down = (0.05 * _normal(mouths, count, 1) + 0.02 * _wandering(mouths, count, frames) for _ in range(2))
    mirror = torch.where(_normal(mouths, count, 1) < 0, -1.0, 1.0)
    tall = torch.exp(0.05 * _normal(mouths, count, 1))
    c, s = scale * turn.cos(), scale * turn.sin()
    rows = [torch.stack([c * mirror, -s * tall, across], -1), torch.stack([s * mirror, c * tall, down], -1)]
    grid = F.affine_grid(torch.stack(rows, 2).flatten(0, 1), [count * frames, 3, EDGE, EDGE], align_corners=False)
    return _seen(mouths, grid)


def worn(shown: Tensor) -> Tensor:
    """Squares as a network draws them at times: softer, noisy, in other colours, a little of each."""
    count, frames, _, edge, _ = shown.shape
    one = (count, 1, 1, 1, 1)
    flat = shown.flatten(0, 1)
    softer = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1)
    softest = F.avg_pool2d(F.pad(softer, (2, 2, 2, 2), mode="replicate"), 5, 1)
    level = torch.rand(*one, device=shown.device) * 1.6
    near, far = softer.view_as(shown), softest.view_as(shown)
    soft = torch.where(level < 1, torch.lerp(shown, near, level.clamp(max=1)), torch.lerp(near, far, level - 1))
    coarse = F.interpolate(_normal(shown, count * frames, 3, 8, 8), size=(edge, edge), mode="bilinear")
    fine, rough = 8 * torch.rand(2, *one, device=shown.device).square()
    noise = fine * _normal(shown, *shown.shape) + rough * coarse.view_as(shown)
    tint = 1 + 0.15 * _normal(shown, *one) + 0.05 * _normal(shown, count, 1, 3, 1, 1)
    flicker = 3 * _wandering(shown, count, frames).view(count, frames, 1, 1, 1)
    seen: Tensor = soft * tint + noise + flicker + 12 * _normal(shown, *one)
    return seen


def middle(mouths: Tensor) -> Tensor:
    """The network's squares out of wide ones, placed exactly."""
    grid = F.affine_grid(torch.eye(2, 3, device=mouths.device)[None] / REACH, [1, 3, EDGE, EDGE], align_corners=False)
    return _seen(mouths, grid.expand(mouths.shape[0] * mouths.shape[1], -1, -1, -1))


def _seen(mouths: Tensor, grid: Tensor) -> Tensor:
    shown = F.grid_sample(mouths.flatten(0, 1).float(), grid, padding_mode="border", align_corners=False)
    return shown.view(*mouths.shape[:2], *shown.shape[1:])


def loss(told: Tensor, shapes: Tensor, spread: Tensor) -> Tensor:
    """Squared error in spreads, and how far each clip's correlation is from 1 where something moves."""
    wanted = shapes / spread
    error = (told - (wanted - wanted.mean((0, 1)))).square().mean()
    one, two = told - told.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    likeness = (one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1) + 1e-3)
    moving = (shapes.std(1) > STILL).float()
    wrong: Tensor = error + ((1 - likeness) * moving).sum() / moving.sum().clamp(min=1)
    return wrong


@torch.inference_mode()
def judged(net: MouthNet, examples: Examples) -> NDArray[np.float64]:
    """Mean Pearson's r of each shape over the clips in which it moves."""
    net.eval()
    rows = []
    for mouths, shapes in zip(examples.mouths, examples.shapes, strict=True):
        told, truth = net(middle(mouths[None]))[0].float().cpu().numpy(), shapes.cpu().numpy()
        rows.append([correlation(told[:, one], truth[:, one]) if truth[:, one].std() > STILL else np.nan
                     for one in range(len(SHAPES))])  # fmt: skip
    net.train()
    return np.asarray(np.nanmean(rows, 0), np.float64)


def report(net: MouthNet, name: str, examples: Examples) -> str:
    """A line of the log."""
    found = judged(net, examples)
    each = ", ".join(f"{shape.removesuffix('Left')} {value:.3f}" for shape, value in zip(SHAPES, found, strict=True))
    return f"{name}, {len(examples.mouths)} clips: {each}; the five {found[1:].mean():.3f}"


def train(examples: Examples, judges: dict[str, Examples], budget: Budget, log: RunLog, batch: int = BATCH) -> MouthNet:
    """A network that reads `examples`' people, and hopefully others."""
    torch.manual_seed(0)
    device = examples.mouths.device
    net = MouthNet().to(device)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.02)
    spread = examples.shapes.flatten(0, 1).std(0).clamp(min=STILL)
    step = 0
    for step, fraction in budget.steps(device):
        for group in optimiser.param_groups:
            group["lr"] = RATE * warm(step, WARM) * cosine(fraction)
        chosen = torch.randint(len(examples.mouths), (batch,), device=device)
        shown = placed(examples.mouths[chosen])
        shown = worn(shown) if step % 4 else shown
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            told = net(shown)
        wrong = loss(told.float(), examples.shapes[chosen], spread)
        optimiser.zero_grad()
        wrong.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if log.due():
            now = (f"{name}: {judged(net, some)[1:].mean():.3f}" for name, some in judges.items())
            log(f"step {step}, loss {wrong.item():.3f}; " + "; ".join(now))
    log(f"{step + 1} steps")
    return net


def prepared(options: argparse.Namespace, log: RunLog) -> tuple[Examples, dict[str, Examples]]:
    """What to learn from, and what only judges: other clips, and other people."""
    edition, mesh = EDITIONS[options.edition], HeadMesh(torch.device(options.device))
    look = None if options.model == "none" else through_vae(options.model, options.device)
    speech, unseen = (mouth_tracks(spoken(options.corpus, name), seed=1) for name in ("train", "test"))
    known = Shelf(load(options.data / "clips"), speech, "train", options.seed, edition)
    others = Shelf(load(options.data / "held"), unseen, "heldout", 0, edition)
    index = known.alone()[: options.clips]
    kept = min(KEPT, max(1, len(index) // 10))
    if len(index) <= kept:
        raise SystemExit(f"{options.data / 'clips'} has {len(index)} finished clips of one person: render more of them")
    judges, never = {}, float("inf")
    for name, shelf, some in (("clips kept back", known, index[-kept:]), ("held-out people", others, others.alone())):
        if len(some):
            judges[name] = gathered(shelf, some.tolist(), mesh, None, never)
            if look is not None:
                judges[f"{name}, through the VAE"] = gathered(shelf, some[:THROUGH_VAE].tolist(), mesh, look, never)
    busy = replace(known, workers=options.workers)
    examples = gathered(busy, index[:-kept].tolist(), mesh, look, time.monotonic() + options.at_most)
    log(f"{len(examples.mouths)} clips to learn from, those through the VAE among them")
    return examples, judges


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=75, help="of training")
    parser.add_argument("--at-most", type=float, default=60, help="seconds in which clips are got ready before")
    parser.add_argument("--seed", type=int, default=0, help="of make_data")
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="2", help="of make_data")
    parser.add_argument("--clips", type=int, help="use so many at most")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--workers", type=int, default=0, help="processes that recall what clips show")
    parser.add_argument("--model", default="nano", help="whose VAE; none: without one")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = RunLog(options.out / "mouth_net_log.txt")
    examples, judges = prepared(options, log)
    path = options.out / WEIGHTS.name
    save(train(examples, judges, Budget(options.seconds), log, options.batch), path)
    stored = MouthReader.load(path).net.to(options.device)
    for name, some in judges.items():
        log(report(stored, name, some))


if __name__ == "__main__":
    main()
