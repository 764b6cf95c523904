"""One LoRA file against one network: every key finds its parameter and fits it, or the file is refused in one line.

Only headers are read here, and nothing is computed.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infinitetalk.core.errors import ModelError
from infinitetalk.core.loras import Lora
from infinitetalk.weights.lora.grammar import Role, refuse_foreign, split
from infinitetalk.weights.lora.names import Modules, parameter_of
from infinitetalk.weights.lora.scales import CONFIG, Scales, lacks_config, read_scales

Shape = tuple[int, ...]
SHOWN = 5
T2V_PART, T2V_CHANNELS = "patch_embedding.weight", 16
"""Text-to-video networks read 16 latent channels; image-to-video ones read a mask and a picture besides."""

OTHER_MODELS: Mapping[int, str] = {1536: "Wan 2.1 1.3B", 3072: "Wan 2.2 5B", 5120: "a 14B model of Wan"}
"""Width of the tokens → whose it is."""


@dataclass(frozen=True, slots=True)
class Pair:
    """up [out, rank] @ down [rank, in...], times `scale`, or times alpha / rank where the file holds an alpha."""

    down: str
    up: str
    alpha: str | None
    scales: Scales
    module: str
    """As the file spells it."""
    rank: int

    @property
    def keys(self) -> tuple[str, ...]:
        """The file's keys that it is made of."""
        return (self.down, self.up)


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor to add. The bias of a pair's `up` counts as the pair does."""

    key: str
    pair: Pair | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The file's keys that it is made of."""
        return (self.key,)


Change = Pair | Difference


@dataclass(frozen=True, slots=True)
class LoraFile:
    """What one file changes in one network."""

    lora: Lora
    changes: Mapping[str, tuple[Change, ...]]
    """Parameter → what is done to it."""
    notes: tuple[str, ...] = ()
    """What the user should know: tensors that were skipped, numbers that were assumed."""


@dataclass(slots=True)
class _Plan:
    """A file's keys on their way to changes."""

    path: Path
    shapes: Mapping[str, Shape]
    parameters: Mapping[str, Shape]
    scales: Scales
    roles: dict[str, dict[Role, str]] = field(default_factory=dict)
    """Module as the file spells it → its tensors."""
    changes: dict[str, tuple[Change, ...]] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, parameter: str, change: Change, makes: Shape) -> None:
        """Notes a change of a parameter, if what it makes has its shape."""
        wanted = self.parameters[parameter]
        if parameter == T2V_PART and makes != wanted and makes == (wanted[0], T2V_CHANNELS, *wanted[2:]):
            self.notes.append(
                f"{change.keys[0]} was skipped: the file is for text-to-video, whose first layer reads "
                f"{T2V_CHANNELS} channels and not {wanted[1]}"
            )
        elif _plain(makes) != _plain(wanted):
            self.misfits.append(f"{parameter} is {list(wanted)} and the file's {list(makes)}")
        else:
            self.changes[parameter] = (*self.changes.get(parameter, ()), change)


def open_lora(
    lora: Lora, shapes: Mapping[str, Shape], metadata: Mapping[str, str], parameters: Mapping[str, Shape]
) -> LoraFile:
    """Finds out what a file changes.

    Args:
        lora: the file, and how strongly it shall count.
        shapes: of the file's tensors, by key.
        metadata: of the file's header.
        parameters: names and shapes of the network's parameters.

    Raises:
        ModelError: keys that match nothing, halves of pairs, tensors that do not fit, a kind that cannot be applied.
    """
    keys = list(shapes)
    if not keys:
        raise ModelError(f"{lora.path}: holds no tensors")
    for key in keys:
        refuse_foreign(str(lora.path), key)
    plan = _Plan(lora.path, shapes, parameters, read_scales(lora.path, keys, metadata))
    _sort(plan, keys)
    modules = Modules(parameters)
    for module, roles in plan.roles.items():
        _change(plan, modules, module, roles)
    _check(plan, len(keys))
    if lacks_config(lora.path, keys, metadata) and not any(Role.ALPHA in roles for roles in plan.roles.values()):
        plan.notes.append(f"no {CONFIG} lies beside it, so its alpha is taken to be its rank")
    return LoraFile(lora, plan.changes, tuple(plan.notes))


def _plain(shape: Shape) -> Shape:
    """A shape without its axes of length one."""
    return tuple(length for length in shape if length != 1)


def _sort(plan: _Plan, keys: Iterable[str]) -> None:
    """Gives every key to its module."""
    for key in keys:
        if (found := split(key)) is None:
            plan.unmatched.append(key)
            continue
        module, role = found
        if (other := plan.roles.setdefault(module, {}).setdefault(role, key)) != key:
            raise ModelError(f"{plan.path}: {other} and {key} are both the {role.value} of {module}")


def _change(plan: _Plan, modules: Modules, module: str, roles: Mapping[Role, str]) -> None:
    """Turns one module's tensors into changes of its parameters."""
    owner = modules.find(module)
    weight = parameter_of(owner, plan.parameters) if owner else None
    pair = _pair(plan, module, roles)
    if pair is not None and weight is not None:
        _add_pair(plan, weight, pair)
    elif pair is not None or Role.ALPHA in roles:
        plan.unmatched += [roles[role] for role in (Role.DOWN, Role.UP, Role.ALPHA) if role in roles]
    _add_difference(plan, weight, roles.get(Role.DIFF))
    bias = f"{owner}.bias" if f"{owner}.bias" in plan.parameters else None
    _add_difference(plan, bias, roles.get(Role.DIFF_BIAS))
    _add_difference(plan, bias, roles.get(Role.UP_BIAS), pair)
    modulation = modules.find(f"{module}.modulation") if Role.DIFF_MODULATION in roles else None
    _add_difference(plan, modulation, roles.get(Role.DIFF_MODULATION))


def _pair(plan: _Plan, module: str, roles: Mapping[Role, str]) -> Pair | None:
    down, up = roles.get(Role.DOWN), roles.get(Role.UP)
    if down is None and up is None:
        return None
    if down is None or up is None:
        lacking = (Role.DOWN if down is None else Role.UP).value
        raise ModelError(f"{plan.path}: {down or up} has no {lacking} beside it; the file is not whole")
    return Pair(down, up, roles.get(Role.ALPHA), plan.scales, module, rank=(plan.shapes[down] or (1,))[0])


def _add_pair(plan: _Plan, weight: str, pair: Pair) -> None:
    """Notes a pair, if its halves fit each other and a matrix."""
    down, up = plan.shapes[pair.down], plan.shapes[pair.up]
    if len(down) < 2 or len(up) < 2 or up[1] != down[0] or math.prod(up[2:]) != 1:
        raise ModelError(f"{plan.path}: {pair.up} {list(up)} and {pair.down} {list(down)} do not fit each other")
    if pair.alpha is not None and math.prod(plan.shapes[pair.alpha]) != 1:
        raise ModelError(f"{plan.path}: {pair.alpha} must be one number, not {list(plan.shapes[pair.alpha])}")
    plan.add(weight, pair, (up[0], *down[1:]))


def _add_difference(plan: _Plan, parameter: str | None, key: str | None, pair: Pair | None = None) -> None:
    if key is None:
        return
    if parameter is None:
        plan.unmatched.append(key)
    else:
        plan.add(parameter, Difference(key, pair), plan.shapes[key])


def _check(plan: _Plan, count: int) -> None:
    """Refuses a file of which any tensor has no place.

    Raises:
        ModelError: one line with the first few; its `unused` names all keys that match nothing.
    """
    if len(plan.unmatched) == count:
        line = f"{plan.path}: none of its {count} keys names a part of this model ({_listed(plan.unmatched)})"
        raise ModelError(f"{line}; it is for another model", unused=plan.unmatched)
    if plan.misfits:
        more = f", and {len(plan.misfits) - 1} more" if len(plan.misfits) > 1 else ""
        raise ModelError(f"{plan.path}: is for another model{_whose(plan)}: {plan.misfits[0]}{more}")
    if plan.unmatched:
        line = f"{plan.path}: {len(plan.unmatched)} of its {count} keys match nothing: {_listed(plan.unmatched)}"
        raise ModelError(line, unused=plan.unmatched)


def _whose(plan: _Plan) -> str:
    """The model that a file's widths speak of, in brackets, if this network has none of them."""
    widths = {length for shape in plan.shapes.values() for length in shape}
    own = {length for shape in plan.parameters.values() for length in shape}
    names = [name for width, name in OTHER_MODELS.items() if width in widths - own]
    return f" ({names[0]})" if names else ""


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
