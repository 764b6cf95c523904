"""The map of a file that optimum-quanto stored: which layers are in few bits, and how.

MeiGen keeps it in a JSON file beside the weights, Wan2GP in the notes of the weight file. The numbers and scales say
themselves how they are stored; the map tells whether it and the file belong together.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infinitetalk.core.errors import ModelError, listed
from infinitetalk.weights import manifest
from infinitetalk.weights.header import Header
from infinitetalk.weights.kinds import DATA

TYPES: Mapping[str, str] = {
    "qint8": "I8",
    "qfloat8": "F8_E4M3",
    "qfloat8_e4m3fn": "F8_E4M3",
    "qfloat8_e5m2": "F8_E5M2",
}
"""quanto's names of its number formats → safetensors' names; others are not read."""
NOTE = "quantization_map"


def _beside(path: Path) -> Path | None:
    """The map of a weight file: `<name>.json`, or for `t5_fp8.safetensors` as MeiGen names it `t5_map_fp8.json`."""
    first, _, rest = path.stem.partition("_")
    places = (path.with_suffix(".json"), path.with_name(f"{first}_map_{rest}.json"))
    return next((place for place in places if place.is_file()), None)


def _map(header: Header) -> tuple[str, Mapping[str, Any]] | None:
    """Where the map of a file is, and what it says; None for a file without one."""
    if place := _beside(header.path):
        return str(place), manifest.read_object(place)
    notes = header.metadata
    try:
        if NOTE in notes:
            return f"the {NOTE} of {header.path}", manifest.mapping(json.loads(notes[NOTE]), "it")
        if (coded := f"{NOTE}_base64") in notes:
            decoded = json.loads(base64.b64decode(notes[coded]))
            return f"the {coded} of {header.path}", manifest.mapping(decoded, "it")
    except ValueError as error:
        raise ModelError(f"its {NOTE} is not readable ({error})") from error
    return None


def check_map(header: Header) -> None:
    """Compares a file that quanto stored with its map; one without a map is taken as it is.

    Raises:
        ModelError: a map that is damaged, names layers that the file lacks, lacks layers, or tells other formats.
    """
    held = {name.removesuffix(f".weight{DATA}"): i for name, i in header.tensors.items() if name.endswith(DATA)}
    name = header.path.name
    try:
        found = _map(header) if held else None
        if found is None:
            return
        place, entries = found
        told = {layer: _type(layer, entry) for layer, entry in entries.items()}
    except ModelError as error:
        raise ModelError(f"the map of {header.path}: {error}") from error
    told = {layer: kind for layer, kind in told.items() if kind != "none"}
    if unknown := [layer for layer in told if layer not in held]:
        raise ModelError(f"{place} names layers that {name} has not in few bits: {listed(unknown)}", unused=unknown)
    if lacking := [layer for layer in held if layer not in told]:
        raise ModelError(f"{place} lacks layers that {name} has: {listed(lacking)}", missing=lacking)
    if other := [layer for layer, info in held.items() if TYPES[told[layer]] != info.dtype]:
        kinds = f"{told[other[0]]}, and the file holds {held[other[0]].dtype}"
        raise ModelError(f"{place} tells other number formats than {name} has: {listed(other)} should be {kinds}")


def _type(layer: str, entry: Any) -> str:
    values = manifest.mapping(entry, f"what it says of {layer}")
    weights, activations = values.get("weights", "none"), values.get("activations", "none")
    if weights not in TYPES and weights != "none":
        raise ModelError(f"the weights of {layer} are {weights}; {', '.join(TYPES)} are read")
    if activations not in ("none", None):
        raise ModelError(f"the activations of {layer} are {activations}; only files with plain activations are read")
    return str(weights)
