"""What is published: the version, the wheel with nano inside, the sources, and the workflows that make them."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
MOST_WHEEL_BYTES = 45_000_000
SOURCES = ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE", ".gitattributes",
           ".git_archival.txt")  # fmt: skip


def environment() -> dict[str, str]:
    """Without a version or packages from outside, and with an author for git."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SETUPTOOLS_SCM", "GIT_", "PYTHON"))
    }
    who = {f"GIT_{role}_{what}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return kept | who | {"GIT_CONFIG_GLOBAL": os.devnull, "NO_COLOR": "1"}


def run(*words: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment(), capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def copy_sources(folder: Path) -> Path:
    """What a build needs, without the repository."""
    for name in SOURCES:
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


def version(folder: Path) -> str:
    return run(sys.executable, "-m", "setuptools_scm", cwd=folder).strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one commit, without a tag."""
    folder = tmp_path / "repository"
    (folder / "src" / "infinitetalk").mkdir(parents=True)
    (folder / "src" / "infinitetalk" / "__init__.py").touch()
    for name in SOURCES:
        shutil.copy(ROOT / name, folder / name)
    run("git", "init", "-q", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "-q", "-m", "all", cwd=folder)
    return folder


def test_the_version_is_the_tag_s(repository: Path, tmp_path: Path) -> None:
    assert re.fullmatch(r"0\.1\.dev1\+g[0-9a-f]+", version(repository)), "no tag yet"
    run("git", "tag", "v9.8.7", cwd=repository)
    assert version(repository) == "9.8.7"
    archive = tmp_path / "archive.tar"
    run("git", "archive", "--prefix=archive/", f"--output={archive}", "v9.8.7", cwd=repository)
    shutil.unpack_archive(archive, tmp_path)
    assert version(tmp_path / "archive") == "9.8.7", "as downloaded from GitHub"
    run("git", "commit", "-q", "--allow-empty", "-m", "more", cwd=repository)
    assert re.fullmatch(r"9\.8\.8\.dev1\+g[0-9a-f]+", version(repository))
    run("git", "clone", "-q", "--depth", "1", "--no-tags", repository.as_uri(), "shallow", cwd=tmp_path)
    assert re.fullmatch(r"0\.1\.dev1\+g[0-9a-f]+", version(tmp_path / "shallow"))


def test_a_folder_without_git_has_the_fallback(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    assert version(repository) == "0.1.dev0"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The sources' archive, and the wheel that is built from it, by their suffix."""
    folder = copy_sources(tmp_path_factory.mktemp("sources"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=folder)
    return {path.suffix: path for path in (folder / "dist").iterdir()}


def test_the_wheel_is_small_and_holds_nano(built: Mapping[str, Path]) -> None:
    wheel = built[".whl"]
    assert wheel.name == "infinitetalk-0.1.dev0-py3-none-any.whl"
    assert wheel.stat().st_size <= MOST_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        for name in ("py.typed", "core/calibration.json", "app/player.js", "assets/demo/pair.png"):
            assert f"infinitetalk/{name}" in names
        for path in (ROOT / "src" / "infinitetalk" / "assets" / "nano").iterdir():
            assert file.getinfo(f"infinitetalk/assets/nano/{path.name}").file_size == path.stat().st_size
        assert {name.split("/")[0] for name in names} == {"infinitetalk", "infinitetalk-0.1.dev0.dist-info"}
        assert {"LICENSE", "NOTICE"} <= {name.rsplit("/", 1)[1] for name in names if "/licenses/" in name}


def test_twine_finds_nothing_amiss(built: Mapping[str, Path]) -> None:
    told = run(sys.executable, "-m", "twine", "check", "--strict", *built.values(), cwd=ROOT)
    assert told.count("PASSED") == 2


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_wheel_makes_the_demo_in_an_empty_environment(built: Mapping[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    run(programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", built[".whl"], cwd=tmp_path)
    assert run(programs / "infinitetalk", "--version", cwd=tmp_path) == "infinitetalk 0.1.dev0\n"
    run(programs / "infinitetalk", "demo", "--output", "demo.mp4", "--quiet", cwd=tmp_path)
    assert (tmp_path / "demo.mp4").stat().st_size > 10_000


def test_the_change_log_begins_with_what_is_not_released() -> None:
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", head) for head in heads[1:])


def test_workflows_are_valid() -> None:
    files = sorted(WORKFLOWS.glob("*.yml"))
    assert {path.stem for path in files} == {"test", "docs", "publish"}
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *files, cwd=ROOT)


def test_workflows_call_what_there_is() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for path in WORKFLOWS.glob("*.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert content["permissions"] == {"contents": "read"}, "jobs ask for more themselves"
        steps = [step for job in content["jobs"].values() for step in job["steps"]]
        lines = "\n".join(step.get("run", "") for step in steps)
        assert set(re.findall(r"\bmake ([\w-]+)", lines)) <= set(targets)
        assert all((ROOT / name).exists() for name in re.findall(r"(?m)^(\.ci/\S+)", lines))
        assert not re.search(r"\$\{\{\s*github\.(event|head_ref)", lines), "nobody's text becomes a command"
