"""The JSON file beside a video: how it was made, and all that is needed to make it again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from infinitetalk.core.defaults import Settings
from infinitetalk.core.encoders import absolute_encoder
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.files import digest
from infinitetalk.core.model_name import absolute_model
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.version import own_version
from infinitetalk.media.files import input_paths
from infinitetalk.media.paths import sidecar_part_path, sidecar_path

FORMAT = 1


def write_sidecar(
    output: Path,
    request: TalkRequest,
    *,
    settings: Settings,
    stage_seconds: Mapping[str, float],
    frames: int,
    complete: bool,
    windows: Sequence[Mapping[str, Any]] = (),
    told: TalkRequest | None = None,
) -> Path:
    """Writes the settings of a finished video beside it and returns their path.

    The request is stored with every default left open and every path made absolute, so that it can be repeated from any
    folder; `settings` are the numbers that were used. `complete` is false for a job that was stopped. `windows` are the
    figures of each window. `told` is the same request with its files where their owner has them, if they were read from
    elsewhere.

    Raises:
        MachineError: the disk is full or gone, or an input was taken away meanwhile.
    """
    path = sidecar_path(output)
    try:
        content = _content(request, settings, stage_seconds, told or request, frames=frames, complete=complete)
        _write(output, content | {"windows": list(windows)})
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
        raise MachineError(f"{path}: cannot be written: {reason}; the video itself was written") from error
    return path


def _content(
    request: TalkRequest, settings: Settings, stage_seconds: Mapping[str, float], told: TalkRequest, *, frames: int,
    complete: bool,
) -> dict[str, Any]:  # fmt: skip
    named = zip(input_paths(absolute(told)), input_paths(absolute(request)), strict=True)
    return {
        "format": FORMAT,
        "infinitetalk": own_version(),
        "model": told.model,
        **_settings(told, settings),
        "settings_sha256": settings_hash(told, settings),
        "inputs": [_facts(name, path) for name, path in dict.fromkeys(named)],
        "frames": frames,
        "complete": complete,
        "stage_seconds": {name: round(seconds, 3) for name, seconds in stage_seconds.items()},
    }


def _write(output: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    # File names that are no UTF-8 hold lone surrogates, which JSON can only spell out.
    sidecar_part_path(output).write_text(text, encoding="utf-8", errors="backslashreplace")
    sidecar_part_path(output).replace(sidecar_path(output))


def read_request(path: Path) -> TalkRequest:
    """The request of a sidecar, or of a file that holds nothing but a request.

    Raises:
        RequestError: no such file, no JSON, or a setting that does not exist or cannot work.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError("request", path, f"cannot be read ({error.strerror}); give a video's .json file") from error
    except (ValueError, RecursionError) as error:
        raise RequestError("request", path, "is not JSON; give the .json file that lies beside a video") from error
    values = content.get("request", content) if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise RequestError("request", path, "holds no request; give the .json file that lies beside a video")
    return TalkRequest.from_json(values)


def settings_hash(request: TalkRequest, settings: Settings) -> str:
    """SHA-256 of a request and its settings: of the JSON of both as the file beside the video has them, keys sorted."""
    return hashlib.sha256(json.dumps(_settings(request, settings), sort_keys=True).encode()).hexdigest()


def _settings(request: TalkRequest, settings: Settings) -> dict[str, Any]:
    return {
        "request": absolute(request).to_json(),
        "settings": asdict(settings) | {name: str(getattr(settings, name)) for name in ("size", "output_size", "rate")},
    }


def absolute(request: TalkRequest) -> TalkRequest:
    """The same request, to be repeated from any folder."""
    return replace(
        request,
        model=absolute_model(request.model),
        encoder=request.encoder and absolute_encoder(request.encoder),
        image=request.image and request.image.absolute(),
        video=request.video and request.video.absolute(),
        audio=tuple(path.absolute() for path in request.audio),
        masks=tuple(path.absolute() for path in request.masks),
        loras=tuple(lora._replace(path=lora.path.absolute()) for lora in request.loras),
        soundtrack=request.soundtrack and request.soundtrack.absolute(),
    )


def _facts(name: Path, path: Path) -> dict[str, Any]:
    return {"path": name.as_posix(), "bytes": path.stat().st_size, "sha256": digest(path)}


def tells_whole(content: bytes | None, settings: str) -> bool:
    """Whether a sidecar's content is that of a whole video of settings with this hash; inputs are not looked at."""
    try:
        told = json.loads(content or b"null")
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("settings_sha256") == settings and told.get("complete") is True
