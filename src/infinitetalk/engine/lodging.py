"""Puts networks where a run wants them: blocks into a store, encoders beside the device until their turn."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from infinitetalk.core.errors import ModelError
from infinitetalk.core.memory import Lodging, Tier
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.dit_blocks import USES, Block, Use
from infinitetalk.models.text import TextEncoder
from infinitetalk.ops.eight import Eight
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.memory.store import Store, spread
from infinitetalk.runtime.platform import cache_folder
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.keymaps import DIT
from infinitetalk.weights.load import Amendments, read_tensors
from infinitetalk.weights.pieces import Pieces

BLOCKS = r"blocks\.(\d+)\."


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
    folder: ModelFolder,
    device: Device,
    lodging: Lodging,
    amendments: Amendments | None = None,
    eight: Eight | None = None,
) -> Housed:
    """Reads the video network and puts it where it shall live, block by block.

    Main memory never holds more than a block beside what the tier keeps there. With `eight`, each block's matrices are
    packed for products in 8 bits, on the device.

    Raises:
        ModelError: weights that are missing, damaged, do not fit, or cannot be packed.
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
    dit.frames_at_once = lodging.frames_at_once
    if lodging.tier is Tier.RESIDENT:
        for number in range(config.num_layers):
            dit.blocks.append(_packed(pieces.block(number, device.dtype, keep_stored=own).to(where), eight))
        return Housed(dit, lodging, None)
    store = empty_store(lodging.tier, lodging.resident_blocks, config.num_layers, where)
    for number in range(config.num_layers):
        block = pieces.block(number, device.dtype, keep_stored=True)
        store.add(block if eight is None else _packed(block.to(where), eight).to("cpu"))
    store.seal()
    lend(dit, store)
    return Housed(dit, lodging, store)


def _packed(block: Block, eight: Eight | None) -> Block:
    """A block that computes in 8 bits, if it shall.

    Raises:
        ModelError: a network whose matrices such products do not take.
    """
    if eight is not None:
        try:
            block.hold_eight(eight)
        except ValueError as error:
            raise ModelError(f"linears = {eight.name}: this network cannot compute so: {error}") from error
    return block


def stored_type(files: Sequence[Path]) -> torch.dtype:
    """The floating number format of a part's largest matrix, which most of the part is in."""
    tensors = read_tensors(files)
    largest = max(tensors.values(), key=lambda tensor: tensor.shape.numel())
    dense = isinstance(largest, torch.Tensor) and largest.is_floating_point()
    return largest.dtype if dense and isinstance(largest, torch.Tensor) else torch.float32
