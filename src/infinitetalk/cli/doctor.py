"""`infinitetalk doctor`: what this machine and this installation are, and whether anything is amiss."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import groupby

from infinitetalk.cli.command import DONE, FAILED, PROGRAM, Command, add_json_flag
from infinitetalk.cli.text import BAD, GOOD, print_json, print_table, say
from infinitetalk.core.errors import InfiniteTalkError

LIBRARIES: tuple[tuple[str, str, str], ...] = (
    ("torch", "torch", "computes"),
    ("numpy", "numpy", "arrays"),
    ("transformers", "transformers", "text, picture and speech encoders"),
    ("tokenizers", "tokenizers", "words"),
    ("safetensors", "safetensors", "weights"),
    ("gguf", "gguf", "weights"),
    ("huggingface_hub", "huggingface_hub", "downloads weights"),
    ("av", "av", "video and sound files"),
    ("PIL", "pillow", "pictures"),
    ("soxr", "soxr", "sound resampling"),
    ("pyloudnorm", "pyloudnorm", "loudness"),
    ("sentencepiece", "sentencepiece", "words"),
    ("ftfy", "ftfy", "repairs broken words"),
    ("rich", "rich", "terminal"),
)
"""Module, distribution and use of every library that a plain installation has."""

OPTIONAL: tuple[tuple[str, str, str], ...] = (("gradio", "gradio", "web page: pip install 'infinitetalk[app]'"),)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    topic: str
    name: str
    value: str
    fine: bool = True


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add_json_flag(parser.add_argument_group("display"))


def _library(module: str, distribution: str, use: str, *, needed: bool) -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version(distribution)
    except PackageNotFoundError:
        return Finding("libraries", distribution, f"not installed ({use})", fine=not needed)
    try:
        import_module(module)
    except (ImportError, OSError) as error:
        return Finding("libraries", distribution, f"{found}, but it cannot be imported: {error}", fine=False)
    return Finding("libraries", distribution, found)


def _machine() -> Iterator[Finding]:
    from infinitetalk.runtime.platform import GIB, processors, system_name, total_memory

    yield Finding("machine", "system", system_name())
    yield Finding("machine", "processors", f"{processors()} usable")
    yield Finding("machine", "memory", f"{total_memory() / GIB:.1f} GiB")


def _devices() -> Iterator[Finding]:
    from infinitetalk.runtime.device import Device
    from infinitetalk.runtime.platform import GIB

    try:
        device = Device.choose("auto")
    except InfiniteTalkError as error:
        yield Finding("machine", "device", str(error), fine=False)
        return
    kind = str(device.dtype).removeprefix("torch.")
    yield Finding("machine", "device", f"{device.name} ({device.torch_device}, {kind})")
    if device.memory is not None:
        yield Finding("machine", "device memory", f"{device.memory / GIB:.1f} GiB")


def _encoder() -> Finding:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        return Finding("libraries", "video encoder", f"{Codec('libx264', 'w').long_name} (no ffmpeg program needed)")
    except UnknownCodecError:
        problem = "this PyAV lacks libx264: pip install --force-reinstall av"
        return Finding("libraries", "video encoder", problem, fine=False)


def _bundled() -> Finding:
    from infinitetalk.weights.folder import ModelFolder

    try:
        ModelFolder.open("nano")
    except InfiniteTalkError as error:
        return Finding(PROGRAM, "bundled model", str(error), fine=False)
    return Finding(PROGRAM, "bundled model", "nano, complete")


def examine() -> Iterator[Finding]:
    """Looks at everything, one finding after the other."""
    from importlib.metadata import version

    yield Finding(PROGRAM, "version", version(PROGRAM))
    yield Finding(PROGRAM, "python", sys.version.split()[0])
    libraries = [_library(*row, needed=True) for row in LIBRARIES]
    usable = {finding.name for finding in libraries if finding.fine}
    yield _bundled()
    yield from _machine()
    if "torch" in usable:
        yield from _devices()
    yield from libraries
    if "av" in usable:
        yield _encoder()
    yield from (_library(*row, needed=False) for row in OPTIONAL)


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; exit code 1 if something is amiss."""
    findings = list(examine())
    amiss = [finding for finding in findings if not finding.fine]
    if arguments.json:
        print_json({"fine": not amiss, "findings": [asdict(finding) for finding in findings]})
        return FAILED if amiss else DONE
    for topic, members in groupby(findings, key=lambda finding: finding.topic):
        say(f"\n{topic}")
        print_table(("", "", ""), [(GOOD if one.fine else BAD, one.name, one.value) for one in members])
    return FAILED if amiss else DONE


COMMAND = Command(
    name="doctor",
    group="look after models and the machine",
    summary="show device, memory and versions, and say what is amiss",
    add_flags=_add_flags,
    run=run,
)
