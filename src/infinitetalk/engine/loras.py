"""A request's LoRAs on a model: opened against its transformer before any weight is loaded, told of afterwards."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from infinitetalk.core.loras import DISTILLED_SHIFT, Lora
from infinitetalk.models.layers import Linear
from infinitetalk.weights import names
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.lora.file import LoraFile
from infinitetalk.weights.lora.stack import LoraStack


def open_loras(folder: ModelFolder, loras: Sequence[Lora], device: torch.device | None = None) -> LoraStack | None:
    """Reads the headers of a model's own LoRAs and of others; checks that they fit its transformer; None without any.

    Args:
        folder: the model.
        loras: files and strengths of the others.
        device: where weights are merged; by default where they lie.

    Raises:
        ModelError: a file that cannot be read, or of which any tensor does not belong to this transformer.
    """
    loras = (*folder.loras, *loras)
    return LoraStack.open(loras, names.dit(folder.dit.config), device) if loras else None


def told(stack: LoraStack, modules: Iterable[tuple[str, nn.Module]], own: Sequence[Lora] = ()) -> Iterator[str]:
    """One line for each LoRA that was applied, and one for whatever of it the user should know.

    Args:
        stack: the LoRAs.
        modules: of the network that they were applied to, by name.
        own: those that belong to the model, whose defaults suit them already.
    """
    branched = {
        f"{name}.weight" for name, module in modules if isinstance(module, Linear) and module.branch_up is not None
    }
    for file in stack.files:
        yield _applied(file, sum(name in branched for name in file.changes))
        yield from (f"LoRA {file.lora.path.name}: {note}" for note in file.notes)
        if file.lora.distilled and file.lora not in own:
            yield (
                f"LoRA {file.lora.path.name} is distilled: shift {DISTILLED_SHIFT:g} unless given; "
                f"4 to 8 steps, text scale 1 and audio scale 2 are usual with it"
            )


def _applied(file: LoraFile, live: int) -> str:
    count = len(file.changes)
    how = f", {live} of them live beside stored weights" if live else ""
    return f"LoRA {file.lora} applied to {count} tensor{'' if count == 1 else 's'}{how}"
