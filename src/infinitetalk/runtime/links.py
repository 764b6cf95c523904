"""Processes of one machine that tell each other things: a first one, and others that call it.

Messages are pickled. A connection takes nobody who does not know its token, which others than this user never see.
"""

import contextlib
import hmac
import json
import os
import pickle
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, NamedTuple

HOST = "127.0.0.1"
_TOKEN = 32


class Address(NamedTuple):
    """Where the first process listens, and the word that it wants to hear."""

    port: int
    token: str


class Link:
    """A connection to another process, whose messages a thread hands on as they come.

    Args:
        heard: called with each message, in that thread.
        lost: called once, in that thread, when the other end is gone or this one was closed.
    """

    def __init__(self, line: Connection, heard: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._line = line
        self._heard, self._lost = heard, lost
        self._sending = threading.Lock()

    def listen(self) -> None:
        """Begins to hand messages on."""
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: object) -> None:
        """Sends a message; to nobody if the other end is gone, which `lost` tells."""
        with self._sending, contextlib.suppress(OSError):
            self._line.send_bytes(pickle.dumps(message))

    def close(self) -> None:
        """Ends the connection; the other end notices."""
        with contextlib.suppress(OSError):
            # A thread that waits for a message is woken by this, not by closing.
            _shut(self._line)

    def _listen(self) -> None:
        try:
            while True:
                self._heard(pickle.loads(self._line.recv_bytes()))
        except (EOFError, OSError):
            self._lost()


def _shut(line: Connection) -> None:
    with socket.socket(fileno=os.dup(line.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


class Harbour:
    """Where the first process waits for the others' calls."""

    def __init__(self) -> None:
        self._server = socket.create_server((HOST, 0))
        self.address = Address(self._server.getsockname()[1], secrets.token_hex(_TOKEN // 2))

    def accept(self, seconds: float) -> Connection | None:
        """The next caller who knows the token; None if there is none within so many seconds."""
        self._server.settimeout(seconds)
        try:
            caller, _ = self._server.accept()
        except TimeoutError:
            return None
        caller.settimeout(seconds)
        with contextlib.suppress(OSError):
            said = caller.recv(_TOKEN, socket.MSG_WAITALL)
            if hmac.compare_digest(said, self.address.token.encode()):
                caller.settimeout(None)
                return Connection(caller.detach())
        caller.close()
        return None

    def close(self) -> None:
        """No more calls."""
        self._server.close()


def call(address: Address) -> Connection:
    """Calls the first process.

    Raises:
        OSError: it is not there.
    """
    line = socket.create_connection((HOST, address.port))
    line.sendall(address.token.encode())
    return Connection(line.detach())


class Helper:
    """A process that this one started; what it says goes into a file of its own."""

    def __init__(self, module: str, address: Address, rank: int) -> None:
        self.rank = rank
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", module]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._said, stderr=self._said, env=environment, cwd=Path.cwd()
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone already, which is found out soon
            self.process.stdin.write(json.dumps([*address, rank]).encode() + b"\n")
            self.process.stdin.close()

    def fate(self) -> str:
        """How it ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        code = self.process.poll()
        if code is None:
            return "its connection was lost"
        if code < 0:
            cause = "; the system may have run out of main memory" if code == -9 else ""
            return f"the process was ended by signal {-code}{cause}"
        self._said.seek(0)
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        return f"the process ended with code {code}" + (f" ({lines[-1].strip()})" if lines else "")

    def end(self, patience: float) -> None:
        """Waits for it to end, and then sees to it."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._said.close()


def instructions() -> tuple[Address, int]:
    """What a helper is told by who started it: whom to call, and its number."""
    port, token, rank = json.loads(sys.stdin.readline())
    return Address(port, token), rank
