"""The map that optimum-quanto's users keep beside a file: which layers are stored in few bits, and how.

The numbers and scales of such a file say how they are stored themselves; the map tells whether file and map belong
together and whether the layers are the network's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infinitetalk.core.errors import ModelError, listed
from infinitetalk.weights import manifest
from infinitetalk.weights.header import TensorInfo
from infinitetalk.weights.kinds import DATA

TYPES: Mapping[str, str] = {
    "qint8": "I8",
    "qfloat8": "F8_E4M3",
    "qfloat8_e4m3fn": "F8_E4M3",
    "qfloat8_e5m2": "F8_E5M2",
}
"""quanto's names of its number formats → safetensors' names; others are not read."""


def map_beside(path: Path) -> Path | None:
    """The map of a weight file: `<name>.json`, or for `t5_fp8.safetensors` as MeiGen names it `t5_map_fp8.json`."""
    first, _, rest = path.stem.partition("_")
    places = (path.with_suffix(".json"), path.with_name(f"{first}_map_{rest}.json"))
    return next((place for place in places if place.is_file()), None)


def check_map(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    """Compares a file that quanto wrote with the map beside it; a file without a map is taken as it is.

    Raises:
        ModelError: a map that is damaged, names layers that the file lacks, lacks layers, or tells other formats.
    """
    place = map_beside(path)
    held = {name.removesuffix(f".weight{DATA}"): info for name, info in tensors.items() if name.endswith(DATA)}
    if place is None or not held:
        return
    try:
        told = {layer: _type(layer, entry) for layer, entry in manifest.read_object(place).items()}
    except ModelError as error:
        raise ModelError(f"{place}: {error}") from error
    told = {layer: kind for layer, kind in told.items() if kind != "none"}
    if unknown := [layer for layer in told if layer not in held]:
        raise ModelError(
            f"{place} names layers that {path.name} has not in few bits: {listed(unknown)}", unused=unknown
        )
    if lacking := [layer for layer in held if layer not in told]:
        raise ModelError(f"{place} lacks layers that {path.name} has: {listed(lacking)}", missing=lacking)
    if other := [layer for layer, info in held.items() if TYPES[told[layer]] != info.dtype]:
        kinds = f"{told[other[0]]}, and the file holds {held[other[0]].dtype}"
        raise ModelError(f"{place} tells other number formats than {path.name} has: {listed(other)} should be {kinds}")


def _type(layer: str, entry: Any) -> str:
    values = manifest.mapping(entry, f"what it says of {layer}")
    weights, activations = values.get("weights", "none"), values.get("activations", "none")
    if weights not in TYPES and weights != "none":
        raise ModelError(f"the weights of {layer} are {weights}; {', '.join(TYPES)} are read")
    if activations not in ("none", None):
        raise ModelError(f"the activations of {layer} are {activations}; only files with plain activations are read")
    return str(weights)
