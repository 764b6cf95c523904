"""Every code block of the documents is run, or says why not; every command line is read by the program's own parsers.

Lines run in this process, in a folder with the files that they name. `FOLDER` is the model `tiny`, voices of texts are
a buzz, and the demo's inputs are short.
"""

import csv
import importlib.util
import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infinitetalk.cli import demo
from infinitetalk.cli.command import command_parser
from infinitetalk.cli.main import COMMANDS, main
from infinitetalk.core.errors import ModelError
from infinitetalk.core.knobs import CONTROLS
from infinitetalk.media import speakers
from infinitetalk.weights.folder import ModelFolder
from tests.docs.blocks import SHELL, Block, Command, blocks, commands, documents
from tests.docs.conftest import ROOT
from tests.faces.conftest import RATE, write_voice

BLOCKS = [block for document in documents() for block in blocks(document)]
OTHERS = {
    ".", "arecord", "cp", "curl", "docker", "export", "hf", "make", "pip", "py", "python", "python3", "ray", "split",
    "talk/Scripts/Activate.ps1", "torchrun",
}  # fmt: skip
"""Programs that documents may name beside this one."""
BY_SERVER = "docs/api.md"
"""Its lines with curl are run against a real service by tests/server/test_document.py."""
_EXTRAS = re.compile(r"infinitetalk\[([\w,]+)\]")


def _option_strings() -> dict[str, set[str]]:
    return {command.name: set(command_parser(command)._option_string_actions) for command in COMMANDS}


OPTIONS = _option_strings()


def own_words(command: Command) -> list[str] | None:
    """What follows `infinitetalk`, however it is started; None for another program."""
    words = command.words
    if words[0] == "infinitetalk":
        return words[1:]
    if "-m" in words and "infinitetalk" in words[words.index("-m") :]:
        return words[words.index("infinitetalk") + 1 :]
    if words[0] == "python" and words[1:2] == ["app.py"]:
        return ["app", *words[2:]]
    if words[:2] == ["docker", "run"]:
        image = next(place for place, word in enumerate(words) if re.fullmatch(r"infinitetalk:(cpu|cuda)", word))
        return words[image + 1 :] or None
    return None


def read(words: list[str]) -> None:
    """Reads words as the program does.

    Raises:
        InfiniteTalkError: the program would refuse them.
    """
    command = next((one for one in COMMANDS if one.name == words[0]), None)
    assert command is not None, f"{words[0]} is no command"
    parser = command_parser(command)
    _, unknown = parser.parse_known_args(words[1:])
    assert not unknown, f"{words[0]} does not take {unknown}"


def check_other(words: list[str]) -> None:
    """Looks at what can be known of another program's words: modules, extras, targets."""
    assert words[0] in OTHERS, words[0]
    if words[0] == "python" and words[1] == "-m":
        found = importlib.util.find_spec(words[2])
        assert found is not None, words[2]
        assert found.origin is not None
        source = Path(found.origin).read_text(encoding="utf-8")
        for flag in (word for word in words[3:] if word.startswith("--")):
            assert f'"{flag}"' in source, f"{words[2]} has no {flag}"
    elif words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif words[0] == "pip" and (extras := _EXTRAS.search(" ".join(words))):
        known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(extras[1].split(",")) <= set(known["optional-dependencies"])


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in SHELL], ids=lambda block: block.name)
def test_every_command_line_is_one_that_the_program_takes(block: Block) -> None:
    assert block.lines, "an empty block"
    for line in block.lines:
        for command in commands(line):
            words = own_words(command)
            if words is None:
                check_other(command.words)
            else:
                read(words)


@pytest.mark.parametrize("line", [
    "infinitetalk generate --image a.png --audio b.wav --sted 7", "infinitetalk demoo", "make nothing",
    "python -m benchmarks.memory --outt x", "pip install 'infinitetalk[nothing]'", "infinitalk doctor",
    "infinitetalk generate --image a.png --audio b.wav --seed many", "docker run infinitetalk:cpu doctorr",
])  # fmt: skip
def test_a_wrong_command_line_is_found(line: str) -> None:
    block = Block("x.md", 1, "sh", line, None, None)
    with pytest.raises(Exception, match=r"\w"):
        test_every_command_line_is_one_that_the_program_takes(block)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_words_of_commands_in_the_text_exist(document: Path) -> None:
    """`infinitetalk WORD --flag` in a sentence, and flags that stand alone."""
    text = re.sub(r"^ *```.*?^ *```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    every = set[str]().union(*OPTIONS.values())
    for span in re.findall(r"`([^`\n]+)`", text):
        words = span.split()
        if words[0] == "infinitetalk" and len(words) > 1 and words[1].isalpha() and words[1].islower():
            assert words[1] in OPTIONS, span
            flags = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--help"}
            assert flags <= OPTIONS[words[1]], span
        elif words[0].startswith("--") and document.name != "migration.md":
            assert words[0] in every | _flags_elsewhere(), span


def _flags_elsewhere() -> set[str]:
    """Flags of measurements and of programs that the documents speak of."""
    files = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "training").rglob("*.py"), *(ROOT / "tools").glob("*.py")]
    found = {flag for path in files for flag in re.findall(r'"(--[\w-]+)"', path.read_text(encoding="utf-8"))}
    return found | {"--build-arg", "--gpus", "--profile", "--strict", "--help"}


class _Buzz:
    """Speaks every text as a buzz, so that no program has to be there."""

    def voices(self) -> list[str]:
        return ["en-gb", "en-us", "bf_emma"]

    def speak(self, words: str, voice: str) -> tuple[NDArray[np.float32], int]:  # noqa: ARG002
        times = np.arange(RATE // 5) / RATE
        return (0.2 * np.sign(np.sin(2 * np.pi * 120 * times))).astype(np.float32), RATE


@pytest.fixture(scope="module")
def files(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with every file that a line names."""
    here = tmp_path_factory.mktemp("documents")
    inputs = here / "inputs"
    inputs.mkdir()
    portrait, pair = demo.INPUTS / demo.PORTRAIT, demo.INPUTS / "pair.png"
    for name in ("face.png", f"inputs/{demo.PORTRAIT}", "anna.png"):
        shutil.copy(portrait, here / name)
    shutil.copy(pair, here / "pair.png")
    for name in ("voice", "left", "right", "dub", "voice-alone", "hello", "song"):
        write_voice(here / f"{name}.wav", 0.2)
    (here / "song.wav").rename(here / "song.flac")
    (here / "dub.wav").rename(here / "dub.mp3")
    shutil.copy(here / "voice.wav", inputs / demo.VOICE)
    (here / "FOLDER").symlink_to(tiny_folder)
    (here / "ComfyUI").mkdir()
    (here / "ComfyUI" / "models").symlink_to(tiny_folder)
    (here / "tests" / "golden").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "golden" / "color.safetensors", here / "tests" / "golden")
    (here / "jobs.csv").write_text("image,audio,output\nface.png,voice.wav,one.mp4\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(demo, "INPUTS", inputs)
        patch.setattr(speakers, "SPEAKERS", {"espeak": _Buzz(), "kokoro": _Buzz()})
        assert main(["generate", "--image", "face.png", "--audio", "voice.wav", "--output", "talk.mp4"]) == 0
        shutil.copy("talk.mp4", "clip.mp4")
        shutil.copy("talk.mp4", "kept.mp4")
        shutil.copy("talk.mp4.json", "kept.mp4.json")
        yield here


RUN = [block for block in BLOCKS if block.language in SHELL and any(map(block.is_run, block.lines))]


LONG = ("docs/evaluate.md", "docs/live.md", "docs/speech.md", "docs/start/no-gpu.md")
"""What other tests and the README's blocks do in small: these are run by `make test-full` only."""


def _marked(block: Block) -> Any:
    return pytest.param(block, id=block.name, marks=[pytest.mark.full] * (block.document in LONG))


@pytest.mark.parametrize("block", [_marked(block) for block in RUN])
def test_a_block_runs(block: Block, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.document == BY_SERVER:
        assert all(line.startswith("curl ") for line in block.lines), "only curl is run there: say why not above"
        return
    for ending in ("mp4", "mp4.json"):  # whatever the blocks before made of it
        shutil.copy(files / f"kept.{ending}", files / f"talk.{ending}")
    for line in filter(block.is_run, block.lines):
        (command,) = commands(line)
        assert command.words[0] == "infinitetalk", f"{line}: say above the block why it is not run"
        with monkeypatch.context() as patch:
            for name, value in command.variables.items():
                patch.setenv(name, value)
            assert main(command.words[1:]) == 0, line


def _silence() -> Iterator[NDArray[np.float32]]:
    for _ in range(12):
        yield np.zeros(4800, np.float32)


@pytest.mark.parametrize("block", [_marked(block) for block in BLOCKS if block.language == "python"])
def test_python_runs(block: Block, files: Path) -> None:  # noqa: ARG001
    if block.reason is None:
        shown = list[NDArray[np.uint8]]()
        names: dict[str, Any] = {"show": shown.append, "microphone": _silence}
        exec(compile(block.text, block.name, "exec"), names)
        frames = shown[-1] if shown else names["frames"]
        assert frames.dtype == np.uint8
        assert frames.shape[3] == 3


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language not in (*SHELL, "python")],
                         ids=lambda one: one.name)  # fmt: skip
def test_data_is_read(block: Block, tmp_path: Path) -> None:
    """JSON by the reader of model folders, which misses the weights alone; lists of jobs by their names of settings."""
    known = {control.name for control in CONTROLS} | {"output"}
    if block.language == "json":
        (tmp_path / "model.json").write_text(block.text, encoding="utf-8")
        with pytest.raises(ModelError, match="which is not there"):
            ModelFolder.open(tmp_path)
    elif block.language == "jsonl":
        assert all(set(json.loads(line)) <= known for line in block.lines)
    elif block.language == "csv":
        assert set(next(csv.reader(StringIO(block.text)))) <= known
    elif block.language == "bibtex":
        assert all(re.fullmatch(r"@\w+\{[\w:-]+,.+\}", entry, re.DOTALL) for entry in block.text.strip().split("\n\n"))
        assert block.text.count("{") == block.text.count("}")
    else:
        assert block.reason, f"{block.name}: nothing reads {block.language or 'a block without a language'}"


def test_reasons_are_reasons() -> None:
    assert len(RUN) > 12
    for block in BLOCKS:
        assert block.reason is None or len(block.reason) > 10, block.name
        for word in block.spared or ():
            assert any(word in line for line in block.lines), f"{block.name}: no line has {word}"
