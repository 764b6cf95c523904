"""`infinitetalk inspect`: what weight files are, from their headers alone."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinitetalk.cli.command import DONE, USER_ERROR, Command, add_json_flag
from infinitetalk.cli.text import BAD, GOOD, Cell, command_line, near_path, print_json, print_table, say, size_text
from infinitetalk.core.errors import ModelError
from infinitetalk.core.model_name import SEPARATOR

if TYPE_CHECKING:
    from infinitetalk.weights.detect.collect import Collected
    from infinitetalk.weights.detect.unit import Unit

SHOWN = 6
VOICES = {"single": "one (single)", "multi": "two (multi)", "": "one or two: neither its name nor its folder's tells"}


def _add_flags(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("what to look at")
    section.add_argument(
        "paths",
        type=Path,
        nargs="*",
        metavar="PATH",
        help="weight files and folders in any order; default: where weights usually lie (INFINITETALK_MODELS, the "
        "Hugging Face cache, ComfyUI's model folders)",
    )
    add_json_flag(section)


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The model that the files make."""

    parts: Mapping[str, str] = field(default_factory=dict)
    """What a part is → where it lies."""
    lacking: Sequence[str] = ()
    notes: Sequence[str] = ()
    problem: str = ""
    """Why the files make no model, apart from what lacks."""

    @property
    def whole(self) -> bool:
        """Whether `--model` takes it."""
        return not (self.lacking or self.problem)


def run(arguments: argparse.Namespace) -> int:
    """Says what the files are, and whether they make a model."""
    from infinitetalk.weights.detect.collect import collect
    from infinitetalk.weights.detect.places import places

    paths = arguments.paths or list(places())
    if not paths:
        raise ModelError("no folder of models is where they usually are; name files or folders")
    given = collect(paths)
    model = _declared(paths) or _together(given)
    if arguments.json:
        print_json(_json(given, model))
    else:
        _tell(given)
        _tell_together(paths, model)
    return USER_ERROR if any(unit.problem and given.is_named(unit) for unit in given.units) else DONE


def _declared(paths: Sequence[Path]) -> Together | None:
    """The model of a folder with a manifest; None where there is none."""
    from infinitetalk.weights.folder import ModelFolder
    from infinitetalk.weights.locate import MANIFEST

    if len(paths) != 1 or not (paths[0] / MANIFEST).is_file():
        return None
    try:
        folder = ModelFolder.open(paths[0])
    except ModelError as error:
        return Together(problem=str(error))
    files = {"dit": folder.dit.files, "vae": folder.vae.files, "speech": folder.speech.files}
    files |= {"text": folder.text.files} if folder.text else {}
    files |= {"vision": folder.vision.files} if folder.vision else {}
    return Together(parts={name: ", ".join(map(near_path, listed)) for name, listed in files.items()})


def _together(given: "Collected") -> Together:
    """The model that the files make with those that lie where weights usually lie, or why they make none."""
    from infinitetalk.weights.detect.assemble import choose
    from infinitetalk.weights.detect.places import places

    try:
        choice = choose(given, places())
    except ModelError as error:
        return Together(problem=str(error))
    parts = {part.value: near_path(unit.path) for part, unit in choice.parts.items()}
    if choice.tokenizer is not None:
        parts["tokenizer"] = near_path(choice.tokenizer)
    return Together(parts=parts, lacking=choice.lacks(), notes=choice.notes)


def _tell(given: "Collected") -> None:
    for unit in given.units:
        say()
        print_table(("", ""), [(_dim(label), value) for label, value in _rows(unit)])
    for folder in given.tokenizers:
        say()
        print_table(("", ""), [("part", ("umT5's tokenizer", "bold")), ("folder", near_path(folder))])
    for file in given.rejected:
        say()
        print_table(("", ""), [("file", near_path(file.path)), (BAD, (_without(file.problem, file.path), "red"))])
    if not (given.units or given.rejected):
        say("No weight files here.")


def _dim(label: Cell) -> Cell:
    return (label, "dim") if isinstance(label, str) else label


def _without(problem: str, path: Path) -> str:
    return problem.removeprefix(f"{path}: ")


def _rows(unit: "Unit") -> Iterator[tuple[Cell, Cell]]:
    from infinitetalk.weights.detect.component import Component
    from infinitetalk.weights.detect.fits import partners, shape_words

    shards = f", the first of {len(unit.files)} files" if len(unit.files) > 1 else ""
    yield ("file", (near_path(unit.path) + shards, "bold cyan"))
    shape = shape_words(unit.config)
    yield ("part", (unit.component.value + (f", {shape}" if shape else ""), "bold"))
    if unit.component in (Component.ADAPTER, Component.MERGED):
        yield ("voices", VOICES[unit.people])
    if unit.grammar:
        yield ("names", unit.grammar + (f", behind {unit.prefix}" if unit.prefix else ""))
    yield ("size", f"{_count(unit.parameters)} parameters in {size_text(unit.bytes)}")
    for kind, count in unit.kind_counts.items():
        yield ("stored as" if kind == next(iter(unit.kind_counts)) else "", f"{kind}: {_tensors(count)}")
    yield from _checks(unit)
    for number, partner in enumerate(partners(unit) if unit.usable else ()):
        yield ("" if number else "fits with", partner)


def _checks(unit: "Unit") -> Iterator[tuple[Cell, Cell]]:
    from infinitetalk.weights.detect.component import Component
    from infinitetalk.weights.detect.unit import NOT_WHOLE

    if unit.problem:
        # The names are listed below, so that the line need not.
        yield (BAD, (NOT_WHOLE if unit.problem.startswith(NOT_WHOLE) else unit.problem, "red"))
        for word, names in unit.faults.items() if unit.problem.startswith(NOT_WHOLE) else ():
            yield (f"{len(names)}", f"{word}:\n{_listed(names)}")
    elif unit.component is not Component.LORA:
        yield (GOOD, f"whole: {_tensors(len(unit.kinds))}, none missing, none left over")


def _listed(names: Sequence[str]) -> str:
    more = f"\nand {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "\n".join(names[:SHOWN]) + more


def _tensors(count: int) -> str:
    return f"{count} tensor{'' if count == 1 else 's'}"


def _count(parameters: int) -> str:
    """A number of parameters as people say it.

    >>> _count(16_394_000_000)
    '16.39 billion'
    """
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if parameters >= size:
            return f"{parameters / size:.2f} {word}"
    return str(parameters)


def _tell_together(paths: Sequence[Path], model: Together) -> None:
    say()
    say("Together:")
    rows: list[tuple[Cell, Cell]] = [(GOOD, f"{part}: {place}") for part, place in model.parts.items()]
    rows += [(BAD, f"lacking: {part}") for part in model.lacking]
    rows += [(BAD, (model.problem, "red"))] if model.problem else []
    rows += [("", note) for note in model.notes]
    print_table(("", ""), rows)
    if model.whole:
        say(f"A whole model:  {command_line('generate', '--model', SEPARATOR.join(map(near_path, paths)))} …")


def _json(given: "Collected", model: Together) -> dict[str, Any]:
    from infinitetalk.weights.detect.fits import partners

    def one(unit: "Unit") -> dict[str, Any]:
        return {
            "files": [str(path) for path in unit.files],
            "component": unit.component.name.lower(),
            "usable": unit.usable,
            "problem": unit.problem,
            "people": unit.people,
            "names": unit.grammar,
            "prefix": unit.prefix,
            "config": None if unit.config is None else asdict(unit.config),
            "parameters": unit.parameters,
            "bytes": unit.bytes,
            "stored": dict(unit.kind_counts),
            "tensors": dict(unit.kinds),
            "missing": list(unit.missing),
            "unused": list(unit.unused),
            "misshapen": list(unit.misshapen),
            "fits_with": list(partners(unit)) if unit.usable else [],
        }

    return {
        "files": [one(unit) for unit in given.units],
        "unreadable": [{"path": str(file.path), "problem": file.problem} for file in given.rejected],
        "tokenizers": [str(folder) for folder in given.tokenizers],
        "model": {"whole": model.whole, **asdict(model)},
    }


COMMAND = Command(
    name="inspect",
    group="look after models and the machine",
    summary="say what weight files are and what they fit together with",
    add_flags=_add_flags,
    run=run,
    usage="[PATH ...] [options]",
    example="infinitetalk inspect ComfyUI/models/diffusion_models adapter.safetensors",
)
