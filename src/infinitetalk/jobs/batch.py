"""Many jobs from one file: read, checked before the first is made, made one after the other whatever fails.

A line is one job: a JSON object (`.jsonl`) or a row under a header (`.csv`) with a request's fields, and `output`.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from infinitetalk.core.errors import InfiniteTalkError, MachineError, RequestError
from infinitetalk.core.files import durable
from infinitetalk.core.knobs import CONTROLS, RIVALS, Kind, form_values
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.stages import Stage
from infinitetalk.engine.job import Job, Made, Workshop, prepare
from infinitetalk.engine.progress import Progress
from infinitetalk.media.paths import sidecar_path
from infinitetalk.media.sidecar import settings_hash, tells_whole
from infinitetalk.media.voices import arranged

if TYPE_CHECKING:
    from infinitetalk.core.planner import Plan

OUTPUT = "output"
_SEVERAL = (Kind.FILES, Kind.LORAS, Kind.STRENGTHS)
_BY_NAME = {control.name: control for control in CONTROLS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One job of a batch file."""

    number: int
    """Of the line in the file, from 1; a CSV's header is line 1."""
    output: Path
    request: TalkRequest | None = None
    job: Job | None = None
    """The request when all checks that need no network are passed."""
    error: str | None = None
    """Why it cannot be made."""
    done: bool = False
    """Whether its video is there already, made by the same settings."""


class Planner(Protocol):
    """What tells how jobs will be done: a `Workshop`."""

    def check_fit(self, job: Job) -> "Plan":
        """The plan of a job."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a line will take."""

    seconds: float
    """Of video, at most."""
    work: float
    """Seconds on this device, loading left out."""
    vram: int
    ram: int
    estimate: bool
    """Whether nobody measured this card's speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a line ended."""

    line: Line
    state: str
    """`done`, `before` (by an earlier run), `failed` or `refused`."""
    made: Made | None = None
    error: str | None = None
    url: str | None = None
    """Where the video is, if it was made elsewhere; paths of `made` mean nothing then."""

    @property
    def facts(self) -> dict[str, Any] | None:
        """What came of it, for programs."""
        if self.made is None or self.url is None:
            return None if self.made is None else self.made.to_json()
        return self.made.to_json() | {"video": self.url, "sidecar": f"{self.url}.json"}


def read_lines(path: Path, folder: Path, defaults: Mapping[str, Any]) -> list[Line]:
    """Reads a batch file.

    Args:
        path: the file; paths in it are relative to its folder.
        folder: of outputs that have no name or a relative one.
        defaults: fields, as the command line gives them, for lines that do not name them.

    Raises:
        RequestError: the file cannot be read; what is wrong with a line is in that line.
    """
    lines, taken = list[Line](), dict[Path, int]()
    for number, values in _rows(path):
        line = _line(number, values, path.absolute().parent, folder, defaults)
        other = taken.setdefault(line.output.absolute(), number)
        if other != number and line.error is None:
            line = replace(line, error=f"output = {line.output}: line {other} writes it too; choose another name")
        lines.append(line)
    if not lines:
        raise RequestError("jobs", path, "holds no job; give a line for each")
    return lines


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Lines with their numbers: objects of JSON, or texts by header."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise RequestError("jobs", path, "cannot be read; give a .jsonl or .csv file in UTF-8") from error
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
        try:
            for row in reader:
                yield reader.line_num, row
        except csv.Error as error:
            raise RequestError("jobs", path, f"line {reader.line_num} is no CSV ({error}); check its quotes") from error
        return
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        raise RequestError("jobs", path, "must be a .jsonl or .csv file")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _line(number: int, values: Any, base: Path, folder: Path, defaults: Mapping[str, Any]) -> Line:
    fallback = folder / f"job-{number:04}.mp4"
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        wrong = "has more cells than the header" if isinstance(values, dict) else "is no JSON object"
        return Line(number=number, output=fallback, error=f"line {number} {wrong}")
    given = {name: value for name, value in values.items() if value not in (None, "", [])}
    name = given.pop(OUTPUT, None)
    output = fallback if not isinstance(name, str) else folder / name
    try:
        if name is not None and not isinstance(name, str):
            raise RequestError(OUTPUT, json.dumps(name), "must be the path of a video")
        own = form_values({field: _cell(field, value, base) for field, value in given.items()})
        return Line(number=number, output=output, request=TalkRequest.from_json(_merged(defaults, own)))
    except InfiniteTalkError as error:
        return Line(number=number, output=output, error=str(error))


def _cell(field: str, value: Any, base: Path) -> Any:
    """A value as a form holds it, paths made absolute; lists may be texts with semicolons."""
    control = _BY_NAME.get(field)
    if control is None:
        return value
    if isinstance(value, str) and control.kind in _SEVERAL:
        value = [part.strip() for part in value.split(";") if part.strip()]
    if control.kind is Kind.FILE and isinstance(value, str):
        return str(base / value)
    if control.kind in (Kind.FILES, Kind.LORAS) and isinstance(value, list):
        return [str(base / part) if isinstance(part, str) else part for part in value]
    return value


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A line's values over the defaults; a picture of its own replaces a video of theirs, and so on."""
    dropped = {RIVALS[field] for field in own if field in RIVALS}
    if "text" in dropped:
        dropped.add("voice")
    return {field: value for field, value in defaults.items() if field not in dropped} | dict(own)


def check(lines: Sequence[Line], *, restart: bool = False) -> list[Line]:
    """Looks at everything that can be refused before a weight is loaded, in every line."""
    return [_checked(line, restart=restart) for line in lines]


def _checked(line: Line, *, restart: bool) -> Line:
    if line.request is None or line.error is not None:
        return line
    try:
        line.output.parent.mkdir(parents=True, exist_ok=True)
        job = prepare(line.request, line.output, restart=restart)
    except InfiniteTalkError as error:
        return replace(line, error=str(error))
    except OSError as error:
        return replace(line, error=f"output = {line.output}: its folder cannot be made ({error.strerror})")
    return replace(line, job=job, done=not restart and _made_before(job))


def _made_before(job: Job) -> bool:
    """Whether the same settings made a whole video there; inputs that changed since are not looked at."""
    try:
        content = sidecar_path(job.output).read_bytes()
    except OSError:
        return False
    return tells_whole(content, settings_hash(job.request, job.settings)) and job.output.is_file()


def forecast(line: Line, workshop: Planner) -> Forecast:
    """What a checked line will take on this device, or wherever the planner plans for.

    Raises:
        MachineError: it does not fit; the line names the nearest setting that does.
    """
    assert line.job is not None
    request = line.job.request
    heard = max(voice.end for voice in arranged(request)) - request.start
    seconds = heard if request.duration is None else min(heard, request.duration)
    told = workshop.check_fit(line.job).prediction
    work = max(told.window_seconds, seconds * told.seconds_per_second)
    return Forecast(seconds=seconds, work=work, vram=told.vram_peak, ram=told.ram, estimate=told.estimate)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """The lines, those of one model with the same LoRAs together, so that weights are loaded once."""
    kinds: dict[Any, int] = {}

    def place(line: Line) -> int:
        if line.job is None:
            return -1
        return kinds.setdefault((line.job.folder.path, line.job.request.encoder, line.job.request.loras), len(kinds))

    places = [place(line) for line in lines]
    return [line for _, line in sorted(zip(places, lines, strict=True), key=lambda pair: pair[0])]


def run(
    lines: Sequence[Line], workshop: Workshop, listen: Callable[[Line], Progress | None] = lambda _: None
) -> Iterator[Outcome]:
    """Makes checked lines, one after the other; what fails does not keep the others from being made.

    Weights and readings of prompts are shared. A line whose video is there is left as it is, an unfinished one goes on.

    Raises:
        Stopped: Ctrl-C.
    """
    for line in in_order(lines):
        if line.job is None:
            yield Outcome(line=line, state="refused", error=line.error)
        elif line.done:
            yield Outcome(line=line, state="before")
        else:
            yield _made(line, line.job, workshop, listen(line))


def _made(line: Line, job: Job, workshop: Workshop, listener: Progress | None) -> Outcome:
    try:
        return Outcome(line=line, state="done", made=workshop.make(job, listener))
    except InfiniteTalkError as error:
        return Outcome(line=line, state="failed", error=str(error))


_COLUMNS = ("line", "output", "state", "error", "width", "height", "frames", "fps", "seconds", "wall_seconds")


def write_table(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes a CSV with a row for each line that is over, in the file's order; it is whole or the one before.

    Raises:
        MachineError: the disk is full or gone.
    """
    stages = [stage.value for stage in Stage]
    try:
        with durable(path) as fresh, fresh.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            table = csv.DictWriter(file, [*_COLUMNS, *stages], extrasaction="ignore", restval="")
            table.writeheader()
            for outcome in sorted(outcomes, key=lambda one: one.line.number):
                made = {} if outcome.made is None else outcome.made.to_json()
                own = {"line": outcome.line.number, "output": outcome.url or outcome.line.output,
                       "state": outcome.state}  # fmt: skip
                table.writerow({**made, **made.get("stage_seconds", {}), **own, "error": outcome.error or ""})
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}); choose another place by --results"
        ) from error
