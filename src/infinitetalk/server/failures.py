"""Errors as HTTP answers: a status and one sentence."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from infinitetalk.core.errors import InfiniteTalkError, MachineError, ModelError, RequestError
from infinitetalk.jobs.errors import KeyReusedError, QueueFullError, StillAtWorkError, UnknownJobError


class RefusedError(InfiniteTalkError):
    """An answer that is not about a job: a status, a sentence, headers."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers or {}


_STATUSES: tuple[tuple[type[InfiniteTalkError], int], ...] = (
    (UnknownJobError, 404),
    (KeyReusedError, 409),
    (StillAtWorkError, 409),
    (QueueFullError, 429),
    (ModelError, 503),
    (MachineError, 503),
    (InfiniteTalkError, 422),
)
_RETRY = {429: "30", 503: "60"}


def answer(error: InfiniteTalkError) -> JSONResponse:
    """An error as an answer."""
    if isinstance(error, RefusedError):
        status, headers = error.status, error.headers
    else:
        status = next(status for kind, status in _STATUSES if isinstance(error, kind))
        headers = {"Retry-After": _RETRY[status]} if status in _RETRY else {}
    field = error.field if isinstance(error, RequestError) else None
    return say(status, str(error), field, headers)


def say(status: int, sentence: str, field: str | None = None, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer of one sentence."""
    # Names in it may hold lone surrogates, which are no UTF-8.
    clean = sentence.encode("utf-8", "backslashreplace").decode()
    return JSONResponse({"error": clean, "field": field}, status, headers)


async def _known(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InfiniteTalkError)
    return answer(error)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return say(422, f"{where}: {first['msg']}", where)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return say(error.status_code, f"{error.detail}", headers=dict(error.headers or {}))


async def _gone(_request: Request, _error: Exception) -> JSONResponse:
    return say(400, "the upload ended before it was complete; send it again")


async def _full(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    return say(
        507, f"the server cannot store this now ({error.strerror}); try again later", headers={"Retry-After": "60"}
    )


def add_handlers(app: FastAPI) -> None:
    """Makes every error of the application an answer of one sentence."""
    app.add_exception_handler(InfiniteTalkError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(OSError, _full)
