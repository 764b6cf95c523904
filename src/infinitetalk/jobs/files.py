"""Where a job's files are. No name in here comes from a user."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from infinitetalk.core.errors import MachineError
from infinitetalk.core.knobs import with_files
from infinitetalk.core.request import TalkRequest
from infinitetalk.media.hls import PLAYLIST
from infinitetalk.media.paths import job_path, require_file, sidecar_path

_LONGEST_SUFFIX = 8


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The folder of one job."""

    id: str
    folder: Path

    @property
    def inputs(self) -> Path:
        """The folder of what was given."""
        return self.folder / "inputs"

    @property
    def video(self) -> Path:
        """The finished video, or the finished windows of a job that was cancelled."""
        return self.folder / "talking.mp4"

    @property
    def sidecar(self) -> Path:
        """The video's settings."""
        return sidecar_path(self.video)

    @property
    def preview(self) -> Path:
        """The folder of the preview that plays while the video is made."""
        return self.folder / "preview"

    @property
    def playlist(self) -> Path:
        """The list that a player opens."""
        return self.preview / PLAYLIST

    @property
    def journaled(self) -> bool:
        """Whether work on the video was begun and is not over."""
        return (job_path(self.video) / "journal.json").exists()

    def make(self) -> None:
        """Makes the folders.

        Raises:
            MachineError: the disk is full or gone.
        """
        try:
            self.inputs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"no folder for a job can be made ({error.strerror}); check the server's disk"
            ) from error

    def remove(self) -> None:
        """Deletes everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def input_path(self, field: str, number: int, suffix: str) -> Path:
        """Where an input of a field goes: image-0.png. Of the client's name no more than a plain ending is kept."""
        ending = suffix.lower().removeprefix(".")
        plain = ending.isascii() and ending.isalnum() and len(ending) <= _LONGEST_SUFFIX
        return self.inputs / f"{field}-{number}{'.' + ending if plain else ''}"

    def adopt(self, request: TalkRequest) -> TalkRequest:
        """The request with its media files copied to here, unless they are here already.

        Raises:
            MediaError: a file that is missing or empty.
            MachineError: the disk is full or gone.
        """
        return with_files(request, self._own)

    def _own(self, field: str, number: int, path: Path) -> Path:
        if path.parent == self.inputs:
            return path
        require_file(path, field)
        mine = self.input_path(field, number, path.suffix)
        try:
            return Path(shutil.copyfile(path, mine))
        except OSError as error:
            raise MachineError(f"{field} cannot be copied ({error.strerror}); check the server's disk") from error
