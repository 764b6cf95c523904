"""`infinitetalk people`: shows before a job who is where and what is cut, as one picture."""

import argparse
from pathlib import Path

from infinitetalk.cli.command import DONE, Command, add_json_flag
from infinitetalk.cli.display import emit
from infinitetalk.cli.generate import add_input_json_flag, read_request
from infinitetalk.cli.text import near_path, say
from infinitetalk.core.knobs import CONTROLS, add_flags


def _add_flags(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("where to")
    files.add_argument("--output", type=Path, default=Path("people.png"), metavar="FILE.png",
                       help="the picture (default people.png)")  # fmt: skip
    files.add_argument("--request", type=Path, metavar="FILE.json",
                       help="show a video's request from the JSON file beside it; other flags change it")  # fmt: skip
    add_input_json_flag(files)
    add_flags(parser, [control for control in CONTROLS if control.knob.group in ("input", "picture")])
    add_json_flag(parser.add_argument_group("run"))


def run(arguments: argparse.Namespace) -> int:
    """Writes the picture; exit code 0."""
    from infinitetalk.engine.layout import layout
    from infinitetalk.media.files import input_paths
    from infinitetalk.media.paths import require_picture_output

    request, output = read_request(arguments), arguments.output
    require_picture_output(output, input_paths(request))
    shown = layout(request)
    shown.save(output)
    boxes = [",".join(f"{side:g}" for side in box) for box in shown.boxes]
    if arguments.json:
        emit("done", picture=str(output.absolute()), boxes=boxes, note=shown.note)
        return DONE
    say(f"Picture: {near_path(output)}")
    if boxes:
        say(f"People:  {' '.join(f'--box {box}' for box in boxes)}")
    if shown.note:
        say(shown.note)
    return DONE


COMMAND = Command(
    name="people",
    group="make videos",
    summary="show as a picture who is where and what is cut, before making a video",
    add_flags=_add_flags,
    run=run,
    usage="(--image FILE | --video FILE) --audio FILE [--output FILE.png] [options]",
    example="infinitetalk people --image pair.png --audio anna.wav --audio ben.wav --output people.png",
)
