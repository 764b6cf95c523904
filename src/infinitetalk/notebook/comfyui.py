"""ComfyUI on a notebook's machine, with InfiniteTalk's nodes, behind a tunnel."""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from infinitetalk.core.errors import MachineError
from infinitetalk.notebook.plain import plain
from infinitetalk.runtime.device import Device

NODES = "comfyui-infinitetalk"
PATIENCE = 300.0
"""Seconds in which ComfyUI, or its tunnel, has to answer."""
_ADDRESS = re.compile(r"https://[\w-]+\.trycloudflare\.com")


@plain
def add_nodes(checkout: Path, nodes: Path) -> None:
    """Puts the nodes into a checkout of ComfyUI.

    Raises:
        CellError: no such checkout, or no such nodes.
    """
    for folder, file in ((checkout, "main.py"), (nodes, "nodes.py")):
        if not (folder / file).is_file():
            raise MachineError(f"{folder} has no {file}: run the cell of the installation again")
    place = checkout / "custom_nodes" / NODES
    place.parent.mkdir(exist_ok=True)
    if place.is_symlink():
        place.unlink()
    if not place.exists():
        place.symlink_to(nodes.resolve(), target_is_directory=True)


@dataclass(slots=True)
class Running:
    """ComfyUI at work, and its tunnel if it has one."""

    address: str
    processes: tuple["subprocess.Popen[bytes]", ...]
    log: Path

    def wait(self) -> None:
        """Returns when ComfyUI ends, or the cell is interrupted; nothing is left running."""
        try:
            self.processes[0].wait()
        except KeyboardInterrupt:
            print("Stopped.")  # noqa: T201 (a cell's output)
        finally:
            self.close()

    def close(self) -> None:
        """Ends both."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)


@plain
def start(checkout: Path, port: int = 8188, words: Sequence[str] = (), tunnel: Path | None = None) -> Running:
    """Starts ComfyUI and waits until it answers; its address is printed.

    Args:
        checkout: of ComfyUI.
        port: on this machine.
        words: for ComfyUI's command line; `--cpu` is added where there is no GPU.
        tunnel: cloudflared, for a public address; without a password, so keep it to yourself.

    Raises:
        CellError: it ends, or does not answer.
    """
    log = checkout / "comfyui.log"
    # Without this word ComfyUI looks for a GPU and ends where there is none.
    without_gpu = ["--cpu"] if Device.choose().memory is None and "--cpu" not in words else []
    command = [sys.executable, "main.py", "--listen", "127.0.0.1", "--port", str(port), *without_gpu, *words]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=checkout, stdout=output, stderr=subprocess.STDOUT)
    running = Running(f"http://127.0.0.1:{port}", (server,), log)
    try:
        _answers(running)
        if tunnel is not None:
            _open_tunnel(running, tunnel)
    except BaseException:
        running.close()
        raise
    print(f"ComfyUI: {running.address}")  # noqa: T201 (a cell's output)
    return running


def _answers(running: Running) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if (code := running.processes[0].poll()) is not None:
            told = running.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise MachineError(
                f"ComfyUI ended with {code}: {told[-1] if told else 'it said nothing'}; see {running.log}"
            )
        try:
            with urlopen(f"{running.address}/system_stats", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise MachineError(f"ComfyUI does not answer after {PATIENCE:.0f} s; see {running.log}")


def _open_tunnel(running: Running, program: Path) -> None:
    log = running.log.with_name("tunnel.log")
    with log.open("wb") as output:
        words = [str(program), "tunnel", "--no-autoupdate", "--url", running.address]
        try:
            process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
        except OSError as error:
            raise MachineError(f"{program} cannot be started ({error.strerror}); set TUNNEL to False") from error
    running.processes += (process,)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        if found := _ADDRESS.search(log.read_text(encoding="utf-8", errors="replace")):
            running.address = found[0]
            return
        time.sleep(0.5)
    raise MachineError(f"the tunnel gave no address; see {log}, or set TUNNEL to False")
