"""What the documents' site has beside `docs/*.md`: a page of all settings, and links into the repository.

MkDocs calls the functions `on_…` (see `hooks` in mkdocs.yml); start it by `python -m mkdocs build --strict`.
"""

import logging
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.settings_page import settings_page

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/sruckh/InfiniteTalk-Google-Collab"
SETTINGS = "settings.md"

_TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)")
_LOG = logging.getLogger("mkdocs.hooks.docs_site")


def repository_path(page: str, target: str) -> str | None:
    """The path in the repository that a relative link of a document leads to; None if it stays within `docs`.

    >>> repository_path("start/windows.md", "../../README.md"), repository_path("memory.md", "models.md")
    ('README.md', None)
    """
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith("docs/") else path


def outward(markdown: str, page: str) -> str:
    """A page's text in which links to files outside of `docs` lead to the repository's page of them."""

    def lead(found: re.Match[str]) -> str:
        path = repository_path(page, found[1])
        if path is None:
            return found[1]
        place = ROOT / path
        if not place.exists():
            _LOG.warning("%s: %s leads to no file of the repository", page, found[1])
        return f"{REPOSITORY}/{'tree' if place.is_dir() else 'blob'}/main/{path}"

    return _TARGET.sub(lead, markdown)


def unlisted(nav: Iterable[Any], pages: Iterable[str]) -> list[str]:
    """The pages that a navigation does not name.

    >>> unlisted([{"Home": "index.md"}, {"Start": [{"No GPU": "start/no-gpu.md"}]}], ["index.md", "new.md"])
    ['new.md']
    """
    named = set(_named(list(nav)))
    return [page for page in pages if page not in named]


def _named(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict | list):
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from _named(part)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts pages that the navigation does not name at its end, so that none is out of reach."""
    docs = Path(config.docs_dir)
    pages = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    nav = config.nav or []
    if more := unlisted(nav, pages):
        config.nav = [*nav, {"More": more}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page of all settings."""
    files.append(File.generated(config, SETTINGS, content=settings_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turns links that leave `docs`."""
    return outward(markdown, page.file.src_uri)
