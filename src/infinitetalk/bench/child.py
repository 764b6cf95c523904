"""One process of a benchmark: a task in JSON on standard input, figures in JSON on the last line of standard output."""

import json
import sys
from importlib import import_module
from typing import Any

from infinitetalk.bench.task import Task
from infinitetalk.core.errors import InfiniteTalkError


def main() -> int:
    """Measures. An error that was meant is one line under `error`, with its exit code."""
    task = Task.from_json(sys.stdin.read())
    subject: Any = import_module(f"infinitetalk.bench.{task.subject}")
    try:
        found = dict(subject.measure(task))
    except InfiniteTalkError as error:
        found = {"error": str(error), "exit_code": error.exit_code}
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
