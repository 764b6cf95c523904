"""Whether files can be read and written at all, told in one line before anything is decoded or loaded."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from infinitetalk.core.errors import MediaError, RequestError

VIDEO_SUFFIX = ".mp4"


def require_file(path: Path, kind: str) -> None:
    """Refuses a path that holds no bytes to read; `kind` is what it should be, such as 'picture'.

    Raises:
        MediaError: missing, a folder or device, empty, or not allowed to be read.
    """
    try:
        if not path.exists():
            raise MediaError(path, f"no such file; give the path of an existing {kind}")
        if path.is_dir():
            raise MediaError(path, f"is a folder; give the path of a {kind} file")
        if not path.is_file():
            raise MediaError(path, f"is not a regular file; save the {kind} to one first")
        if path.stat().st_size == 0:
            raise MediaError(path, f"the file is empty; give a {kind} with content")
        path.open("rb").close()
    except OSError as error:
        raise MediaError(path, f"cannot be read ({_reason(error)}); give a {kind} that you may read") from error


def require_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuses an output path that could not be written when the work is done, or that would overwrite an input.

    Raises:
        RequestError: not an .mp4, a folder, an input, or in a folder that does not exist or cannot be written.
    """
    if path.suffix.lower() != VIDEO_SUFFIX:
        raise RequestError("output", path, f"videos are written as MP4: {path.with_suffix(VIDEO_SUFFIX)} would work")
    if path.is_dir():
        raise RequestError("output", path, f"is a folder: {path / 'video.mp4'} would work")
    folder = path.parent
    if not folder.is_dir():
        raise RequestError("output", path, f"there is no folder {folder}; create it or choose another")
    if path.exists() and any(given.exists() and given.samefile(path) for given in inputs):
        raise RequestError("output", path, "is one of the inputs and would be overwritten; choose another name")
    _require_writable(path, folder)


def _require_writable(path: Path, folder: Path) -> None:
    # Only trying tells: permission bits say nothing to root, on network drives and on read-only file systems.
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".infinitetalk-"):
            pass
    except OSError as error:
        need = f"the folder {folder} cannot be written ({_reason(error)}); choose another"
        raise RequestError("output", path, need) from error


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
