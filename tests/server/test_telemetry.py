"""No dependency tells anybody anything: connections are watched, and the switches are off by default."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infinitetalk.core.telemetry import OFF, switch_off

WATCH = """
import socket, sys
def watch(event, words):
    here = (None, "127.0.0.1", "localhost", "0.0.0.0", "::1", b"127.0.0.1")
    if event == "socket.getaddrinfo" and words[0] not in here:
        told(event, words)
    if event == "socket.connect" and isinstance(words[1], tuple) and not str(words[1][0]).startswith(("127.", "::1")):
        told(event, words)
def told(event, words):
    with open({log!r}, "a") as file:
        file.write(event + " " + str(words) + chr(10))
sys.addaudithook(watch)
"""

SERVICE = """
import threading, time, urllib.request, os, signal
from pathlib import Path
from infinitetalk.cli.main import main
from infinitetalk.client import Client
from infinitetalk.core.request import TalkRequest
from infinitetalk.weights.locate import ASSETS
def use():
    import re, sys
    while not Path("port").exists():
        time.sleep(0.05)
    with Client(Path("port").read_text(), os.environ["INFINITETALK_TOKEN"]) as client:
        demo = ASSETS / "demo"
        files = {"image": demo / "portrait_1.png", "audio": (demo / "voice_1.flac",)}
        job = client.submit(TalkRequest(model="tiny", **files, duration=0.2, steps=1))
        print([*client.watch(job.id)][-1].state)
    os.kill(os.getpid(), signal.SIGINT)
import infinitetalk.cli.serve as serve
serve.say = lambda line: Path("port").write_text(line.split()[1])
threading.Thread(target=use, daemon=True).start()
print(main(["serve", "--port", "0", "--folder", "jobs", "--device", "cpu", "--model", "tiny={model}"]))
"""

PAGE = """
from infinitetalk.app.app import launch
launch("nano", port=None, device="cpu", wait=False)
"""

PROOF = """
import urllib.request
try:
    urllib.request.urlopen("http://telemetry.invalid/", timeout=1)
except OSError:
    pass
"""


def outside(program: str, folder: Path) -> tuple[str, str]:
    """What a program looked up or connected to outside of this machine, and what it printed."""
    log = folder / "connections"
    (folder / "sitecustomize.py").write_text(WATCH.format(log=str(log)))
    environment = {name: value for name, value in os.environ.items() if name not in OFF}
    environment |= {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "INFINITETALK_TOKEN": "0123456789abcdef0"}
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True,
                          check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return log.read_text() if log.exists() else "", done.stdout


def test_the_watch_sees_a_connection(tmp_path: Path) -> None:
    assert "telemetry.invalid" in outside(PROOF, tmp_path)[0]


def test_a_service_that_makes_a_video_connects_to_nobody(tiny_folder: Path, tmp_path: Path) -> None:
    seen, printed = outside(SERVICE.replace("{model}", str(tiny_folder)), tmp_path)
    assert seen == "" and printed.split() == ["JobState.DONE", "0"]


def test_the_page_connects_to_nobody(tmp_path: Path) -> None:
    assert outside(PAGE, tmp_path)[0] == ""


def test_a_users_own_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OFF:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    switch_off()
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "True"
    assert {name: os.environ[name] for name in OFF if name != "GRADIO_ANALYTICS_ENABLED"} == {
        name: value for name, value in OFF.items() if name != "GRADIO_ANALYTICS_ENABLED"
    }
