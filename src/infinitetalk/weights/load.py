"""From weight files to a network: read lazily, build without memory, assign strictly.

A network's matrices take no memory before their weights come, a file's tensors are read one at a time, and every tensor
that is missing, unused or of another shape is an error that names it.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from infinitetalk.core.errors import ModelError
from infinitetalk.ops.stored import Holder, Stored
from infinitetalk.weights.keymaps import KeyMap
from infinitetalk.weights.packed import Unpacked

M = TypeVar("M", bound=nn.Module)

PICKLES = (".pth", ".pt", ".bin")
SHOWN = 5

# What unpickling a damaged or foreign file can raise.
PICKLE_ERRORS = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError)


def _first_line(error: Exception) -> str:
    """The first sentence of an error."""
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].split(". ")[0]


class _Reader(Protocol):
    """An open `safetensors` file."""

    def keys(self) -> Iterable[str]: ...
    def get_tensor(self, name: str) -> Tensor: ...


def _open_safetensors(path: Path) -> _Reader:
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a whole safetensors file ({_first_line(error)}); get it again") from error


class _SafeFile(Mapping[str, Tensor]):
    """The tensors of one `.safetensors` file; each is read when asked for."""

    def __init__(self, path: Path) -> None:
        self._file = _open_safetensors(path)
        self._names = dict.fromkeys(self._file.keys())

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a torch file, mapped from disk where its format allows; no code in the file is run."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except PICKLE_ERRORS as error:
        raise ModelError(f"{path}: not a whole torch weight file ({_first_line(error)}); get it again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path}: holds something other than named tensors")
    return content


class Tensors(Mapping[str, Tensor]):
    """The tensors of several files as one."""

    def __init__(self, files: Sequence[tuple[Path, Mapping[str, Tensor]]]) -> None:
        self._homes: dict[str, Mapping[str, Tensor]] = {}
        for path, tensors in files:
            if twice := next((name for name in tensors if name in self._homes), None):
                raise ModelError(f"{path}: the tensor {twice} is in another of the part's files already")
            self._homes.update(dict.fromkeys(tensors, tensors))

    def __len__(self) -> int:
        return len(self._homes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __getitem__(self, name: str) -> Tensor:
        return self._homes[name][name]


def read_tensors(paths: Sequence[Path]) -> Mapping[str, Tensor]:
    """Opens weight files as one mapping from name to tensor; 8-bit tensors come unpacked.

    Args:
        paths: `.safetensors` files, or torch files (.pth, .pt, .bin).

    Raises:
        ModelError: a file that is missing, damaged or of another kind, or one name in two files.
    """
    files: list[tuple[Path, Mapping[str, Tensor]]] = []
    for path in paths:
        if not path.is_file():
            raise ModelError(f"{path}: there is no such weight file")
        if path.suffix == ".safetensors":
            files.append((path, _SafeFile(path)))
        elif path.suffix in PICKLES:
            files.append((path, _read_pickle(path)))
        else:
            raise ModelError(f"{path}: weight files end in .safetensors, {', '.join(PICKLES)}")
    return Unpacked(Tensors(files))


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


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


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
            raise ModelError(f"{source}: two tensors for {_listed(sorted(twice))}, one of them {name}")
        given.update(targets)
    missing = [name for name in wanted if name not in given]
    told = [f"{len(missing)} missing ({_listed(missing)})"] if missing else []
    told += [f"{len(unused)} not used ({_listed(unused)})"] if unused else []
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
        kept = _dense(value, torch.float32 if changed else dtype, device)
        kept = changed.merge(target, kept).to(dtype) if changed else kept
        if isinstance(slots[target], nn.Parameter):
            kept = nn.Parameter(kept, requires_grad=False)
        state.update(dict.fromkeys(names[target], kept))
    module.load_state_dict(state, strict=False, assign=True)  # all names are checked, and held matrices have others
    if unreal := [name for name, buffer in module.named_buffers() if buffer.is_meta]:
        raise ModelError(f"{source}: the network made {_listed(unreal)} without values, and no file holds any")
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
