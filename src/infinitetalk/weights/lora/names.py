"""Whose module a LoRA's key names: files spell one network's names with prefixes, underscores or as diffusers does."""

import re
from collections.abc import Iterable, Mapping

from infinitetalk.core.errors import ModelError
from infinitetalk.weights.keymaps import DIFFUSERS_BLOCK, DIFFUSERS_DIT

PREFIXES = (
    "diffusion_model.",
    "base_model.model.",
    "transformer.",
    "pipe.dit.",
    "dit.",
    "model.",
    "lora_unet_",
    "lora_transformer_",
    "lycoris_",
    "diffusion_model_",
    "_",
)
"""What may stand before a module's name, several in a row too. Texts that end in '_' belong to names without dots."""

_BLOCK = re.compile(r"(blocks\.\d+)\.(.+)")
_OUTSIDE: Mapping[str, str] = {ours: theirs for theirs, ours in DIFFUSERS_DIT.items()}
_INSIDE: Mapping[str, str] = {ours: theirs for theirs, ours in DIFFUSERS_BLOCK.items()}
_MODULATION = "scale_shift_table"


def diffusers_name(module: str) -> str | None:
    """What diffusers calls a module of Wan's, if it calls it otherwise."""
    if match := _BLOCK.fullmatch(module):
        theirs = _MODULATION if match[2] == "modulation" else _INSIDE.get(match[2])
        return f"{match[1]}.{theirs}" if theirs else None
    return _MODULATION if module == "head.modulation" else _OUTSIDE.get(module)


class Modules:
    """The modules of one network, found by any of their spellings.

    Args:
        parameters: names of the network's parameters, such as `blocks.0.ffn.0.weight` and `blocks.0.modulation`.

    Raises:
        ModelError: one spelling stands for two modules, so that underscores could not be undone.
    """

    def __init__(self, parameters: Iterable[str]) -> None:
        self._by_spelling: dict[str, str] = {}
        for parameter in parameters:
            owner, _, kind = parameter.rpartition(".")
            self._add(owner if kind in ("weight", "bias") else parameter)

    def _add(self, module: str) -> None:
        other = diffusers_name(module)
        for spelling in (module, *([other] if other else [])):
            for spelt in (spelling, spelling.replace(".", "_")):
                if self._by_spelling.setdefault(spelt, module) != module:
                    raise ModelError(f"{spelt} may be {module} or {self._by_spelling[spelt]}")

    def find(self, spelling: str) -> str | None:
        """The network's own name for a module that a file names, prefixes and all; None if it has no such module."""
        rest = spelling
        while rest not in self._by_spelling:
            prefix = next((prefix for prefix in PREFIXES if rest.startswith(prefix)), None)
            if prefix is None:
                return None
            rest = rest.removeprefix(prefix)
        return self._by_spelling[rest]


def parameter_of(module: str, parameters: Mapping[str, object]) -> str | None:
    """The parameter that a module's weight is; the module itself, where it is a bare parameter."""
    return next((name for name in (f"{module}.weight", module) if name in parameters), None)
