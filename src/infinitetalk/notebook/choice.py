"""Which model a notebook's machine can use: by its memory, the planner's expectation, and what its user wants."""

from infinitetalk.core.errors import MachineError
from infinitetalk.core.memory import Tier
from infinitetalk.core.presets import CHINESE_SUFFIX, PRESETS
from infinitetalk.engine import outlook
from infinitetalk.engine.outlook import Outlook
from infinitetalk.engine.planning import machine_of
from infinitetalk.runtime.device import Device

AUTO, WITHOUT_GPU = "auto", "nano"
BEST_FIRST = ("workstation", "consumer-24gb", "distilled-4step", "consumer-12gb", "t4")
"""Presets by how little their weights are rounded, and then by how many steps they take."""
PATIENCE = 180.0
"""Seconds of work for a second of video, beyond which a preset is not chosen unasked."""
SIZE = "480"


def expected(device: Device) -> dict[str, Outlook]:
    """What each preset would take on a machine, by its name."""
    machine = machine_of(device, imagined=True)
    every = outlook.presets([PRESETS[name] for name in BEST_FIRST], machine)
    return {one.model: one for one in every if one.size == SIZE}


def suggest(device: Device) -> str:
    """The best preset that is quick without reading weights from disk in every step, else the smallest that fits.

    Without a GPU: the bundled model.
    """
    if device.memory is None:
        return WITHOUT_GPU
    looks = expected(device)
    quick = (
        name
        for name, one in looks.items()
        if one.fits and one.tier != Tier.DISK.value and one.seconds_per_second <= PATIENCE
    )
    smallest = BEST_FIRST[-1]
    return next(quick, smallest if looks[smallest].fits else WITHOUT_GPU)


def choose(wanted: str, language: str, device: Device) -> str:
    """The model that the cells will use.

    Args:
        wanted: `auto`, a preset, a bundled model or a folder.
        language: of the speech encoder of a preset: English or Chinese.
        device: what the runtime has.

    Raises:
        MachineError: a preset for a GPU on a runtime without one.
    """
    name = suggest(device) if wanted == AUTO else wanted
    if name not in PRESETS:
        return name
    if device.memory is None:
        raise MachineError(
            f"MODEL {name} needs a GPU, and this runtime has none: choose Runtime > Change runtime type > T4 GPU and "
            f"run all cells again, or set MODEL to {WITHOUT_GPU}"
        )
    chinese = name + CHINESE_SUFFIX
    return chinese if language == "Chinese" and chinese in PRESETS else name
