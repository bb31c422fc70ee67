"""The pages' statements about this repository are true."""

import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest
from cogapp import Cog  # type: ignore[import-untyped]  # it has no annotations

from gateway.plugin.registry import load_plugins
from tests.docs.pages import PAGES, ROOT, name, prose

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
OURS = re.compile(r"(?:gateway|plugins|tests|docs|config)/[\w./-]*")
DOTTED = re.compile(r"(?:gateway|plugins)(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"\.(?:toml|md|py)$")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
BUILT = "docs/_build/"
"""Exists only after `make docs`."""
MAX_README_LINES = 120
"""Lines of README.md: two screens."""
KINDS = ["Tutorials", "How-to guides", "Reference", "Explanation"]
"""The four kinds of pages (https://diataxis.fr)."""
GUIDES = [
    page
    for page in PAGES
    if page.parent.name != "decisions" and name(page) not in {"README.md", "docs/index.md"}
]
"""Pages of the four kinds: not README.md, the index or a decision."""


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of *page*."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def test_generated_parts_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    """The generated parts of the pages are current; if not, run `make docs`."""
    assert Cog().main(["cog", "--check", *map(str, PAGES)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_are_valid(page: Path) -> None:
    """Each relative link leads to an existing file, and to a heading in it."""
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert ROOT in target.parents, f"{link}: outside of the repository"
        assert not anchor or anchor in _anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_and_names_exist(page: Path) -> None:
    """Each path or dotted name of this repository in code style exists."""
    for text in CODE.findall(prose(page)):
        if OURS.fullmatch(text) and not text.startswith(BUILT):
            assert (ROOT / text).exists(), text
        elif DOTTED.fullmatch(text) and not FILE.search(text):
            assert pkgutil.resolve_name(text) is not None, text


def test_every_decision_is_listed() -> None:
    """docs/decisions/README.md lists each decision by its page's title."""
    folder = ROOT / "docs/decisions"
    listed = (folder / "README.md").read_text()
    for page in folder.glob("[0-9]*.md"):
        number, _, title = page.read_text().partition("\n")[0].partition(". ")
        assert int(number.removeprefix("# ")) == int(page.name[:4])
        assert f"| [{page.name[:4]}]({page.name}) | {title} |" in listed


def test_the_readme_is_short() -> None:
    """README.md has at most two screens of lines."""
    assert (ROOT / "README.md").read_text().count("\n") <= MAX_README_LINES


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_a_page_begins_with_what_its_reader_can_do_after_it(page: Path) -> None:
    """Below the title is one sentence that begins "After this page you can"."""
    title, sentence, *_ = page.read_text().split("\n\n")
    assert re.fullmatch(r"# [^\n]+", title)
    assert re.fullmatch(r"After this page you can [^.]+\.", sentence)


def test_the_index_has_the_four_kinds() -> None:
    """The index, and with it the site's sidebar, has a heading for each kind of page."""
    index = (ROOT / "docs/index.md").read_text()
    assert re.findall(r"^## (.+)$", index, re.MULTILINE) == KINDS


@pytest.mark.parametrize("vendor", load_plugins().formats)
def test_a_vendors_page_has_all_its_parts(vendor: str) -> None:
    """Each vendor's page has its four parts: source, destination, a sample, the fields."""
    page = prose(ROOT / f"docs/vendors/{vendor}.md")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    parts = ["As a source", "As a destination", "One sample in four forms", "Field by field"]
    assert [heading for heading in headings if heading in parts] == parts
