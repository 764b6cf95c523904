"""`infinitetalk doctor`: what this machine and this installation are, what is amiss, and which models would fit."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.command import DONE, FAILED, PROGRAM, Command, add_device_flag, add_json_flag
from infinitetalk.cli.findings import Finding, Lack
from infinitetalk.cli.fits import print_outlooks, survey
from infinitetalk.cli.text import BAD, GOOD, Cell, print_json, print_table, say
from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.core.units import GIB
from infinitetalk.core.version import own_version

if TYPE_CHECKING:
    from infinitetalk.runtime.device import Device
    from infinitetalk.runtime.disk import DiskSpeed

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
    ("ai_edge_litert", "ai-edge-litert", "finds faces"),
    ("c2pa", "c2pa-python", "signs videos"),
    ("cryptography", "cryptography", "makes certificates"),
    ("scenedetect", "scenedetect-headless", "finds cuts"),
    ("cv2", "opencv-python-headless", "compares pictures for cuts"),
)
"""Module, distribution and use of every library that a plain installation has."""

OPTIONAL: tuple[tuple[str, str, str], ...] = (
    ("gradio", "gradio", "web page: pip install 'infinitetalk[app]'"),
    ("demucs.hf", "demucs", "takes voices out of music: pip install 'infinitetalk[vocals]'"),
)

ABSENT: Cell = ("–", "dim")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("what to look at")
    where.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="model folders, or folders that hold some; default: this folder, and models in it",
    )
    add_device_flag(where)
    add_json_flag(parser.add_argument_group("display"))


def _library(module: str, distribution: str, use: str, *, needed: bool) -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version(distribution)
    except PackageNotFoundError:
        return (Lack.LIBRARY if needed else Lack.EXTRA).found("libraries", distribution, use=use)
    try:
        import_module(module)
    except (ImportError, OSError) as error:
        return Lack.IMPORT.found("libraries", distribution, version=found, error=error)
    return Finding("libraries", distribution, found)


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"


def _machine() -> Iterator[Finding]:
    from infinitetalk.runtime.platform import available_memory, processors, system_name, total_memory

    yield Finding("machine", "system", system_name())
    yield Finding("machine", "processors", f"{processors()} usable")
    yield Finding("machine", "memory", f"{_gib(total_memory())}, {_gib(available_memory())} free")


def _disk(speed: "DiskSpeed | None", folder: Path) -> Finding:
    if speed is None:
        return Lack.DISK.found("machine", "disk", folder=folder)
    bound = "" if speed.sure else "at most "
    return Finding(
        "machine", "disk", f"reads {bound}{speed.read / 1e9:.1f} GB/s, {speed.free / 1e9:.0f} GB free ({folder})"
    )


def _device(device: "Device") -> Iterator[Finding]:
    kind = str(device.dtype).removeprefix("torch.")
    yield Finding("device", "device", f"{device.name} ({device.where}), computes in {kind}")
    if device.pretended is not None:
        ram = f"{device.pretended.ram_gib:g} GiB as {device.pretended.machine} has"
        yield Finding("device", "pretended", f"by INFINITETALK_PRETEND; plans count on main memory of {ram}")
    if device.capability is not None:
        major, minor = device.capability
        yield Finding("device", "compute capability", f"{major}.{minor}")
    if device.memory is not None:
        free = "" if device.free_memory is None else f", {_gib(device.free_memory)} free"
        yield Finding("device", "device memory", f"{_gib(device.memory)}{free}")
    if device.capability is not None:
        driver = device.driver
        yield Lack.DRIVER.found("device", "driver") if driver is None else Finding("device", "driver", driver)
    yield from _kernels(device)


def _kernels(device: "Device") -> Iterator[Finding]:
    """What the device computes with. SDPA is PyTorch's own attention; nothing has to be installed for it."""
    from infinitetalk.runtime.attention import usable_backends

    names = {"FLASH_ATTENTION": "flash", "CUDNN_ATTENTION": "cuDNN", "EFFICIENT_ATTENTION": "memory-efficient"}
    ways = [names.get(one.name, "plain") for one in device.attention]
    if device.capability is None:
        ways = ["fused for this device", "plain"]
    sdpa = f"PyTorch's SDPA ({', '.join(ways)}); it replaces xformers and flash-attn, which are not needed"
    yield Finding("kernels", "attention", sdpa)
    yield Finding("kernels", "--attention", f"auto, {', '.join(usable_backends(device))}")
    gpu = device.capability is not None
    yield _usable("bfloat16", "computes", None if device.bfloat16 else Lack.BFLOAT16)
    yield _usable("8-bit floats", "multiplies", None if device.fp8 else Lack.FP8)
    yield _usable("Triton", "usable", None if device.triton else Lack.TRITON if gpu else Lack.TRITON_GPU)
    pinned = Lack.PINNED if device.pretended is not None else Lack.PINNED_GPU
    yield _usable("pinned memory", "usable", None if device.pinned else pinned)


def _usable(name: str, value: str, lack: Lack | None) -> Finding:
    return Finding("kernels", name, value) if lack is None else lack.found("kernels", name)


def _encoder() -> Finding:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        return Finding("libraries", "video encoder", f"{Codec('libx264', 'w').long_name} (no ffmpeg program needed)")
    except UnknownCodecError:
        return Lack.ENCODER.found("libraries", "video encoder")


def _bundled() -> Finding:
    from infinitetalk.weights.folder import ModelFolder

    try:
        ModelFolder.open("nano")
    except InfiniteTalkError as error:
        return Lack.BUNDLED.found(PROGRAM, "bundled model", error=error)
    return Finding(PROGRAM, "bundled model", "nano, complete")


def _choose(name: str) -> "Device | Finding":
    from infinitetalk.runtime.device import Device

    try:
        return Device.choose(name)
    except InfiniteTalkError as error:
        return Lack.DEVICE.found("device", "device", error=error)


def examine(device: "Device | Finding | None", disk: Finding | None) -> Iterator[Finding]:
    """Looks at everything, one finding after the other."""
    yield Finding(PROGRAM, "version", own_version())
    yield Finding(PROGRAM, "python", sys.version.split()[0])
    yield _bundled()
    yield from _machine()
    if disk is not None:
        yield disk
    if isinstance(device, Finding):
        yield device
    elif device is not None:
        yield from _device(device)
    libraries = [_library(*row, needed=True) for row in LIBRARIES]
    yield from libraries
    if any(finding.name == "av" and finding.fine for finding in libraries):
        yield _encoder()
    yield from (_library(*row, needed=False) for row in OPTIONAL)


def _tell(findings: Sequence[Finding]) -> None:
    for topic, members in groupby(findings, key=lambda finding: finding.topic):
        say(f"\n{topic}")
        rows = [(_mark(one), one.name, one.value) for one in members]
        print_table(("", "", ""), rows)


def _mark(finding: Finding) -> Cell:
    if not finding.fine:
        return BAD
    return GOOD if finding.there else ABSENT


def _facts(device: "Device") -> dict[str, object]:
    """A device for programs; memory in bytes."""
    from infinitetalk.runtime.attention import usable_backends

    return {
        "name": device.name,
        "pretended": device.pretended is not None,
        "torch_device": str(device.torch_device),
        "dtype": str(device.dtype).removeprefix("torch."),
        "capability": device.capability,
        "driver": device.driver,
        "memory": device.memory,
        "free_memory": device.free_memory,
        "main_memory": device.main_memory,
        "free_main_memory": device.free_main_memory,
        "attention": [backend.name.lower() for backend in device.attention],
        "attention_backends": list(usable_backends(device)),
        "bfloat16": device.bfloat16,
        "fp8": device.fp8,
        "triton": device.triton,
        "pinned": device.pinned,
    }


def _where_models_lie(folders: Sequence[Path]) -> Path:
    """The folder whose disk counts: a given one, `models`, the downloads, else this one."""
    from infinitetalk.cli.download import quiet_hub

    candidates = (*folders, Path("models"), quiet_hub().cache, Path())
    return next(folder for folder in candidates if folder.is_dir()).absolute()


def _disk_facts(speed: "DiskSpeed | None") -> dict[str, object] | None:
    return None if speed is None else asdict(speed) | {"folder": str(speed.folder)}


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings and what fits; exit code 1 if something is amiss."""
    from infinitetalk.core.devices import check_device
    from infinitetalk.runtime.disk import measure

    check_device(arguments.device)
    device = _choose(arguments.device) if _library("torch", "torch", "computes", needed=True).fine else None
    folder = _where_models_lie(arguments.folders)
    speed = measure(folder)
    findings = list(examine(device, _disk(speed, folder)))
    outlooks = [] if device is None or isinstance(device, Finding) else survey(device, arguments.folders, speed)
    amiss = [finding for finding in findings if not finding.fine]
    if arguments.json:
        told = [asdict(finding) for finding in findings]
        facts = None if device is None or isinstance(device, Finding) else _facts(device)
        outlook = [asdict(one) for one in outlooks]
        print_json(
            {"fine": not amiss, "findings": told, "device": facts, "disk": _disk_facts(speed), "outlook": outlook}
        )
        return FAILED if amiss else DONE
    _tell(findings)
    print_outlooks(outlooks)
    return FAILED if amiss else DONE


COMMAND = Command(
    name="doctor",
    group="look after models and the machine",
    summary="show device, memory, versions, what is amiss and which models fit",
    add_flags=_add_flags,
    run=run,
    usage="[DIR ...] [options]",
)
