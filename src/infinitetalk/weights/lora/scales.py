"""How strongly a pair counts where its file holds no alpha: peft writes it beside the file, diffusers into its header.

scale = alpha / rank, or alpha / sqrt(rank) where the file is rank-stabilised; 1 where nobody says anything
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infinitetalk.core.errors import ModelError

CONFIG = "adapter_config.json"
PEFT_PREFIX = "base_model.model."
_DIFFUSERS_METADATA = "lora_adapter_metadata"
_PART = "transformer."

# Ways of starting a training that change the base weights as well, so that the file alone says too little.
_CHANGED_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")

# Variants of peft in which a pair is not added to its matrix as it is.
_VARIANTS = ("use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "layer_replication", "fan_in_fan_out")


@dataclass(frozen=True, slots=True)
class Scales:
    """What a configuration says of all pairs of a file."""

    alpha: float | None = None
    """None: as large as the rank."""
    stabilised: bool = False
    patterns: Mapping[str, float] = field(default_factory=dict)
    """Regular expression for the end of a module's name, or for all of it → its own alpha. The first that fits."""

    def scale(self, module: str, rank: int, alpha: float | None = None) -> float:
        """The factor of a module's pair.

        Args:
            module: its name as the file spells it.
            rank: of its two matrices.
            alpha: the number that the file itself holds for it, if it does.
        """
        chosen = self._configured(module) if alpha is None else alpha
        if chosen is None:
            return 1.0
        return chosen / (math.sqrt(rank) if self.stabilised else rank)

    def _configured(self, module: str) -> float | None:
        bare = module.removeprefix(PEFT_PREFIX).removeprefix(_PART)
        for pattern, alpha in self.patterns.items():
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", bare):
                return alpha
        return self.alpha


def read_scales(path: Path, keys: list[str], metadata: Mapping[str, str]) -> Scales:
    """The configuration that belongs to a file: from its header, or from `adapter_config.json` beside peft's files.

    Raises:
        ModelError: a configuration that cannot be read, or that asks for more than pairs can say.
    """
    if _DIFFUSERS_METADATA in metadata:
        values = _object(metadata[_DIFFUSERS_METADATA], f"{path}: {_DIFFUSERS_METADATA}")
        own = {name.removeprefix(_PART): value for name, value in values.items() if name.startswith(_PART)}
        return _scales(own, str(path))
    config = path.with_name(CONFIG)
    if _is_peft(path, keys) and config.is_file():
        try:
            text = config.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"{config}: cannot be read ({error})") from error
        return _scales(_object(text, str(config)), str(config))
    return Scales()


def lacks_config(path: Path, keys: list[str], metadata: Mapping[str, str]) -> bool:
    """Whether peft wrote a file whose configuration is not there, so that its alpha can only be assumed."""
    return _is_peft(path, keys) and _DIFFUSERS_METADATA not in metadata and not path.with_name(CONFIG).is_file()


def _is_peft(path: Path, keys: list[str]) -> bool:
    return path.stem == "adapter_model" or any(key.startswith(PEFT_PREFIX) for key in keys)


def _object(text: str, source: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{source} is not readable JSON ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{source} must be a JSON object, not {values!r}")
    return values


def _scales(values: Mapping[str, Any], source: str) -> Scales:
    kind, start = values.get("peft_type", "LORA"), values.get("init_lora_weights")
    if kind != "LORA":
        raise ModelError(f"{source}: peft_type {kind} is another kind of adapter; LORA can be applied")
    if variant := next((name for name in _VARIANTS if values.get(name)), None):
        raise ModelError(f"{source}: {variant} makes it another kind of adapter; LoRA without that can be applied")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise ModelError(
            f"{source}: init_lora_weights {start} changed the base weights too; save the adapter with "
            f"peft's path_initial_model_for_weight_conversion to make it a LoRA"
        )
    alpha = values.get("lora_alpha", values.get("alpha"))
    patterns = values.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(_is_number(number) for number in (*patterns.values(), alpha or 0)):
        raise ModelError(f"{source}: lora_alpha and alpha_pattern must be numbers, not {alpha!r} and {patterns!r}")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ModelError(f"{source}: alpha_pattern {pattern!r} is no regular expression ({error})") from error
    return Scales(
        alpha=None if alpha is None else float(alpha),
        stabilised=bool(values.get("use_rslora")),
        patterns={pattern: float(number) for pattern, number in patterns.items()},
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
