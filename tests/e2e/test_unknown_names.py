"""An unknown name is an error that suggests the nearest one, in every command and call."""

import asyncio
import re
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.e2e.admin import Admin, administered
from tests.e2e.stories import APP, send, stands, until

TESTS = """
[[tests]]
name = "views reach the CRM"
path = "/v1/track"
body = { writeKey = "write-key", userId = "u1", event = "Viewed" }
expect = ["crm"]
"""
WITHOUT_CONFIG = {"translate", "losses"}
COMMANDS = [
    (("tail", "--source", "ap", "--limit", "1"), "source 'ap'; did you mean app?"),
    (("tail", "--destination", "crn", "--limit", "1"), "destination 'crn'; did you mean crm?"),
    (("dead-letters", "list", "--destination", "crn"), "destination 'crn'; did you mean crm?"),
    (("dead-letters", "replay", "--destination", "crn"), "destination 'crn'; did you mean crm?"),
    (("dead-letters", "delete", "--destination", "crn"), "destination 'crn'; did you mean crm?"),
    (("shadow", "report", "--destination", "x"), "shadow 'x'; none is defined"),
    (("shadow", "reset", "--destination", "x"), "shadow 'x'; none is defined"),
    (("explain", "--from", "ap", "{body}"), "source 'ap'; did you mean app?"),
    (("explain", "--from", "app", "--path", "/v1/trak", "{body}"), "did you mean /v1/track?"),
    (("test", "--name", "views reach the CRN"), "test 'views reach the CRN'; did you mean views"),
    (("losses", "--from", "chrt"), "vendor 'chrt' that both reads and writes; did you mean chrts?"),
    (("losses", "--to", "chrt"), "vendor 'chrt' that both reads and writes; did you mean chrts?"),
    (("losses", "--event", "Order Complet"), "event 'Order Complet'; did you mean Order Completed"),
    (
        ("translate", "--from", "segmnt", "--to", "chrts", "{body}"),
        "vendor 'segmnt' for --from; did you mean segment?",
    ),
    (
        ("translate", "--from", "segment", "--to", "chrt", "{body}"),
        "vendor 'chrt' for --to; did you mean chrts?",
    ),
    (
        ("translate", "--from", "segment", "--to", "chrts", "--path", "/v1/trak", "{body}"),
        "segment has no endpoint '/v1/trak'; did you mean /v1/track?",
    ),
]
CALLS = [
    ("GET", "/destinations/crn", None, 404, "destination 'crn'; did you mean crm?"),
    ("POST", "/destinations/crn/pause", None, 404, "destination 'crn'; did you mean crm?"),
    ("POST", "/destinations/crn/resume", None, 404, "destination 'crn'; did you mean crm?"),
    ("POST", "/destinations/crn/drain", None, 404, "destination 'crn'; did you mean crm?"),
    ("GET", "/vendors/chrt", None, 404, "vendor 'chrt'; did you mean chrts?"),
    ("GET", "/traces?source=ap", None, 400, "source 'ap'; did you mean app?"),
    ("GET", "/traces?destination=crn", None, 400, "destination 'crn'; did you mean crm?"),
    ("GET", "/tail?source=ap", None, 400, "source 'ap'; did you mean app?"),
    ("GET", "/tail?destination=crn", None, 400, "destination 'crn'; did you mean crm?"),
    ("GET", "/dead-letters?destination=crn", None, 400, "'crn'; did you mean crm?"),
    ("GET", "/dead-letter-groups?destination=crn", None, 400, "'crn'; did you mean crm?"),
    *(
        (
            "POST", f"/dead-letters/{act}", {"filter": {"destination": "crn"}}, 400,
            "destination 'crn'; did you mean crm?",
        )
        for act in ("replay", "delete")
    ),
    (
        "POST", "/explain", {"source": "ap", "path": "POST /v1/track", "body": "{}"}, 400,
        "source 'ap'; did you mean app?",
    ),
    (
        "POST", "/explain", {"source": "app", "path": "POST /v1/trak", "body": "{}"}, 400,
        "did you mean /v1/track?",
    ),
]  # fmt: skip


async def run(folder: Path, args: tuple[str, ...]) -> Result:
    """Run a command on the configuration in *folder*."""
    body = folder / "body.json"
    body.write_bytes(orjson.dumps({"userId": "u1", "event": "Viewed", "writeKey": "write-key"}))
    given = [one.format(body=body) for one in args]
    if args[0] not in WITHOUT_CONFIG:
        given += ["--config", str(folder / "gateway.toml")]
    return await asyncio.to_thread(CliRunner().invoke, main, given)


async def delivered(admin: Admin) -> None:
    """Deliver one event, so that there are traces and balances."""
    await until(admin, await send(admin), stands("crm", "delivered"))


async def test_commands_suggest_the_nearest_name(tmp_path: Path) -> None:
    """A command with an unknown name exits with 2, and suggests the nearest name."""
    async with administered(tmp_path, APP + TESTS) as admin:
        await delivered(admin)
        for args, said in COMMANDS:
            result = await run(tmp_path, args)
            assert result.exit_code == 2, (args, result.output)
            assert said in " ".join(result.output.split()), (args, result.output)


async def test_calls_suggest_the_nearest_name(tmp_path: Path) -> None:
    """A call with an unknown name gets 404 or 400, and suggests the nearest name."""
    async with administered(tmp_path, APP) as admin:
        for method, path, body, status, said in CALLS:
            found, problem = await admin.call(method, f"/api/v1{path}", body)
            assert found == status, (path, problem)
            assert said in problem["detail"], path


async def test_names_that_exist_are_no_error(tmp_path: Path) -> None:
    """A destination that is configured, or that only traces still name, is no error."""
    async with administered(tmp_path, APP + TESTS) as admin:
        await delivered(admin)
        config = tmp_path / "gateway.toml"
        text = config.read_text()
        named = re.sub(r"\bcrm\b", "other", text)
        for args in (
            ("tail", "--destination", "crm", "--limit", "1"),
            ("dead-letters", "list", "--destination", "crm"),
        ):
            for written in (text, named):
                config.write_text(written)
                result = await run(tmp_path, args)
                assert result.exit_code == 0, (args, result.output)
        assert (await admin.get("/traces?destination=crm"))["lines"]
        assert (await admin.get("/dead-letters?destination=mail"))["dead_letters"] == []


@pytest.mark.parametrize("command", ["list", "replay", "delete"])
async def test_every_filter_by_destination_is_in_the_table(command: str) -> None:
    """The table above has every command of dead letters that takes a destination."""
    assert any(args[:2] == ("dead-letters", command) for args, _ in COMMANDS)
