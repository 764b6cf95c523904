"""The LoRA of a recipe, if Hugging Face's cache has it."""

from dataclasses import replace

from infinitetalk.core.defaults import ModelFacts, cook_of
from infinitetalk.core.loras import Lora
from infinitetalk.core.recipes import lacking
from infinitetalk.core.request import TalkRequest


def with_lora(request: TalkRequest, facts: ModelFacts) -> TalkRequest:
    """The request with the LoRA that its recipe needs, where neither it nor the model names one and the cache has it.

    What the cache lacks is refused where the settings are resolved.
    """
    file = lacking(request.recipe, cook_of(request, facts))
    if file is None:
        return request
    # Hugging Face's library takes half a second to import, and most jobs need nothing of it.
    from infinitetalk.weights.hub.client import Hub

    snapshots = Hub.from_environment().folder(file.repository.name) / "snapshots"
    found = sorted(snapshots.glob(f"*/{file.name}"), key=lambda path: path.stat().st_mtime)
    return replace(request, loras=(*request.loras, Lora(found[-1]))) if found else request
