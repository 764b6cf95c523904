"""Every error the product raises on purpose.

InfiniteTalkError            exit code
├── RequestError        2    a setting is wrong: names the field, the value and what would work
├── UsageError          2    a command line cannot be read
├── MediaError          2    a picture, video or sound file cannot be used
├── ModelError          2    a model folder or weight file lacks a part or does not fit
└── MachineError        1    the machine cannot do it: memory, disk, device, back end
    └── DeviceLostError 1    the device stopped working; only a new process can use it
"""

from collections.abc import Mapping, Sequence


class InfiniteTalkError(Exception):
    """Base of all deliberate errors. `str(error)` is one line fit for a terminal or a web page."""

    exit_code = 1

    @property
    def facts(self) -> Mapping[str, object]:
        """What programs may want to know beyond the line."""
        return {}

    def __str__(self) -> str:
        # File names and other libraries' messages may hold line breaks.
        return " ".join(super().__str__().split())


class RequestError(InfiniteTalkError):
    """A setting that cannot be used, told as field, value and need.

    >>> str(RequestError("window_frames", 80, "must be 4n+1: 77 or 81 would work"))
    'window_frames = 80: must be 4n+1: 77 or 81 would work'
    """

    exit_code = 2

    def __init__(self, field: str, value: object, need: str) -> None:
        super().__init__(f"{field} = {value}: {need}")
        self.field = field
        self.value = value
        self.need = need


class UsageError(InfiniteTalkError):
    """A command line with a word that is unknown, lacking or of the wrong kind."""

    exit_code = 2


class MediaError(InfiniteTalkError):
    """A media file that cannot be used, told as file, problem and what would work."""

    exit_code = 2

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class ModelError(InfiniteTalkError):
    """A model folder or weight file that lacks a part or does not fit.

    The line names a few tensors; `missing` and `unused` name all of them.
    """

    exit_code = 2

    def __init__(self, message: str, *, missing: Sequence[str] = (), unused: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.unused = tuple(unused)

    @property
    def facts(self) -> Mapping[str, object]:
        return {name: list(given) for name in ("missing", "unused") if (given := getattr(self, name))}


class MachineError(InfiniteTalkError):
    """The machine cannot do what was asked: memory, disk, device or back end."""

    exit_code = 1


class DeviceLostError(MachineError):
    """The device stopped working in the middle; nothing more can be computed in this process."""


def listed(names: Sequence[str], shown: int = 5) -> str:
    """The first names of a list, for one line.

    >>> listed(["a", "b", "c"], shown=2)
    'a, b, and 1 more'
    """
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
