"""Puts networks where a run wants them: blocks into a store, encoders beside the device until their turn."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.memory import Lodging, MemorySettings, Tier
from infinitetalk.core.sizes import Latents
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.dit_blocks import USES, Block, Use
from infinitetalk.models.text import TextEncoder
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.memory.record import Layout, sort_by_use, tensors_of
from infinitetalk.runtime.memory.store import SLOTS, Store, spread
from infinitetalk.runtime.platform import GIB, cache_folder
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.keymaps import DIT
from infinitetalk.weights.load import Amendments, read_tensors
from infinitetalk.weights.pieces import Pieces

BLOCKS = r"blocks\.(\d+)\."

SPARE = 0.9
"""Share of free memory that plans count on."""

FEW_FRAMES = 3
"""Latent frames at once where memory is tight: 4800 tokens at 640x640, still enough to keep a large GPU busy."""

TILE, TILED_BELOW = 256, 7 * GIB
"""Pixels on a side of the VAE's pieces, and the memory below which it works in pieces."""

BRANCHES = 3
"""Branches of guidance that memory is kept for."""


def lend(dit: AudioDiT, store: Store) -> None:
    """Lets a network take its blocks from a store."""

    def walk(use: Use) -> Iterable[Block]:
        return cast("Iterable[Block]", store.walk(use))

    dit.lend(walk)


def empty_store(tier: Tier, resident: int, count: int, device: torch.device, folder: Path | None = None) -> Store:
    """A store for the blocks of a video network."""
    stay = spread(count, resident)
    return Store(
        device, tier, steady=Use.STEP, uses=USES, resident=stay.__contains__, folder=folder or cache_folder()
    )  # fmt: skip


def lodge(dit: AudioDiT, lodging: Lodging, device: torch.device, folder: Path | None = None) -> Store | None:
    """Puts a whole network that is on the CPU where it shall live; gives the store of its blocks, if they move."""
    dit.frames_at_once = lodging.frames_at_once
    if lodging.tier is Tier.RESIDENT:
        dit.to(device)
        return None
    blocks = list(dit.blocks)
    store = empty_store(lodging.tier, lodging.resident_blocks, len(blocks), device, folder)
    dit.blocks = nn.ModuleList()
    for block in blocks:
        store.add(block)
    store.seal()
    lend(dit.to(device), store)
    return store


def lodge_text(encoder: TextEncoder, tier: Tier, device: torch.device, folder: Path | None = None) -> Store | None:
    """The same for the text encoder, whose layers are needed once per prompt."""
    if tier is Tier.RESIDENT:
        encoder.to(device)
        return None
    store = Store(device, tier, steady=None, folder=folder or cache_folder())
    for layer in encoder.lend(lambda: store.walk(None), device):
        store.add(layer)
    store.seal()
    return store


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of a video network, block by block alike."""

    step: int
    """Of one block, needed in every step."""
    once: int
    """Of one block, needed to prepare inputs."""
    around: int
    blocks: int
    parameters: int
    """Of one block, needed in every step."""

    @property
    def whole(self) -> int:
        """All of it."""
        return self.blocks * (self.step + self.once) + self.around

    @classmethod
    def of(cls, block: nn.Module, around: int, config: DiTConfig) -> "Weight":
        """Measures a block; the others are taken to weigh the same."""
        tensors = tensors_of(block)
        sizes = {
            use: Layout.of({name: tensors[name] for name in names}).bytes
            for use, names in sort_by_use(list(tensors), USES, Use.STEP)
        }
        step = sizes.pop(Use.STEP)
        return cls(step, sum(sizes.values()), around, config.num_layers, _parameters(config))


def choose(settings: MemorySettings, weight: Weight, device: Device, reserve: int) -> Lodging:
    """Decides where a video network of this weight lives on a device.

    Args:
        reserve: bytes of the device's memory that work itself takes: activations, keys and values, encoders.
    """
    vram = _budget(settings.vram, device.free_memory)
    ram = _budget(settings.ram, device.free_main_memory) or 0
    tier = settings.tier
    if tier is None:
        tier = _automatic(weight, vram, ram, reserve, forced=settings.num_persistent_param_in_dit is not None)
    if tier is Tier.RESIDENT:
        return Lodging(tier=tier, resident_blocks=weight.blocks)
    return Lodging(
        tier=tier,
        resident_blocks=_resident(settings, weight, vram, reserve),
        frames_at_once=None if vram is None else FEW_FRAMES,
        keep_encoders=False,
        tile=TILE if vram is not None and vram < TILED_BELOW else None,
    )


def _budget(given: float | None, free: int | None) -> int | None:
    """Bytes that may be used; None where the device shares main memory."""
    if given is not None:
        return int(given * GIB)
    return None if free is None else int(free * SPARE)


def _automatic(weight: Weight, vram: int | None, ram: int, reserve: int, *, forced: bool) -> Tier:
    """The quickest tier that fits."""
    fits = weight.whole + reserve <= (ram if vram is None else vram)
    if fits and not forced:
        return Tier.RESIDENT
    return Tier.PINNED if vram is not None and weight.blocks * (weight.step + weight.once) <= ram else Tier.DISK


def _resident(settings: MemorySettings, weight: Weight, vram: int | None, reserve: int) -> int:
    """Blocks that stay on the device beside the slots."""
    if settings.num_persistent_param_in_dit is not None:
        return min(weight.blocks, settings.num_persistent_param_in_dit // max(1, weight.parameters))
    if vram is None:
        return 0
    left = vram - weight.around - reserve - SLOTS * max(weight.step, weight.once)
    return max(0, min(weight.blocks, left // weight.step))


def _parameters(config: DiTConfig) -> int:
    """Parameters of one block that every step needs, whatever they are stored in."""
    with torch.device("meta"):
        block = Block(config)
    names = dict(block.named_parameters())
    step = dict(sort_by_use(list(names), USES, Use.STEP))[Use.STEP]
    return sum(names[name].numel() for name in step)


def reserve(config: DiTConfig, facts: ModelFacts, number: int, *, few: bool) -> int:
    """Bytes that a forward pass at the model's own size takes beside weights: activations, and keys and values.

    Args:
        number: bytes of the numbers that are computed in.
        few: whether only `FEW_FRAMES` latent frames pass through a block's layers at once.
    """
    table, frames = facts.buckets[facts.defaults.size], facts.defaults.window_frames
    sizes = [Latents.of(frames, size) for size in table.values()]
    tokens = max(size.frames * (size.height // 2) * (size.width // 2) for size in sizes)
    latents = sizes[0].frames
    # Tokens of each branch, queries, keys, values and an answer stay; the rest passes by, in float32 too.
    lasting, passing = (BRANCHES + 4) * number, 10 * number
    share = min(1.0, FEW_FRAMES / latents) if few else 1.0
    activations = tokens * config.dim * (lasting + passing * share)
    told = 2 * config.text_len + config.clip_tokens + 2 * latents * config.context_tokens
    return int(activations + 2 * told * config.dim * config.num_layers * number)


@dataclass(frozen=True, slots=True)
class Housed:
    """A video network where it lives."""

    dit: AudioDiT
    lodging: Lodging
    store: Store | None

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """All modules of the network by their names, those of blocks that move too."""
        yield from self.dit.named_modules()
        for number, block in enumerate(() if self.store is None else self.store.modules):
            yield from block.named_modules(prefix=f"blocks.{number}")


def load_dit(
    folder: ModelFolder, device: Device, settings: MemorySettings, amendments: Amendments | None = None
) -> Housed:
    """Reads the video network and puts it where it shall live, block by block.

    Main memory never holds more than a block beside what the tier keeps there.

    Raises:
        ModelError: weights that are missing, damaged or do not fit.
        MachineError: memory that cannot be pinned, or a full disk.
    """
    part, where = folder.dit, device.torch_device
    config, own = part.config, device.memory is not None
    pieces = Pieces(
        lambda: AudioDiT(config),
        lambda: AudioDiT(replace(config, num_layers=0)),
        lambda: Block(config),
        prefix=BLOCKS,
        tensors=read_tensors(part.files),
        keymap=DIT,
        source=", ".join(str(path) for path in part.files),
        amendments=amendments,
    )
    dit = pieces.around(device.dtype, where, keep_stored=own)
    dit.config = config
    around = sum(tensor.nbytes for tensor in tensors_of(dit).values())
    weight = Weight.of(pieces.block(0, device.dtype, keep_stored=own), around, config)
    few = settings.tier not in (None, Tier.RESIDENT)
    lodging = choose(settings, weight, device, reserve(config, folder.facts, device.dtype.itemsize, few=few))
    dit.frames_at_once = lodging.frames_at_once
    if lodging.tier is Tier.RESIDENT:
        for number in range(config.num_layers):
            dit.blocks.append(pieces.block(number, device.dtype, keep_stored=own).to(where))
        return Housed(dit, lodging, None)
    store = empty_store(lodging.tier, lodging.resident_blocks, config.num_layers, where)
    for number in range(config.num_layers):
        store.add(pieces.block(number, device.dtype, keep_stored=True))
    store.seal()
    lend(dit, store)
    return Housed(dit, lodging, store)


def stored_type(files: Sequence[Path]) -> torch.dtype:
    """The floating number format of a part's largest matrix, which most of the part is in."""
    tensors = read_tensors(files)
    largest = max(tensors.values(), key=lambda tensor: tensor.shape.numel())
    dense = isinstance(largest, torch.Tensor) and largest.is_floating_point()
    return largest.dtype if dense and isinstance(largest, torch.Tensor) else torch.float32
