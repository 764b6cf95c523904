"""One live talk from sound to file: checks first, then the engine and the writer."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from infinitetalk.core.live import check_live, check_rate, resolve_live
from infinitetalk.core.request import TalkRequest
from infinitetalk.engine.job import Job, Workshop, open_seal
from infinitetalk.media.arriving import STDIN, Arrival, arrival
from infinitetalk.media.files import PortraitMedia
from infinitetalk.media.inputs import Waveform
from infinitetalk.media.paths import require_file, require_output
from infinitetalk.media.writer import VideoWriter
from infinitetalk.weights.folder import ModelFolder

if TYPE_CHECKING:
    from infinitetalk.engine.live import LiveChunk


def prepare_live(request: TalkRequest, output: Path) -> Job:
    """Looks at everything that can be refused before a weight is loaded, but the sound.

    Raises:
        InfiniteTalkError: what is wrong, and what would work.
    """
    started = time.perf_counter()
    folder = ModelFolder.open(request.model, request.encoder)
    check_live(request, folder.facts)
    files = [path for path in (request.image, *request.audio) if path is not None and path != STDIN]
    require_output(output, files)
    for path in files:
        require_file(path, "picture" if path is request.image else "sound")
    settings = resolve_live(request, folder.facts, PortraitMedia().open(request).source.size)
    if folder.loras or request.loras:
        from infinitetalk.engine.loras import open_loras  # the networks' libraries take seconds to import

        open_loras(folder, request.loras)
    seal = open_seal(request, folder, settings)
    seconds = time.perf_counter() - started
    return Job(request=request, output=output, folder=folder, settings=settings, checked_in=seconds, seal=seal)


def live_writer(job: Job, sound: Arrival) -> VideoWriter:
    """The writer of a talk, to be entered before the first chunk is asked for."""
    return VideoWriter(job.output, job.settings.size, quality=job.request.quality, sound=sound.track, sign=job.sign)


def open_sound(job: Job, rate: int, stream: IO[bytes]) -> Arrival:
    """The talk's sound: its file, or samples at a rate from a stream.

    Raises:
        InfiniteTalkError: a file or rate that cannot be used.
    """
    sound = arrival(job.request.audio[0], rate, stream)
    check_rate(sound.rate)
    return sound


def talk(workshop: Workshop, job: Job, sound: Arrival, writer: VideoWriter) -> Iterator["LiveChunk"]:
    """Makes and writes a talk; gives each chunk when it is on disk.

    Raises:
        InfiniteTalkError: what the checks could not know.
    """
    plan = workshop.check_fit(job)
    engine = workshop.engine(job.folder, None, job.request.loras, plan.lodging)

    def pieces() -> Iterator[Waveform]:
        for piece in sound.pieces:
            if sound.streamed:
                writer.hear(piece[None])
            yield piece

    for chunk in engine.live(job.request, pieces(), sound.rate):
        writer.write(chunk.rgb())
        yield chunk
