"""Which preset comes nearest to the speeds that the first notebook named for three cards, by the planner's formula.

python -m benchmarks.claims --table docs/performance.md        (writes the table into the document; a CPU, a second)

The notebook named frames a second at 480p without saying how they were measured. Here every preset at 640x640 is
planned on each card, and the quickest that fits is told: as an estimate wherever a rate of the calibration table is
one, which the planner says. Beside it is what the figure would need at least: operations for a new frame, which
follow from the shapes, against what the card's maker says that it can do.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.quantisation import put
from infinitetalk.core import footprint
from infinitetalk.core.calibration import Rates
from infinitetalk.core.cards import CARDS, Card
from infinitetalk.core.defaults import ModelDefaults
from infinitetalk.core.planner import Plan, Work, choose
from infinitetalk.core.presets import PLAIN, PRESETS, Preset
from infinitetalk.core.sizes import FPS, Pixels
from infinitetalk.diffusion.guidance import branches
from infinitetalk.engine.outlook import preset_networks
from infinitetalk.engine.planning import machine_of, words_of
from infinitetalk.runtime.device import AMPERE, Device

SIZE = Pixels(640, 640)
MARKS = "claims"


@dataclass(frozen=True, slots=True)
class Claim:
    """What the notebook said of a card."""

    card: str
    least: float
    most: float
    """Frames a second at 480p."""
    sheet: float
    """Operations a second in dense products of 16 bits, by NVIDIA's data sheet."""


CLAIMS = (
    Claim("t4", 0.5, 1.0, 65e12),
    Claim("l4", 2.0, 3.0, 121e12),
    Claim("a100-40gb", 5.0, 8.0, 312e12),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A preset on a card."""

    preset: str
    frames_per_second: float
    estimate: bool
    operations: float
    """Of the transformer and the VAE for a new frame."""
    steps: int
    passes: int


def device_of(card: Card) -> Device:
    """A card that is not here, as the planner asks for it."""
    dtype = torch.bfloat16 if card.capability >= AMPERE else torch.float16
    return Device(torch.device("cpu"), dtype, card.name, card.capability, card)


def work_of(preset: Preset) -> Work:
    """A picture and one voice, with the preset's own settings."""
    own = ModelDefaults(**dict(preset.defaults))
    return Work(
        size=SIZE,
        window_frames=own.window_frames,
        motion_frames=own.motion_frames,
        steps=own.steps,
        branches=len(branches(own.text_scale, own.audio_scale)),
        words=words_of(own.prompt, own.negative_prompt),
    )


def operations(preset: Preset, work: Work) -> float:
    """Of a window, for each of its new frames."""
    networks = preset_networks(preset)
    passes = work.steps * work.branches
    found = passes * footprint.forward_operations(networks.dit, work.size, work.window_frames, 1)
    found += footprint.coding_operations(networks.vae, work.size, work.window_frames, encode=False)
    found += footprint.coding_operations(networks.vae, work.size, work.motion_frames, encode=True)
    return found / (work.window_frames - work.motion_frames)


def answers(card: str) -> list[Answer]:
    """Every preset that fits a card, the quickest first."""
    machine = machine_of(device_of(CARDS[card]), imagined=True)
    found = []
    for preset in (PRESETS[name] for name in PLAIN):
        work = work_of(preset)
        plan = choose(preset_networks(preset), work, machine)
        if isinstance(plan, Plan):
            told = plan.prediction
            speed = FPS / told.seconds_per_second
            done = operations(preset, work)
            found.append(Answer(preset.name, speed, told.estimate, done, work.steps, work.branches))
    return sorted(found, key=lambda one: -one.frames_per_second)


def verdict(claim: Claim, found: Sequence[Answer], rate: float) -> str:
    """Whether the figure is reached, or why not.

    Args:
        found: the quickest first.
        rate: operations a second that the planner counts with.
    """
    best, least = found[0], min(found, key=lambda one: one.operations)
    if best.frames_per_second >= claim.least:
        return f"yes: `{best.preset}`"
    need = claim.least * least.operations
    return (
        f"no: {claim.least:g} frames/s of `{least.preset}`, which has the fewest operations, are {need / 1e12:.0f} "
        f"TFLOP/s; planned with {rate / 1e12:.0f}, in its data sheet {claim.sheet / 1e12:.0f}"
    )


def table() -> str:
    """All cards in Markdown."""
    head = "| card | the notebook's figure | nearest preset | steps x passes | frames/s | reached |"
    lines = [head, "|---|---|---|---|---|---|"]
    for claim in CLAIMS:
        found = answers(claim.card)
        best, rate = found[0], Rates.of(claim.card).products.value
        kind = "estimate" if best.estimate else "from measured rates"
        lines.append(
            f"| {CARDS[claim.card].name} | {claim.least:g} to {claim.most:g} | `{best.preset}` | "
            f"{best.steps} x {best.passes} | {best.frames_per_second:.2f} ({kind}) | {verdict(claim, found, rate)} |"
        )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, metavar="DOCUMENT")
    document: Path = parser.parse_args(words).table
    document.write_text(put(document.read_text(encoding="utf-8"), MARKS, table()), encoding="utf-8")


if __name__ == "__main__":
    main()
