"""The routes of /v1."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import anyio
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.jobs.errors import UnknownJobError
from infinitetalk.jobs.files import JobFiles
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.jobs.record import JobRecord, JobState
from infinitetalk.media.hls import closed
from infinitetalk.server.answers import ErrorAnswer, JobAnswer, JobsAnswer
from infinitetalk.server.failures import RefusedError
from infinitetalk.server.guard import RateLimit, user_of
from infinitetalk.server.reading import MOST_FIELDS, MOST_FILES, Reader, Sent, from_json, from_multipart, without_paths
from infinitetalk.server.settings import ServerSettings

T = TypeVar("T")

_SEGMENT = re.compile(r"window-\d{5,9}\.ts")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_AT_ONCE = 2
"""Requests whose files are decoded at the same time."""

_LOOK_EVERY, _SIGN_OF_LIFE = 0.25, 15.0

_LINKS: dict[str, Any] = {
    name: {"operationId": operation, "parameters": {"job_id": "$response.body#/id"}}
    for name, operation in {"get": "get_job", "events": "job_events", "video": "job_video", "preview": "job_preview",
                            "cancel": "delete_job"}.items()
}  # fmt: skip

_LINKS["segment"] = {
    "operationId": "job_segment",
    "parameters": {"job_id": "$response.body#/id", "name": "window-00000.ts"},
}


def _errors(**more: str) -> dict[int | str, dict[str, Any]]:
    """What else a route may answer."""
    told = {"401": "no valid token", "429": "too many requests", "503": "not ready", **more}
    return {status.removeprefix("s"): {"model": ErrorAnswer, "description": text} for status, text in told.items()}


_NO_JOB = {"404": "the user has no such job"}


class Routes:
    """What the routes do."""

    def __init__(self, queue: JobQueue, settings: ServerSettings) -> None:
        self.queue, self.settings = queue, settings
        self._reader = Reader(settings)
        self._rate = RateLimit(settings.limits.rate)
        self._decoding = anyio.CapacityLimiter(_AT_ONCE)

    async def user(self, request: Request) -> str:
        """Whose request this is.

        Raises:
            RefusedError: nobody's, or one too many.
        """
        user = user_of(request.headers.get("authorization"), self.settings.users)
        request.state.owner = user
        self._rate.take(user)
        return user

    async def submit(self, request: Request, response: Response, user: str, key: str | None) -> JobAnswer:
        """Queues a job."""
        if key is not None and not _KEY.fullmatch(key):
            raise RefusedError(422, "Idempotency-Key must be 1 to 200 printable characters without spaces")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            sent = from_json(await request.body())
            record, fresh = await self._limited(lambda: self._take(sent, user, key))
        elif kind == "multipart/form-data":
            async with _form(request) as form:
                parts = from_multipart(form)
                record, fresh = await self._limited(lambda: self._take(parts, user, key))
        else:
            raise RefusedError(415, "send multipart/form-data with files, or application/json with URLs")
        response.status_code = 201 if fresh else 200
        response.headers["Location"] = f"/v1/jobs/{record.id}"
        return await self.shown(record)

    def _take(self, sent: Sent, user: str, key: str | None) -> tuple[JobRecord, bool]:
        """The job of a request, and whether it is new."""
        digest = sent.digest()
        if key is not None and (known := self.queue.store.keyed(user, key, digest)) is not None:
            return known, False
        room = self.queue.room()
        try:
            request = self._reader.read(sent, room)
            record = self.queue.submit(request, user, key=key, digest=digest, room=room)
        except InfiniteTalkError as error:
            room.remove()
            error.args = (without_paths(error, room, self.settings),)
            raise
        except BaseException:
            room.remove()
            raise
        return record, record.id == room.id

    async def _limited(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._decoding)

    async def shown(self, record: JobRecord) -> JobAnswer:
        """A job as its owner sees it."""
        queued = record.state is JobState.QUEUED
        ahead = await to_thread.run_sync(self.queue.store.ahead, record.id) if queued else 0
        return JobAnswer.of(record, ahead, self.settings)

    async def job(self, job: str, user: str) -> JobRecord:
        """A user's job.

        Raises:
            UnknownJobError: there is none.
        """
        return await to_thread.run_sync(self.queue.get, job, user)

    async def events(self, job: str, user: str, seen: int) -> AsyncIterator[bytes]:
        """The events of a job from a version on, as a stream of them is written."""
        quiet = 0.0
        while True:
            try:
                record = await self.job(job, user)
            except UnknownJobError:  # deleted meanwhile
                return
            if record.version > seen or record.state.over:
                seen, quiet = record.version, 0.0
                answer = await self.shown(record)
                name = record.state.value if record.state.over else "progress"
                yield f"id: {seen}\nevent: {name}\ndata: {answer.model_dump_json()}\n\n".encode()
                if record.state.over:
                    return
            elif quiet >= _SIGN_OF_LIFE:
                quiet = 0.0
                yield b": still here\n\n"
            await asyncio.sleep(_LOOK_EVERY)
            quiet += _LOOK_EVERY

    async def files(self, job: str, user: str) -> tuple[JobRecord, JobFiles]:
        """A user's job and its folder."""
        record = await self.job(job, user)
        return record, self.queue.files(record.id)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """A request's form, until the block ends.

    Raises:
        RefusedError: it cannot be read.
    """
    try:
        form = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS)
    except HTTPException as error:
        told = f"{error.detail}".rstrip(".")
        raise RefusedError(
            400, f"the form cannot be read ({told}); send multipart/form-data as curl -F does"
        ) from error
    try:
        yield form
    finally:
        await form.close()


def playlist_text(path: Path) -> str:
    """A preview's playlist, whose segments lie below its URL."""
    lines = path.read_text(encoding="ascii").splitlines()
    return "\n".join(f"preview/{line}" if _SEGMENT.fullmatch(line) else line for line in lines) + "\n"


def newest_picture(folder: Path) -> bytes | None:
    """The first frame of the newest window, as JPEG; None before there is one."""
    from io import BytesIO

    from PIL import Image

    from infinitetalk.media.video import shown_frames

    segments = sorted(path for path in folder.glob("window-*.ts"))
    if not segments:
        return None
    frames = shown_frames(segments[-1])
    try:
        _, frame = next(frames)
    finally:
        frames.close()  # type: ignore[attr-defined]
    written = BytesIO()
    Image.fromarray(frame.to_ndarray(format="rgb24")).save(written, "JPEG", quality=85)
    return written.getvalue()


ROUTER = APIRouter(
    prefix="/v1", tags=["jobs"], dependencies=[Depends(HTTPBearer(auto_error=False, description="the user's token"))]
)


async def routes_of(request: Request) -> Routes:
    """The routes of the application that serves a request."""
    routes: Routes = request.app.state.routes
    return routes


async def user_of_request(request: Request) -> str:
    """Whose request this is."""
    return await (await routes_of(request)).user(request)


Served = Annotated[Routes, Depends(routes_of)]
User = Annotated[str, Depends(user_of_request)]


@ROUTER.post(
    "/jobs",
    operation_id="create_job",
    status_code=201,
    summary="Queue a job",
    response_model=JobAnswer,
    responses={
        201: {"description": "queued", "links": _LINKS},
        200: {"model": JobAnswer, "description": "the job of this key, queued before", "links": _LINKS},
        **_errors(s409="the key stands for another request", s413="too large", s415="neither form nor JSON",
                  s422="the request cannot work", s507="the disk is full", s400="the upload broke off"),
    },
)  # fmt: skip
async def create_job(
    request: Request,
    response: Response,
    routes: Served,
    user: User,
    idempotency_key: Annotated[str | None, Header(max_length=200, pattern=r"^[\x21-\x7e]+$",
                                                  description="asked again with it, the same job is given")] = None,
) -> JobAnswer:  # fmt: skip
    return await routes.submit(request, response, user, idempotency_key)


@ROUTER.get("/jobs", operation_id="list_jobs", summary="Jobs, newest first", responses=_errors(s422="a bad limit"))
async def list_jobs(routes: Served, user: User, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> JobsAnswer:
    records = await to_thread.run_sync(routes.queue.records, user, limit)
    return JobsAnswer(jobs=[await routes.shown(record) for record in records])


@ROUTER.get("/jobs/{job_id}", operation_id="get_job", summary="One job", responses=_errors(**_NO_JOB))
async def get_job(job_id: str, routes: Served, user: User) -> JobAnswer:
    return await routes.shown(await routes.job(job_id, user))


@ROUTER.delete(
    "/jobs/{job_id}",
    operation_id="delete_job",
    summary="Cancel a job, and keep what is finished",
    responses=_errors(**_NO_JOB, s409="it is not over", s422="a bad value"),
)
async def delete_job(
    job_id: str,
    routes: Served,
    user: User,
    files: Annotated[bool, Query(description="delete a job that is over, with all its files")] = False,
) -> JobAnswer:
    record = await routes.job(job_id, user)
    if files:
        answer = await routes.shown(record)
        await to_thread.run_sync(routes.queue.remove, job_id, user)
        return answer
    return await routes.shown(await to_thread.run_sync(routes.queue.cancel, job_id, user))


@ROUTER.get(
    "/jobs/{job_id}/events",
    operation_id="job_events",
    summary="Progress as server-sent events, until the job is over",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **_errors(**_NO_JOB)},
)
async def job_events(
    job_id: str, routes: Served, user: User, last_event_id: Annotated[str, Header()] = ""
) -> StreamingResponse:
    await routes.job(job_id, user)
    seen = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else -1
    return StreamingResponse(routes.events(job_id, user, seen), media_type="text/event-stream")


def _file_answer(kinds: Mapping[str, Any], **more: str) -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"content": dict.fromkeys(kinds, schema)}, **_errors(**_NO_JOB, **more)}


@ROUTER.get(
    "/jobs/{job_id}/video",
    operation_id="job_video",
    summary="The video; of a cancelled job its finished windows",
    response_class=FileResponse,
    responses={206: {"description": "a range"}, 416: {"description": "no such range"},
               400: {"description": "a range that cannot be read"},
               **_file_answer({"video/mp4": 1}, s409="there is nothing yet")},
)  # fmt: skip
async def job_video(job_id: str, routes: Served, user: User) -> FileResponse:
    record, files = await routes.files(job_id, user)
    if not record.state.over or not files.video.is_file():
        why = record.error or "it was cancelled before its first window" if record.state.over else "it is not over"
        raise RefusedError(409, f"the job {record.id} has no video: {why}; see its preview")
    return FileResponse(files.video, media_type="video/mp4", filename=f"{record.id}.mp4")


@ROUTER.get(
    "/jobs/{job_id}/preview",
    operation_id="job_preview",
    summary="What plays while the video is made: an HLS playlist, or a picture of the newest window",
    response_class=Response,
    responses=_file_answer(
        {"application/vnd.apple.mpegurl": 1, "image/jpeg": 1}, s409="there is nothing yet", s422="a bad value"
    ),
)
async def job_preview(
    job_id: str,
    routes: Served,
    user: User,
    show: Annotated[
        Literal["hls", "now", "picture"],
        Query(description="a list that grows; a closed one of what is finished, as browsers want it; a picture"),
    ] = "hls",
) -> Response:
    record, files = await routes.files(job_id, user)
    if show == "picture":
        picture = await to_thread.run_sync(newest_picture, files.preview)
        if picture is not None:
            return Response(picture, media_type="image/jpeg")
    elif files.playlist.is_file():
        text = await to_thread.run_sync(playlist_text, files.playlist)
        return Response(closed(text) if show == "now" else text, media_type="application/vnd.apple.mpegurl")
    raise RefusedError(409, f"no window of the job {record.id} is finished yet; ask again later", {"Retry-After": "2"})


@ROUTER.get(
    "/jobs/{job_id}/preview/{name}",
    operation_id="job_segment",
    summary="A segment of the playlist",
    response_class=FileResponse,
    responses={206: {"description": "a range"}, 416: {"description": "no such range"},
               400: {"description": "a range that cannot be read"}, **_file_answer({"video/mp2t": 1})},
)  # fmt: skip
async def job_segment(job_id: str, name: str, routes: Served, user: User) -> FileResponse:
    _, files = await routes.files(job_id, user)
    path = files.preview / name
    if not _SEGMENT.fullmatch(name) or not path.is_file():
        raise RefusedError(404, "there is no such segment; the playlist names those that are there")
    return FileResponse(path, media_type="video/mp2t")
