"""One video from request to file: checks first, then the engine, the writer and the settings beside the video.

Every face makes its videos here, so that all of them refuse, count and store alike.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinitetalk.core.defaults import Settings
from infinitetalk.core.devices import check_device
from infinitetalk.core.errors import MachineError
from infinitetalk.core.loras import Lora
from infinitetalk.core.memory import Lodging, MemorySettings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.stages import Stage
from infinitetalk.engine.journal import Identity, Journal, opened
from infinitetalk.engine.progress import Progress, StageClock
from infinitetalk.media.files import check, completed, output_sound
from infinitetalk.media.hls import require_folder
from infinitetalk.media.paths import sidecar_path
from infinitetalk.media.provenance import Seal
from infinitetalk.media.sidecar import settings_hash, write_sidecar
from infinitetalk.media.writer import Preview, VideoWriter
from infinitetalk.runtime.platform import config_folder
from infinitetalk.weights.folder import ModelFolder
from infinitetalk.weights.hub.recipe import with_lora

if TYPE_CHECKING:
    from infinitetalk.core.planner import Plan
    from infinitetalk.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request that passed all checks that need no network."""

    request: TalkRequest
    output: Path
    folder: ModelFolder
    settings: Settings
    checked_in: float
    """Seconds that the checks took."""
    restart: bool = False
    """Whether to forget an unfinished job at this output."""
    seal: Seal | None = None
    """What signs the video."""
    hls: Path | None = None
    """Folder for a preview that plays while the video is made."""
    told: TalkRequest | None = None
    """The request with its files where their owner has them, if they are read from elsewhere: what the journal and the
    file beside the video tell."""
    anywhere: bool = False
    """Whether to go on with windows that another kind of device made."""
    kept: Callable[[Path], None] | None = None
    """Called with the journal's folder when another window is finished in it."""

    @property
    def sign(self) -> Callable[[Path, Path], None] | None:
        """Signs a video from a path to another, if it is to be signed."""
        return None if self.seal is None else self.seal.sign


def open_seal(request: TalkRequest, folder: ModelFolder, settings: Settings) -> Seal | None:
    """What will sign the video, tried out; None if the request leaves it out.

    Raises:
        RequestError: a certificate that cannot be used.
        MachineError: a library that is missing, or a folder that cannot be made.
    """
    if not request.provenance:
        return None
    return Seal.open(config_folder() / "signing", folder.facts.name, settings_hash(request, settings))


def prepare(
    request: TalkRequest,
    output: Path,
    *,
    restart: bool = False,
    hls: Path | None = None,
    named: Callable[[TalkRequest], TalkRequest] | None = None,
) -> Job:
    """Looks at everything that can be refused before a weight is loaded.

    Args:
        request: what to make.
        output: the video.
        restart: forget an unfinished job at this output instead of going on with it.
        hls: folder for a preview that plays while the video is made.
        named: gives the request with its files where their owner has them, if they are read from elsewhere.

    Raises:
        InfiniteTalkError: what is wrong, and what would work.
    """
    started = time.perf_counter()
    folder = ModelFolder.open(request.model, request.encoder)
    request = completed(with_lora(request, folder.facts), folder.facts)
    settings = check(request, folder.facts, output)
    if hls is not None:
        require_folder(hls)
    if folder.loras or request.loras:
        from infinitetalk.engine.loras import open_loras  # the networks' libraries take seconds to import

        open_loras(folder, request.loras)
    told = None if named is None else named(request)
    seal = open_seal(told or request, folder, settings)
    seconds = time.perf_counter() - started
    return Job(
        request=request,
        output=output,
        folder=folder,
        settings=settings,
        checked_in=seconds,
        restart=restart,
        seal=seal,
        hls=hls,
        told=told,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A video on disk and how it came about."""

    video: Path
    sidecar: Path
    complete: bool
    size: Pixels
    frames: int
    fps: Fraction
    windows: int
    planned: int
    """Windows of the whole job; more than `windows` after a stop."""
    wall: float
    """Seconds from the first check to the finished file."""
    stages: Mapping[Stage, float]
    """Seconds per stage."""
    skipped: frozenset[Stage]
    advice: tuple[str, ...] = ()
    """Why the result may be bad, one line each."""

    @property
    def seconds(self) -> float:
        """The video's length."""
        return float(self.frames / self.fps)

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "video": str(self.video.absolute()),
            "sidecar": str(self.sidecar.absolute()),
            "complete": self.complete,
            "width": self.size.width,
            "height": self.size.height,
            "frames": self.frames,
            "fps": self.fps.numerator if self.fps.denominator == 1 else float(self.fps),
            "seconds": self.seconds,
            "windows": self.windows,
            "windows_planned": self.planned,
            "wall_seconds": round(self.wall, 3),
            "stage_seconds": {stage.value: round(spent, 3) for stage, spent in self.stages.items()},
            "stages_skipped": [stage.value for stage in Stage if stage in self.skipped],
            "advice": list(self.advice),
        }


class Stopped(KeyboardInterrupt):
    """Ctrl-C during a job; the finished windows are a playable file already."""

    def __init__(self, made: Made) -> None:
        super().__init__()
        self.made = made


class Workshop:
    """Makes videos on one device; the model used last stays in memory for the next video."""

    def __init__(self, device: str = "auto", memory: MemorySettings | None = None) -> None:
        """Loads nothing yet.

        Raises:
            RequestError: a name that no device has.
        """
        check_device(device)
        self._device = device
        self._memory = memory
        self._engine: Engine | None = None
        self._loaded: tuple[ModelFolder, tuple[Lora, ...]] | None = None

    def engine(
        self,
        folder: ModelFolder,
        progress: Progress | None = None,
        loras: tuple[Lora, ...] = (),
        lodging: Lodging | None = None,
    ) -> "Engine":
        """The engine for a model with LoRAs, loaded unless it is the one used last and lives as the job needs it.

        Raises:
            ModelError: weights that do not fit.
            MachineError: a device that cannot be used.
        """
        from infinitetalk.runtime.device import Device

        Device.choose(self._device)  # first, as the networks' libraries take many seconds to import
        from infinitetalk.engine.engine import Engine

        stays = self._engine is not None and lodging in (None, self._engine.model.lodging)
        stays = stays and self._engine is not None and self._engine.model.crew.alive
        if self._engine is None or self._loaded != (folder, loras) or not stays:
            if self._engine is not None:
                self._engine.model.close()
            self._engine = None  # two models at once may not fit
            self._engine = Engine.from_pretrained(
                folder, self._device, progress=progress, loras=loras, memory=self._memory, lodging=lodging
            )
            self._loaded = folder, loras
        return self._engine

    def check_fit(self, job: Job) -> "Plan":
        """How the job will be done on this device.

        Raises:
            RequestError: an attention back end that cannot serve here.
            MachineError: a device that cannot be used, or on which nothing of this size fits; then the line names the
                nearest setting that does.
        """
        from infinitetalk.engine.planning import plan_job
        from infinitetalk.runtime.attention import check_attention
        from infinitetalk.runtime.device import Device
        from infinitetalk.runtime.regions import check_regions, coding_dtype
        from infinitetalk.runtime.replay import check_replay

        device = Device.choose(self._device)
        if self._memory is not None:
            config = job.folder.dit.config
            check_attention(device, self._memory.attention, config.dim // config.num_heads)
            check_regions(device, self._memory)
            check_replay(device, self._memory)
            coding_dtype(device, self._memory)
        now = None if self._engine is None else self._engine.model.lodging
        return plan_job(job.folder, job.request, job.settings, device, self._memory, now=now)

    def make(self, job: Job, listener: Progress | None = None) -> Made:
        """Makes a video, or goes on with one that was interrupted; finished windows are on disk whatever happens.

        Raises:
            Stopped: Ctrl-C.
            RequestError: an unfinished job at this output is another one.
            InfiniteTalkError: what the checks could not know.
        """
        started = time.perf_counter() - job.checked_in
        clock = StageClock(listener)
        clock.seconds[Stage.AUDIO_ENCODING] += job.checked_in
        with ExitStack() as closing:
            with clock.stage(Stage.FEATURE_EXTRACTION):
                plan = self.check_fit(job)
                journal = closing.enter_context(_opened(job, self._identity(job)))
            with clock.stage(Stage.AUDIO_ENCODING):
                sound = output_sound(job.request)
            reached = journal.reached
            writer = VideoWriter(
                job.output,
                job.settings.output_size,
                quality=job.request.quality,
                fps=job.settings.rate,
                sound=sound,
                folder=journal.folder,
                finished=reached.windows,
                sign=job.sign,
                preview=None if job.hls is None else Preview(job.hls, job.settings.window_frames),
            )
            shift = _Shift(job, journal, writer, clock, started, lodging=reached.lodging or plan.lodging)
            made = shift.work(self)
        if made.complete:
            journal.remove()
        return made

    def _identity(self, job: Job) -> Identity:
        from infinitetalk.runtime.device import Device

        return Identity.of(job.request, job.folder, Device.choose(self._device), self._memory, job.told)


def _opened(job: Job, identity: Identity) -> AbstractContextManager[Journal]:
    return opened(job.output, identity, restart=job.restart, anywhere=job.anywhere)


@dataclass(slots=True)
class _Shift:
    """One process's work on a job."""

    job: Job
    journal: Journal
    writer: VideoWriter
    clock: StageClock
    started: float
    lodging: Lodging

    def work(self, workshop: Workshop) -> Made:
        """Makes the windows that are not there yet and closes the file.

        Raises:
            Stopped: Ctrl-C.
            MachineError: with the place of what was finished.
        """
        if windows := self.journal.reached.windows:
            self.clock.note(f"resumed at window {windows}")
        try:
            with ExitStack() as closing:
                with self.clock.stage(Stage.ASSEMBLY if windows else Stage.FEATURE_EXTRACTION):
                    closing.enter_context(self.writer)
                if not self.journal.reached.complete:
                    self._windows(workshop)
                with self.clock.stage(Stage.ASSEMBLY):
                    closing.close()
        except KeyboardInterrupt:
            raise Stopped(self._account()) from None
        except MachineError as error:
            raise self._with_place(error) from error
        return self._account()

    def _windows(self, workshop: Workshop) -> None:
        with self.clock.stage(Stage.FEATURE_EXTRACTION):
            engine = workshop.engine(self.job.folder, self.clock, self.job.request.loras, self.lodging)
            resume = self.journal.resume()
        for window in engine.stream(self.job.request, self.clock, resume):
            pictures = window.pictures(self.clock)
            with self.clock.stage(Stage.ASSEMBLY):
                self.writer.write(pictures)
                figures = {"window": window.index, "first_frame": window.first_frame, **asdict(window.drift)}
                self.journal.commit(window.index + 1, window.count, window.past, self.lodging, figures)
                if self.job.kept is not None:
                    self.job.kept(self.journal.folder)
                self.clock.advance()

    def _with_place(self, error: MachineError) -> MachineError:
        """The error, and where finished windows are."""
        windows, count = self.journal.reached.windows, self.journal.reached.count
        if not windows:
            return error
        if self.writer.saved:
            made = self._account()
            return type(error)(f"{error}; {made.video} holds {made.windows} of {made.planned} windows")
        kept = (
            f"{windows} of {count} windows are playable in {self.journal.folder}; the same command goes on from there"
        )
        return type(error)(f"{error}; {kept}")

    def _account(self) -> Made:
        return _account(self.job, self.writer, self.journal, self.clock, self.started)


def _account(job: Job, writer: VideoWriter, journal: Journal, clock: StageClock, started: float) -> Made:
    """Writes the settings beside the video, if there is one, and tells how it went."""
    planned = journal.reached.count
    complete = 0 < writer.windows == planned
    advice: tuple[str, ...] = ()
    if complete:
        with clock.stage(Stage.ASSEMBLY):
            from infinitetalk.media.advice import advise  # it needs torch, which takes seconds to import

            advice = advise(job.request, job.settings, job.folder.facts)
    if writer.windows:
        with clock.stage(Stage.ASSEMBLY):
            write_sidecar(
                job.output,
                job.request,
                settings=job.settings,
                stage_seconds={stage.value: spent for stage, spent in clock.seconds.items()},
                frames=writer.frames,
                complete=complete,
                windows=journal.figures(),
                told=job.told,
            )
    return Made(
        video=job.output,
        sidecar=sidecar_path(job.output),
        complete=complete,
        size=job.settings.output_size,
        frames=writer.frames,
        fps=writer.fps,
        windows=writer.windows,
        planned=planned,
        wall=time.perf_counter() - started,
        stages=dict(clock.seconds),
        skipped=frozenset(clock.skipped),
        advice=advice,
    )
