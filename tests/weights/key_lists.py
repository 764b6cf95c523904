"""Names and shapes of other people's networks, from `fixtures/key_lists.json`."""

import json
from functools import cache
from pathlib import Path

from tests.weights.fixtures.make_key_lists import expand

Shapes = dict[str, tuple[int, ...]]


@cache
def _packed() -> dict[str, dict[str, list[int]]]:
    content: dict[str, dict[str, list[int]]] = json.loads(
        (Path(__file__).parent / "fixtures" / "key_lists.json").read_text(encoding="utf-8")
    )
    return content


def shapes(network: str) -> Shapes:
    """All tensors of one network."""
    return {name: tuple(shape) for name, shape in expand(_packed()[network]).items()}


def adapter() -> Shapes:
    """What MeiGen's adapter files hold: the reference's network without the base that it stands on."""
    base = shapes("wan i2v 14B")
    return {name: shape for name, shape in shapes("meigen merged").items() if name not in base}
