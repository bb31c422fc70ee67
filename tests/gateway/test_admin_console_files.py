"""The console's files, as they lie in the package."""

import hashlib
import re
from pathlib import Path

import pytest

from gateway.admin.app import HEADERS, assets

WEB = Path(__file__).parents[2] / "gateway/admin/web"
THIRD_PARTY = WEB / "third_party"
LONGEST = 300
"""Lines of a module; one should see across it."""


def test_what_others_wrote_is_unchanged() -> None:
    """Each file of another project is the one that was published, and its licence is with it."""
    said = (THIRD_PARTY / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in said)}
    found = {
        str(path.relative_to(THIRD_PARTY)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in THIRD_PARTY.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert found == sums
    for folder in THIRD_PARTY.iterdir():
        if folder.is_dir():
            assert "licence" in (folder / "LICENSE").read_text().lower().replace(
                "license", "licence"
            )


def test_every_file_is_served_with_the_policy() -> None:
    """No file goes out without its type and the policy; the start page stands at the root."""
    found = assets()
    assert found["/"] == found["/console/index.html"]
    for path, asset in found.items():
        assert HEADERS.items() <= asset.headers.items(), path
        assert asset.headers["content-type"]


@pytest.mark.parametrize("path", sorted(WEB.glob("*.js")), ids=lambda path: path.name)
def test_modules_are_found_and_short(path: Path) -> None:
    """Each module imports what exists, and is a room one can see across."""
    text = path.read_text()
    assert text.count("\n") <= LONGEST
    for name in re.findall(r'from "\./([^"]+)"', text):
        assert (WEB / name).exists(), name


def test_the_page_has_nothing_inline() -> None:
    """The policy allows no inline script and no inline style, and the page has none."""
    text = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", text)
    assert "http" not in text
