"""Whether files can be read and written at all, told in one line before anything is decoded or loaded."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from infinitetalk.core.errors import MediaError, RequestError

VIDEO_SUFFIX = ".mp4"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def part_path(output: Path) -> Path:
    """Where a video grows until it is complete: video.mp4 → video.part.mp4."""
    return output.with_suffix(".part.mp4")


def done_path(output: Path) -> Path:
    """Where a complete video lies for the moment before it is moved into place."""
    return output.with_suffix(".done.mp4")


def signed_path(output: Path) -> Path:
    """Where a signed video lies for the moment before it is moved into place."""
    return output.with_suffix(".signed.mp4")


def sidecar_path(output: Path) -> Path:
    """Where the settings of a video lie: video.mp4 → video.mp4.json."""
    return output.with_name(output.name + ".json")


def sidecar_part_path(output: Path) -> Path:
    """Where the settings lie for the moment before they are moved into place."""
    return output.with_name(output.name + ".json.part")


def job_path(output: Path) -> Path:
    """The folder in which a job keeps its finished windows until the video is complete."""
    return output.with_name(output.name + ".job")


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

    The files that are written on the way and beside it are looked at as well.

    Raises:
        RequestError: not an .mp4, a folder, an input, or in a folder that does not exist or cannot be written.
    """
    try:
        _require_place(path)
        _require_no_clash(path, tuple(inputs))
        # Only trying tells: permission bits say nothing to root, on network drives and on read-only file systems.
        with tempfile.TemporaryFile(dir=path.parent, prefix=".infinitetalk-"):
            pass
    except OSError as error:
        raise RequestError("output", path, f"cannot be written there ({_reason(error)}); choose another") from error


def require_picture_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuses a path that no picture can be written to, or that would overwrite an input.

    Raises:
        RequestError: of another kind, a folder, an input, or in a folder that does not exist.
    """
    _require_folder(path, "people.png")
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise RequestError("output", path, f"pictures are written as PNG: {path.with_suffix('.png')} would work")
    if path.exists() and any(given.exists() and given.samefile(path) for given in inputs):
        raise RequestError("output", path, "would overwrite one of the inputs; choose another name")


def _require_place(path: Path) -> None:
    _require_folder(path, "video.mp4")
    if path.suffix.lower() != VIDEO_SUFFIX:
        raise RequestError("output", path, f"videos are written as MP4: {path.with_suffix(VIDEO_SUFFIX)} would work")


def _require_folder(path: Path, name: str) -> None:
    if path.is_dir():
        raise RequestError("output", path, f"is a folder: {path / name} would work")
    if not path.parent.is_dir():
        raise RequestError("output", path, f"there is no folder {path.parent}; create it or choose another")


def _require_no_clash(path: Path, inputs: tuple[Path, ...]) -> None:
    if (folder := job_path(path)).exists() and not folder.is_dir():
        raise RequestError("output", path, f"needs the folder {folder}, which is a file; choose another name")
    beside = (part_path, done_path, signed_path, sidecar_path, sidecar_part_path)
    for written in (path, *(name(path) for name in beside)):
        if not written.exists():
            continue
        if written.is_dir():
            raise RequestError("output", path, f"needs {written}, which is a folder; choose another name")
        if any(given.exists() and given.samefile(written) for given in inputs):
            raise RequestError("output", path, f"would overwrite {written}, one of the inputs; choose another name")


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
