"""The C library's heap, which keeps what is freed in holes between what is not."""

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any


@cache
def _trim() -> Callable[[int], Any] | None:
    """The GNU C library's `malloc_trim`; None where the heap is another library's."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            trim: Callable[[int], Any] = ctypes.CDLL(None).malloc_trim
            return trim
    return None


def give_back() -> None:
    """Gives free pages back to the system, milliseconds between windows.

    Blocks of 100 KB to 32 MB that come and go tear holes into the heap; over hundreds of windows it would creep up.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
