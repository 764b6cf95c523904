"""The doctor's table of models and sizes: what fits this machine, and what it would take."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.download import quiet_hub
from infinitetalk.cli.findings import ESTIMATE, TOO_LARGE
from infinitetalk.cli.models import downloaded, find
from infinitetalk.cli.text import BAD, GOOD, Cell, command_line, print_table, say
from infinitetalk.core.errors import ModelError
from infinitetalk.core.units import GIB

if TYPE_CHECKING:
    from infinitetalk.engine.outlook import Outlook
    from infinitetalk.runtime.device import Device
    from infinitetalk.runtime.disk import DiskSpeed
    from infinitetalk.weights.folder import ModelFolder


def survey(device: "Device", folders: Sequence[Path], speed: "DiskSpeed | None") -> "list[Outlook]":
    """Every model that is here or can be downloaded, at every size that it has."""
    from infinitetalk.core.calibration import Figure
    from infinitetalk.core.presets import PLAIN, PRESETS
    from infinitetalk.engine import outlook
    from infinitetalk.engine.planning import machine_of

    disk = None if speed is None else Figure(speed.read, "measured" if speed.sure else "estimate", str(speed.folder))
    machine = machine_of(device, disk=disk, imagined=True)
    whole = [one.model for one in downloaded(quiet_hub()) if one.whole]
    here = [*outlook.folders(_open([*_found(folders), *((name, name) for name in whole)]), machine)]
    wanted = [PRESETS[name] for name in PLAIN if name not in whole]
    return [*here, *outlook.presets(wanted, machine)]


def _found(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Names and paths of the folders that are whole."""
    yield from ((found.model, found.path) for found in find(list(folders) or [Path(), Path("models")]) if found.whole)


def _open(models: "Iterable[tuple[str, str]]") -> "Iterator[tuple[str, ModelFolder]]":
    """The models that can be opened; `models` and `inspect` tell what is wrong with others."""
    from infinitetalk.weights.folder import ModelFolder

    for name, path in models:
        with suppress(ModelError):
            yield name, ModelFolder.open(path)


def time_text(seconds: float) -> str:
    """Seconds, minutes or hours as people read them.

    >>> time_text(95), time_text(7), time_text(7200)
    ('1.6 min', '7.0 s', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _row(one: "Outlook") -> tuple[Cell, ...]:
    from infinitetalk.engine.outlook import tier_words

    name: Cell = (one.model, "bold")
    work = f"{one.steps} x {one.passes}"
    if not one.fits:
        need, budget = (one.vram, one.vram_budget) if one.lacking == "GPU memory" else (one.ram, one.ram_budget)
        place = "GPU" if one.lacking == "GPU memory" else "RAM"
        words = one.advice.partition(";")[0]
        lacking = TOO_LARGE.format(place=place, need=need / GIB, budget=budget / GIB, advice=words)
        return (BAD, name, one.size, work, "", "", "", (lacking, "yellow"))
    about = "~" if one.estimate else ""
    vram = f"{one.vram / GIB:.1f}" if one.vram else "–"
    return (
        GOOD,
        name,
        one.size,
        work,
        vram,
        f"{one.ram / GIB:.1f}",
        about + time_text(one.seconds_per_second),
        tier_words(one),
    )


def print_outlooks(outlooks: "Sequence[Outlook]") -> None:
    """Prints the table, models that are here first."""
    headers = ("", "model", "size", "steps", "GPU GiB", "RAM GiB", "per second", "weights")
    for title, members in (
        ("models that are here", [one for one in outlooks if one.here]),
        ("models that can be downloaded", [one for one in outlooks if not one.here]),
    ):
        if members:
            say(f"\n{title}")
            print_table(headers, [_row(one) for one in members], right=(4, 5, 6))
    if not outlooks:
        return
    say("GPU, RAM: expected peaks. Per second: expected time for a second of video, without loading the model.")
    say("Steps: denoising steps x passes of the network in each, by the model's own settings.")
    if any(one.estimate and one.fits for one in outlooks):
        say(ESTIMATE)
    if any(not one.here for one in outlooks):
        say(f"Get one with:  {command_line('download', 'NAME')}")
