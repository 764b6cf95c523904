"""ComfyUI's graphs as its page stores them, and as its server takes them."""

from collections.abc import Iterator, Mapping
from typing import Any

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
AFTER = "control_after_generate"

Graph = Mapping[str, Any]
Info = Mapping[str, Any]
"""A server's /object_info: node type → its inputs and outputs."""


class GraphError(Exception):
    """What is wrong with a graph, in one line."""


def inputs_of(info: Info, kind: str) -> Iterator[tuple[str, Any, Mapping[str, Any], bool]]:
    """A node type's inputs in their order: name, type or choices, details, and whether one must be given.

    Raises:
        GraphError: a node type that the server does not have.
    """
    if kind not in info:
        raise GraphError(f"node type {kind}: the server has none of this name")
    for group in ("required", "optional"):
        for name, told in info[kind]["input"].get(group, {}).items():
            yield name, told[0], told[1] if len(told) > 1 else {}, group == "required"


def is_widget(kind: Any) -> bool:
    """Whether an input of this type has a widget."""
    return isinstance(kind, list) or kind in WIDGETS


def to_prompt(graph: Graph, info: Info) -> dict[str, Any]:
    """What the server is sent for a stored graph.

    Raises:
        GraphError: a missing link, a link of the wrong type, or a widget without its value.
    """
    links = {link[0]: link for link in graph["links"]}
    nodes = {node["id"]: node for node in graph["nodes"]}
    return {str(number): _node(node, nodes, links, info) for number, node in nodes.items()}


def _node(node: Graph, nodes: Mapping[int, Graph], links: Mapping[int, Any], info: Info) -> dict[str, Any]:
    linked = {slot["name"]: slot["link"] for slot in node.get("inputs", []) if slot.get("link") is not None}
    values = iter(node.get("widgets_values", []))
    told: dict[str, Any] = {}
    for name, kind, details, needed in inputs_of(info, node["type"]):
        if name in linked:
            place = f"node {node['id']} ({node['type']}): the link to {name}"
            told[name] = _source(place, kind, links.get(linked[name]), nodes, info)
        elif is_widget(kind):
            told[name] = _value(node, name, values)
            if details.get(AFTER):
                next(values, None)
        elif needed:
            raise GraphError(f"node {node['id']} ({node['type']}): nothing is linked to {name}")
    if left := set(linked) - set(told):
        raise GraphError(f"node {node['id']} ({node['type']}): it has no input {min(left)}")
    return {"class_type": node["type"], "inputs": told}


def _value(node: Graph, name: str, values: Iterator[Any]) -> Any:
    for value in values:
        return value
    raise GraphError(f"node {node['id']} ({node['type']}): no value for {name}")


def _source(place: str, kind: Any, link: Any, nodes: Mapping[int, Graph], info: Info) -> list[Any]:
    """Where a link comes from, if it is whole and of the right type."""
    if link is None or link[1] not in nodes:
        raise GraphError(f"{place} comes from nowhere")
    source = nodes[link[1]]
    outputs = info[source["type"]]["output"] if source["type"] in info else []
    if link[2] >= len(outputs) or outputs[link[2]] != kind:
        raise GraphError(f"{place} is no {kind}")
    return [str(link[1]), link[2]]


def check_values(prompt: Mapping[str, Any], info: Info) -> None:
    """Refuses widgets' values beyond their bounds or choices; names of files are the machine's own.

    Raises:
        GraphError: such a value.
    """
    for number, node in prompt.items():
        for name, kind, details, _ in inputs_of(info, node["class_type"]):
            value = node["inputs"].get(name)
            if value is None or isinstance(value, list):
                continue
            place = f"node {number} ({node['class_type']}): {name} = {value}"
            uploaded = any("upload" in word for word in details)
            if isinstance(kind, list) and not uploaded and value not in kind:
                raise GraphError(f"{place} is none of {', '.join(map(str, kind))}")
            if kind in ("INT", "FLOAT") and not details.get("min", value) <= value <= details.get("max", value):
                raise GraphError(f"{place} is not from {details.get('min')} to {details.get('max')}")
