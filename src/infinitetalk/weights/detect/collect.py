"""From paths to units: walks folders, joins shards, follows indices, finds the tokenizer."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infinitetalk.core.configs import TOKENIZER_FILES
from infinitetalk.core.errors import ModelError
from infinitetalk.weights import manifest
from infinitetalk.weights.detect.component import Component
from infinitetalk.weights.detect.unit import Unit, look
from infinitetalk.weights.header import SUFFIXES

DEEPEST = 8
MOST_FILES = 20_000
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
FAST_FILE, SENTENCEPIECE_FILE = TOKENIZER_FILES
END_OF_UMT5 = 1
"""umT5's number of the end token; other tokenizers that lie about have another."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file in a folder that cannot be read."""

    path: Path
    problem: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What lies at some paths."""

    units: tuple[Unit, ...]
    rejected: tuple[Rejected, ...]
    tokenizers: tuple[Path, ...]
    """Folders with umT5's tokenizer."""
    named: frozenset[Path] = frozenset()
    """Files that were named themselves, not found in a folder."""

    def is_named(self, unit: Unit) -> bool:
        """Whether the user named one of its files."""
        return not self.named.isdisjoint(path.resolve() for path in unit.files)


def collect(paths: Sequence[Path]) -> Collected:
    """Looks at files and into folders.

    Args:
        paths: weight files, indices of shards, and folders, in any order. What is named itself must be readable; what
            is found in a folder and cannot be read is told in `rejected`.

    Raises:
        ModelError: a path that is not there, or a named file that cannot be read.
    """
    units: dict[Path, Unit] = {}
    rejected: dict[Path, Rejected] = {}
    tokenizers: dict[Path, None] = {}
    named: set[Path] = set()
    for path in paths:
        if path.is_dir():
            listed, folders = _walk(path)
            tokenizers.update(dict.fromkeys(folder for folder in folders if is_tokenizer(folder)))
            for group in _groups(listed):
                try:
                    files = group.complete()
                    if files[0].resolve() not in units:
                        units[files[0].resolve()] = look(files)
                except ModelError as error:
                    rejected[group.first] = Rejected(group.first, str(error))
        else:
            group = _named(path)
            files = group.complete()
            named.add(files[0].resolve())
            if files[0].resolve() not in units:
                units[files[0].resolve()] = look(files)
    found = _without_twins(tuple(units.values()))
    return Collected(found, tuple(rejected.values()), tuple(tokenizers), frozenset(named))


@dataclass(frozen=True, slots=True)
class _Group:
    """Files that belong together: one alone, or shards with what tells of them."""

    files: tuple[Path, ...]
    index: Path | None = None
    count: int = 1

    @property
    def first(self) -> Path:
        """What stands for the group."""
        return self.files[0] if self.files else self.index or Path()

    def complete(self) -> tuple[Path, ...]:
        """The group's files.

        Raises:
            ModelError: shards that are not there, or an index that cannot be followed.
        """
        if self.index is not None:
            listed = [self.index.parent / name for name in manifest.shards(self.index)]
            if lost := [path for path in listed if not path.is_file()]:
                lines = _names(lost)
                raise ModelError(f"{self.index}: {len(lost)} of {len(listed)} shards are not there: {lines}; get them")
            return tuple(listed)
        if len(self.files) != self.count:
            there = {path.name for path in self.files}
            lost = [path for path in _all_shards(self.first) if path.name not in there]
            raise ModelError(
                f"{self.first}: {len(lost)} of {self.count} shards are not there: {_names(lost)}; get them"
            )
        return self.files


def _names(paths: Sequence[Path], shown: int = 3) -> str:
    more = f", and {len(paths) - shown} more" if len(paths) > shown else ""
    return ", ".join(path.name for path in paths[:shown]) + more


def _all_shards(path: Path) -> list[Path]:
    """Every shard of the set that a file belongs to, there or not."""
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    return [path.with_name(f"{match['stem']}-{i:05}-of-{count:05}{match['suffix']}") for i in range(1, count + 1)]


def _named(path: Path) -> _Group:
    """The group behind a file that was named: an index, a shard, or a file alone."""
    if path.name.endswith(manifest.INDEX_SUFFIX):
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file")
        return _Group((), index=path)
    if match := _SHARD.fullmatch(path.name):
        there = tuple(shard for shard in _all_shards(path) if shard.is_file())
        return _Group(there, count=int(match["count"])) if there else _Group((path,))
    return _Group((path,))


def _groups(files: Sequence[Path]) -> Iterator[_Group]:
    """Sorts the files of a folder into groups; shards that an index lists are the index's."""
    indices = [path for path in files if path.name.endswith(manifest.INDEX_SUFFIX)]
    taken: set[Path] = set()
    for index in indices:
        try:
            listed = tuple(index.parent / name for name in manifest.shards(index))
        except ModelError:
            listed = ()
        taken.update(listed)
        yield _Group(tuple(path for path in listed if path.is_file()), index=index)
    sets: dict[tuple[Path, str], list[Path]] = {}
    for path in files:
        if path in taken or path in indices:
            continue
        if match := _SHARD.fullmatch(path.name):
            sets.setdefault((path.parent, f"{match['stem']}{match['count']}{match['suffix']}"), []).append(path)
        else:
            yield _Group((path,))
    for shards in sets.values():
        match = _SHARD.fullmatch(shards[0].name)
        yield _Group(tuple(sorted(shards)), count=int(match["count"]) if match else 1)


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Weight files and indices below a folder, and its folders; links to files are followed, as in the hub's cache.

    Raises:
        ModelError: more files than any folder of models has.
    """
    files: list[Path] = []
    folders: list[Path] = []
    base = len(folder.parts)
    for place, below, names in os.walk(folder):
        here = Path(place)
        below[:] = (
            sorted(name for name in below if not name.startswith(".")) if len(here.parts) - base < DEEPEST else []
        )
        folders.append(here)
        wanted = (here / name for name in sorted(names) if not name.startswith("."))
        files += [path for path in wanted if _is_weights(path)]
        if len(files) > MOST_FILES:
            raise ModelError(f"{folder}: holds more than {MOST_FILES} weight files; name a smaller folder")
    return files, folders


def _is_weights(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or path.name.endswith(manifest.INDEX_SUFFIX)


def is_tokenizer(folder: Path) -> bool:
    """Whether a folder holds umT5's tokenizer, and not the one of CLIP or wav2vec2 that lies beside it."""
    if (folder / SENTENCEPIECE_FILE).is_file():
        return True
    try:
        content = json.loads((folder / FAST_FILE).read_text(encoding="utf-8"))
        added = content["added_tokens"]
        return any(token["content"] == "</s>" and token["id"] == END_OF_UMT5 for token in added)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _home(unit: Unit) -> Path:
    """The folder within which two files of one component are the same one twice: a hub repository, or the folder."""
    parts = unit.path.parts
    for number, part in enumerate(parts):
        if part == "snapshots" and number and parts[number - 1].startswith("models--"):
            return Path(*parts[:number])
    return unit.path.parent


def _without_twins(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Leaves out a torch file beside the same network in safetensors, and second snapshots of one file."""
    kept: dict[object, Unit] = {}
    for number, unit in enumerate(units):
        whole = unit.usable and unit.component is not Component.LORA
        key: object = (_home(unit), unit.component, unit.config, _stem(unit)) if whole else number
        other = kept.get(key)
        if other is None or (other.path.suffix != ".safetensors" and unit.path.suffix == ".safetensors"):
            kept[key] = unit
    return tuple(kept.values())


def _stem(unit: Unit) -> str:
    """The name that both copies have: the usual names of a repository's only weights count as one."""
    stem = unit.path.stem
    return "" if stem in ("model", "pytorch_model") else str(unit.path.relative_to(_home(unit)).with_suffix(""))
