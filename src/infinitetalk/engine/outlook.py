"""What this machine could do: every model and size, here or to be downloaded, with what it would take."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infinitetalk.core import footprint
from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults
from infinitetalk.core.memory import Tier
from infinitetalk.core.planner import Machine, Misfit, Networks, Plan, Work, choose
from infinitetalk.core.presets import Preset, Role
from infinitetalk.core.sizes import Buckets, Pixels
from infinitetalk.diffusion.guidance import branches
from infinitetalk.engine.planning import advice, named_bytes, networks_of, words_of
from infinitetalk.weights.folder import ModelFolder

_RANK = re.compile(r"rank(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One model at one size on one machine."""

    model: str
    here: bool
    """Whether its weights are on this machine."""
    size: str
    steps: int
    passes: int
    """Of the network in each step."""
    fits: bool
    tier: str
    """Where the blocks of the transformer live."""
    resident_blocks: int
    blocks: int
    frames_at_once: int | None
    vram: int
    """Bytes of GPU memory at the peak; 0 for a device that shares main memory."""
    vram_budget: int
    ram: int
    ram_budget: int
    seconds_per_second: float
    """Of work for a second of video."""
    waiting: float
    """Share of a step in which the device waits for weights."""
    estimate: bool
    """Whether nobody measured this card's speed."""
    lacking: str = ""
    """Whose memory is too small."""
    advice: str = ""
    """What would fit instead."""


def look(model: str, networks: Networks, work: Work, machine: Machine, *, here: bool, size: str) -> Outlook:
    """One model at one size."""
    found = choose(networks, work, machine)
    plan: Plan = found.plan if isinstance(found, Misfit) else found
    told, lodging = plan.prediction, plan.lodging
    return Outlook(
        model=model,
        here=here,
        size=size,
        steps=work.steps,
        passes=work.branches,
        fits=isinstance(found, Plan),
        tier=lodging.tier.value,
        resident_blocks=lodging.resident_blocks,
        blocks=networks.dit.num_layers,
        frames_at_once=lodging.frames_at_once,
        vram=0 if machine.vram is None else told.vram_peak,
        vram_budget=machine.vram or 0,
        ram=told.ram,
        ram_budget=machine.ram,
        seconds_per_second=told.seconds_per_second,
        waiting=told.waiting,
        estimate=told.estimate,
        lacking=found.memory if isinstance(found, Misfit) else "",
        advice=advice(networks, work, machine) if isinstance(found, Misfit) else "",
    )


def folders(found: Iterable[tuple[str, ModelFolder]], machine: Machine) -> Iterator[Outlook]:
    """Model folders on this machine, each at every size table that it has.

    Raises:
        ModelError: a weight file that is damaged or cannot be read.
    """
    for name, folder in found:
        networks = networks_of(folder)
        for table, size in _square(folder.buckets):
            yield look(name, networks, _work(folder.defaults, size), machine, here=True, size=table)


def presets(known: Iterable[Preset], machine: Machine) -> Iterator[Outlook]:
    """Models that can be downloaded; their networks are the 14B model's."""
    for preset in known:
        networks, defaults = preset_networks(preset), ModelDefaults(**dict[str, Any](preset.defaults))
        for table, size in _square(STANDARD_BUCKETS):
            yield look(preset.name, networks, _work(defaults, size), machine, here=False, size=table)


def preset_networks(preset: Preset) -> Networks:
    """The 14B model's networks, stored as the names of a preset's files say."""
    dit = DiTConfig()
    whole, blocks = footprint.transformer(dit).matrices, dit.num_layers
    sound = blocks * (2 * dit.dim**2 + 2 * dit.dim * dit.output_dim)
    names = {role: [file.name for file in preset.files if file.role is role] for role in Role}
    base, adapter = names[Role.BASE][-1:], names[Role.ADAPTER][-1:]
    shares = [whole - sound, sound] if adapter else [whole]
    text = names[Role.TEXT][-1:]
    return Networks(
        dit=dit,
        vae=VAEConfig(),
        speech=SpeechConfig(),
        text=TextConfig(),
        vision=VisionConfig(),
        dit_bytes=named_bytes([*base, *adapter], shares),
        text_bytes=named_bytes(text, [1] * len(text)),
        lora_rank=sum(int(rank) for name in names[Role.LORA] for rank in _RANK.findall(name)),
    )


def _square(tables: Mapping[str, Buckets]) -> list[tuple[str, Pixels]]:
    """Each size table's name, and its size nearest to a square."""
    return [(name, rows[min(rows, key=lambda ratio: abs(ratio - 1))]) for name, rows in tables.items()]


def _work(defaults: ModelDefaults, size: Pixels) -> Work:
    """One voice and a picture, with a model's own settings."""
    return Work(
        size=size,
        window_frames=defaults.window_frames,
        motion_frames=defaults.motion_frames,
        overlap_frames=defaults.overlap_frames,
        steps=defaults.steps,
        branches=len(branches(defaults.text_scale, defaults.audio_scale)),
        words=words_of(defaults.prompt, defaults.negative_prompt),
    )


def tier_words(outlook: Outlook) -> str:
    """Where the weights live, in words."""
    if outlook.tier == Tier.RESIDENT.value:
        return "on the GPU" if outlook.vram else "in main memory"
    source = "RAM" if outlook.tier == Tier.PINNED.value else "disk"
    moving = outlook.blocks - outlook.resident_blocks
    return f"{moving} of {outlook.blocks} blocks from {source}"
