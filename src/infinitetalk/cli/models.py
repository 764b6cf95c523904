"""`infinitetalk models`: the models that this machine has."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.command import DONE, Command, add_json_flag
from infinitetalk.cli.text import Cell, near_path, print_json, print_table, say, size_text
from infinitetalk.core.errors import ModelError, RequestError

if TYPE_CHECKING:
    from infinitetalk.weights.folder import ModelFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One model folder, whole or not."""

    model: str
    """What `--model` takes."""
    path: str
    whole: bool
    problem: str = ""
    size: str = ""
    people: int = 0
    text: bool = False
    bytes: int = 0


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


def _row(found: Found) -> tuple[Cell, ...]:
    if not found.whole:
        return ((found.model, "bold"), "", "", "", "", (found.problem, "red"))
    words = "yes" if found.text else "no"
    return ((found.model, "bold"), found.size, str(found.people), words, size_text(found.bytes), found.path)


def run(arguments: argparse.Namespace) -> int:
    """Lists bundled and found models."""
    if lost := next((folder for folder in arguments.folders if not folder.is_dir()), None):
        raise RequestError("DIR", lost, "there is no such folder; give a model folder, or one that holds some")
    models = find(arguments.folders or [Path(), Path("models")])
    if arguments.json:
        print_json([asdict(model) for model in models])
        return DONE
    headers = ("model", "size", "people", "prompt", "weights", "where")
    print_table(headers, [_row(model) for model in models], right=(2, 4))
    say("Use one with --model NAME; a folder with a model.json works too.")
    return DONE


COMMAND = Command(
    name="models",
    group="look after models and the machine",
    summary="list the models that this machine has",
    add_flags=_add_flags,
    run=run,
    usage="[DIR ...] [options]",
)
