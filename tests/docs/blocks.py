"""Code blocks of the documents: where they are, what is said of them, and the commands that they hold.

A block is run by `test_blocks.py` unless a comment above it says why not:

    <!-- not run: needs a GPU -->                          the whole block
    <!-- not run (serve, download t4): they never end -->  the lines that hold one of these words
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.conftest import ROOT

SHELL = ("sh", "bash", "powershell")
_FENCE = re.compile(r"^ *```(\S*)\s*$")
_REASON = re.compile(r"<!-- not run(?: \(([^)]+)\))?: (.+?) -->")
_ASSIGNMENT = re.compile(r"^[A-Z_]+=")
_ENDS = {"|", "||", "&&", ";"}


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    document: str
    line: int
    language: str
    text: str
    reason: str | None
    """Why it, or some of its lines, are not run."""
    spared: tuple[str, ...] | None
    """Words of the lines that are not run; None: all of them, if there is a reason."""

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """Lines with their continuations joined; comments and empty lines left out."""
        text = self.text.replace("\\", "/") if self.language == "powershell" else self.text
        joined = re.sub(r" ?\\\n *", " ", text)
        return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]

    def is_run(self, line: str) -> bool:
        """Whether a line is run."""
        if self.reason is None:
            return True
        return self.spared is not None and not any(word in line for word in self.spared)


@dataclass(frozen=True)
class Command:
    """A program with its words, and variables that are set for it alone."""

    variables: dict[str, str]
    words: list[str]


def documents() -> list[Path]:
    """All documents that people read as pages."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(document: Path) -> Iterator[Block]:
    """The code blocks of a document."""
    lines = document.read_text(encoding="utf-8").splitlines()
    begin, language, above = None, "", ""
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if fence and begin is None:
            begin, language = number, fence[1]
            above = next((text for text in reversed(lines[: number - 1]) if text.strip()), "")
        elif fence and begin is not None:
            reason = _REASON.fullmatch(above.strip())
            words = tuple(map(str.strip, reason[1].split(","))) if reason and reason[1] else None
            text = "\n".join(lines[begin : number - 1])
            where = document.relative_to(ROOT).as_posix()
            yield Block(where, begin, language, text, reason[2] if reason else None, words)
            begin = None
    assert begin is None, f"{document}: the block of line {begin} has no end"


def commands(line: str) -> list[Command]:
    """The commands of a shell line, without what joins them.

    >>> [command.words for command in commands("A=1 infinitetalk doctor | cat  # all of it")]
    [['infinitetalk', 'doctor'], ['cat']]
    """
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    reader.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in reader:
        if word in _ENDS:
            found.append([])
        elif word != "…":  # stands for what a reader fills in
            found[-1].append(word)
    result = []
    for words in filter(None, found):
        split = next((place for place, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
        variables = dict(word.split("=", 1) for word in words[:split])
        result.append(Command(variables, words[split:]))
    return [command for command in result if command.words]
