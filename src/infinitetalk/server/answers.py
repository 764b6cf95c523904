"""What the API answers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from infinitetalk.core.knobs import CONTROLS, Kind
from infinitetalk.core.loras import Lora
from infinitetalk.core.request import TalkRequest
from infinitetalk.jobs.record import JobProgress, JobRecord, Video
from infinitetalk.server.settings import ServerSettings

State = Literal["queued", "running", "done", "failed", "cancelled"]


class ErrorAnswer(BaseModel):
    """What is wrong and what to do, in one sentence."""

    error: str
    field: str | None = Field(None, description="the setting that is wrong, if it is one")


class LinksAnswer(BaseModel):
    """Where the rest is."""

    events: str
    video: str | None = Field(description="there is one when the job is done, or cancelled with finished windows")
    preview: str


class JobAnswer(BaseModel):
    """A job."""

    id: str
    state: State
    cancelling: bool
    created: datetime
    started: datetime | None
    ended: datetime | None
    ahead: int = Field(description="jobs that will be taken before it")
    settings: dict[str, Any] = Field(description="what the request set")
    progress: JobProgress
    error: str | None
    result: Video | None
    links: LinksAnswer

    @classmethod
    def of(cls, record: JobRecord, ahead: int, settings: ServerSettings) -> Self:
        """A job as its owner sees it."""
        made = None if record.made is None else Video.from_json(record.made)
        here = f"/v1/jobs/{record.id}"
        return cls(
            id=record.id,
            state=record.state.value,
            cancelling=record.cancelling and not record.state.over,
            created=_moment(record.created),
            started=None if record.started is None else _moment(record.started),
            ended=None if record.ended is None else _moment(record.ended),
            ahead=ahead,
            settings=shown_settings(record, settings),
            progress=record.progress,
            error=record.error,
            result=made,
            links=LinksAnswer(
                events=f"{here}/events",
                video=f"{here}/video" if made is not None and record.state.over else None,
                preview=f"{here}/preview",
            ),
        )


class JobsAnswer(BaseModel):
    """A user's jobs, newest first."""

    jobs: list[JobAnswer]


class HealthAnswer(BaseModel):
    """Whether the service is well."""

    status: Literal["ok"]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def shown_settings(record: JobRecord, settings: ServerSettings) -> dict[str, Any]:
    """What a request set, without the server's paths."""
    request = TalkRequest.from_json(record.request)
    shown: dict[str, Any] = {"model": settings.model(request.model)}
    for control in CONTROLS[1:]:
        value = getattr(request, control.name)
        if value == control.default:
            continue
        if control.kind is Kind.FILE:
            shown[control.name] = value.name
        elif control.kind is Kind.FILES:
            shown[control.name] = [path.name for path in value]
        elif control.kind is Kind.LORAS:
            shown[control.name] = [_lora_name(lora) for lora in value]
        else:
            shown[control.name] = record.request[control.name]
    return shown


def _lora_name(lora: Lora) -> str:
    return f"{Path(lora.path).stem}:{lora.strength:g}"
