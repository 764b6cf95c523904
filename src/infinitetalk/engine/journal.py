"""How far a job has come, on disk: a process that was killed is followed by one that goes on where it stopped.

    video.mp4.job/
        window-00000.mp4 …          finished windows, each of them playable
        state-00004.safetensors     what the next window, number 4, continues
        windows.jsonl               a line of figures for each window
        journal.json                which job this is, and how many of its windows count

A window counts once the journal says so, and the journal is replaced in one move after the window and the state are on
the disk. What a kill leaves behind it is made once more, under the same names.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.files import digest, durable
from infinitetalk.core.memory import Lodging, MemorySettings, Tier
from infinitetalk.core.ranks import crew_size, started_by_torchrun
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.version import own_version
from infinitetalk.media.files import input_paths
from infinitetalk.media.paths import job_path, sidecar_path
from infinitetalk.media.sidecar import absolute
from infinitetalk.runtime.platform import held
from infinitetalk.weights.folder import ModelFolder

if TYPE_CHECKING:
    from infinitetalk.engine.results import Past, Resume
    from infinitetalk.runtime.device import Device

FORMAT = 2

_WHOLE = 64 * 2**20
"""Bytes up to which a model's file is read whole to know it again."""

_PIECES, _PIECE = 64, 2**20
"""Of a larger file so many pieces of so many bytes are read, evenly spread, its beginning and end among them."""

_LIBRARIES = ("infinitetalk", "torch", "transformers", "numpy", "av", "pillow", "soxr")
_OPTIONAL = ("opencv-python-headless", "scenedetect-headless", "ai-edge-litert", "demucs")
"""What jobs can do without: flow, cuts, faces, separated voices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """All that decides a job's frames, to the last bit."""

    request: Mapping[str, Any]
    inputs: Mapping[str, str]
    """Digests of the pictures, sounds and masks that the request names, and of a text's speech."""
    model: Mapping[str, str]
    """Digests of the model's files."""
    pins: Mapping[str, Any]
    """What computes: device, number format, threads, kernels, versions."""

    @classmethod
    def of(
        cls, request: TalkRequest, folder: ModelFolder, device: "Device", memory: MemorySettings | None,
        told: TalkRequest | None = None,
    ) -> "Identity":  # fmt: skip
        """Reads every file that the request names, and of the model's large files samples.

        Args:
            told: the same request with its files where their owner has them, if they are read from elsewhere.
        """
        import torch

        whole = absolute(told or request)
        named = zip(input_paths(whole), input_paths(absolute(request)), strict=True)
        return cls(
            request=whole.to_json(),
            inputs={str(name): digest(path) for name, path in named} | _spoken_digest(request),
            model={str(path): _sampled(path) for path in _model_files(folder)},
            pins={
                "device": device.name,
                "kind": device.torch_device.type,
                "dtype": str(device.dtype),
                "threads": torch.get_num_threads(),
                **(memory or MemorySettings()).kernels,
                "gpus": crew_size((memory or MemorySettings()).gpus, started_by_torchrun()),
                **{name: version(name) for name in _LIBRARIES},
                **{name: _version_if_there(name) for name in _OPTIONAL},
            },
        )

    @property
    def request_hash(self) -> str:
        """One digest of the request."""
        return hashlib.sha256(json.dumps(self.request, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As the journal holds it."""
        return {"request_hash": self.request_hash, **asdict(self)}

    def difference(self, written: Mapping[str, Any], *, anywhere: bool = False) -> str | None:
        """What a journal's job has that this one has not, in words; None if they are one job.

        With `anywhere`, what computes may be another device with other kernels, but no other libraries.
        """
        mine = self.to_json()
        if anywhere:
            written = {**written, "pins": mine["pins"] | _libraries(written)}
        for part, kind in (("request", "setting"), ("inputs", "file"), ("model", "model file"), ("pins", "machine's")):
            now, then = mine[part], written.get(part, {})
            for name in (*now, *then):
                if now.get(name) != then.get(name):
                    changed = part in ("inputs", "model") and name in now and name in then
                    told = "changed since" if changed else f"was {_short(then, name)}, is {_short(now, name)}"
                    return f"the {kind} {name} {told}"
        return None if mine["request_hash"] == written.get("request_hash") else "the request's hash differs"


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a job has come."""

    windows: int = 0
    count: int = 0
    """Windows of the whole job; 0 before it is known."""
    lodging: Lodging | None = None
    """Where the model's weights lived, as pieces of other sizes are rounded differently."""

    @property
    def complete(self) -> bool:
        """Whether nothing but joining the windows is left."""
        return 0 < self.count == self.windows


class Journal:
    """The journal of the job whose video goes to `output`; see `opened`."""

    def __init__(self, output: Path, identity: Identity, reached: Reached) -> None:
        self.folder = job_path(output)
        self.reached = reached
        self._identity = identity
        self._noted = False

    def resume(self) -> "Resume | None":
        """Where the job goes on; None at its beginning or behind its end.

        Raises:
            RequestError: a state that is missing or damaged.
        """
        if not self.reached.windows or self.reached.complete:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from infinitetalk.engine.results import Past, Resume

        path = self._state(self.reached.windows)
        try:
            state = load_file(path)
            past = Past(state["first"], state["tail"], state.get("spare"), state.get("track"))
            return Resume(self.reached.windows, past)
        except (OSError, SafetensorError, KeyError) as error:
            raise RequestError("output", path, "is missing or damaged; start anew with --restart") from error

    def figures(self) -> list[dict[str, Any]]:
        """What was noted of the finished windows."""
        with suppress(FileNotFoundError):
            lines = (self.folder / "windows.jsonl").read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines[: self.reached.windows]]
        return []

    def _note(self, figures: Mapping[str, Any]) -> None:
        """Adds a window's figures; a line that a kill left without its journal is written anew."""
        path = self.folder / "windows.jsonl"
        if not self._noted:
            path.write_text("".join(json.dumps(known) + "\n" for known in self.figures()), encoding="utf-8")
            self._noted = True
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def commit(self, windows: int, count: int, past: "Past", lodging: Lodging, figures: Mapping[str, Any]) -> None:
        """Notes that so many windows are finished, and the newest one's figures; its file is on the disk already.

        Raises:
            MachineError: the disk is full or gone.
        """
        from safetensors.torch import save_file

        try:
            self._note(figures)
            if windows < count:
                with durable(self._state(windows)) as fresh:
                    save_file(past.tensors(), fresh)
            reached = Reached(windows, count, lodging)
            with durable(self.folder / "journal.json") as fresh:
                fresh.write_text(json.dumps(self._content(reached), indent=1), encoding="utf-8")
        except Exception as error:
            # safetensors tells of a full disk by an error of its own.
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise MachineError(f"{self.folder}: cannot be written ({reason}); check the disk") from error
        self.reached = reached
        self._state(windows - 1).unlink(missing_ok=True)

    def remove(self) -> None:
        """The video is complete."""
        # The journal first: without it the rest counts for nothing.
        (self.folder / "journal.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _state(self, window: int) -> Path:
        return self.folder / f"state-{window:05}.safetensors"

    def _content(self, reached: Reached) -> dict[str, Any]:
        lodging = None
        if reached.lodging is not None:
            lodging = asdict(reached.lodging) | {"tier": reached.lodging.tier.value}
        done = {"windows": reached.windows, "count": reached.count, "lodging": lodging}
        return {"format": FORMAT, **done, **self._identity.to_json()}


def begun(output: Path, request: TalkRequest) -> bool:
    """Whether an unfinished job of this request lies at an output; `opened` looks at all else that must be the same."""
    try:
        found = json.loads((job_path(output) / "journal.json").read_text(encoding="utf-8"))["request"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return _asks_for(found, request)


def made(output: Path, request: TalkRequest) -> bool:
    """Whether an output is this request's complete video, made by this version from files that are still the same."""
    try:
        beside = json.loads(sidecar_path(output).read_text(encoding="utf-8"))
        if not (output.is_file() and beside["complete"] and beside["infinitetalk"] == own_version()):
            return False
        same = (digest(Path(given["path"])) == given["sha256"] for given in beside["inputs"])
        return _asks_for(beside["request"], request) and all(same)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _asks_for(found: Any, request: TalkRequest) -> bool:
    """Whether the JSON of a request is this one's; a file's has what was found out of it when the job began."""
    if not isinstance(found, dict):
        return False
    # A recipe adds LoRAs of its own later, and other faces stand behind the box of a single speaker.
    boxes = {"boxes": found.get("boxes", [])[:1]} if request.places_speaker else {}
    return found | boxes | {"loras": []} == absolute(request).to_json() | {"loras": []}


@contextmanager
def opened(output: Path, identity: Identity, *, restart: bool = False, anywhere: bool = False) -> Iterator[Journal]:
    """The journal of a job, held for this process while the block runs.

    Args:
        output: the video.
        identity: the job.
        restart: forget a job that was begun there.
        anywhere: go on with one that was begun on another kind of device; from there on frames differ in rounding.

    Raises:
        RequestError: another process makes this video, or an unfinished job there is another one.
        MachineError: the folder cannot be made.
    """
    folder = job_path(output)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be made ({error.strerror})") from error
    journal = None
    try:
        with _alone(folder, output):
            reached = Reached() if restart else _read(output, identity, anywhere=anywhere)
            if not reached.windows:
                _clear(folder)
            journal = Journal(output, identity, reached)
            yield journal
    finally:
        if journal is not None and not journal.reached.windows:
            journal.remove()


@contextmanager
def _alone(folder: Path, output: Path) -> Iterator[None]:
    try:
        holding = held(folder / "lock")
        holding.__enter__()
    except (BlockingIOError, PermissionError) as error:
        raise RequestError("output", output, "another process makes this video now; choose another name") from error
    try:
        yield
    finally:
        holding.__exit__(None, None, None)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()


def _libraries(written: Mapping[str, Any]) -> dict[str, Any]:
    """Of a journal's pins those that say which libraries wrote it."""
    return {name: value for name, value in written.get("pins", {}).items() if name in (*_LIBRARIES, *_OPTIONAL)}


def _read(output: Path, identity: Identity, *, anywhere: bool) -> Reached:
    path = job_path(output) / "journal.json"
    if not path.exists():
        return Reached()
    others = "repeat that job, choose another output, or start anew with --restart"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError("output", output, f"{path} is no journal that can be read; {others}") from error
    if found != FORMAT:
        raise RequestError("output", output, f"{path} has the format {found}, not {FORMAT}; {others}")
    if (difference := identity.difference(content, anywhere=anywhere)) is not None:
        raise RequestError(
            "output", output, f"{path.parent} holds an unfinished job of another kind: {difference}; {others}"
        )
    lodging = content["lodging"]
    if content["pins"] != identity.pins:
        lodging = None  # what another device had room for may not fit here
    if lodging is not None:
        lodging = Lodging(**lodging | {"tier": Tier(lodging["tier"])})
    return Reached(content["windows"], content["count"], lodging)


def _model_files(folder: ModelFolder) -> Iterable[Path]:
    for part in (folder.dit, folder.vae, folder.speech, folder.text, folder.vision):
        if part is not None:
            yield from part.files
            if part.tokenizer is not None:
                yield from sorted(path for path in part.tokenizer.iterdir() if path.is_file())
    yield from (lora.path for lora in folder.loras)


def _version_if_there(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _spoken_digest(request: TalkRequest) -> dict[str, str]:
    """Another release of what speaks a text may speak it otherwise."""
    if request.text is None:
        return {}
    from infinitetalk.media.spoken import spoken

    heard = hashlib.sha256()
    for sound in spoken(request):
        heard.update(sound.samples.tobytes())
    return {"of the text's speech": heard.hexdigest()}


def _sampled(path: Path) -> str:
    """A digest of a whole file, or of a large one's size and of samples of it."""
    size = path.stat().st_size
    if size <= _WHOLE:
        return digest(path)
    sample = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(_PIECES):
            file.seek((size - _PIECE) * number // (_PIECES - 1), os.SEEK_SET)
            sample.update(file.read(_PIECE))
    return sample.hexdigest()


def _short(values: Mapping[str, Any], name: str) -> str:
    text = json.dumps(values.get(name), ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
