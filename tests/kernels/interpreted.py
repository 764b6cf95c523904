"""Triton's kernels without a GPU."""

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

# What code prints goes where errors go: the answers have the standard output to themselves.
_LOOP = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    try:
        exec(json.loads(line), {"__name__": "interpreted"})
        told = ""
    except BaseException:
        told = traceback.format_exc()
    print(json.dumps(told), file=answers, flush=True)
"""


@cache
def _interpreter() -> "subprocess.Popen[str]":
    """One process for all tests of this one: it is decided at Triton's import that it interprets, and imports cost."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    process = subprocess.Popen(
        [sys.executable, "-c", _LOOP], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.communicate)
    return process


def interpret(code: str) -> None:
    """Runs code in Triton's interpreter, in a process apart."""
    process = _interpreter()
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(code) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, f"the interpreter died: {process.wait(60)}"
    told = json.loads(answer)
    assert not told, told[-2000:]
