"""Files that strangers gave, decoded once in a limited process before this one opens them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infinitetalk.core.serving import ServiceLimits
from infinitetalk.core.units import GIB
from infinitetalk.media.sandbox import Sandbox

_KINDS: Mapping[str, str] = {
    "image": "picture", "video": "video", "audio": "sound", "masks": "mask", "soundtrack": "sound",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vetting:
    """Remembers what has passed: the page keeps uploads under names made of their content."""

    sandbox: Sandbox | None = None
    """None: all files are the user's own, and nothing is limited."""
    passed: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, limits: ServiceLimits | None) -> "Vetting":
        """What a service's limits ask for."""
        if limits is None:
            return cls()
        return cls(
            Sandbox(
                seconds=limits.decode_seconds,
                memory=round(limits.decode_memory * GIB),
                pixels=round(limits.max_source_pixels * 1e6),
                longest=limits.max_seconds,
            )
        )

    def check(self, form: Mapping[str, Any]) -> None:
        """Decodes the files of a form that were not seen yet.

        Raises:
            InfiniteTalkError: one cannot be decoded, is too large or too long, or takes too much to decode.
        """
        if self.sandbox is None:
            return
        found = [(field, path) for field in _KINDS for path in _paths(form.get(field))]
        fresh = [one for one in found if one not in self.passed]
        if fresh:
            self.sandbox.decode([(_KINDS[field], Path(path)) for field, path in fresh])
            self.passed.update(fresh)


def _paths(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(path) for path in values if path]
