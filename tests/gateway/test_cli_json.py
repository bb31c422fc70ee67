"""Commands that list something print it as JSON too."""

from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner

from gateway.cli import main
from gateway.plugin.registry import load_plugins
from tests.e2e.admin import fill
from tests.gateway.test_cli import FINE

TESTED = (
    FINE
    + """
[[tests]]
name = "an order reaches the CRM"
from = "shop"
path = "/event/track"
body = { uid = "u1", name = "Product Viewed" }
expect = ["crm"]
[[tests]]
name = "an order has a total"
from = "shop"
path = "/event/track"
body = { uid = "u1", name = "Product Viewed" }
expect.crm.body.name = "canary-5f2d9c-3"
"""
)


def gateway(*args: str | Path, status: int = 0) -> Any:
    """Return the JSON that a command prints; it exits with *status*."""
    ran = CliRunner().invoke(main, [str(arg) for arg in args])
    assert ran.exit_code == status, ran.output
    return orjson.loads(ran.stdout)


def config(folder: Path, text: str) -> Path:
    """Return the path of a configuration with this text."""
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def test_check_lists_warnings(tmp_path: Path) -> None:
    """``check --json`` says that the file is valid, with its warnings."""
    found = gateway("check", "--json", "-c", config(tmp_path, FINE))
    assert (found["valid"], found["problems"]) == (True, [])
    assert any("[destinations.idle]: no route leads to it" in one for one in found["warnings"])


def test_check_lists_problems(tmp_path: Path) -> None:
    """``check --json`` lists the problems of an invalid file, and exits with 1."""
    path = config(tmp_path, FINE.replace("rate", "rat"))
    found = gateway("check", "--json", "-c", path, status=1)
    assert found["valid"] is False
    assert found["problems"] == [
        f"{path}:14: [destinations.crm] rat: unknown key; did you mean rate?"
    ]


def test_test_lists_results(tmp_path: Path) -> None:
    """``test --json`` lists each test with its findings, without credentials; exits as without."""
    path = config(tmp_path, TESTED)
    passed, failed = gateway("test", "--json", "-c", path, status=1)
    assert (passed["passed"], passed["findings"]) == (True, [])
    (finding,) = failed["findings"]
    assert (failed["passed"], finding["destination"]) == (False, "crm")
    assert finding["changes"] == [{"path": "name", "expected": "***", "actual": "Product Viewed"}]


def test_plugins_lists_vendors() -> None:
    """``plugins --json`` lists each vendor with what it has and the endpoints it accepts."""
    found = {one["name"]: one for one in gateway("plugins", "--json")}
    registry = load_plugins()
    assert list(found) == registry.vendors
    assert found["chrts"]["has"] == ["input", "output", "sandbox"]
    assert found["chrts"]["accepts"] == list(registry.inputs["chrts"].endpoints)


SPOOLED = """
[spool]
path = "{folder}/spool"
[sources.shop]
vendor = "chrts"
keys = ["k"]
[destinations.crm]
vendor = "chrts"
api_key = "u1-is-a-key"
[[routes]]
to = ["crm"]
"""


async def test_dead_letters_are_listed_one_per_line(tmp_path: Path) -> None:
    """``dead-letters list --json`` prints one object per line, and nothing where none matches."""
    await fill(tmp_path / "spool", 3)
    path = config(tmp_path, SPOOLED.format(folder=tmp_path))
    listed = ["dead-letters", "list", "--json", "-c", str(path)]
    ran = CliRunner().invoke(main, [*listed, "--limit", "2"])
    assert ran.exit_code == 0, ran.output
    letters = [orjson.loads(line) for line in ran.stdout.splitlines()]
    assert [(one["id"], one["destination"]) for one in letters] == [(1, "crm"), (2, "mail")]
    assert letters[0]["reason"] == "HTTP 400: no product 17"
    assert "there are more; continue with --after 2" in ran.stderr
    assert CliRunner().invoke(main, [*listed, "--event", "Nothing"]).stdout == ""


async def test_balances_are_listed_by_destination(tmp_path: Path) -> None:
    """``dead-letters balance --json`` prints each destination's counts by outcome."""
    await fill(tmp_path / "spool", 3)
    path = config(tmp_path, SPOOLED.format(folder=tmp_path))
    found = gateway("dead-letters", "balance", "--json", "-c", path)
    assert found["crm"]["accepted"] == found["crm"]["dead_letters"] == 2
    assert found["mail"]["unaccounted"] == 0
