"""The built site in a real browser: light, dark, on a phone; it asks no other host for anything, and is searched.

`DOCS_SHOTS=docs/images pytest tests/docs/test_browser.py` writes the documents' pictures of it.
"""

import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.studio.visitor import PATIENCE, opened

SHOTS = os.environ.get("DOCS_SHOTS")
PAGES = (
    "index", "start/one-gpu", "results", "settings", "performance", "architecture", "troubleshooting", "migration",
    "formats", "stages", "models",
)  # fmt: skip
SHOWN = {"light": "index", "dark": "architecture"}
DESKTOP, PHONE = (1280, 900), (390, 844)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the built site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with opened(tmp_path_factory.mktemp("browser")) as window:
        yield window


def show(browser: webdriver.Chrome, url: str, scheme: str, size: tuple[int, int]) -> None:
    """Opens a page as somebody sees it who prefers light or dark."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(url)
    WebDriverWait(browser, PATIENCE).until(
        lambda window: window.execute_script("return document.readyState === 'complete' && [...document.images]"
                                             ".every(image => image.complete && image.naturalWidth > 0)")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        pytest.param("light", DESKTOP, id="light-desktop"),
        pytest.param("dark", PHONE, id="dark-phone"),
        pytest.param("dark", DESKTOP, id="dark-desktop", marks=pytest.mark.full),
        pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.full),
    ],
)
def test_pages_fit_and_ask_no_other_host(
    scheme: str, size: tuple[int, int], browser: webdriver.Chrome, address: str
) -> None:
    for page in PAGES:
        show(browser, f"{address}/{page}.html", scheme, size)
        asked = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
        assert len(asked) > 3
        assert [url for url in asked if not url.startswith((address, "data:"))] == []
        wide = browser.execute_script("return document.scrollingElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{page} is {wide} pixels too wide"
        if size == DESKTOP:
            tall = browser.execute_script("return Math.max(0, ...[...document.querySelectorAll('tr')]"
                                          ".map(row => row.offsetHeight))")  # fmt: skip
            assert tall < 260, f"{page}: a row of a table is {tall} pixels tall"
        body = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in body.strip("rgba()").split(",")[:3]) > 380
        assert light == (scheme == "light"), f"{page} is {body}"
        if SHOTS and size == DESKTOP and SHOWN[scheme] == page:
            with Image.open(BytesIO(browser.get_screenshot_as_png())) as shot:
                small = shot.convert("RGB").resize((880, 880 * shot.height // shot.width), Image.Resampling.LANCZOS)
                small.save(Path(SHOTS) / f"site-{scheme}.jpg", quality=65, optimize=True)


def test_a_setting_is_found(browser: webdriver.Chrome, address: str) -> None:
    show(browser, f"{address}/index.html?q=noise-floor", "light", DESKTOP)
    browser.find_element(By.CSS_SELECTOR, ".md-search__input").click()
    WebDriverWait(browser, PATIENCE).until(
        lambda window: any(
            (link.get_attribute("href") or "").startswith(f"{address}/settings.html")
            for link in window.find_elements(By.CSS_SELECTOR, "a.md-search-result__link")
        )
    )
