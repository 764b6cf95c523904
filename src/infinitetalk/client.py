"""A client of the HTTP API.

    with Client("https://talk.example.com", token) as client:
        job = client.submit(TalkRequest(image="face.png", audio="voice.wav", seed=7), key="monday-1")
        for job in client.watch(job.id):
            print(job.state, job.progress.fraction, job.progress.seconds_left)
        client.download(job.id, Path("talk.mp4"))

The request is the same `TalkRequest` that makes a video on this machine; the files that it names are sent. Its model is
one of the server's, by name.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from infinitetalk.core.errors import InfiniteTalkError, MachineError, MediaError
from infinitetalk.core.files import durable
from infinitetalk.core.knobs import CONTROLS, Control, Kind
from infinitetalk.core.request import TalkRequest
from infinitetalk.jobs.record import JobProgress, JobState, Video

if TYPE_CHECKING:
    from httpx import BaseTransport, Response

_LISTS = (Kind.TEXTS, Kind.BOXES, Kind.LORAS, Kind.STRENGTHS, Kind.PROMPTS)
_AGAIN = 2.0
"""Seconds after which a stream of events that broke off is taken up again."""


class ApiError(InfiniteTalkError):
    """What the server refused, in its words."""

    exit_code = 2

    def __init__(self, status: int, sentence: str, field: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.field = field


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job of the server."""

    id: str
    state: JobState
    cancelling: bool
    ahead: int
    """Jobs that will be taken before it."""
    settings: Mapping[str, Any]
    progress: JobProgress
    error: str | None
    video: Video | None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Reads an answer of the API."""
        result = answer["result"]
        return cls(
            id=answer["id"],
            state=JobState(answer["state"]),
            cancelling=answer["cancelling"],
            ahead=answer["ahead"],
            settings=answer["settings"],
            progress=JobProgress.from_json(answer["progress"]),
            error=answer["error"],
            video=None if result is None else Video.from_json(result),
        )


class Client:
    """Speaks to one server as one user.

    Args:
        url: of the server, such as `https://talk.example.com`.
        token: the user's.
        timeout: seconds without a byte after which an answer is given up.
        transport: of httpx, to be used in place of the network.

    Raises:
        MachineError: `httpx` is not installed.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 60.0, transport: "BaseTransport | None" = None
    ) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MachineError("the client needs httpx: pip install httpx") from error
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)
        self._errors = httpx.HTTPError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def submit(self, request: TalkRequest, *, key: str | None = None) -> RemoteJob:
        """Queues a job; its files are sent. With a key that was used before, gives that job.

        Raises:
            ApiError: the server refuses it.
            MediaError: a file cannot be read.
            MachineError: the server cannot be reached.
        """
        values: dict[str, str | list[str]] = {}
        with ExitStack() as opened:
            files = []
            for control in CONTROLS:
                value = getattr(request, control.name)
                if value == control.default:
                    continue
                if control.kind in (Kind.FILE, Kind.FILES):
                    for path in value if control.kind is Kind.FILES else (value,):
                        files.append((control.name, (path.name, opened.enter_context(_open(path)))))
                else:
                    values[control.name] = _as_text(control, value)
            headers = {} if key is None else {"Idempotency-Key": key}
            return RemoteJob.of(self._ask("POST", "/v1/jobs", data=values, files=files, headers=headers).json())

    def job(self, job: str) -> RemoteJob:
        """One job.

        Raises:
            ApiError: there is no such job.
            MachineError: the server cannot be reached.
        """
        return RemoteJob.of(self._ask("GET", f"/v1/jobs/{job}").json())

    def jobs(self, limit: int = 20) -> list[RemoteJob]:
        """The user's jobs, newest first.

        Raises:
            ApiError, MachineError: as `job`.
        """
        return [RemoteJob.of(answer) for answer in self._ask("GET", f"/v1/jobs?limit={limit}").json()["jobs"]]

    def watch(self, job: str) -> Iterator[RemoteJob]:
        """A job after every change, until it is over. A connection that breaks is taken up again.

        Raises:
            ApiError: there is no such job.
            MachineError: the server cannot be reached for a minute.
        """
        seen, since = "", time.monotonic()
        while True:
            try:
                for number, answer in self._events(job, seen):
                    seen, since = number, time.monotonic()
                    yield answer
                    if answer.state.over:
                        return
            except self._errors as error:
                if time.monotonic() - since > 60:
                    raise _unreachable(error) from error
            time.sleep(_AGAIN)

    def _events(self, job: str, seen: str) -> Iterator[tuple[str, RemoteJob]]:
        headers = {"Last-Event-ID": seen} if seen else {}
        with self._http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as response:
            if response.is_error:
                response.read()
            _require_good(response)
            number = ""
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    number = value
                elif name == "data":
                    yield number, RemoteJob.of(json.loads(value))

    def cancel(self, job: str) -> RemoteJob:
        """Cancels a job; finished windows stay a video.

        Raises:
            ApiError, MachineError: as `job`.
        """
        return RemoteJob.of(self._ask("DELETE", f"/v1/jobs/{job}").json())

    def remove(self, job: str) -> None:
        """Deletes a job that is over, with all its files.

        Raises:
            ApiError: it is not over, or there is no such job.
            MachineError: the server cannot be reached.
        """
        self._ask("DELETE", f"/v1/jobs/{job}?files=true")

    def download(self, job: str, to: Path) -> Path:
        """Writes the video to a file, which is whole or not there at all.

        Raises:
            ApiError: there is no video.
            MachineError: the server cannot be reached, or the file cannot be written.
        """
        try:
            with self._http.stream("GET", f"/v1/jobs/{job}/video") as response:
                if response.is_error:
                    response.read()
                _require_good(response)
                with durable(to) as fresh, fresh.open("wb") as file:
                    for block in response.iter_bytes():
                        file.write(block)
        except self._errors as error:
            raise _unreachable(error) from error
        except OSError as error:
            raise MachineError(f"{to}: cannot be written ({error.strerror}); choose another") from error
        return to

    def _ask(self, method: str, path: str, **more: Any) -> "Response":
        try:
            response = self._http.request(method, path, **more)
        except self._errors as error:
            raise _unreachable(error) from error
        _require_good(response)
        return response


def _open(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise MediaError(path, f"cannot be read ({error.strerror}); give a file that you may read") from error


def _as_text(control: Control, value: Any) -> str | list[str]:
    """A value as a form holds it."""
    if control.kind is Kind.SWITCH:
        return "true" if value else "false"
    if control.kind is Kind.BOXES:
        return [",".join(f"{side:.9g}" for side in box) for box in value]
    if control.kind is Kind.LORAS:
        return [f"{lora.path.name}:{lora.strength:g}" for lora in value]
    if control.kind in _LISTS:
        return [str(part) for part in value]
    return repr(value) if isinstance(value, float) else str(value)


def _require_good(response: "Response") -> None:
    if response.is_success:
        return
    try:
        answer = response.json()
        raise ApiError(response.status_code, answer["error"], answer.get("field"))
    except (ValueError, KeyError, TypeError):
        raise ApiError(response.status_code, f"the server answered {response.status_code}") from None


def _unreachable(error: Exception) -> MachineError:
    return MachineError(f"the server cannot be reached ({type(error).__name__}); check the address, or try again later")
