"""`infinitetalk demo`: a video from the bundled model, portrait and voice, to see that everything works."""

import argparse
import shutil
from pathlib import Path

from infinitetalk.cli.command import DONE, Command, memory_settings
from infinitetalk.cli.generate import add_run_flags
from infinitetalk.cli.making import RunOn, make
from infinitetalk.cli.text import command_line, near_path, say
from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import TalkRequest

INPUTS = Path(__file__).parents[1] / "assets" / "demo"
MODEL, PORTRAIT, VOICE = "nano", "portrait_1.png", "voice_1.flac"


def _add_flags(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("where to")
    section.add_argument(
        "--output",
        type=Path,
        default=Path("infinitetalk-demo.mp4"),
        metavar="FILE.mp4",
        help="the video (default infinitetalk-demo.mp4 in this folder)",
    )
    section.add_argument(
        "--keep-inputs", type=Path, metavar="DIR", help="also copy the portrait and the voice there, to try things with"
    )
    add_run_flags(parser)


def _copy_inputs(folder: Path) -> tuple[Path, Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        portrait, voice = (Path(shutil.copy(INPUTS / name, folder)) for name in (PORTRAIT, VOICE))
    except OSError as error:
        raise RequestError("keep_inputs", folder, f"{error.strerror}; give a folder that can be written") from error
    return portrait, voice


def run(arguments: argparse.Namespace) -> int:
    """Makes the demo video and says what to try next."""
    kept: Path | None = arguments.keep_inputs
    portrait, voice = (INPUTS / PORTRAIT, INPUTS / VOICE) if kept is None else _copy_inputs(kept)
    request = TalkRequest(model=MODEL, image=portrait, audio=(voice,))
    plain = not (arguments.quiet or arguments.json)
    if plain:
        say("A rendered face (computer graphics), a recorded voice (public domain), the bundled model nano.")
    run_on = RunOn(arguments.device, memory_settings(arguments))
    code = make(
        request, arguments.output, run_on, as_json=arguments.json, quiet=arguments.quiet, restart=arguments.restart
    )
    if plain and code == DONE:
        _suggest(portrait, voice, kept=kept is not None)
    return code


def _suggest(portrait: Path, voice: Path, *, kept: bool) -> None:
    say()
    say("Try next:")
    if kept:
        own = ("--image", near_path(portrait), "--audio", near_path(voice), "--output", "talk.mp4")
        say(f"  {command_line('generate', *own)}")
    else:
        say(f"  {command_line('demo', '--keep-inputs', 'demo-inputs')}   (the picture and the sound, to change them)")
    say(f"  {command_line('generate', '--help')}   (every setting)")
    say(f"  {command_line('app')}   (the same in the browser)")


COMMAND = Command(
    name="demo",
    group="make videos",
    summary="make a video with the bundled model, portrait and voice",
    add_flags=_add_flags,
    run=run,
)
