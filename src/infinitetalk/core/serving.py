"""What a service takes from its users: limits, each written down once for flags and checks."""

from dataclasses import dataclass, fields

from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import Knob, knob

LIMITS = "limits"
LOCAL = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """How much one user, and all of them, may ask for.

    Raises:
        RequestError: a value that cannot work.
    """

    max_upload: float = knob(200.0, "MB (10^6 bytes) that one request may send", LIMITS, least=0.01, most=1e6)
    max_seconds: float = knob(600.0, "seconds that a video may last", LIMITS, least=0.1, most=1e6)
    max_pixels: float = knob(2.1, "million pixels that a finished frame may have", LIMITS, least=0.001, most=100)
    max_source_pixels: float = knob(36.0, "million pixels that a picture or a video's frame that is sent may have",
                                    LIMITS, least=0.001, most=100)  # fmt: skip
    max_waiting: int = knob(100, "jobs that may wait", LIMITS, least=1, most=1_000_000)
    max_jobs_each: int = knob(50, "jobs of one user that may wait or run", LIMITS, least=1, most=1_000_000)
    rate: int = knob(600, "requests a minute that one user may make", LIMITS, least=1, most=1_000_000)
    decode_seconds: int = knob(60, "seconds of processor that decoding one request's files may take", LIMITS, least=1,
                               most=86_400)  # fmt: skip
    decode_memory: float = knob(2.0, "GB (2^30 bytes) of memory that decoding them may take", LIMITS, least=0.5,
                                most=1000)  # fmt: skip
    spare_disk: float = knob(1.0, "GB (2^30 bytes) of the disk that stay free", LIMITS, least=0, most=1e6)
    keep_days: float = knob(7.0, "days after which a finished job and its files are deleted", LIMITS, least=0.001,
                            most=1e5)  # fmt: skip

    def __post_init__(self) -> None:
        for item in fields(self):
            bounds: Knob = item.metadata["knob"]
            value = getattr(self, item.name)
            assert bounds.least is not None
            assert bounds.most is not None
            if not bounds.least <= value <= bounds.most:
                raise RequestError(item.name, value, f"must be from {bounds.least:g} to {bounds.most:g}")

    @property
    def upload_bytes(self) -> int:
        """Bytes that one request may send."""
        return round(self.max_upload * 1e6)
