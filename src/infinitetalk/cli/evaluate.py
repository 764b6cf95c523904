"""`infinitetalk evaluate`: how good a talking video is, in figures and as a page."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinitetalk.cli.command import DONE, Command, add_json_flag
from infinitetalk.cli.text import Cell, print_json, print_table, say
from infinitetalk.core.errors import MachineError, RequestError, UsageError
from infinitetalk.media.paths import sidecar_path

if TYPE_CHECKING:
    from infinitetalk.evaluate.measure import Job, Result

SUFFIX = ".evaluate.html"


def _add_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is measured")
    what.add_argument("video", type=Path, nargs="?", metavar="VIDEO", help="a talking video")
    what.add_argument("--compare", type=Path, nargs="+", metavar="VIDEO", help="several videos, side by side")
    with_what = parser.add_argument_group("what it is compared with")
    with_what.add_argument("--reference", type=Path, metavar="FILE", help="picture or video of the person; default: "
                           "what the JSON file beside the video names, else its own first frame")  # fmt: skip
    with_what.add_argument("--truth", type=Path, metavar="FILE", help="video of what should be seen, for PSNR and SSIM")
    with_what.add_argument("--audio", type=Path, metavar="FILE", help="sound that the lips should follow; default: the "
                           "video's own")  # fmt: skip
    with_what.add_argument("--other", type=Path, action="append", default=[], metavar="FILE", help="picture of another "
                           "person, for the baseline; default: the demo's people")  # fmt: skip
    with_what.add_argument("--face", type=int, metavar="N", help="whose lips, from left to right from 1 on; default: "
                           "the largest face")  # fmt: skip
    with_what.add_argument("--syncnet", type=Path, metavar="FILE", help="SyncNet's weights (syncnet_v2.model), for "
                           "LSE-C and LSE-D")  # fmt: skip
    told = parser.add_argument_group("what becomes of it")
    told.add_argument("--output", type=Path, metavar="FILE", help=f"the page, .html; default: VIDEO{SUFFIX}. Its "
                      "figures lie beside it as .json")  # fmt: skip
    add_json_flag(told)


def _pages(videos: Sequence[Path], output: Path | None) -> list[Path]:
    """Where each video's page goes.

    Raises:
        RequestError: a place that cannot be written.
    """
    if output is not None and len(videos) > 1:
        raise UsageError("--output names one page, and --compare several videos: leave it out")
    pages = [output or video.with_name(video.name + SUFFIX) for video in videos]
    for page in pages:
        if page.suffix != ".html":
            raise RequestError("output", page, "must end with .html")
        if not page.parent.is_dir():
            raise RequestError("output", page, f"there is no folder {page.parent}; make it first")
        if any(page.with_suffix(".json").resolve() == sidecar_path(video).resolve() for video in videos):
            raise RequestError("output", page, "its figures would take the place of the settings beside the video")
    return pages


def _job(arguments: argparse.Namespace, video: Path) -> "Job":
    from infinitetalk.evaluate.measure import Job
    from infinitetalk.media.paths import require_file

    for path, kind in ((video, "video"), (arguments.reference, "picture or video"), (arguments.truth, "video"),
                       (arguments.audio, "sound"), *((path, "picture") for path in arguments.other)):  # fmt: skip
        if path is not None:
            require_file(path, kind)
    if arguments.face is not None and arguments.face < 1:
        raise RequestError("face", arguments.face, "faces are counted from 1, from left to right")
    return Job(
        video=video, reference=arguments.reference, truth=arguments.truth, audio=arguments.audio,
        others=tuple(arguments.other), face=arguments.face, syncnet=arguments.syncnet,
    )  # fmt: skip


def _progress(name: str) -> Callable[[int, int], None] | None:
    """Tells on a terminal how far the work is."""
    if not sys.stderr.isatty():
        return None

    def tell(done: int, count: int) -> None:
        if done % 25 == 0 or done == count:
            sys.stderr.write(f"\r{name}: frame {done} of {count}" + ("\n" if done == count else ""))

    return tell


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the pages, prints the figures."""
    if (arguments.video is None) == (arguments.compare is None):
        raise UsageError("give one VIDEO, or several with --compare A B")
    videos = [arguments.video] if arguments.compare is None else arguments.compare
    pages = _pages(videos, arguments.output)
    from infinitetalk.evaluate.measure import evaluate

    jobs = [_job(arguments, video) for video in videos]
    found = list[dict[str, Any]]()
    for job, page in zip(jobs, pages, strict=True):
        result = evaluate(job, _progress(job.video.name))
        _write(result, page)
        found.append(result.facts)
    if arguments.json:
        print_json(found[0] if arguments.compare is None else found)
    else:
        _print(found, pages)
    return DONE


def _write(result: "Result", path: Path) -> None:
    from infinitetalk.evaluate.page import page

    try:
        path.write_text(page(result), encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps(result.facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror}") from error


def _print(found: Sequence[dict[str, Any]], pages: Sequence[Path]) -> None:
    from infinitetalk.evaluate.table import FIGURES, best, shown, value_of

    rows = list[list[Cell]]()
    for figure in FIGURES:
        values = [value_of(facts, figure) for facts in found]
        if all(value is None for value in values):
            continue
        winner = best(values, figure)
        cells: list[Cell] = [figure.title]
        for index, value in enumerate(values):
            text = "–" if value is None else shown(value, figure)
            cells.append((text, "bold green") if index == winner else text)
        beside = figure.beside(found[0]) if figure.beside is not None and len(found) == 1 else ""
        rows.append([*cells, figure.unit, beside or figure.better])
    names = [Path(facts["video"]).name for facts in found]
    print_table(["", *names, "", "" if len(found) == 1 else "better"], rows, right=range(1, 1 + len(names)))
    for facts, page in zip(found, pages, strict=True):
        for note in facts["notes"]:
            sys.stderr.write(f"{Path(facts['video']).name}: {note}\n")
        say(f"page: {page}")


COMMAND = Command(
    name="evaluate",
    group="look after models and the machine",
    summary="measure a talking video: lip sync, identity, colours, steadiness, motion",
    add_flags=_add_flags,
    run=run,
    usage="VIDEO [options] | --compare VIDEO VIDEO ...",
    example="infinitetalk evaluate output.mp4 --reference portrait.png",
)
