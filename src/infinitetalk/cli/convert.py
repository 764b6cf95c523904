"""`infinitetalk convert`: base, adapter and LoRAs into one model folder that loads without repacking."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.command import DONE, Command, add_device_flag, add_json_flag
from infinitetalk.cli.converting import show_conversion
from infinitetalk.cli.display import emit
from infinitetalk.cli.text import command_line, say, size_text
from infinitetalk.core.errors import ModelError, UsageError
from infinitetalk.core.loras import Lora
from infinitetalk.core.model_name import SEPARATOR
from infinitetalk.core.presets import PRESETS

if TYPE_CHECKING:
    import torch

    from infinitetalk.weights.convert.folder import Job
    from infinitetalk.weights.convert.layout import Kind

KINDS = ("bf16", "fp16", "fp8", "int8", "q4")
RESTS = ("bfloat16", "float16", "float32")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to convert")
    what.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a model folder, weight files and folders in any order, or the name of a downloaded or bundled model",
    )
    what.add_argument(
        "--lora", action="append", default=[], metavar="FILE[:X]", help="LoRA to fuse, with its strength; once per LoRA"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--output", type=Path, metavar="FOLDER", help="the new folder; without it a preset is replaced")
    how.add_argument("--kind", choices=KINDS, help="of the matrices in blocks (default fp8; q4 for the preset t4)")
    how.add_argument("--rest", choices=RESTS, help="number format of all else; default: what this machine computes in")
    how.add_argument("--text-kind", choices=KINDS, help="convert the text encoder too; default: it stays as it is")
    how.add_argument(
        "--encoders", choices=("link", "copy"), default="link", help="what becomes of parts that stay as they are"
    )
    add_device_flag(how)
    add_json_flag(how)


def _kind(arguments: argparse.Namespace, own: "torch.dtype") -> "Kind":
    import torch

    from infinitetalk.weights.convert.layout import Kind

    default = "q4" if arguments.models[0].startswith("t4") and arguments.models[0] in PRESETS else "fp8"
    # A machine without a GPU computes in float32; what it converts is for others.
    rest = own if own != torch.float32 else torch.bfloat16
    return Kind.of(arguments.kind or default, getattr(torch, arguments.rest) if arguments.rest else rest)


def _plan(arguments: argparse.Namespace, kind: "Kind", where: "torch.device") -> "Job":
    """What is to be done with a model that keeps its own files."""
    from infinitetalk.engine.convert import Wish, plan_model
    from infinitetalk.weights.convert.layout import Kind
    from infinitetalk.weights.folder import ModelFolder

    folder = ModelFolder.open(SEPARATOR.join(arguments.models))
    if arguments.text_kind and folder.text is None:
        raise ModelError(f"model {folder.name} has no text encoder; leave --text-kind away")
    text = Kind.of(arguments.text_kind, kind.rest) if arguments.text_kind else None
    loras = [Lora.parse(words) for words in arguments.lora]
    wish = Wish(kind=kind, text=text, copy=arguments.encoders == "copy")
    return plan_model(folder, arguments.output, wish, loras, where)


def _replace(name: str, arguments: argparse.Namespace, kind: "Kind", where: "torch.device") -> Path:
    """Converts a preset's transformer and frees what it was made of."""
    from infinitetalk.cli.download import quiet_hub
    from infinitetalk.engine.convert import convert, plan_transformer
    from infinitetalk.weights.hub.model import open_transformer
    from infinitetalk.weights.hub.store import converted_folder, read, replace_dit

    if arguments.lora or arguments.text_kind:
        raise UsageError("--lora and --text-kind make another model than the preset; give it a place with --output")
    hub = quiet_hub()
    record = read(hub, name)
    if record is None:
        raise ModelError(f"model {name}: not downloaded yet; run: infinitetalk download {name} --part dit")
    if record.converted:
        raise ModelError(f"model {name} is converted already, in {record.converted[0]}")
    target = converted_folder(hub, name)
    if not (target / "config.json").is_file():  # else an earlier try came to its end, but not to its record's
        part, loras = open_transformer(hub, record)
        people = "single" if PRESETS[name].people == 1 else "multi"
        job = plan_transformer(
            part, target, kind, loras, name=f"infinitetalk-{people}-{kind.matrices}.safetensors", device=where
        )
        with show_conversion(as_json=arguments.json) as watcher:
            convert(job, where, watcher)
    replace_dit(hub, record, target)
    return target


def run(arguments: argparse.Namespace) -> int:
    """Converts a model into a new folder, or a preset in its place."""
    from infinitetalk.engine.convert import convert
    from infinitetalk.runtime.device import Device

    name = arguments.models[0]
    in_place = arguments.output is None and len(arguments.models) == 1 and name in PRESETS
    if arguments.output is None and not in_place:
        raise UsageError("--output FOLDER says where the converted model goes")
    device = Device.choose(arguments.device)
    kind, where = _kind(arguments, device.dtype), device.torch_device
    try:
        if in_place:
            folder = _replace(name, arguments, kind, where)
        else:
            job = _plan(arguments, kind, where)
            with show_conversion(as_json=arguments.json) as watcher:
                folder = convert(job, where, watcher)
    except KeyboardInterrupt:
        sys.stderr.write("What is written is kept; the same command goes on from there.\n")
        raise
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    model = name if in_place else str(folder)
    if arguments.json:
        emit("done", folder=str(folder), model=model, kind=kind.matrices, bytes=size)
        return DONE
    say(f"{folder} is whole: {size_text(size)} of its own.")
    inputs = ("--image", "face.png", "--audio", "voice.wav", "--output", "talk.mp4")
    say(f"Use it with:  {command_line('generate', '--model', model, *inputs)}")
    return DONE


COMMAND = Command(
    name="convert",
    group="look after models and the machine",
    summary="fuse base, adapter and LoRAs into one folder, in fewer bits",
    add_flags=_add_flags,
    run=run,
    usage="MODEL [MODEL ...] --output FOLDER [options]",
    example="infinitetalk convert base.gguf adapter.safetensors --lora fast.safetensors --kind fp8 --output my-model",
)
