"""`infinitetalk generate`: a talking video from a picture or a video and a voice."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from infinitetalk.cli.command import Command, add_device_flag, add_json_flag, add_memory_flags, memory_settings
from infinitetalk.cli.making import RunOn, by_seed, done_before, make
from infinitetalk.cli.text import near_path
from infinitetalk.core.errors import UsageError
from infinitetalk.core.input_json import read_input_json
from infinitetalk.core.knobs import CONTROLS, add_flags, given, override
from infinitetalk.core.request import TalkRequest
from infinitetalk.media.paths import job_path


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what a run needs beside its request: device and display."""
    add_memory_flags(parser)
    section = parser.add_argument_group("run")
    add_device_flag(section)
    section.add_argument(
        "--restart", action="store_true", help="forget an unfinished job at this output instead of going on with it"
    )
    section.add_argument("--quiet", action="store_true", help="print the video's path and nothing else")
    add_json_flag(section)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("where to")
    files.add_argument(
        "--output", type=Path, metavar="FILE.mp4", help="the video; default: named after the source, in this folder"
    )
    files.add_argument(
        "--request",
        type=Path,
        metavar="FILE.json",
        help="repeat a video from the JSON file beside it; other flags change it",
    )
    add_input_json_flag(files)
    files.add_argument(
        "--hls",
        type=Path,
        metavar="FOLDER",
        help="also a preview that plays while the video is made: FOLDER/index.m3u8; watch.html for browsers",
    )
    add_flags(parser, [control for control in CONTROLS if not control.knob.expert])
    parser.add_argument_group("several videos").add_argument(
        "--seeds",
        type=_seeds,
        metavar="N,N,...",
        help="a video for each seed, named after it; loads the model once",
    )
    add_run_flags(parser)
    add_flags(parser, [control for control in CONTROLS if control.knob.expert])


def add_input_json_flag(section: argparse._ActionsContainer) -> None:
    """Adds `--input-json`."""
    section.add_argument("--input-json", "--input_json", dest="input_json", type=Path, metavar="FILE.json",
                         help="a job file of the reference implementation; other flags change it")  # fmt: skip


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be whole numbers such as 1,2,3") from None


def read_request(arguments: argparse.Namespace) -> TalkRequest:
    """The request that a command line describes.

    Raises:
        RequestError: a value that cannot work.
        UsageError: two files that describe a request.
    """
    if arguments.request is not None and arguments.input_json is not None:
        raise UsageError("give --request or --input-json, not both; see infinitetalk generate --help")
    if arguments.input_json is not None:
        return _read_job_file(arguments.input_json, given(arguments))
    if arguments.request is None:
        return TalkRequest(**given(arguments))
    from infinitetalk.media.sidecar import read_request as read_sidecar

    return override(read_sidecar(arguments.request), given(arguments))


def _read_job_file(path: Path, changes: Mapping[str, object]) -> TalkRequest:
    """A job file's request; its prompt, which all such files have, is left out for models that read none."""
    request = override(read_input_json(path), changes)
    if request.prompt is None or "prompt" in changes:
        return request
    from infinitetalk.weights.folder import ModelFolder

    folder = ModelFolder.open(request.model)
    if folder.facts.has_text:
        return request
    sys.stderr.write(f"note: the model {folder.name} reads no prompt, so that of {near_path(path)} is left out\n")
    return replace(request, prompt=None)


def free_name(request: TalkRequest, folder: Path = Path(), seeds: Sequence[int] = ()) -> Path:
    """A file name in a folder, after the source: the unfinished job's if there is one, else a new one.

    With seeds it is the name that those of their videos are made from.
    """
    source = request.image or request.video
    stem = f"{source.stem}-talking" if source is not None else "talking"
    candidates = (folder / f"{stem}{'' if number == 1 else f'-{number}'}.mp4" for number in range(1, 10_000))
    return next(path for path in candidates if _is_free(by_seed(request, path, seeds)))


def _is_free(jobs: Sequence[tuple[TalkRequest, Path]]) -> bool:
    """Whether jobs would overwrite nothing, or go on with what was begun."""
    from infinitetalk.engine.journal import begun

    if any(begun(path, one) for one, path in jobs) or done_before(jobs):
        return True
    return not any(path.exists() or job_path(path).exists() for _, path in jobs)


def run(arguments: argparse.Namespace) -> int:
    """Makes the video, or one for each seed; exit code 0, or 130 after Ctrl-C."""
    request = read_request(arguments)
    seeds = arguments.seeds or ()
    output: Path = arguments.output or free_name(request, seeds=seeds)
    if seeds and hasattr(arguments, "seed"):
        raise UsageError("give --seed for one video or --seeds for several, not both; see infinitetalk generate --help")
    if arguments.hls is not None and len(seeds) > 1:
        raise UsageError("--hls takes one video: give one seed, or leave --hls out; see infinitetalk generate --help")
    run_on = RunOn(arguments.device, memory_settings(arguments))
    return make(
        request,
        output,
        run_on,
        as_json=arguments.json,
        quiet=arguments.quiet,
        restart=arguments.restart,
        seeds=seeds,
        hls=arguments.hls,
    )


COMMAND = Command(
    name="generate",
    group="make videos",
    summary="make a talking video from a picture or a video and a voice",
    add_flags=_add_flags,
    run=run,
    usage="(--image FILE | --video FILE) --audio FILE [--output FILE.mp4] [options]",
    example="infinitetalk generate --image portrait.png --audio voice.wav --output talk.mp4",
)
