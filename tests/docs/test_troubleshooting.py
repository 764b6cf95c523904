"""Every sentence that the doctor has for something lacking has an answer in the document, as have the usual five."""

import ast
import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infinitetalk.cli import doctor
from infinitetalk.cli.findings import ESTIMATE, TOO_LARGE, Finding, Lack
from infinitetalk.runtime.device import Device
from tests.docs.conftest import ROOT

TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [cells[1].strip().strip("`") for line in TEXT.splitlines() if len(cells := line.split("|")) == 4]


def open_gaps(sentence: str) -> str:
    """A sentence as the document writes it: … for each gap."""
    return re.sub(r"\{[^}]*\}", "…", sentence)


@pytest.mark.parametrize("sentence", [*(lack.sentence for lack in Lack), TOO_LARGE, ESTIMATE])
def test_every_message_of_the_doctor_is_answered(sentence: str) -> None:
    assert open_gaps(sentence) in MESSAGES


def test_the_doctor_has_no_other_sentence_for_what_is_lacking() -> None:
    """Findings that are not fine come from `Lack` alone."""
    calls = [node for node in ast.walk(ast.parse(Path(doctor.__file__).read_text(encoding="utf-8")))
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"]  # fmt: skip
    assert len(calls) > 10
    assert [call.lineno for call in calls if call.keywords or len(call.args) != 3] == []


def _broken(_name: str) -> str:
    raise PackageNotFoundError


def test_what_a_broken_machine_is_told_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real findings, not their templates: each that is not fine or not there matches a message of the document."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1" if name == "infinitetalk" else _broken(name))
    card = Device(torch.device("cpu"), torch.float16, "Some card", (7, 5))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _device: SimpleNamespace(total_memory=2**34))
    found = [*doctor.examine(card, doctor._disk(None, Path("gone"))), doctor._choose("cuda:7")]
    lacking = [one for one in found if isinstance(one, Finding) and not (one.fine and one.there)]
    assert {"disk", "torch", "gradio", "bfloat16", "8-bit floats", "device"} <= {one.name for one in lacking}
    patterns = [".+".join(map(re.escape, message.split("…"))) for message in MESSAGES]
    for one in lacking:
        assert any(re.fullmatch(pattern, one.value) for pattern in patterns), one


@pytest.mark.parametrize(
    ("available", "version", "count", "name"),
    [(False, None, 0, "cuda"), (False, "13.0", 0, "cuda"), (True, "13.0", 1, "cuda:7"), (False, None, 0, "mps")],
)
def test_what_is_said_of_a_device_is_answered(
    available: bool, version: str | None, count: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: available)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.version.cuda", version)
    told = doctor._choose(name)
    assert isinstance(told, Finding)
    patterns = [".+".join(map(re.escape, message.split("…"))) for message in MESSAGES]
    assert any(re.search(pattern, told.value) for pattern in patterns[len(Lack) :]), told


def test_the_usual_five_are_headings() -> None:
    headings = re.findall(r"^### (.*)", TEXT, re.MULTILINE)
    assert headings == [
        "Out of memory", "Slow", "Session timeout", "The link is not showing", "Sound and lips do not go together",
    ]  # fmt: skip
