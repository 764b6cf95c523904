"""A job as everybody sees it: where it stands and how far it is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any, Self

from infinitetalk.engine.board import Board, State


class JobState(Enum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One of the seven stages."""

    name: str
    state: str
    """As `engine.board.State` calls it."""
    done: int
    total: int
    seconds: float


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is."""

    stage: str | None = None
    """The stage at work."""
    fraction: float = 0.0
    """Of the job's time, 0 to 1."""
    seconds_left: float | None = None
    """None before the first denoising step is done."""
    windows: int = 0
    """Finished ones."""
    planned: int = 0
    """Windows of the whole job; 0 before that is known."""
    stages: tuple[StageProgress, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should read, one line each."""

    @classmethod
    def of(cls, board: Board) -> Self:
        """What a board shows now."""
        done, total = board.windows
        left = board.left
        rows = board.rows.values()
        return cls(
            stage=None if board.at_work is None else board.at_work.value,
            fraction=round(min(1.0, board.fraction), 4),
            seconds_left=None if left is None else round(left, 1),
            windows=done,
            planned=total,
            stages=tuple(
                StageProgress(
                    row.stage.value,
                    board.state(row.stage).value,
                    row.done,
                    row.total,
                    round(board.seconds(row.stage), 3),
                )
                for row in rows
            ),
            notes=tuple(board.notes),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_json` wrote."""
        stages = tuple(StageProgress(**stage) for stage in values.get("stages", ()))
        return cls(**{**values, "stages": stages, "notes": tuple(values.get("notes", ()))})

    def to_json(self) -> dict[str, Any]:
        """For stores and programs."""
        return asdict(self)

    def finished(self) -> Self:
        """The same when the job is over: nothing is at work."""
        ended = {State.AT_WORK.value: State.DONE.value, State.PAUSED.value: State.DONE.value}
        stages = [asdict(stage) | {"state": ended.get(stage.state, stage.state)} for stage in self.stages]
        return self.from_json(self.to_json() | {"stage": None, "fraction": 1.0, "seconds_left": 0.0, "stages": stages})


@dataclass(frozen=True, slots=True)
class Video:
    """A video, as far as it was made: what users are told of `engine.job.Made`."""

    complete: bool
    """Whether all windows of the request's video are in it."""
    width: int
    height: int
    frames: int
    fps: float
    seconds: float
    windows: int
    windows_planned: int
    wall_seconds: float
    """From the first check to the finished file."""
    stage_seconds: Mapping[str, float]
    advice: tuple[str, ...]
    """Why the result may be bad, one line each."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `Made.to_json` wrote, or the API answered."""
        told = {item.name: values[item.name] for item in fields(cls)}
        return cls(**{**told, "advice": tuple(told["advice"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job of a store. Times are seconds since 1970."""

    id: str
    owner: str
    state: JobState
    request: Mapping[str, Any]
    """As `TalkRequest.from_json` reads it; paths are the queue's copies."""
    created: float
    started: float | None = None
    """When work began for the first time."""
    ended: float | None = None
    cancelling: bool = False
    """Whether it will be cancelled as soon as the step at work is done."""
    progress: JobProgress = field(default_factory=JobProgress)
    error: str | None = None
    """Why it failed, in one line."""
    made: Mapping[str, Any] | None = None
    """What came of it, as `engine.job.Made.to_json`; also of a cancelled job that has finished windows."""
    attempts: int = 0
    """How often work began at the same window."""
    worker: str | None = None
    version: int = 0
    """Counts changes."""

    @property
    def begun(self) -> bool:
        """Whether it made its first window, as it was asked to, and could go on with the others."""
        first = self.state is JobState.DONE and bool(self.request.get("preview"))
        return first and self.made is not None and not self.made["complete"]
