"""What the keys of LoRA files mean, as data: how a key ends says what its tensor is, the rest names a module.

Layouts (`m` is a module's name; see `names` for its prefixes and spellings):

    m.lora_down.weight, m.lora_up.weight, m.alpha      kohya, lightx2v, ComfyUI
    m.lora_A.weight, m.lora_B.weight, m.lora_B.bias    peft, diffusers; peft also m.lora_A.default.weight
    m.lora.down.weight, m.lora.up.weight               diffusers before peft
    m.diff, m.diff_b, m.diff_m                         differences of a weight, a bias and a `modulation`
"""

import re
from collections.abc import Mapping
from enum import Enum

from infinitetalk.core.errors import ModelError


class Role(Enum):
    """What one tensor of a LoRA file is to its module."""

    DOWN = "down"
    """[rank, in], or [rank, in, ...] for a convolution."""
    UP = "up"
    """[out, rank]."""
    UP_BIAS = "bias of up"
    """[out]; added to the bias, scaled as the pair is."""
    ALPHA = "alpha"
    """A number; the pair counts alpha / rank."""
    DIFF = "difference"
    DIFF_BIAS = "difference of the bias"
    DIFF_MODULATION = "difference of the modulation"


_ADAPTER = r"(?:\.[^.]+)?"
_ENDINGS: tuple[tuple[str, Role], ...] = (
    (rf"\.lora_A{_ADAPTER}\.weight|\.lora_A|[._]lora[._]down\.weight|\.lora_linear_layer\.down\.weight", Role.DOWN),
    (rf"\.lora_B{_ADAPTER}\.weight|\.lora_B|[._]lora[._]up\.weight|\.lora_linear_layer\.up\.weight", Role.UP),
    (rf"\.lora_B{_ADAPTER}\.bias|[._]lora[._]up\.bias", Role.UP_BIAS),
    (r"\.alpha", Role.ALPHA),
    (r"\.diff", Role.DIFF),
    (r"\.diff_b", Role.DIFF_BIAS),
    (r"\.diff_m", Role.DIFF_MODULATION),
)
_KEY = tuple((re.compile(rf"(?P<module>.+?)(?:{ending})"), role) for ending, role in _ENDINGS)

_FOREIGN: Mapping[str, str] = {
    r".+\.(?:dora_scale|lora_magnitude_vector)(?:\..+)?": "DoRA (weights decomposed into length and direction)",
    r".+\.lokr_(?:w1|w2|t2).*": "LyCORIS LoKr (Kronecker products)",
    r".+\.hada_(?:w1|w2|t1|t2).*": "LyCORIS LoHa (Hadamard products)",
    r".+[._]lora[._]mid\.weight": "LyCORIS LoCon with a middle matrix",
    r".+\.(?:oft_blocks|oft_diag|oft_[rR]|boft_[rRs]).*": "OFT or BOFT (orthogonal fine-tuning)",
    r".+\.(?:ia3_l|on_input)(?:\..+)?": "(IA)3",
    r".+\.(?:a1|a2|b1|b2)\.weight": "GLoRA",
    r".+\.vera_lambda_[bd](?:\..+)?": "VeRA",
    r".+\.(?:set_weight|reshape_weight)": "weights to replace or to reshape",
}
_FOREIGN_KEYS = tuple((re.compile(pattern), kind) for pattern, kind in _FOREIGN.items())

READ = "lora_down/lora_up or lora_A/lora_B pairs, and diff, diff_b and diff_m"


def split(key: str) -> tuple[str, Role] | None:
    """The module that a key names, as the file spells it, and what its tensor is; None for a key of no layout."""
    for pattern, role in _KEY:
        if match := pattern.fullmatch(key):
            return match["module"], role
    return None


def refuse_foreign(source: str, key: str) -> None:
    """Refuses a file of a kind that is known and not read, by that kind's name.

    Raises:
        ModelError: the key belongs to such a kind.
    """
    for pattern, kind in _FOREIGN_KEYS:
        if pattern.fullmatch(key):
            raise ModelError(f"{source}: is {kind}, as {key} says; only {READ} can be applied")
