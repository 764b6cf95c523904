"""A notebook's session: a model that fits the machine, its download, videos, the page."""

import json
import mimetypes
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from typing import Any

from infinitetalk.cli.demo import INPUTS, PORTRAIT, VOICE
from infinitetalk.cli.download import quiet_hub
from infinitetalk.cli.fits import time_text
from infinitetalk.cli.generate import free_name
from infinitetalk.cli.text import size_text
from infinitetalk.core.errors import MachineError
from infinitetalk.core.presets import CHINESE_SUFFIX, MULTI, PRESETS
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.units import GIB
from infinitetalk.engine.job import Job, Workshop, prepare
from infinitetalk.media.paths import sidecar_path
from infinitetalk.media.sidecar import absolute
from infinitetalk.notebook.choice import choose, expected
from infinitetalk.notebook.display import Download, board
from infinitetalk.notebook.plain import plain
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import ModelFolder

DRIVE = Path("/content/drive/MyDrive")
"""Where Colab mounts Google Drive."""
NOTHING: Mapping[str, Any] = {}
WIDTH = 480
"""Of the video below the cell, in pixels."""


def results_folder() -> Path:
    """Where videos are kept: in Google Drive, if it is mounted, else beside the notebook."""
    folder = DRIVE / "InfiniteTalk" if DRIVE.is_dir() else Path("results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be made: {error.strerror}") from error
    return folder


def _print(text: str) -> None:
    print(text)  # noqa: T201 (a cell's output)


@dataclass(slots=True)
class Session:
    """What the cells share."""

    model: str
    workshop: Workshop = field(default_factory=Workshop)

    @classmethod
    @plain
    def choose(cls, model: str = "auto", *, language: str = "English") -> "Session":
        """Looks at the machine, says what it has, and chooses the model, or checks the one that is wanted.

        Raises:
            CellError: a model for a GPU without one, or a folder that makes no model.
        """
        device = Device.choose()
        memory = "" if device.memory is None else f", {device.memory / GIB:.1f} GiB"
        free = disk_usage(Path.cwd()).free
        ram = f"RAM {device.main_memory / GIB:.1f} GiB"
        _print(f"{device.name} ({device.where}{memory}); {ram}; disk {free / 1e9:.0f} GB free")
        name = choose(model, language, device)
        if name in PRESETS:
            preset = PRESETS[name]
            one = expected(device).get(name.removesuffix(CHINESE_SUFFIX).removesuffix(MULTI))
            pace = f"; about {time_text(one.seconds_per_second)} of work for a second of video" if one else ""
            _print(f"Model {name}: {preset.summary}, made for {preset.card}{pace}")
        else:
            ModelFolder.open(name)
            _print(f"Model {name}")
        return cls(name)

    @plain
    def download(self) -> None:
        """Brings the model's weights here, unless they are; room on the disk is made sure of first.

        Raises:
            CellError: too little disk, no connection, or a file that arrives damaged; what has come is kept.
        """
        from infinitetalk.weights.hub.download import check_possible, download, room, wanted
        from infinitetalk.weights.hub.store import plan

        if self.model not in PRESETS:
            _print("Nothing to download.")
            return
        hub = quiet_hub()
        record = plan(hub, PRESETS[self.model])
        files = wanted(record, None)
        found = room(hub, files)
        _print(f"{size_text(record.size)} in all, {size_text(found.lacking)} to come; {size_text(found.free)} are free")
        check_possible(hub, files, found)
        if found.lacking:
            download(hub, record, files, Download(files))
        ModelFolder.open(self.model)

    @plain
    def make(
        self,
        picture: str = "",
        sound: str = "",
        *,
        streaming: bool = True,
        motion_frames: int = 0,
        settings: Mapping[str, Any] = NOTHING,
    ) -> Any:
        """Makes a video and shows it, or goes on with one that was interrupted, or shows the one that is there.

        Args:
            picture: a picture or a video to speak; empty: a sample.
            sound: what is said; empty: a sample.
            streaming: any length; otherwise a single window.
            motion_frames: 1 to 25, or 0 for the model's own.
            settings: other fields of the request; they win.

        Raises:
            CellError: what is wrong, and what would work.
        """
        from IPython.display import Video

        job = self._prepare(picture, sound, streaming=streaming, motion_frames=motion_frames, settings=settings)
        video = finished(job)
        if video is None:
            with board() as shown:
                made = self.workshop.make(job, shown)
            for line in made.advice:
                _print(line)
            video = made.video
        _print(f"{video}")
        return Video(str(video), embed=True, width=WIDTH)  # type: ignore[no-untyped-call]

    def _prepare(
        self, picture: str, sound: str, *, streaming: bool, motion_frames: int, settings: Mapping[str, Any]
    ) -> Job:
        source = Path(picture) if picture else INPUTS / PORTRAIT
        kind = "video" if (mimetypes.guess_type(source.name)[0] or "").startswith("video") else "image"
        given: dict[str, Any] = {
            "model": self.model,
            kind: source,
            "audio": (Path(sound) if sound else INPUTS / VOICE,),
            "mode": "streaming" if streaming else "clip",
            "motion_frames": motion_frames or None,
        }
        request = TalkRequest(**(given | dict(settings)))
        return prepare(request, free_name(request, results_folder()))

    @plain
    def studio(self, *, link: bool = True, wait: bool = True) -> None:
        """Opens the page; interrupt the cell to close it.

        Args:
            link: whether the page gets a public address, and a password, which is printed.
            wait: false closes it as soon as it has answered.

        Raises:
            CellError: the page cannot be opened.
        """
        from infinitetalk.app.app import launch

        auth = None
        if link:
            user, password = "studio", secrets.token_urlsafe(9)
            _print(f"User: {user}   Password: {password}")
            auth = f"{user}:{password}"
        launch(self.model, share=link, auth=auth, wait=wait)


def finished(job: Job) -> Path | None:
    """A finished video of the same request in the job's folder."""
    wanted = absolute(job.request).to_json()
    for video in sorted(job.output.parent.glob("*.mp4")):
        try:
            held = json.loads(sidecar_path(video).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(held, dict) and held.get("complete") and held.get("request") == wanted:
            return video
    return None
