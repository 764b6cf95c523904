"""Commands of the program as processes of their own which need not load its libraries again.

A server, started once, has loaded them; each command is a copy of it, and is stopped, killed and waited for like any
other process. That `python -m infinitetalk` starts by itself is tried in tests/faces.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Self

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["infinitetalk.cli.main", "infinitetalk.engine.job", "infinitetalk.engine.engine", "infinitetalk.server.run"]
)


def _run(words: Sequence[str], code: str | None, told: str, errors: str, variables: Mapping[str, str]) -> None:
    """What the new process does: the command, or code that begins it in a way of its own."""
    import torch

    from infinitetalk.cli.main import main

    # Started in a shell's background, these tests ignore SIGINT, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= variables
    for path, number, how in ((told, 1, os.O_TRUNC), (errors, 2, os.O_APPEND)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.argv = ["infinitetalk", *words]
    torch.set_num_threads(1)  # as many as the tests have
    if code is None:
        sys.exit(main(words))
    exec(code, {"__name__": "__main__"})


class Started:
    """A command that was started: what `subprocess.Popen` is for another program.

    Args:
        words: what follows the program's name.
        told: the file that gets its output.
        errors: the file to which its errors are added.
        code: begins it in a way of its own, with the words as its arguments.
        variables: of its environment, beside those of the tests.
    """

    def __init__(
        self, words: Sequence[str], told: Path | str, errors: Path | str, code: str | None = None, **variables: str
    ) -> None:
        self._process = _CONTEXT.Process(target=_run, args=([*words], code, str(told), str(errors), variables))
        self._process.start()

    def poll(self) -> int | None:
        """How it ended, if it has."""
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int | None:
        """Waits for its end; minus a signal's number, if one ended it."""
        self._process.join(seconds)
        return self._process.exitcode

    def send(self, number: int) -> None:
        """Sends a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Ends it, if it has not ended, and waits for that."""
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        self.wait()


def finished(words: Sequence[str], code: str | None = None) -> CompletedProcess[str]:
    """Runs a command to its end: what `subprocess.run` is for another program."""
    with tempfile.TemporaryDirectory() as folder:
        told, errors = Path(folder, "told"), Path(folder, "errors")
        with Started(words, told, errors, code) as process:
            ended = process.wait()
        assert ended is not None
        return CompletedProcess([*words], ended, *(path.read_text(encoding="utf-8") for path in (told, errors)))
