"""The web page in a real browser: upload, click, watch."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from gradio.components import Component
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from infinitetalk.app.app import Page, build, serving
from infinitetalk.cli.main import main
from infinitetalk.core.defaults import choose_size
from infinitetalk.core.knobs import CONTROLS
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.stages import Stage
from infinitetalk.engine.job import Workshop
from infinitetalk.weights.folder import ModelFolder

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1600",
)

MEDIA = Path(__file__).parents[1] / "media" / "fixtures"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.fail("the page is tested in a real browser: install chromium and chromedriver (make browser does)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'browser'}"):
        options.add_argument(flag)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield window
    finally:
        window.quit()


@pytest.fixture
def page(shown_model: str, browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    with serving(shown_model, host="127.0.0.1", port=None, share=False, device="cpu") as served:
        browser.get(str(served.local_url))
        wait_for(browser, lambda: find(browser, "#make"))
        yield browser


def find(browser: webdriver.Chrome, css: str) -> WebElement | None:
    found = browser.find_elements(By.CSS_SELECTOR, css)
    return found[0] if found else None


def wait_for(browser: webdriver.Chrome, condition: Callable[[], object], seconds: float = 60) -> None:
    WebDriverWait(browser, seconds).until(lambda _: condition())


def upload(browser: webdriver.Chrome, field: str, path: Path) -> None:
    """Gives a file, and waits until the page shows the server's copy: a click before that comes without the file."""
    wait_for(browser, lambda: find(browser, f"#{field} input[type=file]"))
    browser.find_element(By.CSS_SELECTOR, f"#{field} input[type=file]").send_keys(str(path))
    wait_for(browser, lambda: any("file=" in name and name.endswith(path.name) for name in loaded(browser)))


def loaded(browser: webdriver.Chrome) -> list[str]:
    """Addresses of all that the page has loaded so far."""
    names: list[str] = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    return names


def click(browser: webdriver.Chrome) -> None:
    browser.find_element(By.CSS_SELECTOR, "#make").click()


def test_upload_click_watch(page: webdriver.Chrome, shown_model: str, portrait: Path, voice: Path) -> None:
    facts = ModelFolder.open(shown_model).facts
    size = choose_size(facts.defaults.size, Pixels(96, 96), facts.buckets)
    upload(page, "picture", portrait)
    upload(page, "voice-1", voice)
    wait_for(page, lambda: find(page, "#picture img"))
    wait_for(page, lambda: find(page, "#voice-1 [data-testid*=waveform], #voice-1 audio, #voice-1 .waveform-container"))
    click(page)
    wait_for(page, lambda: find(page, "#result video[src]"), 300)
    video = "document.querySelector('#result video')"
    wait_for(page, lambda: page.execute_script(f"return {video}.readyState >= 2"))
    assert page.execute_script(f"return [{video}.videoWidth, {video}.videoHeight]") == [size.width, size.height]
    assert page.execute_script(f"return {video}.duration") == pytest.approx(1.2, abs=0.1)
    assert str(size) in page.find_element(By.CSS_SELECTOR, "#told").text
    assert find(page, "#settings") is not None


def test_a_refusal_is_one_line(page: webdriver.Chrome, portrait: Path) -> None:
    upload(page, "picture", portrait)
    wait_for(page, lambda: find(page, "#picture img"))
    click(page)
    wait_for(page, lambda: "give at least one sound file" in page.find_element(By.TAG_NAME, "body").text)


def test_nothing_comes_from_elsewhere(page: webdriver.Chrome) -> None:
    time.sleep(1)
    here = page.current_url.rstrip("/")
    assert [name for name in loaded(page) if not name.startswith((here, "data:", "blob:"))] == []


def test_the_command_serves_the_page_until_ctrl_c(tiny_folder: Path) -> None:
    command = [sys.executable, "-u", "-m", "infinitetalk", "app", "--model", str(tiny_folder), "--device", "cpu"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background would have its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stdout is not None
    address = next(line for line in process.stdout if "Running on local URL" in line).split()[-1]
    with urlopen(address) as answer:
        assert b"InfiniteTalk" in answer.read()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_model_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--model", "nothing"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: model nothing: there is no such folder")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_no_machine_has_is_refused(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", f"--port={port}"]) == 2
    assert capsys.readouterr().err == f"error: port = {port}: must be from 1 to 65535\n"


def test_a_port_that_is_taken_is_one_line(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", "--model", str(tiny_folder), "--device", "cpu", "--port", str(port)]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: 127.0.0.1:{port} cannot be served: it is taken")


def test_the_form_takes_a_video_and_two_people(
    tiny_folder: Path, tmp_path: Path, voice: Path, make_voice: Callable[..., Path]
) -> None:
    names = ("model", "video", "audio", "audio", "boxes", "steps", "duration")
    voices = (str(voice), str(make_voice("second.wav", 0.5)))
    values = (str(tiny_folder), str(MEDIA / "25.mp4"), *voices, "0,0,0.5,1; 0.5,0,1,1", "1", "0.4")
    told: list[tuple[float, str]] = []
    page = Page(Workshop("cpu"), tmp_path, names)
    video, settings, line, job = page.make(*values, progress=lambda share, desc: told.append((share, desc)))
    assert Path(video).parent == Path(job)
    assert json.loads(Path(settings["value"]).read_text())["frames"] == 10
    assert line.startswith("0.4 s, ")
    assert {desc.partition(" ·")[0] for _, desc in told} == {stage.value for stage in Stage} - {"frame interpolation"}
    assert told[-1][0] > 0.5
    assert [share for share, _ in told] == sorted(share for share, _ in told), "the bar never goes back"


def test_every_setting_has_a_widget(tiny_folder: Path, tmp_path: Path) -> None:
    page = build(Workshop("cpu"), tmp_path, str(tiny_folder))
    labels = {block.label for block in page.blocks.values() if isinstance(block, Component)}
    special = {"image": "Picture", "audio": "Voice"}
    assert {special.get(control.name, control.label) for control in CONTROLS} <= labels


def test_without_gradio_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("infinitetalk.app.app", "infinitetalk.app.widgets"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 1
    assert capsys.readouterr().err == "error: the web page needs gradio: pip install 'infinitetalk[app]'\n"
