"""download and models --remove, as people and programs see them."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from infinitetalk.cli.main import main
from infinitetalk.core import presets
from infinitetalk.core.presets import PLAIN
from infinitetalk.weights.hub.client import Hub
from tests.hub.fake_hub import FakeHub
from tests.hub.small import BIG, SMALL
from tests.hub.test_presets import publish
from tests.hub.test_store import DISK_USAGE, on_disk

Answer = Callable[[str], None]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Gives `answer(word)`: a person at the terminal who types it."""

    def type_word(word: str) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("sys.stdin.readline", lambda: f"{word}\n", raising=False)

    return type_word


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error that was printed, which is one line, and nothing else on the way."""
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_download_shows_sizes_asks_and_gets(hub: Hub, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer("")
    assert main(["download", "small"]) == 0
    told = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "base big.safetensors 300.0 kB" in lines
    assert "speech model.safetensors 20.0 kB" in lines
    assert {"apache-2.0 some/base", "apache-2.0 some/adapter", "mit some/speech"} <= set(lines)
    assert "To download: 370.0 kB of 370.0 kB." in lines
    assert told.index("To download") < told.index("Download? [Y/n]") < told.index("small is here: 370.0 kB.")
    assert on_disk(hub) == 370_039
    answer("n")
    assert main(["download", "small"]) == 0, "nothing is lacking, so nothing is asked"
    told = capsys.readouterr().out
    assert "To download: 0 B of 370.0 kB." in told
    assert told.count("✓") == 5
    assert "Download?" not in told


def test_no_means_no(hub: Hub, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer("n")
    assert main(["download", "small"]) == 1
    assert "Nothing was downloaded." in capsys.readouterr().out
    assert not hub.cache.exists()
    assert not hub.records.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("download", "small"), "nobody can be asked here; add --yes"),
        (("download", "small", "--json"), "--json cannot ask; add --yes"),
        (("download", "t6"), "PRESET = t6: there is no such preset; there are t4"),
        (("download", "live-multi", "--yes"), "live is published as live, live-chinese only"),
        (("models", "--remove", "t4"), "remove = t4: no downloaded model has this name (downloaded: none)"),
        (("models", "--remove", "../x"), "no downloaded model has this name"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("hub")
def test_mistakes_get_one_line_and_2(
    words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(words) == 2
    assert told in one_line(capsys)


def test_json_tells_plan_progress_and_paths(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "small", "--yes", "--json"]) == 0
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    plan, done = events[0], events[-1]
    assert (plan["event"], plan["to_download"], len(plan["files"])) == ("plan", 370_039, 5)
    assert {"role", "repository", "revision", "commit", "file", "bytes", "hash", "licence"} == set(plan["files"][0])
    assert {event["file"] for event in events if event["event"] == "progress"} == {
        held["file"] for held in plan["files"]
    }
    assert done["whole"]
    assert [Path(path).name for path in done["paths"]][:2] == ["big.safetensors", "adapter.safetensors"]
    assert all(Path(path).is_file() and Path(path).is_relative_to(hub.cache) for path in done["paths"])


FAULTS: dict[str, tuple[Callable[[FakeHub], object], int, str]] = {
    "hash": (lambda fake: fake.lies.update({BIG.name: b"!" * 300_000}), 1, "is not what it told"),
    "cut": (lambda fake: fake.cuts.update({BIG.name: [1_000] + [0] * 20}), 1, "run the same command again to go on"),
    "401": (lambda fake: setattr(fake, "token", "x"), 2, "it asks for a token, and HF_TOKEN is not set"),
    "404 repository": (lambda fake: fake.repositories.pop("some/adapter"), 2, "does not have this repository"),
    "404 file": (lambda fake: fake.repositories["some/base"]["main"].files.pop(BIG.name), 2, "there is no big.safe"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_hub_are_one_line(
    fake: FakeHub, hub: Hub, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, code, told = FAULTS[fault]
    damage(fake)
    assert main(["download", "small", "--yes"]) == code
    captured = capsys.readouterr()
    assert told in captured.err.splitlines()[-1]
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert not hub.folder("some/base").joinpath("snapshots").exists()


def test_a_full_disk_is_told_before_the_question(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(DISK_USAGE, lambda path: real(path)._replace(free=1_000_000))
    assert main(["download", "small"]) == 1
    captured = capsys.readouterr()
    assert "Download?" not in captured.out
    assert re.search(r"error: .* its disk has 0\.0 GB left: make 0\.3 GB free, or set HF_HOME", captured.err)
    assert not hub.cache.exists()


def test_a_part_comes_first(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "small", "--part", "dit", "--yes"]) == 0
    told = capsys.readouterr().out
    assert "To download: 350.0 kB of 350.0 kB." in told
    assert "the same command without --part gets the rest" in told
    assert on_disk(hub) == 350_000
    assert main(["models"]) == 0
    assert "350.0 kB of 370.0 kB: infinitetalk download small" in " ".join(capsys.readouterr().out.split())
    assert main(["download", "small", "--yes"]) == 0
    assert "To download: 20.0 kB of 370.0 kB." in capsys.readouterr().out


def test_check_replaces_what_is_damaged(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "small", "--yes"]) == 0
    (blob,) = (path for path in hub.cache.rglob("blobs/*") if path.stat().st_size == 300_000)
    good = blob.read_bytes()
    blob.write_bytes(good[:-1] + b"#")
    capsys.readouterr()
    assert main(["download", "small", "--yes"]) == 0
    assert blob.read_bytes() != good, "a size alone does not tell"
    assert main(["download", "small", "--yes", "--check"]) == 0
    assert "big.safetensors is damaged and will be downloaded again." in capsys.readouterr().out
    assert blob.read_bytes() == good


@pytest.mark.usefixtures("hub")
def test_offline_uses_the_cache_and_downloads_nothing(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "small", "--yes"]) == 0
    fake.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["download", "small", "--yes"]) == 0
    capsys.readouterr()
    assert main(["download", "t4", "--yes"]) == 2
    assert "HF_HUB_OFFLINE" in one_line(capsys)
    assert not fake.asked
    assert main(["models", "--remove", "small", "--yes"]) == 0


def test_models_shows_disk_use_and_removes(hub: Hub, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("small", "other"):
        assert main(["download", name, "--yes"]) == 0
    capsys.readouterr()
    assert main(["models"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "small 480 1 yes 370.0 kB" in told
    assert "320.0 kB shared" in told
    assert f"Downloaded models take 370.0 kB in {hub.cache}." in told
    assert main(["models", "--json"]) == 0
    found = {model["model"]: model for model in json.loads(capsys.readouterr().out)}
    assert (found["small"]["bytes"], found["small"]["shared"], found["other"]["people"]) == (370_039, 320_000, 2)
    answer("")
    assert main(["models", "--remove", "small"]) == 1, "an empty answer removes nothing"
    told = " ".join(capsys.readouterr().out.split())
    assert "goes adapter.safetensors 50.0 kB" in told
    assert "stays big.safetensors 300.0 kB other needs it" in told
    assert "Nothing was removed." in told
    answer("y")
    assert main(["models", "--remove", "small"]) == 0
    assert "small is removed; 50.0 kB came free." in capsys.readouterr().out
    assert main(["models", "--remove", "other", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": "other", "freed": 320_000}
    assert on_disk(hub) == 0


def test_a_damaged_record_is_shown_and_can_be_removed(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.records.mkdir(parents=True)
    (hub.records / "t4.json").write_text("{")
    assert main(["models"]) == 0
    assert "cannot be understood" in " ".join(capsys.readouterr().out.split())
    assert main(["download", "t4", "--yes"]) == 2
    assert "infinitetalk models --remove t4" in one_line(capsys)
    assert main(["models", "--remove", "t4", "--yes"]) == 0
    assert not list(hub.records.iterdir())


def test_the_list_of_presets_tells_sizes_of_the_hub(
    fake: FakeHub, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in PLAIN:
        publish(fake, presets.PRESETS[name])
    assert main(["download"]) == 0
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if line.split()[:1] == ["t4"])
    assert "23.3 GB" in row
    assert "-multi" in told
    asked = [request.path for request in fake.asked if request.path.startswith("/api/models/")]
    assert len(asked) == len(set(asked)), "presets that share a repository ask for it once"
    assert main(["download", "--json"]) == 0
    rows = {row["preset"]: row for row in json.loads(capsys.readouterr().out)["presets"]}
    assert set(rows) >= {"t4", "live-chinese"}
    assert rows["t4"]["licences"] == "apache-2.0"
    assert rows["t4-chinese"]["licences"] == "apache-2.0, mit"
    assert hub.endpoint == fake.endpoint


@pytest.mark.usefixtures("hub")
def test_the_list_of_presets_lives_with_a_repository_that_is_gone(
    fake: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in PLAIN:
        publish(fake, presets.PRESETS[name])
    del fake.repositories["Soul-AILab/SoulX-FlashTalk-14B"]
    assert main(["download"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert " ? " in rows["live"]
    assert "23.3 GB" in rows["t4"]
    assert "does not have this repository" in rows["Sizes"]


def test_the_list_of_presets_needs_no_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["download"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in PLAIN)
    assert "Sizes are not known: " in told
    assert not hub.cache.exists()


RUN = """
import sys
from tests.hub.small import SMALL, TABLE
TABLE["small"] = SMALL
from infinitetalk.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_another_process_heeds_the_environment(fake: FakeHub, environment: dict[str, str], home: Path) -> None:
    """HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE, as huggingface_hub itself reads them."""
    fake.token = "hf_secret"

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", RUN, "download", "small", "--yes"]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False)

    assert run().returncode == 2
    done = run(HF_TOKEN="hf_secret")
    assert (done.returncode, done.stderr.count("error")) == (0, 0)
    assert "5 of 5: model.safetensors (20.0 kB)" in done.stderr
    assert (home / "assets" / "infinitetalk" / "models" / "small.json").is_file()
    assert on_disk(Hub("", home / "hub", home)) == 370_039
    fake.asked.clear()
    assert run(HF_HUB_OFFLINE="1").returncode == 0
    assert run(HF_HUB_OFFLINE="1", HF_HOME=str(home / "empty")).returncode == 2
    assert not fake.asked
    moved = run(HF_TOKEN="hf_secret", HF_HUB_CACHE=str(home / "elsewhere"))
    assert moved.returncode == 0
    assert on_disk(Hub("", home / "elsewhere", home)) == 370_039


def test_on_a_terminal_it_asks_and_draws(fake: FakeHub, environment: dict[str, str], home: Path) -> None:
    fake.slow = {BIG.name: 0.02}
    ours, theirs = pty.openpty()
    size = {"COLUMNS": "90", "LINES": "40", "TERM": "xterm"}
    command = [sys.executable, "-c", RUN, "download", "small"]
    with subprocess.Popen(command, env=environment | size, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, b"y\n")
        told = _read_all(ours)
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told)
    assert "Download? [Y/n]" in plain
    assert re.search(r"● big\.safetensors +━+.* \d+\.\d/300\.0 kB", plain)
    assert re.search(r"● altogether +━+", plain)
    assert re.search(r"✓ big\.safetensors +300\.0 kB", plain)
    assert "small is here: 370.0 kB." in plain
    assert "generate --model small --image face.png" in plain.splitlines()[-1]
    assert max(len(line) for line in re.split(r"[\r\n]+", plain) if "━" in line) <= 90
    assert on_disk(Hub("", home / "hub", home)) == 370_039


def _read_all(terminal: int) -> str:
    """Everything that a program writes to its terminal until it ends."""
    told = b""
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:
            break
        if not piece:
            break
        told += piece
    os.close(terminal)
    return told.decode()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_a_process_that_is_stopped_is_continued(
    fake: FakeHub, environment: dict[str, str], home: Path, how: signal.Signals
) -> None:
    """Ctrl-C is answered kindly; a kill leaves no time to tidy up."""
    fake.slow = {BIG.name: 0.02}
    # Started in a shell's background, these tests ignore SIGINT, and so would their children.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + RUN
    command = [sys.executable, "-c", heeding, "download", "small", "--yes"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while on_disk(Hub("", home / "hub", home)) < 65_536 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, how)
    _, told = process.communicate()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert told.decode().endswith("What has come is kept; the same command goes on from there.\nstopped\n")
    kept = on_disk(Hub("", home / "hub", home))
    assert 65_536 <= kept < 300_000
    fake.slow.clear()
    fake.asked.clear()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "of it here" in done.stderr
    ranges = [request.headers.get("range") for request in fake.bodies(BIG.name) if request.server == "storage"]
    assert ranges == [f"bytes={kept}-"]
    assert on_disk(Hub("", home / "hub", home)) == 370_039
    assert len(SMALL.files) == 5
