"""`infinitetalk models`: the models that this machine has, what they take of the disk, and how to be rid of them."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.command import DONE, FAILED, Command, add_json_flag
from infinitetalk.cli.text import Cell, command_line, confirm, near_path, print_json, print_table, say, size_text
from infinitetalk.core import presets
from infinitetalk.core.errors import ModelError, RequestError, UsageError

if TYPE_CHECKING:
    from infinitetalk.weights.folder import ModelFolder
    from infinitetalk.weights.hub.client import Hub
    from infinitetalk.weights.hub.store import Record, Removal


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One model folder or downloaded model, whole or not."""

    model: str
    """What `--model` takes."""
    path: str
    whole: bool
    problem: str = ""
    size: str = ""
    people: int = 0
    text: bool = False
    bytes: int = 0
    shared: int = 0
    """Bytes of it that another downloaded model uses too."""


def _add_flags(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("where to look")
    section.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="model folders, or folders that hold some; default: this folder, and models in it",
    )
    add_json_flag(section)
    away = parser.add_argument_group("make room")
    away.add_argument("--remove", metavar="NAME", help="remove a downloaded model; files that another one needs stay")
    away.add_argument("--yes", action="store_true", help="do not ask before removing")


def _candidates(folders: Sequence[Path]) -> Iterator[Path]:
    """Folders with a manifest: the given ones and those one level below."""
    from infinitetalk.weights.locate import MANIFEST

    for folder in folders:
        if (folder / MANIFEST).is_file():
            yield folder
        yield from sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def _weights(folder: "ModelFolder") -> Iterable[Path]:
    parts = (folder.dit, folder.vae, folder.speech, folder.text, folder.vision)
    return (path for part in parts if part is not None for path in part.files)


def _look(model: str, path: Path) -> Found:
    from infinitetalk.weights.folder import ModelFolder

    try:
        folder = ModelFolder.open(path)
    except ModelError as error:
        return Found(model=model, path=str(path), whole=False, problem=str(error))
    return Found(
        model=model,
        path=str(path),
        whole=True,
        size=folder.defaults.size,
        people=folder.max_people,
        text=folder.text is not None,
        bytes=sum(file.stat().st_size for file in _weights(folder)),
    )


def find(folders: Sequence[Path]) -> list[Found]:
    """The bundled models and those in some folders."""
    from infinitetalk.weights.locate import bundled, locate

    own = [_look(name, locate(name)) for name in bundled()]
    taken = {Path(model.path).resolve() for model in own}
    others = (path for path in _candidates(folders) if path.resolve() not in taken)
    return own + [_look(near_path(path), path.absolute()) for path in dict.fromkeys(others)]


def downloaded(hub: "Hub") -> list[Found]:
    """The models that `download` got or began to get."""
    from infinitetalk.weights.hub.store import names, read, record_path

    found = []
    for name in names(hub):
        try:
            record = read(hub, name)
        except ModelError as error:
            found.append(Found(model=name, path=str(record_path(hub, name)), whole=False, problem=str(error)))
            continue
        if record is not None:
            found.append(_downloaded(hub, record))
    return found


def _downloaded(hub: "Hub", record: "Record") -> Found:
    from infinitetalk.weights.hub.store import folder_bytes, removal

    whole = not record.lacking(hub)
    preset = presets.PRESETS.get(record.name)
    here, people = record.present(hub), preset.people if preset else 0
    problem = "" if whole else f"{size_text(here)} of {size_text(record.size)}: {command_line('download', record.name)}"
    return Found(
        model=record.name,
        path=str(hub.cache),
        whole=whole,
        problem=problem,
        size="480",
        people=people,
        text=True,
        bytes=here + sum(folder_bytes(folder) for folder in record.converted),
        shared=sum(held.entry.size for held, _ in removal(hub, record).shared),
    )


def _row(found: Found) -> tuple[Cell, ...]:
    if not found.whole:
        here = size_text(found.bytes) if found.bytes else ""
        return ((found.model, "bold"), "", "", "", here, (found.problem, "red"))
    words = "yes" if found.text else "no"
    where = f"{found.path}, {size_text(found.shared)} shared" if found.shared else found.path
    return ((found.model, "bold"), found.size, str(found.people), words, size_text(found.bytes), where)


def _altogether(hub: "Hub") -> int:
    """Bytes of all downloaded models, shared files counted once."""
    from infinitetalk.weights.hub.client import present
    from infinitetalk.weights.hub.store import folder_bytes, readable

    files = {held.key: held.entry for record in readable(hub) for held in record.files if not held.replaced_by}
    converted = {folder for record in readable(hub) for folder in record.converted}
    return sum(present(hub, entry) for entry in files.values()) + sum(folder_bytes(folder) for folder in converted)


def _show(folders: Sequence[Path], *, as_json: bool) -> int:
    from infinitetalk.cli.download import quiet_hub

    hub = quiet_hub()
    models = [*find(folders), *downloaded(hub)]
    if as_json:
        print_json([asdict(model) for model in models])
        return DONE
    headers = ("model", "size", "people", "prompt", "weights", "where")
    print_table(headers, [_row(model) for model in models], right=(2, 4))
    if total := _altogether(hub):
        say(f"Downloaded models take {size_text(total)} in {hub.cache}.")
    say("Use one with --model NAME; a folder with a model.json works too.")
    return DONE


def _remove(name: str, *, yes: bool, as_json: bool) -> int:
    """Removes a downloaded model."""
    from infinitetalk.cli.download import quiet_hub
    from infinitetalk.weights.hub.store import forget, names, read, removal, remove

    hub = quiet_hub()
    if name not in names(hub):
        known = ", ".join(names(hub)) or "none"
        raise RequestError("remove", name, f"no downloaded model has this name (downloaded: {known})")
    if as_json and not yes:
        raise UsageError("--json cannot ask; add --yes")
    try:
        record = read(hub, name)
    except ModelError:
        record = None
    if record is not None and not as_json:
        _show_removal(name, removal(hub, record), record.converted)
    if not yes and not confirm(f"Remove {name}?", default=False):
        say("Nothing was removed.")
        return FAILED
    if record is None:
        forget(hub, name)
        freed = 0
    else:
        freed = remove(hub, record)
    if as_json:
        print_json({"removed": name, "freed": freed})
    else:
        say(f"{name} is removed; {size_text(freed)} came free.")
    return DONE


def _show_removal(name: str, found: "Removal", converted: Sequence[Path]) -> None:
    from infinitetalk.weights.hub.store import folder_bytes

    rows: list[tuple[Cell, ...]] = []
    for held in found.free:
        rows.append((("goes", "red"), held.entry.short, size_text(held.entry.size), ""))
    for held, other in found.shared:
        rows.append((("stays", "green"), held.entry.short, size_text(held.entry.size), f"{other} needs it"))
    for folder in converted:
        rows.append((("goes", "red"), folder.name, size_text(folder_bytes(folder)), "converted"))
    for held in found.foreign:
        rows.append((("stays", "green"), held.entry.short, size_text(held.entry.size), f"was here before {name}"))
    print_table(("", "file", "size", ""), rows, right=(2,))


def run(arguments: argparse.Namespace) -> int:
    """Lists bundled, found and downloaded models, or removes one."""
    if arguments.remove is not None:
        return _remove(arguments.remove, yes=arguments.yes, as_json=arguments.json)
    if lost := next((folder for folder in arguments.folders if not folder.is_dir()), None):
        raise RequestError("DIR", lost, "there is no such folder; give a model folder, or one that holds some")
    return _show(arguments.folders or [Path(), Path("models")], as_json=arguments.json)


COMMAND = Command(
    name="models",
    group="look after models and the machine",
    summary="list the models that this machine has, or remove one",
    add_flags=_add_flags,
    run=run,
    usage="[DIR ...] [options]",
)
