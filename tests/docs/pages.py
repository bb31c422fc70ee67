"""The pages of the documentation and their content."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs/_build"
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if SITE not in page.parents
)
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Snippet(NamedTuple):
    """A block of code on a page."""

    page: Path
    line: int
    """Where its text begins."""
    kind: str
    text: str
    above: str
    """The text between the block before it and this one."""


def name(path: Path) -> str:
    """Return the path from the repository's root."""
    return str(path.relative_to(ROOT))


def place(snippet: Snippet) -> str:
    """Return page and line of *snippet*, in the form that editors take."""
    return f"{name(snippet.page)}:{snippet.line}"


def prose(page: Path) -> str:
    """Return the text of *page* without its blocks of code."""
    return _FENCE.sub("", page.read_text())


def snippets(*kinds: str) -> Iterator[Snippet]:
    """Yield the blocks of code of *kinds*; of all kinds if none is given."""
    for page in PAGES:
        text = page.read_text()
        above = 0
        for found in _FENCE.finditer(text):
            if not kinds or found["kind"] in kinds:
                line = text.count("\n", 0, found.start("text")) + 1
                block = textwrap.dedent(found["text"])
                yield Snippet(page, line, found["kind"], block, text[above : found.start()])
            above = found.end()
