"""The examples do what they say: each has tests, run as `gateway test` runs them."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "config/examples").glob("*.toml"))


def _name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_an_example_does_what_it_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example has tests, and they pass with none of its variables set."""
    for name in ("BACKEND_KEY", "HASH_KEY", "SECRETS", "SHOP_A_ID", "SHOP_B_ID"):
        monkeypatch.delenv(name, raising=False)
    ran = CliRunner().invoke(main, ["test", "-c", str(path)])
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines()[-1].endswith("passed")


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_an_example_says_what_it_is_for(path: Path) -> None:
    """An example begins with a few sentences, and no line is too long to be read beside another."""
    lines = path.read_text().splitlines()
    assert lines[1].startswith("# ")
    assert max(map(len, lines)) < 101


def test_there_is_an_example_for_every_purpose() -> None:
    """What the gateway is mostly used for can be copied from an example."""
    assert {path.stem for path in EXAMPLES} >= {
        "consent-gated", "forward-to-two", "hashed-analytics", "migrate", "purchases-only",
        "replace-a-vendor", "sampled-pages", "two-shops-one-host",
    }  # fmt: skip


def test_the_tests_on_the_page_pass(tmp_path: Path) -> None:
    """What docs/testing-rules.md shows of tests is run as it stands."""
    page = (ROOT / "docs/testing-rules.md").read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    ran = CliRunner().invoke(main, ["test", "-c", str(path)])
    assert ran.output.endswith("2 tests passed\n"), ran.output
