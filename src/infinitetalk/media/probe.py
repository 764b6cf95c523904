"""Decodes files that strangers sent, in a process that may take so much time and memory and no more.

    python -m infinitetalk.media.probe < '{"seconds": 60, "memory": 2147483648, "files": [...], ...}'

It answers with JSON: facts of each file, or one line on what is wrong. See `media.sandbox`, which starts it.
"""

import json
import sys
from pathlib import Path
from typing import Any

_FILES = 64
"""Open files that the process may have."""


def _limit(seconds: int, memory: int) -> None:
    """Limits this process, before it reads a byte of any file."""
    if sys.platform == "win32":
        return  # there the parent's clock alone ends it
    import resource

    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def _picture(path: Path, pixels: int) -> dict[str, Any]:
    from infinitetalk.media.picture import picture_size, read_picture

    size = picture_size(path)
    _require_pixels(path, size.width, size.height, pixels)
    height, width = read_picture(path).shape[:2]
    return {"width": width, "height": height}


def _require_pixels(path: Path, width: int, height: int, pixels: int) -> None:
    from infinitetalk.core.errors import MediaError

    if width * height > pixels:
        raise MediaError(path, f"{width}x{height} are too many pixels; up to {pixels / 1e6:g} million would work")


def _sound(path: Path, longest: float) -> dict[str, Any]:
    from infinitetalk.core.errors import MediaError
    from infinitetalk.media.container import decode, open_media, sound_stream
    from infinitetalk.media.sound import open_sound

    samples, rate = 0, 1
    with open_media(path, "sound") as container:
        for frame in decode(path, "sound", sound_stream(path, container)):
            samples, rate = samples + frame.samples, frame.sample_rate
            if samples > longest * rate:
                raise MediaError(path, f"the sound is longer than {longest:g} s; cut it")
    open_sound(path)  # what else a sound may be refused for
    return {"seconds": samples / rate}


def _video(path: Path, pixels: int, longest: float) -> dict[str, Any]:
    from infinitetalk.core.errors import MediaError
    from infinitetalk.media.container import open_media, video_stream
    from infinitetalk.media.video import shown_frames

    with open_media(path, "video") as container:
        size = video_stream(path, container).codec_context
        _require_pixels(path, size.width, size.height, pixels)
    frames, seconds = 0, 0.0
    for shown, frame in shown_frames(path):
        frames, seconds = frames + 1, shown
        _require_pixels(path, frame.width, frame.height, pixels)
        if seconds > longest:
            raise MediaError(path, f"the video is longer than {longest:g} s; cut it")
    return {"width": size.width, "height": size.height, "frames": frames, "seconds": seconds}


def facts_of(kind: str, path: Path, pixels: int, longest: float) -> dict[str, Any]:
    """What a file holds, found by decoding all of it.

    Args:
        kind: `picture`, `sound`, `video`, or `mask`, which is a picture or a video.
        pixels: of a frame, at most.
        longest: seconds, at most.

    Raises:
        MediaError: it cannot be decoded, or is too large or too long.
    """
    from infinitetalk.core.errors import MediaError

    if kind == "sound":
        return _sound(path, longest)
    if kind == "video":
        return _video(path, pixels, longest)
    try:
        return _picture(path, pixels)
    except MediaError:
        if kind == "picture":
            raise
        return _video(path, pixels, longest)


def main() -> int:
    """Answers one question."""
    asked = json.load(sys.stdin)
    _limit(asked["seconds"], asked["memory"])
    from infinitetalk.core.errors import InfiniteTalkError

    try:
        found = [facts_of(kind, Path(path), asked["pixels"], asked["longest"]) for kind, path in asked["files"]]
    except InfiniteTalkError as error:
        answer: dict[str, Any] = {"error": str(error)}
    except MemoryError:
        answer = {"memory": True}
    else:
        answer = {"facts": found}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
