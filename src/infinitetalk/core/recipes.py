"""Recipes: steps, schedule, guidance and LoRA that belong together, under one name.

Numbers and files are those of the README of MeiGen-AI/InfiniteTalk (0107cd9), "Run with FusioniX or Lightx2v". Without
a LoRA a model takes the steps and scales that it was trained for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infinitetalk.core.errors import RequestError
from infinitetalk.core.loras import DISTILLED_SHIFT, Lora
from infinitetalk.core.presets import LORA_4STEP, LORA_FUSIONX, HubFile

FEW = 8
"""Models that take so many steps or fewer by themselves are distilled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of a request by field name, and the LoRA without which they give noise."""

    settings: Mapping[str, Any]
    lora: HubFile | None = None


_GUIDED: Mapping[str, Any] = {"shift": DISTILLED_SHIFT, "text_scale": 1.0, "audio_scale": 2.0, "scheduler": "euler"}

RECIPES: Mapping[str, Recipe] = {
    "draft": Recipe(settings={"steps": 4, **_GUIDED}, lora=LORA_4STEP),
    "fast": Recipe(settings={"steps": 8, **_GUIDED}, lora=LORA_FUSIONX),
    "quality": Recipe(settings={"steps": 40, "scheduler": "euler"}),
}
"""All recipes, the quickest first: 8, 16 and 120 forward passes of the 14B model for each window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cook:
    """What a recipe must know of a model."""

    name: str
    has_text: bool
    steps: int
    """Its own."""
    loras: tuple[Lora, ...]
    """All that are applied to it, its own and the request's."""

    @property
    def distilled(self) -> tuple[Lora, ...]:
        """LoRAs with which it takes a few steps."""
        return tuple(lora for lora in self.loras if lora.distilled and lora.strength)


def follow(name: str | None, cook: Cook) -> Mapping[str, Any]:
    """The settings of a recipe; none without a name.

    Raises:
        RequestError: a model that cannot follow it, or one that lacks its LoRA.
    """
    if name is None:
        return {}
    recipe = RECIPES[name]
    if recipe.lora is None:
        _check_whole(name, cook)
    else:
        _check_few(name, recipe.lora, cook)
    return recipe.settings


def _check_whole(name: str, cook: Cook) -> None:
    if cook.distilled:
        told = ", ".join(map(str, cook.distilled))
        raise RequestError("recipe", name, f"takes 40 steps, and {told} is for a few; leave the LoRA or the recipe out")
    if cook.has_text and cook.steps <= FEW:
        raise RequestError("recipe", name, f"the model {cook.name} is made for {cook.steps} steps; leave it out")


def _check_few(name: str, lora: HubFile, cook: Cook) -> None:
    if not cook.has_text:
        need = f"the model {cook.name} has no text part, so the LoRA {lora.short} does not fit it; leave the recipe out"
        raise RequestError("recipe", name, need)
    if not cook.distilled and cook.steps <= FEW:
        raise RequestError("recipe", name, f"the model {cook.name} is made for {cook.steps} steps; leave it out")
    if not cook.distilled:
        source = lora.repository.name
        get = f"run: hf download {source} {lora.name}"
        raise RequestError("recipe", name, f"needs the LoRA {lora.short} of {source}; {get}, or give one with --lora")


def lacking(name: str | None, cook: Cook) -> HubFile | None:
    """The LoRA that a recipe needs and a model has not; None if it has it, or cannot have it."""
    lora = None if name is None else RECIPES[name].lora
    return lora if cook.has_text and cook.steps > FEW and not cook.distilled else None
