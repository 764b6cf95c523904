"""Files that strangers sent, decoded in a limited process before anything else opens them."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinitetalk.core.errors import InfiniteTalkError, MachineError, MediaError

_GRACE = 20.0
"""Seconds beside those of the processor: starting, reading and waiting for others."""

_PASSED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "LANG")
"""What the process sees of the environment: no token and no password of a database is in it."""


class RefusedMediaError(InfiniteTalkError):
    """What the limited process said of a file, in its words."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What decoding the files of one request may take."""

    seconds: int = 60
    """Of processor time."""
    memory: int = 2 * 2**30
    """Bytes of address space; on Windows there is no such limit."""
    pixels: int = 36_000_000
    """Of a picture or a frame."""
    longest: float = 600.0
    """Seconds that a sound or video may last."""

    def decode(self, files: Sequence[tuple[str, Path]]) -> list[dict[str, Any]]:
        """Decodes files whole; gives what each holds: `seconds`, or `width` and `height`, or all of them.

        Args:
            files: kind (`picture`, `sound`, `video` or `mask`) and path.

        Raises:
            RefusedMediaError: one cannot be decoded, or is too large or too long.
            MediaError: decoding took too much time or memory, or ended the process.
            MachineError: the process cannot be started.
        """
        if not files:
            return []
        limits = {"seconds": self.seconds, "memory": self.memory, "pixels": self.pixels, "longest": self.longest}
        question = limits | {"files": [(kind, str(path)) for kind, path in files]}
        answer = self._ask(json.dumps(question), files)
        if "error" in answer:
            raise RefusedMediaError(answer["error"])
        if "facts" not in answer:
            raise MediaError(_names(files), self._too_much())
        facts: list[dict[str, Any]] = answer["facts"]
        return facts

    def _ask(self, question: str, files: Sequence[tuple[str, Path]]) -> dict[str, Any]:
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        # Threads of libraries would each reserve address space.
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        command = [sys.executable, "-m", "infinitetalk.media.probe"]
        try:
            done = subprocess.run(command, input=question, env=environment, capture_output=True, text=True, check=False,
                                  timeout=self.seconds + _GRACE)  # fmt: skip
            answer: dict[str, Any] = json.loads(done.stdout)
        except subprocess.TimeoutExpired as error:
            raise MediaError(_names(files), self._too_much()) from error
        except OSError as error:
            raise MachineError(f"files cannot be looked at now ({error.strerror}); try again later") from error
        except ValueError as error:  # killed, by its limits or by what it read
            raise MediaError(_names(files), self._too_much()) from error
        return answer

    def _too_much(self) -> str:
        takes = f"more than {self.seconds} s or {self.memory / 2**30:g} GB to decode, or damage that ends the decoder"
        return f"needs {takes}; re-save it, or send less"


def _names(files: Sequence[tuple[str, Path]]) -> str:
    return ", ".join(str(path) for _, path in files)
