"""A request from what a client sent: a form with files, or JSON with URLs. No path and no name of a client survives."""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import FormData, UploadFile

from infinitetalk.core.errors import InfiniteTalkError, RequestError
from infinitetalk.core.knobs import CONTROLS, Control, Kind, from_form
from infinitetalk.core.request import TalkRequest
from infinitetalk.jobs.files import JobFiles
from infinitetalk.media.sandbox import Sandbox
from infinitetalk.server.fetching import fetch, require_allowed
from infinitetalk.server.settings import ServerSettings

MOST_FIELDS, MOST_FILES = 400, 40

_LORA = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*?)(?:\.safetensors)?(:-?[0-9.]+)?")
_FILES = (Kind.FILE, Kind.FILES)
_KINDS = {"image": "picture", "video": "video", "masks": "mask"}
"""What a file is decoded as; all other files are sounds."""


@dataclass(slots=True)
class Sent:
    """What a client sent: plain values and files by field, the files at most as often as they came."""

    values: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[UploadFile | str]] = field(default_factory=dict)
    """Uploads, or URLs."""

    def digest(self) -> str:
        """What an idempotency key stands for: the values, and the files' bytes or URLs."""
        whole = hashlib.sha256(json.dumps(self.values, sort_keys=True, default=str).encode())
        for name in sorted(self.files):
            for given in self.files[name]:
                whole.update(f"\n{name}\n".encode())
                if isinstance(given, str):
                    whole.update(given.encode("utf-8", "backslashreplace"))
                else:
                    given.file.seek(0)
                    whole.update(hashlib.file_digest(given.file, "sha256").digest())  # type: ignore[arg-type]
        return whole.hexdigest()


def from_multipart(form: FormData) -> Sent:
    """Sorts a form's parts.

    Raises:
        RequestError: a part that no field has, or a file where a value belongs.
    """
    sent, known = Sent(), {control.name: control for control in CONTROLS}
    for name in dict.fromkeys(form):
        if name not in known:
            raise RequestError(name[:60], "given", "is no setting of a request")
        given = form.getlist(name)
        if known[name].kind in _FILES:
            parts = [part for part in given if part != "" and not (isinstance(part, UploadFile) and not part.filename)]
            if parts:
                sent.files[name] = list(parts)
        else:
            sent.values[name] = _from_texts(known[name], given)
    _require_single(sent)
    return sent


def _from_texts(control: Control, given: list[Any]) -> Any:
    """A field's value from the texts of a form."""
    for part in given:
        if isinstance(part, UploadFile):
            raise RequestError(control.name, "a file", "takes a value; send it as text")
    if control.kind is Kind.BOXES:
        return ";".join(given)
    if control.kind in (Kind.LORAS, Kind.STRENGTHS, Kind.PROMPTS):
        return "\n".join(given)
    return " ".join(given) if control.kind is Kind.TEXTS else given[-1]


def from_json(body: bytes) -> Sent:
    """Sorts a JSON object's members.

    Raises:
        RequestError: no JSON object, or a member that no field has.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("body", "given", "is no JSON; send an object, or multipart/form-data") from error
    if not isinstance(content, dict):
        raise RequestError("body", "given", "must be a JSON object with a request's settings")
    sent, known = Sent(), {control.name: control for control in CONTROLS}
    for name, value in content.items():
        if name in known and known[name].kind in _FILES:
            urls = value if isinstance(value, list) else [value] if value is not None else []
            if not all(isinstance(url, str) for url in urls):
                raise RequestError(name, json.dumps(value)[:60], "must be a URL, or a list of them")
            sent.files[name] = urls
        else:
            sent.values[name] = value
    _require_single(sent)
    return sent


def _require_single(sent: Sent) -> None:
    for control in CONTROLS:
        if control.kind is Kind.FILE and len(sent.files.get(control.name, ())) > 1:
            raise RequestError(control.name, len(sent.files[control.name]), "takes one file; leave the others out")
    if sum(map(len, sent.files.values())) > MOST_FILES:
        raise RequestError("audio", "given", f"more than {MOST_FILES} files; send fewer")


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes requests of what clients send."""

    settings: ServerSettings

    def read(self, sent: Sent, room: JobFiles) -> TalkRequest:
        """The request; its files lie in the room, decoded once in a limited process.

        Raises:
            InfiniteTalkError: what cannot be used, in words that name no path of this machine.
            OSError: the disk is full.
        """
        values = dict(sent.values)
        self._require_open(values)
        for name in sent.files:
            values[name] = [room.inputs / "later"]
        self._request(values, sent)  # what is wrong with the settings is told before a byte is stored
        stored = self._store(sent, room)
        kinds = [(_KINDS.get(name, "sound"), path) for name, paths in stored.items() for path in paths]
        limits = self.settings.limits
        Sandbox(
            seconds=limits.decode_seconds,
            memory=round(limits.decode_memory * 2**30),
            pixels=round(limits.max_source_pixels * 1e6),
            longest=max(limits.max_seconds * 4, 60.0),
        ).decode(kinds)
        return self._request(values | stored, sent)

    def _request(self, values: Mapping[str, Any], sent: Sent) -> TalkRequest:
        plain = dict(values)
        for control in CONTROLS:
            if control.name not in sent.files:
                continue
            paths = [str(path) for path in plain[control.name]]
            every = paths * len(sent.files[control.name]) if len(paths) == 1 else paths
            plain[control.name] = every if control.kind is Kind.FILES else next(iter(paths), None)
        return from_form(plain)

    def _require_open(self, values: dict[str, Any]) -> None:
        """Replaces what names the server's own by where that is."""
        models = self.settings.models
        name = values.get("model") or next(iter(models))
        if not isinstance(name, str) or name not in models:
            raise RequestError("model", str(name)[:60], f"this server has {', '.join(models)}")
        values["model"] = models[name]
        encoder = values.get("encoder")
        if encoder not in (None, "", *self.settings.encoders):
            known = ", ".join(self.settings.encoders) or "none but each model's own; leave it out"
            raise RequestError("encoder", str(encoder)[:60], f"this server has {known}")
        if loras := values.get("loras"):
            values["loras"] = [
                self._lora(given) for given in (loras if isinstance(loras, list) else str(loras).split())
            ]
        text, seconds = values.get("text"), self.settings.limits.max_seconds
        if isinstance(text, str) and len(text) > 30 * seconds:
            raise RequestError("text", f"{len(text)} characters", f"lasts longer than {seconds:g} s; shorten it")

    def _lora(self, given: object) -> str:
        strength = None
        if isinstance(given, list) and len(given) == 2:
            given, strength = given
        found = _LORA.fullmatch(given) if isinstance(given, str) else None
        folder = self.settings.loras
        path = None if found is None or folder is None else folder / f"{found[1]}.safetensors"
        if found is None or path is None or not path.is_file():
            known = sorted(one.stem for one in folder.glob("*.safetensors")) if folder is not None else []
            raise RequestError("loras", str(given)[:60], f"this server has {', '.join(known) or 'none'}")
        tail = found[2] or (f":{strength}" if strength is not None else "")
        return f"{path}{tail}"

    def _store(self, sent: Sent, room: JobFiles) -> dict[str, list[Path]]:
        left = self.settings.limits.upload_bytes
        for name, given in sent.files.items():
            for one in given:
                if isinstance(one, str):
                    require_allowed(name, one, self.settings.places)
        stored: dict[str, list[Path]] = {}
        for name, given in sent.files.items():
            for number, one in enumerate(given):
                path = room.input_path(name, number, _suffix(one))
                if isinstance(one, str):
                    left -= fetch(name, one, self.settings.places, path, most=left)
                else:
                    one.file.seek(0)
                    with path.open("wb") as file:
                        shutil.copyfileobj(one.file, file)
                stored.setdefault(name, []).append(path)
        return stored


def _suffix(given: UploadFile | str) -> str:
    """The ending of a client's name, which `JobFiles.input_path` looks at once more."""
    name = urlsplit(given).path if isinstance(given, str) else given.filename or ""
    return PurePosixPath(PureWindowsPath(name).name).suffix


def without_paths(error: InfiniteTalkError, room: JobFiles, settings: ServerSettings) -> str:
    """An error's line without the server's folders."""
    line = str(error).replace(f"{room.inputs}/", "").replace(f"{room.folder}/", "")
    for name, path in settings.models.items():
        if path != name:
            line = line.replace(path, name)
    return line if settings.loras is None else line.replace(f"{settings.loras}/", "")
