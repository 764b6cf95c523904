"""From a model folder, a job and a device to a plan, and the refusal of what fits nowhere before a weight is loaded."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from infinitetalk.core import footprint
from infinitetalk.core.caching import StepCache
from infinitetalk.core.calibration import Figure, Rates, constant
from infinitetalk.core.defaults import Settings
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.footprint import HALF
from infinitetalk.core.loras import Lora
from infinitetalk.core.memory import OFF, Lodging, MemorySettings, Tier
from infinitetalk.core.planner import KINDS, Machine, Misfit, Networks, Plan, Work, choose, fits, nearest, predict
from infinitetalk.core.ranks import crew_size, guidance_groups, started_by_torchrun
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.units import GIB
from infinitetalk.diffusion.guidance import branches
from infinitetalk.runtime.device import DTYPES, Device
from infinitetalk.runtime.regions import FORMATS, coding_dtype
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.header import read_header

SPARE = 0.95
"""Share of free memory that plans count on."""

_DENSE = frozenset({"F64", "F32", "F16", "BF16"})
_MATRIX = 64 * 64
"""Elements from which on two-dimensional tensors count as matrices of linear layers."""

_KIND = re.compile(r"q\d_k_m|q\d_k|q\d_\d|q8|fp8|int8", re.IGNORECASE)
_SPELLINGS = {"q8": "q8_0"}


def element_bytes(paths: Iterable[Path], among: Callable[[str], bool] = lambda _name: True) -> float | None:
    """Bytes per element that a network's matrices take in memory; None if all of them are held as they are computed.

    Args:
        among: which tensors are meant, by their names.

    Raises:
        ModelError: a file that is damaged or cannot be read.
    """
    stored = stored_elements = dense = 0
    for path in paths:
        for name, tensor in read_header(path).tensors.items():
            if len(tensor.shape) == 2 and tensor.elements >= _MATRIX and among(name):
                if tensor.dtype in _DENSE:
                    dense += tensor.elements
                else:
                    stored, stored_elements = stored + tensor.bytes, stored_elements + tensor.elements
    if not stored_elements:
        return None
    return (stored + dense * footprint.HALF) / (stored_elements + dense)


def _in_a_block(name: str) -> bool:
    """Whether a tensor belongs to one of the transformer's blocks; all spellings call them so."""
    return "blocks." in name


def words_of(prompt: str, negative: str) -> footprint.Words:
    """Tokens of two prompts, about and rather too many: text has three to four letters in a token."""
    prompted, unwanted = (1 + len(text.encode()) // 2 for text in (prompt, negative))
    return prompted, unwanted


def named_bytes(names: Sequence[str], shares: Sequence[int]) -> float | None:
    """The same, from the names of files that are not here yet, each with its share of the weights."""
    found = [_KIND.search(name) for name in names]
    if not any(found):
        return None
    names_of = [match.group().lower() if match else "" for match in found]
    kinds = [KINDS.get(_SPELLINGS.get(name, name), footprint.HALF) for name in names_of]
    return sum(kind * share for kind, share in zip(kinds, shares, strict=True)) / sum(shares)


def networks_of(folder: ModelFolder, loras: Sequence[Lora] = ()) -> Networks:
    """The shapes of a folder's networks, how its files store them, and what its LoRAs and others add.

    Raises:
        ModelError: a file that is damaged or cannot be read.
    """
    return Networks(
        dit=folder.dit.config,
        vae=folder.vae.config,
        speech=folder.speech.config,
        text=folder.text.config if folder.text else None,
        vision=folder.vision.config if folder.vision else None,
        dit_bytes=element_bytes(folder.dit.files, _in_a_block),
        around_bytes=element_bytes(folder.dit.files, lambda name: not _in_a_block(name)),
        text_bytes=element_bytes(folder.text.files) if folder.text else None,
        lora_rank=sum(_rank(lora.path) for lora in (*folder.loras, *loras)),
    )


def _rank(path: Path) -> int:
    """The largest rank in a LoRA file."""
    sides = [min(tensor.shape) for tensor in read_header(path).tensors.values() if len(tensor.shape) == 2]
    return max(sides, default=0)


def work_of(request: TalkRequest, settings: Settings) -> Work:
    """What a request asks of the networks."""
    longest = max((settings.prompt, *(timed.text for timed in request.prompts)), key=len)
    return Work(
        size=settings.size,
        window_frames=settings.window_frames,
        motion_frames=settings.motion_frames,
        overlap_frames=settings.overlap_frames,
        steps=settings.steps,
        branches=len(branches(settings.text_scale, settings.audio_scale, reference=request.reference)),
        people=request.people,
        words=words_of(longest, settings.negative_prompt),
        still=request.image is not None,
        kept=StepCache(settings.step_cache).kept,
    )


def machine_of(
    device: Device,
    memory: MemorySettings | None = None,
    *,
    disk: Figure | None = None,
    loaded: bool = False,
    imagined: bool = False,
) -> Machine:
    """What a device and its machine offer, within the budgets of a run.

    Args:
        disk: a measurement, for a machine that is not pretended.
        loaded: whether this process holds a model already, whose memory the plan may use.
        imagined: whether nothing will be run, so that a pretended card's machine may have more main memory than this.
    """
    wanted = memory or MemorySettings()
    rates = rates_of(device)
    if disk is not None and device.pretended is None:
        rates = replace(rates, disk=disk)
    own = device.memory if loaded else device.free_memory
    main = device.main_memory if loaded else device.free_main_memory
    if imagined and device.pretended is not None:
        main = device.pretended.ram - round(constant("system_ram").value)
    persistent = wanted.num_persistent_param_in_dit
    gpus = crew_size(wanted.gpus, started_by_torchrun())
    tiers = tuple(tier for tier in Tier if persistent is None or tier is not Tier.RESIDENT)
    eight = wanted.linears in FORMATS
    return Machine(
        vram=None if own is None else _budget(wanted.vram, own),
        ram=_budget(wanted.ram, main) // gpus,
        gpus=gpus,
        rates=rates.chosen(eight=eight, half=coding_dtype(device, wanted).itemsize == HALF),
        fused=device.triton and wanted.fused != OFF,
        eight=eight,
        number=device.dtype.itemsize,
        wide=device.dtype == DTYPES["float16"],
        tiers=tiers if wanted.tier is None else (wanted.tier,),
        persistent=persistent,
    )


def _budget(given: float | None, free: int) -> int:
    """Bytes that may be used."""
    return int(free * SPARE) if given is None else int(given * GIB)


def rates_of(device: Device) -> Rates:
    """The rates of a device: from the table if its card is there, else from a short measurement."""
    card = device.card
    return Rates.of(card.key) if card is not None else _measured_rates(device.torch_device.type, device)


@lru_cache(maxsize=4)
def _measured_rates(_kind: str, device: Device) -> Rates:
    from infinitetalk.runtime.rates import measure

    found = measure(device)
    share, convolving = constant("products_share").value, constant("coding_share").value
    return Rates(
        products=Figure(found.products * share, "estimate", "measured product of matrices, times what networks reach"),
        coding=Figure(found.coding * convolving, "estimate", "measured convolution, times what the VAE reaches"),
        memory=Figure(found.memory, "measured", "copy on the device"),
        link=Figure(found.link, "measured", "copy to the device"),
        disk=Figure(constant("disk").value, "estimate", constant("disk").source),
    )


def plan_job(
    folder: ModelFolder,
    request: TalkRequest,
    settings: Settings,
    device: Device,
    memory: MemorySettings | None = None,
    *,
    now: Lodging | None = None,
) -> Plan:
    """The plan of a job.

    Args:
        now: how the model lives already, if it is loaded: it stays so if the job fits.

    Raises:
        MachineError: nothing fits; the line names the nearest setting that does.
        ModelError: a weight file that is damaged or cannot be read.
    """
    networks, work = networks_of(folder, request.loras), work_of(request, settings)
    check_crew(device, memory, networks.dit.num_heads, work.branches)
    machine = machine_of(device, memory, loaded=now is not None)
    if now is not None and fits(now, networks, work, machine):
        return predict(now, networks, work, machine)
    found = choose(networks, work, machine)
    if isinstance(found, Misfit):
        raise MachineError(refusal(networks, work, machine, found, device))
    return found


def check_crew(device: Device, memory: MemorySettings | None, heads: int, branches: int) -> int:
    """Refuses a number of GPUs that cannot share the work; gives the groups for branches of guidance.

    Raises:
        RequestError: more than there are, or a number that does not divide.
    """
    wanted = memory or MemorySettings()
    size = crew_size(wanted.gpus, started_by_torchrun())
    if device.row is not None and size > device.row:
        there = f"{device.row} {'is' if device.row == 1 else 'are'} there, from {device.torch_device} on"
        raise RequestError("gpus", size, f"{there}; {', '.join(map(str, range(1, device.row + 1)))} would work")
    return guidance_groups(size, heads, branches, wanted.guidance_split)


def plan_folder(
    folder: ModelFolder, device: Device, memory: MemorySettings | None = None, loras: Sequence[Lora] = ()
) -> Plan:
    """The plan of a model at its own size, whoever asks for what later; of a smaller one if that does not fit.

    Raises:
        MachineError: nothing fits at any size.
        ModelError: a weight file that is damaged or cannot be read.
    """
    own, networks = folder.defaults, networks_of(folder, loras)
    work = Work(
        size=max(folder.buckets[own.size].values(), key=lambda size: size.height * size.width),
        window_frames=own.window_frames,
        motion_frames=own.motion_frames,
        overlap_frames=own.overlap_frames,
        steps=own.steps,
        branches=len(branches(own.text_scale, own.audio_scale)),
        people=folder.max_people,
        words=words_of(own.prompt, own.negative_prompt),
        still=False,
    )
    machine = machine_of(device, memory)
    found = choose(networks, work, machine)
    if isinstance(found, Plan):
        return found
    less = nearest(networks, work, machine)
    if less is None:
        raise MachineError(refusal(networks, work, machine, found, device))
    return less[1]


def refusal(networks: Networks, work: Work, machine: Machine, misfit: Misfit, device: Device) -> str:
    """One line: what lacks how much, and what would fit."""
    lacking = f"{misfit.need / GIB:.1f} GiB of {misfit.memory}, and {misfit.budget / GIB:.1f} GiB can be used"
    told = f"{device.name}: {work.size} with {work.window_frames} frames a window needs at least {lacking}"
    return f"{told}; {advice(networks, work, machine)}"


def advice(networks: Networks, work: Work, machine: Machine) -> str:
    """The nearest settings that fit, as flags."""
    less = nearest(networks, work, machine)
    if less is None:
        return "no size fits; a model in fewer bits or a device with more memory is needed"
    flags = [f"--size {less[0].size}"] if less[0].size != work.size else []
    flags += [f"--window-frames {less[0].window_frames}"] if less[0].window_frames != work.window_frames else []
    return f"{' '.join(flags)} would fit"
