"""`infinitetalk download PRESET`: gets the weights of a model from the Hugging Face hub."""

import argparse
import sys
from collections.abc import Sequence
from logging import ERROR, getLogger
from typing import TYPE_CHECKING

from infinitetalk.cli.command import DONE, FAILED, Command, add_json_flag
from infinitetalk.cli.display import emit
from infinitetalk.cli.text import GOOD, Cell, command_line, confirm, print_json, print_table, say, size_text
from infinitetalk.cli.transfer import show_transfer
from infinitetalk.core.errors import InfiniteTalkError, MachineError, UsageError
from infinitetalk.core.presets import CHINESE_SUFFIX, DIT_ROLES, MULTI, PLAIN, PRESETS, Preset, find_preset

if TYPE_CHECKING:
    from infinitetalk.weights.hub.client import Hub
    from infinitetalk.weights.hub.download import Room
    from infinitetalk.weights.hub.store import Held, Record


def _add_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to get")
    what.add_argument("preset", nargs="?", metavar="PRESET", help="a preset; without one, all presets are listed")
    what.add_argument(
        "--part",
        choices=("dit",),
        help="dit: only the transformer's files, to convert them before the rest takes room on the disk",
    )
    what.add_argument("--check", action="store_true", help="read files that are here again, replace damaged ones")
    how = parser.add_argument_group("how")
    how.add_argument("--yes", action="store_true", help="do not ask before downloading")
    add_json_flag(how)


def quiet_hub() -> "Hub":
    """The hub that the environment names, with its library's own bars and warnings turned off."""
    from huggingface_hub.utils import disable_progress_bars

    from infinitetalk.weights.hub.client import Hub

    disable_progress_bars()
    getLogger("huggingface_hub").setLevel(ERROR)
    return Hub.from_environment()


def _sizes(hub: "Hub") -> tuple[dict[str, int], str]:
    """Bytes by preset, as the hub tells them, and why it does not."""
    from infinitetalk.weights.hub.client import Listing, describe

    known: dict[tuple[str, str], Listing] = {}
    sizes: dict[str, int] = {}
    problem = ""
    for name in PLAIN:
        try:
            sizes[name] = sum(entry.size for entry in describe(hub, PRESETS[name].files, known))
        except MachineError as error:
            return sizes, str(error)
        except InfiniteTalkError as error:
            problem = str(error)
    return sizes, problem


def _licences(preset: Preset) -> str:
    return ", ".join(dict.fromkeys(file.repository.licence for file in preset.files))


def _list(hub: "Hub", *, as_json: bool) -> int:
    """Shows the presets, with sizes if the hub tells them."""
    from infinitetalk.weights.hub.store import readable

    here = {record.name for record in readable(hub) if not record.lacking(hub)}
    sizes, problem = _sizes(hub)
    if as_json:
        rows = [
            {"preset": preset.name, "card": preset.card, "what": preset.summary, "people": preset.people,
             "licences": _licences(preset), "bytes": sizes.get(preset.name), "here": preset.name in here}
            for preset in PRESETS.values()
        ]  # fmt: skip
        print_json({"presets": rows, "problem": problem})
        return DONE
    rows_text: list[tuple[Cell, ...]] = []
    for name in PLAIN:
        preset = PRESETS[name]
        size = size_text(sizes[name]) if name in sizes else "?"
        rows_text.append(((name, "bold"), preset.card, preset.summary, size, GOOD if name in here else ""))
    print_table(("preset", "graphics card", "what", "size", "here"), rows_text, right=(3,))
    if problem:
        say(f"Sizes are not known: {problem}\n")
    trained = f"{CHINESE_SUFFIX} for the Chinese speech encoder, which the adapters were trained on"
    say(f"Add {MULTI} for two people, {trained}: t4{MULTI}{CHINESE_SUFFIX}.")
    say(f"Get one with:  {command_line('download', PLAIN[0])}")
    return DONE


def _show_plan(preset: Preset, record: "Record", files: Sequence["Held"], room: "Room", hub: "Hub") -> None:
    from infinitetalk.weights.hub.client import present

    people = "one person" if preset.people == 1 else f"up to {preset.people} people"
    say(f"{preset.name}: {preset.summary}; graphics card: {preset.card}; {people}")
    rows: list[tuple[Cell, ...]] = []
    repositories: dict[str, dict[str, None]] = {}
    for held in files:
        entry = held.entry
        here = present(hub, entry)
        state: Cell = GOOD if here == entry.size else (f"{here / entry.size:.0%}", "yellow") if here else ""
        rows.append((entry.role.value, (entry.short, "bold"), size_text(entry.size), state))
        repositories.setdefault(entry.licence, {})[entry.repository] = None
    print_table(("part", "file", "size", "here"), rows, right=(2, 3))
    licences = [(licence, name) for licence, names in repositories.items() for name in names]
    print_table(("licence", "from the repository"), licences)
    whole = sum(held.entry.size for held in files)
    say(f"To download: {size_text(room.lacking)} of {size_text(whole)}.")
    say(f"It goes to {room.folder}, where {size_text(room.free)} are free.")
    if len(files) < len(record.files):
        say("Only a part of the preset; the same command without --part gets the rest.")


def _plan_facts(preset: Preset, files: Sequence["Held"], room: "Room") -> None:
    told = [
        {"role": held.entry.role.value, "repository": held.entry.repository, "revision": held.entry.revision,
         "commit": held.entry.commit, "file": held.entry.name, "bytes": held.entry.size, "hash": held.entry.blob,
         "licence": held.entry.licence}
        for held in files
    ]  # fmt: skip
    emit("plan", preset=preset.name, files=told, to_download=room.lacking, free=room.free, folder=str(room.folder))


def _check(hub: "Hub", files: Sequence["Held"], *, as_json: bool) -> tuple["Held", ...]:
    """Reads what is here again and drops what is damaged."""
    from infinitetalk.weights.hub.download import check
    from infinitetalk.weights.hub.store import drop

    with show_transfer(files, as_json=as_json, verb="reading") as watcher:
        wrong = check(hub, files, watcher)
    drop(hub, wrong)
    if not as_json:
        for held in wrong:
            say(f"{held.entry.short} is damaged and will be downloaded again.")
    return wrong


def run(arguments: argparse.Namespace) -> int:
    """Lists the presets, or downloads one."""
    hub = quiet_hub()
    if arguments.preset is None:
        return _list(hub, as_json=arguments.json)
    if arguments.json and not arguments.yes:
        raise UsageError("--json cannot ask; add --yes")
    from infinitetalk.weights.hub.download import check_possible, download, room, wanted
    from infinitetalk.weights.hub.store import plan

    preset = find_preset(arguments.preset)
    record = plan(hub, preset)
    files = wanted(record, DIT_ROLES if arguments.part else None)
    if arguments.check:
        _check(hub, files, as_json=arguments.json)
    found = room(hub, files)
    if arguments.json:
        _plan_facts(preset, files, found)
    else:
        _show_plan(preset, record, files, found, hub)
    check_possible(hub, files, found)
    if found.lacking and not arguments.yes and not confirm("Download?", default=True):
        say("Nothing was downloaded.")
        return FAILED
    try:
        with show_transfer(files, as_json=arguments.json) as watcher:
            download(hub, record, files, watcher)
    except KeyboardInterrupt:
        sys.stderr.write("What has come is kept; the same command goes on from there.\n")
        raise
    if arguments.json:
        paths = [] if record.lacking(hub) else [str(path) for path in record.paths(hub)]
        emit("done", preset=preset.name, bytes=record.present(hub), whole=not record.lacking(hub), paths=paths)
    else:
        what = preset.name if len(files) == len(record.files) else f"This part of {preset.name}"
        say(f"{what} is here: {size_text(sum(held.entry.size for held in files))}.")
        if not record.lacking(hub):
            inputs = ("--image", "face.png", "--audio", "voice.wav", "--output", "talk.mp4")
            say(f"Use it with:  {command_line('generate', '--model', preset.name, *inputs)}")
    return DONE


COMMAND = Command(
    name="download",
    group="look after models and the machine",
    summary="get a model's weights from the Hugging Face hub",
    add_flags=_add_flags,
    run=run,
    usage="[PRESET] [options]",
    example="infinitetalk download t4",
)
