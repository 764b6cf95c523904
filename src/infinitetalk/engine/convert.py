"""From a model, wherever its files lie, to a folder of records that is read without any repacking."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from infinitetalk.core.configs import DiTConfig, TextConfig
from infinitetalk.core.loras import DISTILLED_SHIFT, Lora
from infinitetalk.models.dit_blocks import USES, Use
from infinitetalk.weights import keymaps, names
from infinitetalk.weights.convert import folder as output
from infinitetalk.weights.convert.layout import FileLayout, Kind
from infinitetalk.weights.convert.write import Network, Watcher
from infinitetalk.weights.folder import ModelFolder, Part
from infinitetalk.weights.locate import MANIFEST
from infinitetalk.weights.lora.stack import LoraStack
from infinitetalk.weights.read import read_tensors

DIT_BLOCKS, TEXT_BLOCKS = r"blocks\.(\d+)\.", r"network\.encoder\.block\.(\d+)\."
_ORDER = list(Use)
DIT_FILE, TEXT_FILE = "dit.safetensors", "text.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a model shall be stored."""

    kind: Kind
    text: Kind | None = None
    """How the text encoder shall be stored; None leaves it as it is."""
    copy: bool = False
    """Whether parts that are not converted are copied; else they are linked."""


def use_of(inner: str) -> int:
    """What a parameter of a block is needed for, as the memory engine asks for it: steps first."""
    return _ORDER.index(next((use for module, use in USES.items() if inner.startswith(module + ".")), Use.STEP))


def dit_network(
    part: Part[DiTConfig], kind: Kind, loras: Sequence[Lora] = (), *, name: str = DIT_FILE,
    device: torch.device | None = None,
) -> Network:  # fmt: skip
    """The transformer, base and adapter and LoRAs in one.

    Raises:
        ModelError: a LoRA that does not fit.
    """
    shapes = names.dit(part.config)

    def amend() -> LoraStack | None:
        return LoraStack.open(loras, shapes, device) if loras else None

    amend()  # what does not fit is refused now
    layout = FileLayout.of(
        shapes, kind, prefix=DIT_BLOCKS, matrix=lambda _inner: True, run=use_of,
        notes={"config": json.dumps(asdict(part.config)), "kind": kind.matrices},
    )  # fmt: skip
    return Network(
        name=name, open=partial(read_tensors, part.files), keymap=keymaps.DIT, shapes=shapes, layout=layout, kind=kind,
        amend=amend, source=", ".join(str(file) for file in part.files),
    )  # fmt: skip


def text_network(part: Part[TextConfig], kind: Kind) -> Network:
    """The text encoder, under Hugging Face's names."""
    shapes = names.text(part.config)
    layout = FileLayout.of(
        shapes, kind, prefix=TEXT_BLOCKS, matrix=lambda inner: "relative_attention_bias" not in inner,
        run=lambda _inner: 0, rename=lambda name: name.removeprefix("network."), notes={"kind": kind.matrices},
    )  # fmt: skip
    return Network(
        name=TEXT_FILE, open=partial(read_tensors, part.files), keymap=keymaps.TEXT, shapes=shapes, layout=layout,
        kind=kind, source=", ".join(str(file) for file in part.files),
    )  # fmt: skip


def plan_model(
    folder: ModelFolder, target: Path, wish: Wish, loras: Sequence[Lora], device: torch.device
) -> output.Job:
    """What converting a whole model means.

    Raises:
        ModelError: a LoRA that does not fit.
    """
    fused = (*folder.loras, *loras)
    networks = [dit_network(folder.dit, wish.kind, fused, device=device)]
    parts: dict[str, tuple[Part[Any], Sequence[str], str | None]] = {"dit": (folder.dit, [DIT_FILE], None)}
    beside: list[output.Beside] = []
    texts: dict[str, str | bytes] = {}
    for name, part in (("vae", folder.vae), ("speech", folder.speech), ("vision", folder.vision)):
        if part is not None:
            there = output.places(name, part.files)
            beside += there
            parts[name] = (part, [one.name for one in there], None)
    if folder.text is not None:
        there = () if wish.text else output.places("text", folder.text.files)
        if wish.text:
            networks.append(text_network(folder.text, wish.text))
        kept = {one.source: one.name for one in there}
        words, home = output.tokenizer_places(folder.text, texts, kept, converted=wish.text is not None)
        beside += [*there, *words]
        parts["text"] = (folder.text, [one.name for one in there] or [TEXT_FILE], home)
    if any(lora.distilled for lora in loras):
        folder = replace(folder, defaults=replace(folder.defaults, shift=DISTILLED_SHIFT))
    about = _about(wish, [*folder.dit.files, *(folder.text.files if folder.text and wish.text else ())], fused)
    texts[MANIFEST] = output.manifest(folder, parts, about)
    return output.Job(
        output=target, networks=tuple(networks), about={**about, "name": folder.name}, beside=tuple(beside),
        copy=wish.copy, texts=texts,
    )  # fmt: skip


def plan_transformer(
    part: Part[DiTConfig], target: Path, kind: Kind, loras: Sequence[Lora], *, name: str,
    device: torch.device | None = None,
) -> output.Job:  # fmt: skip
    """What converting the transformer alone means: a folder with its weights and its `config.json`.

    Raises:
        ModelError: a LoRA that does not fit.
    """
    network = dit_network(part, kind, loras, name=name, device=device)
    config = {"_class_name": "WanModel", **asdict(part.config)}
    about = _about(Wish(kind=kind), part.files, loras)
    return output.Job(
        output=target, networks=(network,), about=about, texts={"config.json": json.dumps(config, indent=1) + "\n"}
    )


def _about(wish: Wish, files: Sequence[Path], loras: Sequence[Lora]) -> Mapping[str, object]:
    kinds = {"kind": wish.kind.matrices, "rest": str(wish.kind.rest).removeprefix("torch.")}
    if wish.text is not None:
        kinds |= {"text": wish.text.matrices}
    return {
        **kinds,
        "files": output.stamp(files),
        "loras": [[*output.stamp([lora.path])[0], lora.strength] for lora in loras],
    }


def convert(job: output.Job, device: torch.device, watcher: Watcher) -> Path:
    """Does the work; see `weights.convert.folder.convert`."""
    return output.convert(job, device, watcher)
