"""Somebody at a browser: opens the studio, gives files, clicks, and waits for what the page shows."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--window-size=1280,1600",
)
PATIENCE = 150
"""Seconds until something is taken for broken; machines that run tests may be slow."""

_WATCH = """
window.refusals = [];
addEventListener("securitypolicyviolation", (event) =>
  refusals.push([event.effectiveDirective, event.blockedURI, event.sample].join(" ")));
"""
"""Remembers what the page's own policy has kept it from doing."""

VIDEO = "(document.querySelector('#result video') || document.querySelector('video'))"


@contextmanager
def opened(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a profile, and so with cookies, of its own."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.fail("the studio is tested in a real browser: install chromium and chromedriver (make browser does)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    window.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
    try:
        yield window
    finally:
        window.quit()


@dataclass(frozen=True)
class Visitor:
    """A browser at the studio's address."""

    browser: webdriver.Chrome
    address: str

    def arrive(self, query: str = "") -> None:
        """Opens the page and waits until it can be used."""
        self.browser.get(f"{self.address}{query}")
        self.ready()

    def ready(self) -> None:
        """Waits until the page has got its answers from the server."""
        self.until(
            lambda: self.find("#make") and self.find("#banner .chips") and self.find("#gallery .none, #gallery .card")
        )

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Waits for a condition; elements that are replaced meanwhile are no error."""
        waiting = WebDriverWait(self.browser, seconds, 0.1, ignored_exceptions=[StaleElementReferenceException])
        try:
            waiting.until(lambda _: condition())
        except TimeoutException:
            shown = {css: self.text(css) for css in ("#progress", "#told", "#estimate", "#gallery", ".toast-wrap", "p")}
            error = self.run(f"return {VIDEO}?.error?.message")
            pytest.fail(f"not within {seconds:g} s; the page says {shown}, the player {self.watched()} {error}")

    def refusals(self) -> object:
        """What the page's content security policy has refused."""
        return self.run("return window.refusals")

    def find(self, css: str) -> WebElement | None:
        """The first element, if there is one."""
        found = self.browser.find_elements(By.CSS_SELECTOR, css)
        return found[0] if found else None

    def see(self, css: str) -> WebElement:
        """The first element that is shown, as soon as there is one."""
        self.until(lambda: (one := self.find(css)) and one.is_displayed())
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def click(self, css: str) -> None:
        """Brings an element into the middle and clicks it."""
        element = self.see(css)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        self.until(element.is_enabled)
        element.click()

    def text(self, css: str) -> str:
        """What an element says; nothing if it is not there."""
        element = self.find(css)
        return element.text.strip() if element else ""

    def run(self, script: str, *values: object) -> object:
        """What a script gives."""
        return self.browser.execute_script(script, *values)

    def give(self, field: str, path: Path, shown: str) -> None:
        """Gives a file, and waits until the page shows the server's copy: a click before that comes without it."""
        self.until(lambda: self.find(f"#{field} input[type=file]"))
        self.browser.find_element(By.CSS_SELECTOR, f"#{field} input[type=file]").send_keys(str(path))
        self.until(lambda: self.find(f"#{field} {shown}"))

    def give_picture(self, path: Path) -> None:
        """Gives the portrait."""
        self.give("picture", path, "img")

    def give_voice(self, path: Path, number: int = 1) -> None:
        """Gives a voice."""
        self.give(f"voice-{number}", path, ":is([data-testid*=waveform], audio, .waveform-container)")

    def write(self, css: str, text: str) -> None:
        """Replaces what is in a field, as somebody types."""
        field = self.find(css)
        assert field is not None
        self.run("arguments[0].value = ''", field)
        field.send_keys(text)

    def is_making(self) -> bool:
        """Whether a job is at work, and the page says so."""
        return bool(self.find("#progress .stages")) and not self.text("#told")

    def watched(self) -> tuple[str, float]:
        """What the player plays, and the second at which it is."""
        found = self.run(f"const v = {VIDEO}; return v ? [v.getAttribute('src') || '', v.currentTime] : ['', 0]")
        assert isinstance(found, list)
        return str(found[0]), float(found[1])

    def plays_live(self) -> bool:
        """Whether a video that is still being made moves."""
        source, second = self.watched()
        return ".m3u8?" in source and second > 0.1

    def finished(self) -> float:
        """Waits for the finished video to be playable; gives its seconds."""
        self.until(lambda: "/video?" in self.watched()[0])
        self.until(lambda: self.run(f"return {VIDEO}.readyState >= 2"))
        length = self.run(f"return {VIDEO}.duration")
        assert isinstance(length, int | float)
        return float(length)
