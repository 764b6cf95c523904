"""Where a job's networks live in memory, and by which kernels they compute: settings of a run, not of a video.

They change how long a video takes and what it needs. Kernels that are exact round differently; those of 8 bits are off
by what their names say. So they are no part of `TalkRequest` and of the file beside a video: whoever repeats a video on
another machine must not inherit this one's memory.
"""

from dataclasses import dataclass, fields
from enum import Enum

from infinitetalk.core.attention import NAMES
from infinitetalk.core.errors import RequestError
from infinitetalk.core.ranks import SWITCH
from infinitetalk.core.request import Knob, knob


class Tier(Enum):
    """Where the video network's weights are while they do not compute."""

    RESIDENT = "resident"
    PINNED = "pinned"
    DISK = "disk"


AUTO, ON, OFF = "auto", "on", "off"
EXACT = "exact"
MEMORY, KERNELS, DEVICES = "memory", "kernels", "devices"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """How much memory a run may take, where its weights live, and how it attends.

    Raises:
        RequestError: a value that cannot work.
    """

    memory: str = knob(AUTO, "where the video network's weights live: on the device, in main memory, on disk", MEMORY,
                       choices=(AUTO, *(tier.value for tier in Tier)))  # fmt: skip
    vram: float | None = knob(None, "GB (2^30 bytes) of the GPU's memory that may be used", MEMORY, least=0.1, most=1e5)
    ram: float | None = knob(None, "GB (2^30 bytes) of main memory that may be used", MEMORY, least=0.1, most=1e5)
    num_persistent_param_in_dit: int | None = knob(
        None,
        "parameters of the video network that stay on the GPU while the others come and go; 0 to 4 keep no block, "
        "7000000000 keep 18 of 40; default: what fits",
        MEMORY, least=0, most=1e12, aliases=("--num_persistent_param_in_dit",),
    )  # fmt: skip
    attention: str = knob(AUTO, "what computes attention in the video network; auto: the quickest, measured once",
                          KERNELS, choices=(AUTO, *NAMES))  # fmt: skip
    fused: str = knob(AUTO, "one Triton kernel for what lies between two products of the video network; auto: where "
                      "they run", KERNELS, choices=(AUTO, ON, OFF))  # fmt: skip
    linears: str = knob(EXACT, "number format of the products in the video network's blocks: its own, or 8 bits with "
                        "a scale for each row", KERNELS, choices=(EXACT, "fp8", "int8"))  # fmt: skip
    vae_dtype: str = knob(AUTO, "number format of the VAE; auto: bfloat16 where the networks compute in it, else "
                          "float32", KERNELS, choices=(AUTO, "float32", "bfloat16"))  # fmt: skip

    gpus: int | None = knob(None, "GPUs that share the work of each window, this device and those behind it; 1, or as "
                            "many as torchrun started", DEVICES, least=1, most=64)  # fmt: skip
    guidance_split: str = knob(AUTO, "give each branch of guidance GPUs of its own; auto: where their number allows it",
                               DEVICES, choices=SWITCH)  # fmt: skip
    graphs: str = knob(AUTO, "record a step's kernels once and start all of them together; auto: where they are short",
                       KERNELS, choices=(AUTO, ON, OFF))  # fmt: skip

    def __post_init__(self) -> None:
        for item in fields(self):
            limits: Knob = item.metadata["knob"]
            value = getattr(self, item.name)
            if limits.choices:
                if value not in limits.choices:
                    raise RequestError(item.name, value, f"must be {', '.join(limits.choices)}")
            elif value is not None:
                _check(item.name, value, limits, whole=item.name in ("num_persistent_param_in_dit", "gpus"))

    @property
    def kernels(self) -> dict[str, str]:
        """What decides how results are rounded, by name."""
        return {name: getattr(self, name) for name in ("attention", "fused", "linears", "vae_dtype")}

    @property
    def tier(self) -> Tier | None:
        """The wanted tier; None to choose one."""
        return None if self.memory == AUTO else Tier(self.memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lodging:
    """Where networks live in one run, decided."""

    tier: Tier = Tier.RESIDENT
    resident_blocks: int = 0
    """Blocks of the video network that stay on the device; all of them in the tier `resident`."""
    frames_at_once: int | None = None
    """Latent frames that pass through a block's linear layers together; None for all."""
    keep_encoders: bool = True
    """Whether encoders and VAE stay on the device between their turns."""
    coded_at_once: int | None = None
    """Video frames that pass together through the VAE's layers with the most pixels; None for all there are."""
    tile: int | None = None
    """Pixels on a side of the pieces in which the VAE works; None for whole frames."""


def _check(name: str, value: object, limits: Knob, *, whole: bool) -> None:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise RequestError(name, value, "must be a whole number" if whole else "must be a number")
    assert limits.least is not None
    assert limits.most is not None
    if not limits.least <= value <= limits.most:
        raise RequestError(name, value, f"must be from {limits.least:g} to {limits.most:g}")
