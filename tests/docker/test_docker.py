"""The Dockerfile and compose.yaml, as far as they can be tried without an engine for containers."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from infinitetalk.cli.command import command_parser
from infinitetalk.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
VENV = "/opt/infinitetalk"
Steps = list[tuple[str, str]]


@dataclass
class Stage:
    """A stage of the Dockerfile: what it stands on, and its instructions."""

    base: str
    steps: Steps = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for name, rest in self.steps if name == word]


def stages() -> Mapping[str, Stage]:
    """The Dockerfile's stages by name."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: dict[str, Stage] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, name = rest.split(" AS ")
            found[name] = Stage(base)
        else:
            found[[*found][-1]].steps.append((word, rest.strip()))
    return found


def lineage(name: str) -> Iterator[Stage]:
    """A stage and those that it stands on, the first one first."""
    known = stages()
    if known[name].base in known:
        yield from lineage(known[name].base)
    yield known[name]


def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    made = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_both_targets_run_without_root_and_are_looked_after(target: str) -> None:
    steps = [step for stage in lineage(target) for step in stage.steps]
    told = dict(steps)
    assert told["USER"] == "1000:1000"
    assert told["VOLUME"] == "/data"
    assert "urllib.request.urlopen(os.environ['HEALTH']" in told["HEALTHCHECK"]
    assert told["COPY"] == f"--from={target}-installed {VENV} {VENV}"
    environment = " ".join(rest for word, rest in steps if word == "ENV")
    assert "HF_HOME=/data/" in environment, "weights are in the volume"
    assert f"PATH={VENV}/bin:" in environment


def test_cuda_has_what_triton_compiles_with_and_no_root() -> None:
    steps = stages()["cuda"].steps
    assert [rest for word, rest in steps if word == "USER"] == ["0:0", "1000:1000"]
    (line,) = (rest for word, rest in steps if word == "RUN")
    assert {"gcc", "libc6-dev"} <= set(line.split())
    assert not stages()["cpu"].all("USER")


def test_what_is_copied_is_there_and_is_sent() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    for copied in stages()["source"].all("COPY"):
        for name in copied.split()[:-1]:
            assert (ROOT / name).exists()
            assert any(fnmatch(name, pattern) for pattern in sent)


def words(value: Sequence[str]) -> list[str]:
    """A command line with compose's variables at their defaults."""
    return [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in value]


def parse(line: Sequence[str]) -> Any:
    """What the command's own parser makes of a command line."""
    (command,) = (command for command in COMMANDS if command.name == line[0])
    return command_parser(command).parse_args(line[1:])


def test_services_call_commands_that_there_are() -> None:
    services = compose()["services"]
    for name, port, health in (("app", 7860, "http://127.0.0.1:7860/"), ("api", 8000, "http://127.0.0.1:8000/healthz")):
        service = services[name]
        parsed = parse(words(service["command"]))
        assert (parsed.host, parsed.port) == ("0.0.0.0", port)
        assert service["ports"] == [f"127.0.0.1:{port}:{port}"], "this machine alone, until somebody decides otherwise"
        assert "data:/data" in service["volumes"]
        assert health in ((service.get("environment") or {}).get("HEALTH"), default_health())
    assert services["postgres"]["profiles"] == ["postgresql"], "optional"
    gpu = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text(encoding="utf-8"))["services"]
    assert set(gpu) == {"app", "api"}


def default_health() -> str:
    (found,) = re.findall(r"HEALTH=(\S+)", " ".join(stages()["base"].all("ENV")))
    return str(found)


def test_the_default_command_is_one() -> None:
    (command,) = stages()["base"].all("CMD")
    parsed = parse(re.findall(r'"(.*?)"', command))
    assert parsed.port == 7860


def replay(target: str, folder: Path) -> Path:
    """Runs a target's steps of installation in an empty virtual environment; gives its programs.

    Only what COPY names is there. PyTorch comes from wherever pip finds it here, not from the index that the build
    names; Python is this one, not the image's.
    """
    source, venv = folder / "source", folder / "venv"
    source.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))
    kept["PATH"] = f"{folder / 'bin'}{os.pathsep}{kept['PATH']}"
    for stage in lineage(f"{target}-installed"):
        for word, rest in stage.steps:
            if word == "COPY":
                for name in rest.split()[:-1]:
                    copy(ROOT / name, source / name)
            elif word in ("ARG", "ENV"):
                pairs = dict(pair.split("=", 1) for pair in rest.split())
                kept |= {name: Template(value).substitute(kept) for name, value in pairs.items()}
            elif word == "RUN":
                line = rest.replace(VENV, str(venv)).replace('--index-url "$TORCH_INDEX" ', "")
                subprocess.run(["bash", "-euc", line], cwd=source, env=kept, check=True)
    return venv / "bin"


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy(source, target)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_installation_works_in_an_empty_environment(tmp_path: Path) -> None:
    programs = replay("cpu", tmp_path)
    home = {"HOME": str(tmp_path), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    run = [str(programs / "infinitetalk"), "demo", "--output", "talk.mp4", "--quiet"]
    subprocess.run(run, cwd=tmp_path, env=home, check=True)
    assert (tmp_path / "talk.mp4").stat().st_size > 10_000
    for extra in ("gradio", "fastapi", "psycopg"):
        subprocess.run([programs / "python", "-c", f"import {extra}"], env=home, check=True)
