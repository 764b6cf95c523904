"""Triton's kernels without a GPU."""

import os
import subprocess
import sys
from pathlib import Path


def interpret(code: str) -> None:
    """Runs code in Triton's interpreter, in a process of its own: which one runs is decided at Triton's import."""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
