"""Help is quick, light and complete; wrong words get one line."""

import json
import os
import subprocess
import sys

import pytest

from infinitetalk.cli.command import Command
from infinitetalk.cli.main import COMMANDS, main, overview
from infinitetalk.core.knobs import CONTROLS

HEAVY = ("torch", "numpy", "av", "rich", "gradio", "transformers", "PIL", "safetensors")
PROBE = """
import json, sys
from infinitetalk.cli.main import main
code = main(sys.argv[1:])
sys.stderr.write(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
sys.exit(code)
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "infinitetalk", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [("--help",), ("generate", "--help"), ("--version",)], ids=" ".join)
def test_help_takes_less_than_half_a_second(words: tuple[str, ...]) -> None:
    # Processor time, the least of three: the machine may be busy with other things.
    seconds = []
    for _ in range(3):
        before = os.times()
        assert run(*words).returncode == 0
        after = os.times()
        seconds.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        *((command.name, "--help") for command in COMMANDS),
        ("generate", "--image", "a.png", "--steps", "0"),
    ],
    ids=" ".join,
)
def test_no_heavy_import_before_the_request_is_known(words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=False)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert not loaded & set(HEAVY)


def test_a_poor_terminal_shows_question_marks() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "infinitetalk", "generate", "--größe"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: --gr??e is not known here")


def test_help_of_a_command_by_the_other_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "verify"]) == 0
    assert capsys.readouterr().out.startswith("usage: infinitetalk verify DIR")


def test_overview_groups_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert text == overview()
    assert all(f"  {command.name} " in text for command in COMMANDS)
    groups = [command.group for command in COMMANDS]
    assert all(text.count(f"{group}:") == 1 for group in set(groups))
    assert max(map(len, text.splitlines())) <= 90


def test_generate_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for control in CONTROLS:
        assert f" {control.flag}" in text
        assert control.knob.help in text
    assert "example: infinitetalk generate" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_itself(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command.name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: infinitetalk {command.name} ")
    assert command.summary[1:] in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("generat",), "generat is no command; there are"),
        (("generate", "--stesp", "3"), "--stesp is not known here; did you mean --steps"),
        (("generate", "--steps", "many"), "--steps: 'many' is not a whole number"),
        (("generate", "--shift", "x"), "--shift: 'x' is not a number"),
        (("generate", "--box", "1,2,3"), "--box: '1,2,3' must be four numbers"),
        (("generate", "--image"), "--image: expected one argument"),
        (("verify",), "DIR"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_wrong_words_get_one_line_and_exit_code_2(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert told in captured.err
