"""What the documents' site has beside `docs/*.md`: a page of all settings, and links into the repository.

MkDocs calls the functions `on_…` (see `hooks` in mkdocs.yml); start it by `python -m mkdocs build --strict`.
"""

import logging
import posixpath
import re
from pathlib import Path

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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page of all settings."""
    files.append(File.generated(config, SETTINGS, content=settings_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turns links that leave `docs`."""
    return outward(markdown, page.file.src_uri)
