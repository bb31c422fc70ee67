"""The example configurations pass their own tests with `gateway test`."""

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
def test_an_example_passes_its_tests(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example has tests, which pass without any of its variables."""
    for name in ("BACKEND_KEY", "HASH_KEY", "SECRETS", "SHOP_A_ID", "SHOP_B_ID"):
        monkeypatch.delenv(name, raising=False)
    ran = CliRunner().invoke(main, ["test", "-c", str(path)])
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines()[-1].endswith("passed")


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_an_example_starts_with_a_description(path: Path) -> None:
    """An example starts with a description, and no line exceeds 100 characters."""
    lines = path.read_text().splitlines()
    assert lines[1].startswith("# ")
    assert max(map(len, lines)) < 101


def test_there_is_an_example_for_every_purpose() -> None:
    """Each main use of the gateway has an example."""
    assert {path.stem for path in EXAMPLES} >= {
        "any-api", "consent-gated", "forward-to-two", "hashed-analytics", "migrate",
        "purchases-only", "replace-a-vendor", "sampled-pages", "two-shops-one-host",
    }  # fmt: skip


def test_the_tests_on_the_page_pass(tmp_path: Path) -> None:
    """The tests shown in docs/testing-rules.md pass unchanged."""
    page = (ROOT / "docs/testing-rules.md").read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    ran = CliRunner().invoke(main, ["test", "-c", str(path)])
    assert ran.output.endswith("2 tests passed\n"), ran.output
