# ruff: noqa: INP001 - docs is a folder of pages; this code only builds the site of them
"""How Sphinx makes a site of the pages: https://www.sphinx-doc.org/en/master/usage/configuration.html.

The pages are plain Markdown that reads well without this. Nothing is fetched: not while the site
is built, and not by a browser that shows it.
"""

import re
from pathlib import PurePosixPath

from pygments.lexers.javascript import JavascriptLexer
from sphinx.application import Sphinx

project = "cdp-gateway"
html_title = "cdp-gateway"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

myst_heading_anchors = 4
"""Headings down to this level can be linked to, under the anchors of a repository's browser."""

linkcheck_ignore = [r"http://127\.0\.0\.1", r"https?://[\w.-]*\.example(?:/|$)"]
"""The sandbox on the reader's own machine, and hosts that are made up."""

LISTS = frozenset({"index", "README"})
"""Names of pages that lead to the others of their folder."""
LINK = re.compile(r"\]\(([\w/.-]+)\.md\)")
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def _lead(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the links of a page that lists others the site's table of contents.

    So the order of the contents is said once, in links that a reader of the plain page has too,
    under the same headings; and a page to which no list leads fails the build.
    """
    here = PurePosixPath(page)
    known = app.env.found_docs
    led: set[str] = set()
    title, *rest = HEADING.split(source[0])
    for caption, text in zip(["", *rest[::2]], [title, *rest[1::2]], strict=True):
        links = dict.fromkeys(link for link in LINK.findall(text) if link not in led)
        below = [k for k in links if _is_below(here, k) and str(here.parent / k) in known]
        led.update(below)
        if below:
            options = ":hidden:" + (f"\n:caption: {caption}" if caption else "")
            source[0] += "\n".join(["\n```{toctree}", options, "", *below, "```\n"])


def _is_below(here: PurePosixPath, link: str) -> bool:
    """Tell whether *link* leads down: a list to its folder's pages and to the lists in it.

    A page beside a folder of its own name is the list of that folder.
    """
    folder, _, name = link.rpartition("/")
    if here.name in LISTS:
        return not folder or (".." not in folder and name in LISTS)
    return folder == here.name


def setup(app: Sphinx) -> None:
    """Register the contents, and a way to colour CEL, whose syntax is close to JavaScript's."""
    app.connect("source-read", _lead)
    app.add_lexer("cel", JavascriptLexer)
