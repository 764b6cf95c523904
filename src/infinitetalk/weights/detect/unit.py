"""What one weight file, or one set of shards, is: the answer of `inspect`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from infinitetalk.core.configs import DiTConfig, NetConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.ops.ggml import LAYOUTS
from infinitetalk.weights import names
from infinitetalk.weights.detect.component import Component, Recognised, recognise
from infinitetalk.weights.detect.shape import UnclearError, config_of, declared_config, near_config
from infinitetalk.weights.detect.variants import people_of, refusal
from infinitetalk.weights.header import Header, TensorInfo, read_header
from infinitetalk.weights.kinds import Siblings
from infinitetalk.weights.lora import grammar as lora

Shape = tuple[int, ...]
NOT_WHOLE = "its tensors do not make the whole network"

SMALL_TYPES: Mapping[str, str] = {
    "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "F8_E4M3": "fp8 e4m3",
    "F8_E5M2": "fp8 e5m2", "I8": "int8", "U8": "uint8",
}  # fmt: skip
"""What people call the types; others keep their own names, as ggml's do."""


READ_TYPES = (*SMALL_TYPES, "I16", "I32", "I64", "BOOL", *LAYOUTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One component as it lies on disk."""

    files: tuple[Path, ...]
    component: Component
    grammar: str = ""
    """Whose names the file has."""
    prefix: str = ""
    """What stands before every name."""
    people: str = ""
    """Of an adapter or a merged base: "single", "multi", or "" where no name tells; the two have equal tensors."""
    config: NetConfig | None = None
    parameters: int = 0
    bytes: int = 0
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Each tensor's name in the file → how it is stored."""
    missing: tuple[str, ...] = ()
    """Tensors that the network needs, by this package's names."""
    unused: tuple[str, ...] = ()
    """Tensors that nothing knows, by the file's names."""
    misshapen: tuple[str, ...] = ()
    problem: str = ""
    """One line that says why it cannot be used; empty for a whole and fitting one."""

    @property
    def path(self) -> Path:
        """The first file, which stands for all."""
        return self.files[0]

    @property
    def kind_counts(self) -> Mapping[str, int]:
        """How it is stored → how many tensors are, most first."""
        return dict(Counter(self.kinds.values()).most_common())

    @property
    def faults(self) -> Mapping[str, tuple[str, ...]]:
        """What is wrong with its tensors, in words → their names."""
        every = {"missing": self.missing, "left over": self.unused, "of another shape": self.misshapen}
        return {word: names for word, names in every.items() if names}

    @property
    def usable(self) -> bool:
        """Whether a model can be made with it."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor that a file stands for, with what lies beside it."""

    shape: Shape
    kind: str
    bytes: int
    elements: int


def look(files: Sequence[Path]) -> Unit:
    """Reads the headers of one component's files and says what it is.

    Raises:
        ModelError: a file that cannot be read, or a tensor that is in two of the files.
    """
    headers = [read_header(path) for path in files]
    infos = _joined(headers)
    paths = tuple(files)
    size = sum(info.bytes for info in infos.values())
    if any(lora.split(name) for name in infos):
        parameters = sum(info.elements for info in infos.values())
        kinds = {name: _type(info.dtype) for name, info in infos.items()}
        return Unit(files=paths, component=Component.LORA, parameters=parameters, bytes=size, kinds=kinds)
    try:
        tensors = _logical(infos)
    except ModelError as error:
        return Unit(files=paths, component=Component.UNKNOWN, bytes=size, problem=str(error))
    told = recognise(tensors)
    if told is None:
        problem = f"nothing that this program knows: its first tensor is {next(iter(infos), 'not there')}"
        return Unit(files=paths, component=Component.UNKNOWN, bytes=size, problem=problem)
    unit = _known(paths, told, tensors, size)
    strange = next((info.dtype for info in infos.values() if info.dtype not in READ_TYPES), None)
    if strange is None:
        return unit
    return replace(unit, problem=f"it is stored as {strange}; this version reads {', '.join(READ_TYPES)}")


def _joined(headers: Sequence[Header]) -> Mapping[str, TensorInfo]:
    infos: dict[str, TensorInfo] = {}
    for header in headers:
        if twice := next((name for name in header.tensors if name in infos), None):
            raise ModelError(f"{header.path}: the tensor {twice} is in another of the part's files already")
        infos.update(header.tensors)
    return infos


def _type(dtype: str) -> str:
    return SMALL_TYPES.get(dtype, dtype)


def _logical(infos: Mapping[str, TensorInfo]) -> Mapping[str, _Tensor]:
    """What the tensors stand for, with their companions folded in.

    Raises:
        ModelError: a companion without its matrix, or a matrix without its companion.
    """
    siblings = Siblings.of(infos)
    tensors: dict[str, _Tensor] = {}
    for name in siblings.tensors:
        data = infos[siblings.data.get(name, name)]
        scale = siblings.scales.get(name)
        beside = [infos[other] for other in (scale, siblings.notes.get(name)) if other is not None]
        kind = _type(data.dtype) + (_scale_words(name, scale, infos[scale]) if scale else "")
        if not scale and data.dtype.startswith("F8"):
            kind += " without scale"
        tensors[name] = _Tensor(data.shape, kind, data.bytes + sum(info.bytes for info in beside), data.elements)
    return tensors


def _scale_words(matrix: str, scale: str, info: TensorInfo) -> str:
    """How a scale is meant and by whose name it goes, as people read it."""
    each = "one scale" if info.elements == 1 else "a scale per row"
    layer = matrix if scale.startswith(f"{matrix}.") else matrix.removesuffix(".weight")
    return f", {each} ({scale.removeprefix(layer)})"


def _known(paths: tuple[Path, ...], told: Recognised, tensors: Mapping[str, _Tensor], size: int) -> Unit:
    """Compares a recognised component with what its network needs."""
    keymap = told.keymap
    arrived: dict[str, Shape] = {}
    homes: dict[str, str] = {}
    for name, tensor in tensors.items():
        if not keymap.is_extra(name):
            for target, shape in keymap.shapes(name, tensor.shape):
                arrived[target], homes[target] = shape, name
    unknown = [name for name in tensors if not keymap.is_extra(name) and not keymap.targets(name)]
    unit = Unit(
        files=paths,
        component=told.component,
        grammar=told.grammar,
        prefix=told.prefix,
        people=people_of(paths[0]) if told.component in (Component.ADAPTER, Component.MERGED) else "",
        parameters=sum(tensor.elements for tensor in tensors.values()),
        bytes=size,
        kinds={name: tensor.kind for name, tensor in tensors.items()},
        unused=tuple(unknown),
    )
    return _compared(unit, arrived, homes)


def _compared(unit: Unit, arrived: Mapping[str, Shape], homes: Mapping[str, str]) -> Unit:
    problem = refusal(unit.component, arrived)
    try:
        config = declared_config(unit.path)
        if config is None:
            config = config_of(unit.component, arrived, near_config(unit.component, unit.path))
    except UnclearError as reason:
        return replace(unit, problem=problem or f"its tensors do not tell a whole network: {reason}")
    wanted = _wanted(unit.component, config)
    spare = dict.fromkeys(homes[name] for name in arrived if name not in wanted)
    whole = replace(
        unit,
        config=config,
        missing=tuple(name for name in wanted if name not in arrived),
        unused=(*unit.unused, *spare),
        misshapen=tuple(name for name, shape in wanted.items() if arrived.get(name, shape) != shape),
    )
    told = [f"{len(names)} {word} ({_few(names)})" for word, names in whole.faults.items()]
    return replace(whole, problem=problem or (f"{NOT_WHOLE}: {'; '.join(told)}" if told else ""))


def _wanted(component: Component, config: NetConfig) -> Mapping[str, Shape]:
    if isinstance(config, DiTConfig) and component is Component.BASE:
        return names.dit_base(config)
    if isinstance(config, DiTConfig) and component is Component.ADAPTER:
        return names.dit_audio(config)
    return names.expected(config)


def _few(listed: Sequence[str], shown: int = 3) -> str:
    more = f", and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more
