"""Reports on pages that readers cannot reproduce match the commands' output."""

import re
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner

from gateway.cli import main
from gateway.losses.field_outcomes import NO_PLACE
from gateway.shadow.store import ShadowStore
from gateway.shadow.tally import Count, Key
from tests.docs.pages import ROOT, snippets

FIRST = datetime(2026, 5, 4, 8, 0, 11, tzinfo=UTC).timestamp()
LAST = datetime(2026, 5, 5, 8, 0, 2, tzinfo=UTC).timestamp()
SEEN = {"Product Viewed": 640, "Order Completed": 172}
LOST = {
    "context.channel": '"web"',
    "context.page.url": "text of 41",
    "session_id": "text of 10",
}
KEPT = 9
RULES = ROOT / "docs/testing-rules.md"


def _shown(page: str, kind: str) -> str:
    """Return the only block of *kind* on *page*."""
    (text,) = (snippet.text for snippet in snippets(kind) if snippet.page.name == page)
    return text


def _lines(text: str) -> list[list[str]]:
    """Return the words of each line; the width of table columns may differ."""
    return [line.split() for line in text.strip().splitlines()]


def test_the_report_of_the_page_is_the_commands(tmp_path: Path) -> None:
    """docs/migrating.md shows title, verdict, headings and rows as the command prints them."""
    counts = {}
    for event, number in SEEN.items():
        counts[Key("new", "personaclick", event, "goes")] = Count(number, FIRST, LAST)
        for field, example in LOST.items():
            lost = Key("new", "personaclick", event, "field", field, "lost", f"chrts {NO_PLACE}")
            counts[lost] = Count(number, FIRST, LAST, example)
        for index in range(KEPT):
            kept = Key("new", "personaclick", event, "field", f"traits.f{index}", "kept")
            counts[kept] = Count(number, FIRST, LAST)
    config = tmp_path / "gateway.toml"
    config.write_text(f'[spool]\npath = "{tmp_path}/spool"\n')
    (tmp_path / "spool").mkdir()
    ShadowStore(tmp_path / "spool").add(counts)
    ran = CliRunner().invoke(main, ["shadow", "report", "-c", str(config)])
    assert _lines(ran.output) == _lines(_shown("migrating.md", "text"))


def test_the_failed_test_of_the_page_is_the_commands(tmp_path: Path) -> None:
    """docs/testing-rules.md shows the output of its own tests with the failing expectation."""
    config = tmp_path / "rules.toml"
    (expected,) = re.findall(r"With `(expect\.crm\..*?)`", RULES.read_text())
    config.write_text(_shown(RULES.name, "toml").replace('expect = ["crm"]', expected))
    ran = CliRunner().invoke(main, ["test", "-c", str(config)])
    assert ran.exit_code == 1
    assert _lines(ran.output.replace(f"{tmp_path}/", "")) == _lines(_shown(RULES.name, "text"))
