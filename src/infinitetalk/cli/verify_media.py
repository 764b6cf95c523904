"""`infinitetalk verify-media FILE`: whether a file's manifest is there, whole and signed by somebody trusted."""

import argparse
from dataclasses import asdict
from pathlib import Path

from infinitetalk.cli.command import DONE, FAILED, Command, add_json_flag
from infinitetalk.cli.text import print_json, say


def _add_flags(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("file")
    section.add_argument("file", type=Path, metavar="FILE", help="a video, picture or sound")
    section.add_argument(
        "--trust", type=Path, metavar="FILE.pem", help="authorities whose signers are trusted; without it, nobody is"
    )
    add_json_flag(section)


def run(arguments: argparse.Namespace) -> int:
    """Prints the verdict and what the manifest says; exit code 1 for a file that is altered or has no manifest."""
    from infinitetalk.media.provenance import check_media

    checked = check_media(arguments.file, arguments.trust)
    code = DONE if checked.verdict.intact else FAILED
    if arguments.json:
        print_json({"file": str(arguments.file.absolute()), **asdict(checked), "verdict": checked.verdict.value})
        return code
    say(checked.verdict.value)
    if checked.verdict.intact:
        say(f"Signed by: {checked.signer or 'no name'}")
        say(f"Made by:   {checked.made_by or 'not said'}{', AI-generated' if checked.ai_generated else ''}")
        if checked.model:
            say(f"Model:     {checked.model}  (settings {checked.settings_sha256})")
    elif checked.problems:
        say(f"Found:     {', '.join(checked.problems)}")
    return code


COMMAND = Command(
    name="verify-media",
    group="look after models and the machine",
    summary="check the manifest of how a file was made, and whether it was altered",
    add_flags=_add_flags,
    run=run,
    usage="FILE [options]",
    example="infinitetalk verify-media talk.mp4",
)
