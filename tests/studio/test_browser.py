"""The studio in a real browser: make, watch, draw, stop, come back; two users; wrong files; phone; keyboard."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys

from infinitetalk.app.app import serving
from infinitetalk.core.knobs import CONTROLS
from infinitetalk.media import speakers
from tests.faces.conftest import RATE, write_portrait, write_voice
from tests.studio.visitor import Visitor, opened

SHOTS = os.environ.get("STUDIO_SHOTS")
"""A folder for the documents' pictures."""


@dataclass(frozen=True)
class Served:
    """A studio that runs, and files to give it."""

    address: str
    jobs: Path
    portrait: Path
    voice: Path
    """Several windows long."""
    short: Path

    def newest(self) -> dict[str, Any]:
        """The request of the job that was taken last."""
        with closing(sqlite3.connect(self.jobs / "jobs.sqlite")) as store:
            (request,) = store.execute("SELECT request FROM infinitetalk_jobs ORDER BY number DESC LIMIT 1").fetchone()
        found: dict[str, Any] = json.loads(request)
        return found


class _Buzz:
    """Speaks every text as a buzz: no program has to be there."""

    def voices(self) -> list[str]:
        return ["buzz"]

    def speak(self, words: str, voice: str) -> tuple[NDArray[np.float32], int]:  # noqa: ARG002
        times = np.arange(len(words) * RATE // 20) / RATE
        return (0.2 * np.sign(np.sin(2 * np.pi * 120 * times))).astype(np.float32), RATE


@pytest.fixture(scope="module", params=["tiny", pytest.param("nano", marks=pytest.mark.full)])
def studio(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The page, with few steps that take long enough to be watched."""
    folder = tmp_path_factory.mktemp("studio")
    tiny = request.param == "tiny"
    model, seconds, usual = (str(tiny_folder), 4, {"steps": 10}) if tiny else ("nano", 8, {"steps": 3})
    portrait = write_portrait(folder / "portrait.png", 160)
    voice, short = write_voice(folder / "voice.wav", seconds), write_voice(folder / "short.wav", 0.6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speakers, "SPEAKERS", speakers.SPEAKERS)  # the very dictionary that the form reads
        patch.setitem(speakers.SPEAKERS, "espeak", _Buzz())
        with serving(
            model, host="127.0.0.1", port=None, share=False, device="cpu", folder=folder / "jobs", usual=usual
        ) as page:
            yield Served(str(page.local_url), folder / "jobs", portrait, voice, short)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with opened(tmp_path_factory.mktemp("browser")) as window:
        yield window


@pytest.fixture
def visitor(studio: Served, browser: webdriver.Chrome) -> Iterator[Visitor]:
    """Somebody new: without cookies, at a page of their own."""
    one = Visitor(browser, studio.address)
    browser.delete_all_cookies()
    one.arrive()
    yield one
    assert one.refusals() == [], "the page does nothing that its own policy refuses"
    stop = one.find("#stop")
    if stop is not None and stop.is_displayed():
        stop.click()
        one.until(lambda: one.text("#told"))


def begin(visitor: Visitor, studio: Served) -> None:
    """Asks for a video of several windows and waits until a part of it is watched."""
    visitor.give_picture(studio.portrait)
    visitor.give_voice(studio.voice)
    visitor.click("#make")
    visitor.until(lambda: visitor.is_making() and visitor.plays_live())


def test_a_video_is_watched_while_it_is_made_and_afterwards(visitor: Visitor, studio: Served) -> None:
    begin(visitor, studio)
    assert "still being made" in visitor.text("#result .badge")
    assert "window" in visitor.text("#progress .headline")
    visitor.until(lambda: "left" in visitor.text("#progress .headline"))
    whole = 4.0 if "tiny" in studio.newest()["model"] else 8.0
    assert visitor.finished() == pytest.approx(whole, abs=0.1)
    assert f"{whole:.1f} s" in visitor.text("#told")
    assert "1 second" not in visitor.text("#told")
    visitor.until(lambda: visitor.find("#gallery .card video"))
    assert "steps" in (visitor.see("#gallery .card").get_attribute("textContent") or "").lower()


def test_stop_keeps_what_is_finished_and_go_on_makes_the_rest(visitor: Visitor, studio: Served) -> None:
    begin(visitor, studio)
    visitor.click("#stop")
    visitor.until(lambda: "are finished and stay" in visitor.text("#told"))
    kept = visitor.finished()
    assert 0 < kept < 8
    visitor.click("#gallery [data-act=on]")
    visitor.until(lambda: "made in" in visitor.text("#told"))
    visitor.until(lambda: visitor.finished() > kept)
    assert "resumed at window" in visitor.text("#told")


def test_a_page_that_is_loaded_again_shows_the_job_at_work(visitor: Visitor, studio: Served) -> None:
    begin(visitor, studio)
    visitor.browser.refresh()
    visitor.ready()
    visitor.until(lambda: visitor.is_making() and ".m3u8?" in visitor.watched()[0])
    visitor.click("#stop")
    visitor.until(lambda: visitor.text("#told"))


def test_a_box_that_is_drawn_is_in_the_request(visitor: Visitor, studio: Served) -> None:
    visitor.give_picture(studio.portrait)
    visitor.give_voice(studio.short)
    visitor.click("#people > button")
    visitor.give_voice(studio.short, 2)
    area = visitor.see("#places svg")
    visitor.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", area)
    side = area.size["width"]
    for left, right in ((0.05, 0.45), (0.55, 0.95)):
        pencil = ActionChains(visitor.browser)
        pencil.move_to_element_with_offset(area, round(side * (left - 0.5)), round(side * -0.4)).click_and_hold()
        pencil.move_to_element_with_offset(area, round(side * (right - 0.5)), round(side * 0.4)).release().perform()
    visitor.until(lambda: visitor.run("return document.querySelectorAll('#places .box').length") == 2)
    visitor.until(lambda: ";" in str(visitor.run(_BOXES)))
    visitor.click("#make")
    visitor.finished()
    wanted = [[8, 16, 72, 144], [88, 16, 152, 144]]
    assert np.abs(np.array(studio.newest()["boxes"]) - wanted).max() <= 2


_BOXES = "return document.querySelector('#boxes :is(textarea, input)').value"


def test_boxes_are_moved_and_removed_with_the_keyboard(visitor: Visitor, studio: Served) -> None:
    visitor.give_picture(studio.portrait)
    visitor.click("#people > button")
    visitor.click("#places [data-do=add]")
    visitor.until(lambda: visitor.run(_BOXES) == "48,32,112,128")
    visitor.run("document.querySelector('#places rect').focus()")
    ActionChains(visitor.browser).send_keys(Keys.ARROW_RIGHT).perform()
    visitor.until(lambda: visitor.run(_BOXES) == "50,32,114,128")
    ActionChains(visitor.browser).send_keys(Keys.DELETE).perform()
    visitor.until(lambda: visitor.run(_BOXES) == "")


def test_two_users_at_once_do_not_meet(visitor: Visitor, studio: Served, tmp_path: Path) -> None:
    with opened(tmp_path / "other") as window:
        other = Visitor(window, studio.address)
        other.arrive()
        for one, seconds, side in ((visitor, "0.4", 160), (other, "0.6", 200)):
            one.give_picture(write_portrait(tmp_path / f"picture{side}.png", side))
            one.give_voice(studio.voice)
            one.write("#duration :is(textarea, input)", seconds)
        visitor.click("#make")
        other.click("#make")
        assert visitor.finished() == pytest.approx(0.4, abs=0.05)
        assert other.finished() == pytest.approx(0.6, abs=0.05)
        for one, name in ((visitor, "picture160.png"), (other, "picture200.png")):
            one.until(lambda one=one: len(one.browser.find_elements("css selector", "#gallery .card")) == 1)  # type: ignore[misc]
            assert name in (one.see("#gallery .card").get_attribute("textContent") or "")
        theirs = other.watched()[0]
        assert other.run(_STATUS, theirs) in (200, 206)
        assert visitor.run(_STATUS, theirs) == 404


_STATUS = "const ask = new XMLHttpRequest(); ask.open('GET', arguments[0], false); ask.send(); return ask.status"


def test_settings_are_used_again_and_taken_along(visitor: Visitor, studio: Served) -> None:
    visitor.give_picture(studio.portrait)
    visitor.give_voice(studio.voice)
    visitor.write("#duration :is(textarea, input)", "0.5")
    visitor.click("#make")
    visitor.finished()
    visitor.arrive()
    assert not visitor.find("#picture img")
    visitor.click("#gallery [data-act=again]")
    visitor.until(lambda: visitor.find("#picture img"))
    visitor.until(lambda: visitor.run("return document.querySelector('#duration :is(textarea, input)').value") == "0.5")
    visitor.until(lambda: "0.5 s" in visitor.text("#estimate"))
    link = visitor.see("#told a[href$=settings]").get_attribute("href")
    text = str(visitor.run("const ask = new XMLHttpRequest(); ask.open('GET', arguments[0], false); ask.send();"
                           "return ask.responseText", link))  # fmt: skip
    assert json.loads(text)["request"]["image"] == "portrait.png"
    assert str(studio.jobs) not in text, "nothing is told of the server's folders"
    visitor.click("#gallery [data-act=remove]")
    visitor.until(lambda: visitor.find("#gallery .none"))
    assert visitor.run(_STATUS, link) == 404


def test_the_first_window_alone(visitor: Visitor, studio: Served) -> None:
    visitor.give_picture(studio.portrait)
    visitor.give_voice(studio.voice)
    visitor.until(lambda: "windows" in visitor.text("#estimate"))
    visitor.click("#first")
    assert visitor.finished() < 3.5
    assert "how the whole video begins" in visitor.text("#told")


def test_a_text_is_spoken(visitor: Visitor, studio: Served) -> None:
    visitor.give_picture(studio.portrait)
    visitor.click("#spoken button[role=tab]:nth-of-type(2)")
    visitor.see("#text textarea").send_keys("Good morning.")
    visitor.see("#speakers input").send_keys("espeak:buzz", Keys.ENTER)
    visitor.until(lambda: "s in" in visitor.text("#estimate"))
    visitor.click("#make")
    assert visitor.finished() == pytest.approx(len("Good morning.") / 20, abs=0.1)
    assert studio.newest()["voice"] == ["espeak:buzz"]


@pytest.mark.parametrize(
    ("name", "content"), [("notes.png", b"no picture at all"), pytest.param("empty.png", b"", marks=pytest.mark.full)]
)
def test_a_wrong_file_is_one_sentence_and_the_page_goes_on(
    name: str, content: bytes, visitor: Visitor, studio: Served, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    visitor.give_picture(tmp_path / name)
    visitor.give_voice(studio.short)
    visitor.click("#make")
    visitor.until(lambda: name in visitor.text("#told"))
    told = visitor.text("#told")
    assert "\n" not in told
    assert str(studio.jobs) not in told
    visitor.click("#picture [aria-label=Clear], #picture [title=Clear], #picture button[aria-label='Remove Image']")
    visitor.give_picture(studio.portrait)
    visitor.click("#make")
    visitor.finished()


def test_nothing_given_is_one_sentence(visitor: Visitor) -> None:
    visitor.click("#make")
    visitor.until(lambda: "give a picture" in visitor.text("#told"))


def test_a_phone(visitor: Visitor, studio: Served) -> None:
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    visitor.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        visitor.arrive()
        assert visitor.run("return document.documentElement.scrollWidth") == 390
        visitor.give_picture(studio.portrait)
        visitor.give_voice(studio.short)
        make = visitor.see("#make")
        assert make.rect["width"] > 120
        make.click()  # in reach without scrolling
        visitor.finished()
        assert visitor.run("return document.documentElement.scrollWidth") == 390
        visitor.until(lambda: visitor.run("const r = document.querySelector('#result').getBoundingClientRect();"
                                          "return r.top < innerHeight && r.bottom > 0"))  # fmt: skip
    finally:
        visitor.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.full
def test_with_the_keyboard_alone(visitor: Visitor) -> None:
    def reach(css: str) -> None:
        for _ in range(120):
            ActionChains(visitor.browser).send_keys(Keys.TAB).perform()
            if visitor.run("return document.activeElement.matches(arguments[0])", css):
                return
        pytest.fail(f"{css} cannot be reached with Tab")

    reach("#example-1")
    ActionChains(visitor.browser).send_keys(Keys.ENTER).perform()
    visitor.until(lambda: visitor.find("#picture img") and "3.0 s" in visitor.text("#estimate"))
    reach("#make")
    ActionChains(visitor.browser).send_keys(Keys.ENTER).perform()
    assert visitor.finished() == pytest.approx(3.0, abs=0.1)


def test_dark_and_light(visitor: Visitor) -> None:
    def light() -> int:
        title = visitor.see("h1")
        colour = title.value_of_css_property("color")
        return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])

    visitor.arrive("?__theme=dark")
    visitor.until(lambda: light() > 600)
    visitor.click("#shade")
    visitor.until(lambda: light() < 200)


def test_every_field_has_its_help_on_the_page(visitor: Visitor, request: pytest.FixtureRequest) -> None:
    for place in ("#people > button", "#more > button", "#expert > button", *_TABS):
        visitor.click(place)
    page = str(visitor.run("return document.body.textContent"))
    missing = [control.name for control in CONTROLS if control.knob.help not in page]
    # What a model cannot be told is not asked.
    unasked = ("model", *_WORDS, *(("motion",) if request.node.callspec.params["studio"] == "tiny" else ()))
    assert [name for name in missing if name not in unasked] == []
    assert "people who agreed" in page
    assert "for a second of video" in visitor.text("#banner")


_TABS = ("#source button[role=tab]:nth-of-type(2)", "#spoken button[role=tab]:nth-of-type(2)")
_WORDS = ("prompt", "prompts", "negative_prompt", "text_scale")
"""Shown for models that read alone."""


def test_nothing_comes_from_elsewhere(visitor: Visitor) -> None:
    loaded = visitor.run("return performance.getEntriesByType('resource').map(one => one.name)")
    assert isinstance(loaded, list)
    assert len(loaded) > 5
    assert [name for name in loaded if not name.startswith((visitor.address, "data:", "blob:"))] == []


_ATTACKS = """
const told = [], done = arguments[0];
const note = (name) => { window.reached.push(name); };
window.reached = []; window.note = note;
document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=note('handler')>");
const script = document.createElement("script"); script.textContent = "note('script')"; document.body.append(script);
const far = document.createElement("script"); far.src = "https://example.com/a.js"; document.body.append(far);
const frame = document.createElement("iframe"); frame.src = "/healthz"; document.body.append(frame);
const thing = document.createElement("object"); thing.data = "/studio/x"; document.body.append(thing);
const picture = new Image(); picture.src = "https://example.com/a.png";
fetch("https://example.com/").then(() => note("fetch"), () => {});
setTimeout(() => done([window.reached, window.refusals.splice(0)]), 1500);
"""


def test_scripts_and_places_that_are_not_the_pages_own_are_refused(visitor: Visitor) -> None:
    """As if somebody had got text of theirs into the page."""
    visitor.browser.set_script_timeout(60)
    reached, refused = visitor.browser.execute_async_script(_ATTACKS)
    assert reached == []
    kinds = [(line.split()[0], line.split()[1]) for line in refused]
    assert {("script-src-attr", "inline"), ("script-src-elem", "inline")} <= set(kinds)
    far = ("script-src-elem", "img-src", "connect-src")
    assert {kind for kind, place in kinds if place.startswith("https://example.com")} == set(far)
    assert {"frame-src", "object-src"} <= {kind for kind, _ in kinds}


def test_no_other_page_may_frame_the_studio(visitor: Visitor, studio: Served) -> None:
    visitor.browser.get("data:text/html,<iframe id=f></iframe>")
    visitor.run("document.querySelector('#f').src = arguments[0]", studio.address)
    visitor.browser.switch_to.frame("f")
    try:
        visitor.until(lambda: visitor.run("return document.readyState") == "complete")
        assert not visitor.find("#make")
        assert "chromewebdata" in str(visitor.run("return location.href")) or visitor.run("return document.title") == ""
    finally:
        visitor.browser.switch_to.default_content()
        visitor.arrive()


@pytest.mark.full
def test_a_voice_is_recorded(visitor: Visitor, studio: Served) -> None:
    """Chromium's own pretended microphone beeps."""
    visitor.give_picture(studio.portrait)
    visitor.click("#voice-1 [aria-label='Record audio']")
    visitor.click("#voice-1 .record-button")
    visitor.see("#voice-1 .stop-button")
    begun = float(str(visitor.run("return performance.now()")))
    visitor.until(lambda: float(str(visitor.run("return performance.now()"))) > begun + 1500)  # so much is recorded
    visitor.click("#voice-1 .stop-button")
    visitor.until(lambda: "This video" in visitor.text("#estimate"))
    visitor.click("#make")
    assert visitor.finished() > 0.3


@pytest.mark.full
@pytest.mark.parametrize("studio", ["nano"], indirect=True)
def test_pictures_for_the_documents(studio: Served, browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Each is small enough to be kept; STUDIO_SHOTS=docs/images puts them there."""
    folder = Path(SHOTS or tmp_path)
    visitor = Visitor(browser, studio.address)
    browser.delete_all_cookies()
    with ExitStack() as after:
        after.callback(browser.execute_cdp_cmd, "Emulation.clearDeviceMetricsOverride", {})
        visitor.arrive()
        visitor.click("#example-1")
        visitor.until(lambda: "3.0 s" in visitor.text("#estimate"))
        visitor.write("#duration :is(textarea, input)", "6")
        visitor.click("#make")
        visitor.until(lambda: visitor.is_making() and visitor.plays_live())
        visitor.run("scrollTo(0, 0)")
        shoot(browser, folder / "studio.jpg", 1280, 1180)
        visitor.until(lambda: visitor.text("#told"))
        visitor.arrive("?__theme=dark")
        visitor.click("#example-3")
        visitor.until(lambda: visitor.find("#picture img"))
        visitor.click("#people > button")
        visitor.click("#find-faces")
        visitor.until(lambda: visitor.find("#places .box"))
        visitor.run("document.querySelector('#people').scrollIntoView({block: 'start', behavior: 'instant'})")
        shoot(browser, folder / "studio-people.jpg", 590, 900)
        screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        visitor.arrive("?__theme=light")
        visitor.run("scrollTo(0, document.querySelector('#see').offsetTop - 20)")
        shoot(browser, folder / "studio-phone.jpg", 390, 844)
    assert all(path.stat().st_size < 150_000 for path in folder.glob("studio*.jpg"))


def shoot(browser: webdriver.Chrome, path: Path, width: int, height: int) -> None:
    """Takes what is seen, at a size of its own."""
    raw = path.with_suffix(".png")
    browser.save_screenshot(str(raw))
    with Image.open(raw) as picture:
        picture.convert("RGB").crop((0, 0, width, height)).save(path, quality=80)
    raw.unlink()
