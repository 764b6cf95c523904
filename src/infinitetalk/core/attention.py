"""The kernels that can compute attention, as data: what each of them needs, and why one cannot serve somewhere.

None of them is asked to mask anything: the networks that choose among them attend without masks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infinitetalk.core.errors import RequestError

AUTO = "auto"
HALF = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Source:
    """A library that has the kernel."""

    module: str
    package: str
    """What to install."""
    dtypes: tuple[str, ...] = HALF


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One way to compute attention."""

    name: str
    words: str
    devices: tuple[str, ...] = ("cuda",)
    """Types of torch devices; none means any."""
    least: tuple[int, int] | None = None
    below: tuple[int, int] | None = None
    """CUDA's compute capabilities: from `least` on, before `below`."""
    dtypes: tuple[str, ...] = ()
    """Number formats; none means any."""
    widest: int | None = None
    """Channels of a head at most."""
    step: int = 1
    """A head's channels are a multiple of it."""
    widths: tuple[int, ...] = ()
    """The only numbers of channels, where there are few."""
    sources: tuple[Source, ...] = ()
    """Libraries beside torch that have it; the first one that is installed serves. None: torch has it."""
    automatic: bool = True
    """Whether `auto` may take it: it is quick, and exact up to rounding."""


_FLASH_3 = (
    Source("flash_attn_interface", "flash-attn-3"),
    Source("fa3_fwd_interface", "fa3-fwd", dtypes=("bfloat16",)),
)

BACKENDS: tuple[Backend, ...] = (
    Backend(name="math", words="plain products, exact", devices=(), automatic=False),
    Backend(
        name="flash", words="PyTorch's FlashAttention", devices=("cuda", "cpu"), least=(8, 0), dtypes=HALF, widest=256
    ),
    Backend(name="cudnn", words="cuDNN's attention", least=(8, 0), dtypes=HALF, widest=128, step=8),
    Backend(name="efficient", words="memory-efficient attention", least=(5, 0), step=8),
    Backend(
        name="fa3",
        words="FlashAttention-3",
        least=(9, 0),
        below=(10, 0),
        dtypes=HALF,
        widest=256,
        step=8,
        sources=_FLASH_3,
    ),
    Backend(
        name="sage",
        words="SageAttention, whose products of queries and keys are of 8 bits",
        least=(8, 0),
        dtypes=HALF,
        widths=(64, 96, 128),
        sources=(Source("sageattention", "sageattention"),),
        automatic=False,
    ),
    Backend(
        name="fp8",
        words="FlashAttention-3 in 8-bit floats",
        least=(9, 0),
        below=(10, 0),
        dtypes=("bfloat16",),
        widths=(64, 128, 256),
        sources=_FLASH_3,
        automatic=False,
    ),
)
"""Every back end that can be asked for by name. On a CPU, `flash` is torch's fused kernel and takes any format."""

NAMES = tuple(backend.name for backend in BACKENDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where attention is to be computed, and in what; None for what is not known yet."""

    name: str
    """The device's name, for messages."""
    kind: str
    """The type of device that kernels are chosen for: `cuda`, `cpu`, `mps`."""
    capability: tuple[int, int] | None
    dtype: str | None = None
    width: int | None = None
    """Channels of a head."""


Installed = Callable[[str], bool]
"""Whether a module can be found; nothing is imported for it."""


def find(name: str) -> Backend:
    """A back end by its name."""
    return next(backend for backend in BACKENDS if backend.name == name)


def source(backend: Backend, place: Place, installed: Installed) -> Source | None:
    """The library that serves here; None where there is none, or none is needed."""
    for one in backend.sources:
        if installed(one.module) and (place.dtype is None or place.dtype in one.dtypes):
            return one
    return None


def obstacle(backend: Backend, place: Place, installed: Installed) -> str | None:
    """Why a back end cannot serve at this place, in words that go on after its name; None if it can."""
    return next((why for why in _obstacles(backend, place, installed) if why), None)


def _obstacles(backend: Backend, place: Place, installed: Installed) -> Iterator[str | None]:
    yield _wrong_device(backend, place)
    present = [one for one in backend.sources if installed(one.module)]
    if backend.sources and not present:
        yield f"{backend.words} is not installed: pip install {backend.sources[-1].package}"
    if place.dtype is not None and place.kind == "cuda":
        known = {dtype for one in present for dtype in one.dtypes} if present else set(backend.dtypes)
        if known and place.dtype not in known:
            yield f"it computes in {' or '.join(sorted(known))}, and this run in {place.dtype}"
    yield _wrong_width(backend, place)


def _wrong_device(backend: Backend, place: Place) -> str | None:
    if backend.devices and place.kind not in backend.devices:
        return f"it needs an NVIDIA GPU, and this runs on {place.name} ({place.kind})"
    have = place.capability
    if have is None or place.kind != "cuda":
        return None
    if (backend.least and have < backend.least) or (backend.below and have >= backend.below):
        least, below = (None if one is None else f"{one[0]}.{one[1]}" for one in (backend.least, backend.below))
        need = f"from {least}" if below is None else f"from {least} and before {below}"
        return f"it needs compute capability {need}, and {place.name} has {have[0]}.{have[1]}"
    return None


def _wrong_width(backend: Backend, place: Place) -> str | None:
    width = place.width
    if width is None or place.kind != "cuda":
        return None
    if backend.widths and width not in backend.widths:
        return f"it takes heads of {', '.join(map(str, backend.widths))} channels, and this model's have {width}"
    if width % backend.step:
        return f"it takes heads of a multiple of {backend.step} channels, and this model's have {width}"
    if backend.widest is not None and width > backend.widest:
        return f"it takes heads of {backend.widest} channels at most, and this model's have {width}"
    return None


def usable(place: Place, installed: Installed) -> tuple[str, ...]:
    """Names of the back ends that work at this place."""
    return tuple(one.name for one in BACKENDS if obstacle(one, place, installed) is None)


def check(name: str, place: Place, installed: Installed) -> None:
    """Refuses a back end that cannot serve at this place; `auto` always can.

    Raises:
        RequestError: why it cannot, and which ones would work.
    """
    if name == AUTO:
        return
    why = obstacle(find(name), place, installed)
    if why is not None:
        would = ", ".join((AUTO, *usable(place, installed)))
        raise RequestError("attention", name, f"{why}; {would} would work here")
