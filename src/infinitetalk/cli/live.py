"""`infinitetalk live`: frames made while the sound arrives."""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from infinitetalk.cli.command import (
    DONE,
    STOPPED,
    Command,
    add_device_flag,
    add_json_flag,
    add_memory_flags,
    memory_settings,
)  # fmt: skip
from infinitetalk.cli.display import emit
from infinitetalk.cli.generate import free_name
from infinitetalk.cli.text import near_path, say
from infinitetalk.core.errors import RequestError
from infinitetalk.core.knobs import CONTROLS, add_flags, given
from infinitetalk.core.live import UNUSED
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLE_RATE

if TYPE_CHECKING:
    from infinitetalk.engine.live import LiveChunk

_LIVE_CONTROLS = [control for control in CONTROLS if control.name not in {*UNUSED, "video", "boxes", "masks"}]


def _add_flags(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("where to")
    files.add_argument("--output", type=Path, metavar="FILE.mp4", help="the video; default: named after the portrait")
    files.add_argument(
        "--rate", type=int, default=SAMPLE_RATE, metavar="N",
        help=f"samples a second of what comes through standard input (default {SAMPLE_RATE})",
    )  # fmt: skip
    add_flags(parser, [control for control in _LIVE_CONTROLS if not control.knob.expert])
    add_memory_flags(parser)
    section = parser.add_argument_group("run")
    add_device_flag(section)
    section.add_argument("--quiet", action="store_true", help="print the video's path and nothing else")
    add_json_flag(section)
    add_flags(parser, [control for control in _LIVE_CONTROLS if control.knob.expert])


@dataclass(slots=True)
class _Report:
    """Tells of each chunk, and of all of them."""

    as_json: bool
    quiet: bool
    frames: int = 0
    latencies: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)

    def note(self, line: str) -> None:
        if line and self.as_json:
            emit("note", text=line)
        elif line and not self.quiet:
            sys.stderr.write(line + "\n")

    def chunk(self, chunk: "LiveChunk") -> None:
        count = chunk.frames.shape[1]
        speed = count / FPS / chunk.latency
        self.frames += count
        self.latencies.append(chunk.latency)
        self.speeds.append(speed)
        if self.as_json:
            emit("chunk", index=chunk.index, frames=count, latency_seconds=round(chunk.latency, 4),
                 real_time_factor=round(speed, 3))  # fmt: skip
        elif not self.quiet:
            at = f"{chunk.first_frame / FPS:.2f} s"
            line = (
                f"chunk {chunk.index}: {count} frames from {at}, latency {chunk.latency:.2f} s, {speed:.2f}x real time"
            )
            sys.stderr.write(line + "\n")

    def end(self, output: Path, *, stopped: bool) -> None:
        latency, speed = (median(values) if values else 0.0 for values in (self.latencies, self.speeds))
        if self.as_json:
            emit("stopped" if stopped else "done", video=str(output.absolute()), frames=self.frames,
                 seconds=self.frames / FPS, chunks=len(self.latencies), median_latency_seconds=round(latency, 4),
                 median_real_time_factor=round(speed, 3))  # fmt: skip
        elif not self.frames:
            say("Stopped before the first chunk was done: there is no video yet.")
        elif self.quiet:
            say(str(output))
        else:
            say(
                f"Video:   {near_path(output)}  ({self.frames / FPS:.1f} s, {self.frames} frames; "
                f"median latency {latency:.2f} s, {speed:.2f}x real time)"
            )


def run(arguments: argparse.Namespace) -> int:
    """Makes the video until the sound ends or Ctrl-C; exit code 0, or 130."""
    from infinitetalk.engine.job import Workshop
    from infinitetalk.engine.live_job import live_writer, open_sound, prepare_live, talk

    request = TalkRequest(**given(arguments))
    output: Path = arguments.output or free_name(request)
    report = _Report(arguments.json, arguments.quiet)
    workshop = Workshop(arguments.device, memory_settings(arguments))
    job = prepare_live(request, output)
    report.note(job.folder.facts.encoder_advice)
    sound = open_sound(job, arguments.rate, sys.stdin.buffer)
    try:
        with live_writer(job, sound) as writer:
            for chunk in talk(workshop, job, sound, writer):
                report.chunk(chunk)
    except KeyboardInterrupt:
        report.end(output, stopped=True)
        return STOPPED
    if not report.frames:
        raise RequestError("audio", request.audio[0], "no sample arrived; send signed 16-bit mono samples")
    report.end(output, stopped=False)
    return DONE


COMMAND = Command(
    name="live",
    group="make videos",
    summary="make the video while the sound arrives, chunk after chunk",
    add_flags=_add_flags,
    run=run,
    usage="--image FILE (--audio FILE | --audio -) [--output FILE.mp4] [options]",
    example="arecord -f S16_LE -r 16000 -t raw | infinitetalk live --image portrait.png --audio -",
)
