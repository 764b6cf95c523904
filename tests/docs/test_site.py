"""The site builds without a warning, its links lead somewhere, and it loads nothing from other hosts."""

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from infinitetalk.core.knobs import CONTROLS, LIMIT_CONTROLS, MEMORY_CONTROLS
from infinitetalk.core.request import TalkRequest
from tests.docs.conftest import ROOT
from tools.docs_site import SETTINGS, outward, repository_path, unlisted
from tools.settings_page import default, settings_page, takes

_RELATIVE = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)")


class _Links(HTMLParser):
    """The ids of a page, the addresses that it links to, and those that it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.ids.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "next", "prev") and "href" in given:
            self.loads.append(given["href"])
        elif tag != "a" and "src" in given:
            self.loads.append(given["src"])


@cache
def read(path: Path) -> _Links:
    return _Links(path)


def dead(site: Path) -> Iterator[str]:
    """Links and loads within the site that lead to no file, or to no place on a page."""
    for page in sorted(site.rglob("*.html")):
        found = read(page)
        for address in (*found.links, *found.loads):
            parts = urlsplit(address)
            if parts.scheme or address.startswith("//") or page.name == "404.html":
                continue
            target = page if not parts.path else page.parent / unquote(parts.path)
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in read(target).ids):
                yield f"{page.relative_to(site)}: {address}"


def test_no_link_is_dead(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert {page.relative_to(site).with_suffix("") for page in pages} == {
        *(path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")),
        Path(SETTINGS).with_suffix(""),
    }
    assert sum(len(read(page).links) for page in pages) > 500
    assert list(dead(site)) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="here"><a href="#here"></a><a href="#gone"></a><img src="b.png"></p>')
    assert list(dead(tmp_path)) == ["a.html: #gone", "a.html: b.png"]


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    loads = [address for page in site.rglob("*.html") for address in read(page).loads]
    assert len(loads) > 100
    assert [address for address in loads if urlsplit(address).netloc] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", styles) == []


@pytest.mark.parametrize("document", [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=str)
def test_links_of_the_repository_lead_to_files(document: Path) -> None:
    for target in _RELATIVE.findall(document.read_text(encoding="utf-8")):
        if target != SETTINGS:  # made when the site is built
            assert (document.parent / unquote(target)).exists(), target


def test_links_out_of_the_documents_lead_to_the_repository() -> None:
    text = "[a](models.md#b) [c](../LICENSE) [d](../comfyui) [e](https://example.com) [f](#g)"
    assert outward(text, "memory.md") == text.replace(
        "../LICENSE", "https://github.com/sruckh/InfiniteTalk-Google-Collab/blob/main/LICENSE"
    ).replace("../comfyui", "https://github.com/sruckh/InfiniteTalk-Google-Collab/tree/main/comfyui")
    assert repository_path("start/windows.md", "../models.md") is None


def test_the_navigation_names_every_page_and_a_new_one_is_not_lost() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert unlisted(nav, ["index.md", "start/windows.md", "settings.md", "new.md"]) == ["new.md"]
    assert next(iter(nav[1])) == "Start"


def test_the_page_of_settings_is_the_request(site: Path) -> None:
    """Every field has its row, with its flag, its bounds, its default and its help; nothing else has one."""
    rows = [line for line in settings_page().splitlines() if line.startswith("| `")]
    for control in (*CONTROLS, *MEMORY_CONTROLS, *LIMIT_CONTROLS):
        row = next(row for row in rows if f"| `{control.name}` |" in row and f"`{control.flag}`" in row)
        assert control.knob.help.replace("|", "\\|") in row
        assert f"| {takes(control)} | {default(control)} |" in row
        for bound in (control.knob.least, control.knob.most):
            assert bound is None or bound >= 1e6 or f"{bound:g}" in row
    flags = [row for row in rows if row.startswith("| `--")]
    assert len(flags) == len(CONTROLS) + len(MEMORY_CONTROLS) + len(LIMIT_CONTROLS)
    shown = (site / "settings.html").read_text(encoding="utf-8")
    assert all(f"<code>{name}</code>" in shown for name in TalkRequest.__dataclass_fields__)
