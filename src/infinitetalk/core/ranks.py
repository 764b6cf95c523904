"""Which process this is among those that torchrun started."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from infinitetalk.core.errors import RequestError

SWITCH = ("auto", "on", "off")
"""Whether branches of guidance go to processes of their own."""


class Place(NamedTuple):
    """A process among several."""

    rank: int
    size: int
    here: int
    """How many of them are on this machine."""


def started_by_torchrun(environment: Mapping[str, str] | None = None) -> Place | None:
    """This process' place if torchrun started it with others; None if nobody did, or it is the only one.

    Raises:
        RequestError: more than one machine.
    """
    known = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" not in known:
        return None
    place = Place(*(int(known[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))
    if place.here != place.size:
        need = f"torchrun's processes must be on one machine, and {place.here} of {place.size} are on this one"
        raise RequestError("gpus", place.size, need)
    return place if place.size > 1 else None


def crew_size(gpus: int | None, place: Place | None) -> int:
    """How many processes share the work.

    Args:
        gpus: what was asked for; None for one, or for as many as torchrun started.

    Raises:
        RequestError: another number than torchrun started.
    """
    if place is None:
        return gpus or 1
    if gpus not in (None, place.size):
        raise RequestError("gpus", gpus, f"torchrun started {place.size} processes: {place.size} would work, or none")
    return place.size


def guidance_groups(size: int, heads: int, branches: int, switch: str = "auto") -> int:
    """Into how many groups the processes are split, each for its share of the branches of guidance.

    Branches know nothing of each other, so groups exchange less than processes that share each branch. Each group
    shares the tokens of its branches, for which the heads of attention must divide.

    Args:
        switch: `off` for one group, `on` for several; `auto` takes as many as go.

    Raises:
        RequestError: a number of processes that cannot share the work, with those that can.
    """
    if (found := _groups(size, heads, branches, switch)) is not None:
        return found
    if switch == "on" and _groups(size, heads, branches, "off") is not None:
        what = "one branch" if branches == 1 else f"{branches} branches"
        raise RequestError("guidance_split", switch, f"{what} of guidance cannot be split on {size} GPUs; off would")
    others = [str(count) for count in range(1, 2 * size + 1) if _groups(count, heads, branches, switch) is not None]
    need = f"{heads} heads of attention cannot be shared evenly by so many; {_listed(others)} would work"
    raise RequestError("gpus", size, need)


def _groups(size: int, heads: int, branches: int, switch: str) -> int | None:
    most, least = (1 if switch == "off" else branches), (2 if switch == "on" and size > 1 else 1)
    for groups in range(most, least - 1, -1):
        if branches % groups == 0 and size % groups == 0 and heads % (size // groups) == 0:
            return groups
    return None


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
