"""Other people's code in a folder of the user's: found, made importable, and what it lacks told in one line."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infinitetalk.core.errors import MachineError, UsageError


def folder(name: str, given: str | None, inside: str) -> Path:
    """A checkout that has a certain file.

    Raises:
        UsageError: a folder that has not.
    """
    found = Path(given or "").absolute()
    if given is None or not (found / inside).is_file():
        raise UsageError(f"--compare {name}={given}: this folder has no {inside}; give a checkout of that project")
    return found


def absent(packages: Iterable[str]) -> list[str]:
    """Those of the packages that are not installed here."""
    return [name for name in packages if name not in sys.modules and importlib.util.find_spec(name) is None]


def stand_in(name: str, **members: object) -> types.ModuleType:
    """A module of this name with these members; its parents must be there."""
    module = types.ModuleType(name)
    # So that asking whether it is installed has an answer.
    module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    for member, value in members.items():
        setattr(module, member, value)
    sys.modules[name] = module
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, module)
    return module


def bare_package(name: str, path: Path) -> None:
    """A package whose own `__init__`, which imports everything, is left out."""
    stand_in(name).__path__ = [str(path)]


@contextmanager
def importing(subject: str) -> Iterator[None]:
    """Tells a package that is lacking by its name.

    Raises:
        MachineError: which one, and how to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        lacking = (error.name or str(error)).partition(".")[0]
        raise MachineError(f"{subject} needs the package {lacking}: pip install {lacking}") from error
