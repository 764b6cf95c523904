"""From weight files to a network: build without memory, assign strictly.

A network's matrices take no memory before their weights come, a file's tensors are read one at a time, and every tensor
that is missing, unused or of another shape is an error that names it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from infinitetalk.core.errors import ModelError, listed
from infinitetalk.ops.stored import Holder, Stored
from infinitetalk.weights.keymaps import KeyMap
from infinitetalk.weights.read import read_tensors

__all__ = ["assemble", "build", "read_tensors"]

M = TypeVar("M", bound=nn.Module)


class Amendments(Protocol):
    """Changes to a network's parameters, made while it is loaded; `lora.stack.LoraStack` is one."""

    def changes(self, name: str) -> bool:
        """Whether a parameter is changed at all."""

    def branches(self, name: str) -> bool:
        """Whether its changes can stand beside a stored matrix."""

    def merge(self, name: str, value: Tensor) -> Tensor:
        """The changed parameter in float32."""

    def attach(self, name: str, layer: Holder, device: torch.device | str, dtype: torch.dtype) -> None:
        """Hangs its changes beside the stored matrix of a layer."""


class _EmptyOnMeta(TorchFunctionMode):
    """Tensors made without values take no memory; tensors with values, such as position tables, are real.

    A plain meta device would make tables of constants unreal too, and no weight file holds those.
    """

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _shared_names(module: nn.Module) -> dict[str, list[str]]:
    """All names of each parameter and stored buffer, under the first one."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(first.setdefault(id(tensor), name), []).append(name)
    return names


def _check_names(needed: Iterable[str], tensors: Iterable[str], keymap: KeyMap, source: str) -> None:
    """Refuses missing, unused and doubled tensors before any is read."""
    wanted = list(needed)
    known, given, unused = set(wanted), set[str](), []
    for name in tensors:
        if keymap.is_extra(name):
            continue
        targets = keymap.targets(name)
        if not targets or not known.issuperset(targets):
            unused.append(name)
        elif twice := given.intersection(targets):
            raise ModelError(f"{source}: two tensors for {listed(sorted(twice))}, one of them {name}")
        given.update(targets)
    missing = [name for name in wanted if name not in given]
    told = [f"{len(missing)} missing ({listed(missing)})"] if missing else []
    told += [f"{len(unused)} not used ({listed(unused)})"] if unused else []
    if told:
        line = f"{source}: the tensors do not fit the network: {'; '.join(told)}"
        raise ModelError(line, missing=missing, unused=unused)


def _values(
    tensors: Mapping[str, Tensor | Stored], keymap: KeyMap, shapes: Mapping[str, torch.Size], source: str
) -> Iterator[tuple[str, Tensor | Stored]]:
    """Reads the tensors one by one as parameter names and values."""
    for name in tensors:
        if keymap.is_extra(name):
            continue
        for target, value in keymap.convert(name, tensors[name]):
            if value.shape != shapes[target]:
                raise ModelError(
                    f"{source}: the tensor {name} gives {target} the shape {list(value.shape)}, "
                    f"but the configuration asks for {list(shapes[target])}"
                )
            yield target, value


def _dense(value: Tensor | Stored, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Values for a parameter or a buffer; floating ones come in `dtype`."""
    if isinstance(value, Stored):
        return value.to(device).dequantise(dtype)
    return value.to(device, dtype if value.is_floating_point() else value.dtype)


def _wide(value: Tensor | Stored, device: torch.device | str) -> Tensor:
    """Values to be changed: as they are, or in float32 where they are stored in fewer bits."""
    return value.to(device).dequantise(torch.float32) if isinstance(value, Stored) else value.to(device)


def assemble(
    factory: Callable[[], M],
    tensors: Mapping[str, Tensor | Stored],
    keymap: KeyMap,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    source: str = "weights",
    keep_stored: bool = False,
    amendments: Amendments | None = None,
) -> M:
    """Builds a network and gives it tensors under their file's names.

    Args:
        factory: makes the network; what it makes without values takes no memory.
        tensors: name in the file → tensor; read one at a time.
        keymap: from the file's names to the network's.
        dtype: of the floating parameters. Buffers that the file does not hold keep the type they were made with.
        device: where the network shall live.
        source: what error messages call the tensors' origin.
        keep_stored: whether layers that can compute with a stored matrix keep it so; all else is dequantised.
        amendments: changes to the parameters, LoRAs for instance; a stored matrix with others than side branches is
            dequantised.

    Returns:
        The network in evaluation mode, its parameters without gradients.

    Raises:
        ModelError: tensors that are missing, unused, doubled or of another shape.
    """
    with _EmptyOnMeta():
        module = factory()
    names = _shared_names(module)
    slots = module.state_dict(keep_vars=True)
    _check_names(names, tensors, keymap, source)
    layers = module.named_modules() if keep_stored else ()
    holders = {f"{name}.weight": layer for name, layer in layers if isinstance(layer, Holder)}
    state: dict[str, Tensor] = {}
    for target, value in _values(tensors, keymap, {name: slot.shape for name, slot in slots.items()}, source):
        changed = amendments if amendments and amendments.changes(target) else None
        if isinstance(value, Stored) and target in holders and (changed is None or changed.branches(target)):
            holders[target].hold(value.to(device))
            if changed:
                changed.attach(target, holders[target], device, dtype)
            continue
        kept = _dense(changed.merge(target, _wide(value, device)) if changed else value, dtype, device)
        if isinstance(slots[target], nn.Parameter):
            kept = nn.Parameter(kept, requires_grad=False)
        state.update(dict.fromkeys(names[target], kept))
    module.load_state_dict(state, strict=False, assign=True)  # all names are checked, and held matrices have others
    if unreal := [name for name, buffer in module.named_buffers() if buffer.is_meta]:
        raise ModelError(f"{source}: the network made {listed(unreal)} without values, and no file holds any")
    return module.to(device).eval().requires_grad_(False)


def build(
    factory: Callable[[], M],
    paths: Sequence[Path],
    keymap: KeyMap,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    keep_stored: bool = False,
    amendments: Amendments | None = None,
) -> M:
    """Builds a network from weight files; see `assemble` and `read_tensors`.

    Raises:
        ModelError: files that cannot be read, or that do not fit the network.
    """
    source = ", ".join(str(path) for path in paths)
    tensors = read_tensors(paths)
    return assemble(
        factory,
        tensors,
        keymap,
        dtype=dtype,
        device=device,
        source=source,
        keep_stored=keep_stored,
        amendments=amendments,
    )
