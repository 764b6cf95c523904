"""Pictures of ComfyUI's page: each example workflow's graph with the video that it has just made, and frames of all.

    python -m tools.show_comfyui CHECKOUT FOLDER --python VENV/bin/python

Takes what `tools.run_comfyui` takes, and Chromium with its driver. FOLDER gets NAME.jpg for each workflow and
frames.jpg: a row of frames from each video.
"""

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import JavascriptException

from tools.comfyui_graph import GraphError
from tools.run_comfyui import FOOTAGE, ORDER, PATIENCE, Server, read_workflow, serving

FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1920,1200",
         "--enable-unsafe-swiftshader", "--autoplay-policy=no-user-gesture-required")  # fmt: skip
FRAMES, HEIGHT, MARGIN = 6, 192, 60
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False,
            "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}  # fmt: skip

LOAD = "const done = arguments[1]; window.app.loadGraphData(arguments[0]).then(() => done(true));"
QUEUE = "const done = arguments[0]; window.app.queuePrompt(0).then(() => done(true));"
# The canvas shows all nodes, less a margin at the top and left for the page's own bars; gives their right end.
FIT = """
const nodes = window.app.graph._nodes, canvas = window.app.canvas, margin = arguments[0];
const [x0, y0] = [0, 1].map(i => Math.min(...nodes.map(node => node.pos[i] - (i ? 40 : 0))));
const [x1, y1] = [0, 1].map(i => Math.max(...nodes.map(node => node.pos[i] + node.size[i])));
const box = canvas.canvas.getBoundingClientRect();
const scale = Math.min((box.width - 2.5 * margin) / (x1 - x0), (box.height - 3 * margin) / (y1 - y0), 1);
canvas.ds.scale = scale;
canvas.ds.offset = [1.5 * margin / scale - x0, 1.5 * margin / scale - y0];
canvas.setDirty(true, true);
return box.left + 2.5 * margin + scale * (x1 - x0);
"""
SHOWN = "return [...document.querySelectorAll('video')].some(video => video.readyState >= 2)"


@contextmanager
def browser(address: str) -> Iterator[webdriver.Chrome]:
    """Chromium with ComfyUI's page, ready for a graph."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in FLAGS:
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=str(shutil.which("chromedriver")))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_script_timeout(60)
        driver.get(address)
        wait(driver, "return Boolean(window.app && window.app.graph && window.app.canvas)")
        yield driver
    finally:
        driver.quit()


def wait(driver: webdriver.Chrome, script: str, patience: float = 120) -> None:
    """Returns when a script says true.

    Raises:
        GraphError: it does not.
    """
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            if driver.execute_script(script):
                return
        except JavascriptException:  # the page is not there yet
            pass
        time.sleep(0.5)
    raise GraphError(f"the page does not become: {script}")


def shoot(server: Server, driver: webdriver.Chrome, name: str, picture: Path) -> Any:
    """Runs a workflow from the page; gives what its last node showed."""
    before = set(server.ask("/history"))
    driver.execute_async_script(LOAD, read_workflow(name))
    driver.execute_async_script(QUEUE)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not (new := set(server.ask("/history")) - before):
        time.sleep(1)
    told = server.ask("/history")[new.pop()]
    if told["status"]["status_str"] != "success":
        raise GraphError(f"{name}: {told['status']['messages'][-1]}")
    wait(driver, SHOWN)
    right = driver.execute_script(FIT, MARGIN)
    time.sleep(3)  # the page draws when it is idle
    shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    shot.crop((0, 0, min(shot.width, round(right)), shot.height)).save(picture, quality=75, optimize=True)
    (shown,) = [shown for output in told["outputs"].values() for shown in output.get("gifs", [])]
    return shown


def row(video: Path) -> NDArray[np.uint8]:
    """Frames of a video side by side, evenly spaced."""
    with av.open(str(video)) as container:
        frames = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    chosen = [frames[index] for index in np.linspace(0, len(frames) - 1, FRAMES).astype(int)]
    scale = HEIGHT / chosen[0].height
    sized = [frame.resize((round(frame.width * scale), HEIGHT)) for frame in chosen]
    return np.concatenate([np.asarray(frame) for frame in sized], axis=1)


def stacked(rows: list[NDArray[np.uint8]]) -> Image.Image:
    """Rows of their own widths under each other."""
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return Image.fromarray(np.concatenate(padded))


def main() -> int:
    """Takes the pictures; exit code 0, or 1 and a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--port", type=int, default=8198)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        with tempfile.TemporaryDirectory(prefix="comfyui-") as folder:
            base = Path(folder)
            with serving(arguments.checkout, arguments.python.absolute(), base, arguments.port) as server:
                server.ask("/settings", SETTINGS)
                with browser(server.address) as driver:
                    for name in ORDER:
                        shown = shoot(server, driver, name, arguments.folder / f"{name}.jpg")
                        video = base / "output" / shown["subfolder"] / shown["filename"]
                        if name == ORDER[0]:
                            shutil.copy(video, base / "input" / FOOTAGE)
                        rows.append(row(video))
                        sys.stdout.write(f"{name}: {video.name}\n")
                        sys.stdout.flush()
    except GraphError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    stacked(rows).save(arguments.folder / "frames.jpg", quality=75, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
