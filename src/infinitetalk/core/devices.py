"""Names of devices, as users write them."""

import re

from infinitetalk.core.errors import RequestError

_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_device(name: str) -> None:
    """Refuses what names no device, before anything heavy is imported to look for it.

    Raises:
        RequestError: neither `auto`, `cpu`, `mps`, `cuda` nor `cuda:N`.
    """
    if not _NAME.fullmatch(name):
        raise RequestError("device", name, "no such device; auto, cpu, cuda, cuda:1 or mps would work")
