"""The console's files in the package."""

import hashlib
import re
from pathlib import Path

import pytest

from gateway.admin.app import HEADERS, assets

WEB = Path(__file__).parents[2] / "gateway/admin/web"
THIRD_PARTY = WEB / "third_party"
LONGEST = 300
"""Maximum lines of a module."""


def test_third_party_files_have_their_published_checksums() -> None:
    """Each third-party file has its published checksum, and each project its licence."""
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
    """Every file has a content type and the security policy; / is the start page."""
    found = assets()
    assert found["/"] == found["/console/index.html"]
    for path, asset in found.items():
        assert HEADERS.items() <= asset.headers.items(), path
        assert asset.headers["content-type"]


@pytest.mark.parametrize("path", sorted(WEB.glob("*.js")), ids=lambda path: path.name)
def test_modules_import_existing_files_and_are_short(path: Path) -> None:
    """Each module imports files that exist, and stays within the line limit."""
    text = path.read_text()
    assert text.count("\n") <= LONGEST
    for name in re.findall(r'from "\./([^"]+)"', text):
        assert (WEB / name).exists(), name


def test_the_page_has_nothing_inline() -> None:
    """The page has no inline script and no inline style, which the policy forbids."""
    text = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", text)
    assert "http" not in text
