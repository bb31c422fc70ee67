"""The site that `make docs` builds is complete, without warnings, and self-contained."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import PAGES, ROOT

pytestmark = pytest.mark.xdist_group("site")
FETCHING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Elements that make a browser fetch something, with the attribute that has the address."""
IN_CSS = re.compile(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//")
IN_SCRIPT = re.compile(r"(?:fetch|importScripts|import|sendBeacon)\(\s*['\"`](?:https?:)?//")
PATIENCE = 300.0


class Found(HTMLParser):
    """The anchors, links and fetched addresses of a page of the site."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element."""
        held = {key: value or "" for key, value in attrs}
        if "id" in held:
            self.anchors.add(held["id"])
        if tag == "a" and "href" in held:
            self.links.append(held["href"])
        if tag in FETCHING and FETCHING[tag] in held:
            self.fetched.append(held[FETCHING[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does; return its folder."""
    made = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html",
         "-d", str(made / "doctrees"), "docs", str(made / "html")],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return made / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Found]:
    """Return the content of each page of the site."""
    return {page: Found(page) for page in site.rglob("*.html")}


def test_every_page_is_in_the_site(site: Path) -> None:
    """The site builds without a warning, and has each page of docs/."""
    below = [page.relative_to(ROOT / "docs") for page in PAGES if page.name != "README.md"]
    missing = [str(page) for page in below if not (site / page).with_suffix(".html").exists()]
    assert missing == []


def test_links_within_the_site_are_valid(pages: dict[Path, Found]) -> None:
    """Each link within the site leads to a file of the site, or to an anchor on a page."""
    broken = []
    for page, found in pages.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            known = pages[target].anchors if target in pages else set()
            anchored = not parts.fragment or unquote(parts.fragment) in known
            if not (target.is_file() and anchored):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_nothing_is_fetched_from_other_hosts(site: Path, pages: dict[Path, Found]) -> None:
    """No page, style or script of the site fetches anything from another host."""
    fetched = {link for found in pages.values() for link in found.fetched}
    assert fetched
    assert [link for link in fetched if urlsplit(link).netloc] == []
    for path, pattern in _assets(site):
        assert not pattern.search(path.read_text()), path.name


def _assets(site: Path) -> Iterator[tuple[Path, re.Pattern[str]]]:
    yield from ((path, IN_CSS) for path in site.rglob("*.css"))
    yield from ((path, IN_SCRIPT) for path in site.rglob("*.js"))
