"""Runs the example workflows in a real ComfyUI on the CPU, and keeps what its server says of their nodes.

    python -m tools.run_comfyui CHECKOUT --python VENV/bin/python [--commit HASH] [--keep FOLDER] [--info FILE.json]

CHECKOUT is a checkout of github.com/Comfy-Org/ComfyUI; VENV holds its requirements and this package. ComfyUI runs in a
folder of its own with these nodes and no others. The videos that it saves are left in FOLDER; FILE.json gets the
server's /object_info of all nodes that the workflows use, with ComfyUI's commit.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infinitetalk.cli.demo import INPUTS
from tools.comfyui_graph import GraphError, to_prompt

ROOT = Path(__file__).parents[1]
NODES = ROOT / "comfyui"
WORKFLOWS = NODES / "example_workflows"
INFO = ROOT / "tests" / "comfyui" / "object_info.json"
OURS = "InfiniteTalk"
FOOTAGE = "talking.mp4"
"""What the workflow `dubbing` dubs: the video that the workflow `image` made."""
ORDER = ("image", "dubbing", "two_people")
PATIENCE = 1800.0


class Server:
    """A running ComfyUI."""

    def __init__(self, address: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.address = address
        self._process = process
        self._log = log

    def ask(self, path: str, body: Any = None) -> Any:
        """A JSON answer; None for an empty one.

        Raises:
            GraphError: what the server refused.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise GraphError(f"{path}: {error.read().decode(errors='replace')[:2000]}") from error

    def wait(self) -> None:
        """Returns when it answers."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise GraphError(f"ComfyUI ended with {self._process.returncode}: {self._log.read_text()[-2000:]}")
            try:
                self.ask("/system_stats")
                return
            except OSError:
                time.sleep(1)
        raise GraphError("ComfyUI does not answer")

    def run(self, prompt: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a graph's nodes gave, by node.

        Raises:
            GraphError: a node that failed.
        """
        number = self.ask("/prompt", {"prompt": prompt})["prompt_id"]
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            told = self.ask(f"/history/{number}").get(number)
            if told is not None:
                status = told["status"]
                if status["status_str"] != "success":
                    raise GraphError(json.dumps(status["messages"][-1])[:2000])
                outputs: Mapping[str, Any] = told["outputs"]
                return outputs
            time.sleep(1)
        raise GraphError("the workflow did not end")


@contextmanager
def serving(checkout: Path, python: Path, base: Path, port: int) -> Iterator[Server]:
    """ComfyUI on the CPU, with this project's nodes, while the block runs."""
    for name in ("custom_nodes", "input", "output", "models"):
        (base / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(NODES, base / "custom_nodes" / "comfyui-infinitetalk", dirs_exist_ok=True)
    for path in INPUTS.glob("*.*"):
        shutil.copy(path, base / "input" / path.name)
    where = ["--base-directory", str(base), "--listen", "127.0.0.1", "--port", str(port)]
    words = [str(python), "main.py", "--cpu", *where, "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    log = base / "comfyui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, cwd=checkout, stdout=output, stderr=subprocess.STDOUT)
        server = Server(f"http://127.0.0.1:{port}", process, log)
        try:
            server.wait()
            yield server
        finally:
            process.terminate()
            process.wait(30)


def read_workflow(name: str) -> dict[str, Any]:
    """An example workflow."""
    content: dict[str, Any] = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def commit_of(checkout: Path) -> str:
    """The commit that is checked out.

    Raises:
        GraphError: a folder that is no checkout.
    """
    words = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    if found.returncode or not (checkout / ".git").exists():
        raise GraphError(f"{checkout} is no git checkout; give --commit")
    return found.stdout.strip()


def used(info: Mapping[str, Any], commit: str) -> dict[str, Any]:
    """What a server says of this project's nodes and of the others in the workflows; the machine's files left out."""
    kinds = {node["type"] for name in ORDER for node in read_workflow(name)["nodes"]}
    kinds |= {kind for kind in info if kind.startswith(OURS)}
    return {"commit": commit, "nodes": {kind: info[kind] for kind in sorted(kinds)}}


def missing_link(server: Server, info: Mapping[str, Any]) -> str:
    """What the server says at the node of a workflow from which the link to the voices was taken.

    Raises:
        GraphError: it takes such a workflow.
    """
    prompt = to_prompt(read_workflow(ORDER[0]), info)
    for node in prompt.values():
        if node["class_type"] == f"{OURS}TalkSampler":
            del node["inputs"]["voices"]
    try:
        server.ask("/prompt", {"prompt": prompt})
    except GraphError as error:
        told = json.loads(str(error).partition(": ")[2])
        ((problem, *_),) = (node["errors"] for node in told["node_errors"].values())
        return f"{problem['message']}: {problem['details']}"
    raise GraphError("a workflow without voices is not refused")


def run_all(server: Server, base: Path) -> Iterator[tuple[str, Path, float]]:
    """Each workflow's name, video and seconds."""
    info = server.ask("/object_info")
    for name in ORDER:
        started = time.monotonic()
        outputs = server.run(to_prompt(read_workflow(name), info))
        (shown,) = [shown for told in outputs.values() for shown in told.get("gifs", [])]
        video = base / "output" / shown["subfolder"] / shown["filename"]
        if name == ORDER[0]:
            shutil.copy(video, base / "input" / FOOTAGE)
        yield name, video, time.monotonic() - started


def main() -> int:
    """Runs all; exit code 0, or 1 and a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--commit", help="of the checkout, where git cannot tell")
    parser.add_argument("--keep", type=Path, help="folder for the videos")
    parser.add_argument("--info", type=Path, default=INFO, help="where the server's words go")
    parser.add_argument("--port", type=int, default=8199)
    arguments = parser.parse_args()
    try:
        commit = arguments.commit or commit_of(arguments.checkout)
        with tempfile.TemporaryDirectory(prefix="comfyui-") as folder:
            base = Path(folder)
            with serving(arguments.checkout, arguments.python.absolute(), base, arguments.port) as server:
                for name, video, seconds in run_all(server, base):
                    sys.stdout.write(f"{name}: {video.name}, {video.stat().st_size} bytes, {seconds:.0f} s\n")
                    if arguments.keep is not None:
                        arguments.keep.mkdir(parents=True, exist_ok=True)
                        shutil.copy(video, arguments.keep / f"{name}.mp4")
                info = server.ask("/object_info")
                told = used(info, commit) | {"missing_link": missing_link(server, info)}
        arguments.info.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    except GraphError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
