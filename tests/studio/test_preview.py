"""The preview of `--hls` in Chromium: watched from the first window on, to its end, by the page that lies beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from infinitetalk.jobs.queue import JobQueue
from tests.jobs.conftest import request_maker
from tests.jobs.test_queue import Gate
from tests.server.conftest import files_of
from tests.studio.visitor import Visitor, opened

VIDEO = "document.querySelector('video')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with opened(tmp_path_factory.mktemp("browser")) as window:
        yield window


def test_a_browser_plays_the_first_window_and_then_the_others(
    browser: webdriver.Chrome, tiny_folder: Path, tmp_path: Path
) -> None:
    gate = Gate()
    with JobQueue(tmp_path / "jobs", gate) as queue:
        job = queue.submit(request_maker(tiny_folder, tmp_path)(2.0))
        gate.windows.release()
        assert any(record.progress.windows == 1 for record in queue.watch(job.id))
        preview = queue.files(job.id).preview
        with files_of(preview) as place:
            visitor = Visitor(browser, place)
            browser.get(f"{place}/watch.html")

            def second(name: str) -> float:
                return float(str(visitor.run(f"return {VIDEO}.{name} || 0")))

            visitor.until(lambda: second("currentTime") > 0.3)
            assert "#EXT-X-ENDLIST" not in (preview / "index.m3u8").read_text()
            assert second("duration") == pytest.approx(0.52, abs=0.15), "the first window, of 13 frames"
            assert "1 window so far" in visitor.text("p")
            gate.windows.release(100)
            *_, over = queue.watch(job.id)
            assert over.made is not None
            visitor.until(lambda: second("duration") > 1.8)
            visitor.until(lambda: second("currentTime") > 1.85)
            assert visitor.text("p") == "The video is complete."
            assert visitor.run(f"return {VIDEO}.error") is None


def test_chromium_refuses_the_growing_list_itself(browser: webdriver.Chrome, tiny_folder: Path, tmp_path: Path) -> None:
    """Why there is a page: when this fails, browsers have learned it, and the page can go."""
    gate = Gate()
    with JobQueue(tmp_path / "jobs", gate) as queue:
        job = queue.submit(request_maker(tiny_folder, tmp_path)(2.0))
        gate.windows.release()
        assert any(record.progress.windows == 1 for record in queue.watch(job.id))
        with files_of(queue.files(job.id).preview) as place:
            visitor = Visitor(browser, place)
            browser.get(f"{place}/watch.html")
            visitor.run("const v = document.createElement('video'); v.id = 'raw'; v.muted = v.autoplay = true;"
                        "v.src = 'index.m3u8'; document.body.append(v)")  # fmt: skip
            visitor.until(lambda: visitor.run("return document.querySelector('#raw').error") is not None)
        gate.windows.release(100)
        *_, _ = queue.watch(job.id)
