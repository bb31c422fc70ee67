"""Viewers look, operators act, and what they do is recorded."""

import asyncio
import getpass
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner
from pydantic import SecretStr
from structlog.testing import capture_logs

from gateway.admin.app import ENDPOINTS
from gateway.admin.audit import FILE
from gateway.admin.auth import in_force
from gateway.admin.endpoint import PREFIX, Endpoint
from gateway.cli import main
from gateway.config.operations import AdminConfig
from tests.e2e.admin import SETUP, TOKEN, Admin, administered, fill
from tests.e2e.running import PATIENCE

ALICE, VERA, PROXY = "alice-0123456789", "vera-01234567890", "proxy-0123456789"
PEOPLE = (
    f'operators = {{ alice = "{ALICE}" }}\nviewers = {{ vera = "{VERA}" }}\n'
    f'proxy_secret = "{PROXY}"\nproxy_operator_groups = ["oncall"]\n'
)
SHARED = SETUP.replace(f'token = "{TOKEN}"\n', PEOPLE)
OPERATIONS = [found for found in ENDPOINTS if found.role == "operator"]


def headers(token: str) -> dict[str, str]:
    """Return the headers of a call with *token*."""
    return {"authorization": f"Bearer {token}", "x-gateway-admin": "1"}


async def call(admin: Admin, token: str, method: str, path: str, body: Any = None) -> Any:
    """Return status and JSON of a call with *token*."""
    return await admin.call(method, f"{PREFIX}{path}", body, headers(token))


async def test_a_viewer_looks_and_does_nothing(tmp_path: Path) -> None:
    """A viewer reads and tries requests; every operation answers 403 and says what is needed."""
    async with administered(tmp_path, SHARED) as admin:
        assert await call(admin, VERA, "GET", "/me") == (200, {"name": "vera", "role": "viewer"})
        assert (await call(admin, VERA, "GET", "/destinations"))[0] == 200
        (sample, *_) = (await call(admin, VERA, "GET", "/playground"))[1]["sources"]
        tried = {"source": sample["name"], "path": "/event/track", "body": "{}"}
        assert (await call(admin, VERA, "POST", "/explain", tried))[0] == 200
        for operation in OPERATIONS:
            status, said = await call(admin, VERA, operation.method, _path(operation))
            assert status == 403, operation
            assert said["detail"] == (
                "vera is a viewer, and this needs an operator; ask for a place among the "
                "operators of [admin]"
            )
        counts = admin.running.gateway.observer.counts
        assert counts.admin_refused == Counter(role=len(OPERATIONS))
        assert (await call(admin, VERA, "GET", "/audit"))[1]["entries"] == []
        assert (await call(admin, ALICE, "GET", "/destinations/crm"))[1]["state"] == "delivering"


def _path(operation: Endpoint) -> str:
    return operation.path.replace("{name}", "crm").replace("{number}", "1")


def test_only_reading_and_trying_is_open_to_viewers() -> None:
    """Each endpoint that is not a GET needs an operator, except the one that sends nothing."""
    free = {found.path for found in ENDPOINTS if found.method != "GET" and found.role == "viewer"}
    assert free == {"/explain"}
    assert all(found.role == "viewer" for found in ENDPOINTS if found.method == "GET")


async def test_what_operators_do_is_recorded(tmp_path: Path) -> None:
    """Operations are recorded with who, what and how they ended, for the API and the command."""
    await fill(tmp_path / "spool", 4)
    through = {
        "x-gateway-proxy-secret": PROXY, "x-forwarded-user": "olga@shop.example",
        "x-forwarded-groups": "staff,oncall", "x-gateway-admin": "1",
    }  # fmt: skip
    async with administered(tmp_path, SHARED) as admin:
        for verb in ("pause", "drain"):
            await call(admin, ALICE, "POST", f"/destinations/crm/{verb}")
        moved = {"filter": {"destination": "mail", "user": "u1"}}
        path = f"{PREFIX}/dead-letters/delete"
        assert (await admin.call("POST", path, moved, through))[0] == 200
        assert (await call(admin, ALICE, "POST", "/dead-letters/delete", {"ids": []}))[0] == 400
        await call(admin, ALICE, "POST", "/erase", {"ids": ["u3"]})
        status, found = await call(admin, VERA, "GET", "/audit?limit=2")
        assert (status, found["next"]) == (200, 3)
        erased = found["entries"].pop(0)
        assert (erased["action"], erased["error"]) == ("erase_person", "")
        assert erased["detail"] == "0 deliveries, 1 dead letters, 0 traces"
        assert "u3" not in orjson.dumps(erased).decode()
        status, rest = await call(admin, VERA, "GET", f"/audit?before={found['next']}")
        told = [
            (one["name"], one["via"], one["action"], one["target"], one["detail"] or one["error"])
            for one in (*found["entries"], *rest["entries"])
        ]
        assert told == [
            ("olga@shop.example", "proxy", "delete_dead_letters", "", "1 dead letter of mail"),
            ("alice", "token", "drain_destination", "crm",
             "crm is paused; resume it, then drain it"),
            ("alice", "token", "pause_destination", "crm", ""),
        ]  # fmt: skip
    config = tmp_path / "gateway.toml"
    printed = await asyncio.to_thread(_invoked, "audit", "-c", str(config))
    assert "olga@shop.example (proxy)" in printed
    assert "pause destination" in printed
    await asyncio.to_thread(_invoked, "dead-letters", "delete", "--all", "-c", str(config))
    lines = await asyncio.to_thread(_invoked, "audit", "--json", "-c", str(config))
    newest = orjson.loads(lines.splitlines()[0])
    assert (newest["via"], newest["name"]) == ("command", getpass.getuser())
    assert newest["detail"] == "2 dead letters"


def _invoked(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


async def test_an_action_that_cannot_be_recorded_is_done(tmp_path: Path) -> None:
    """On a broken audit log operators can still act; the log says what they did, and why."""
    async with administered(tmp_path) as admin:
        (tmp_path / "spool" / FILE).mkdir()
        with capture_logs() as lines:
            assert (await admin.post("/destinations/crm/pause"))["state"] == "paused"
        status, said = await admin.call("GET", f"{PREFIX}/audit")
        assert status == 503
        assert FILE in said["detail"]
    told = {line["event"]: line for line in lines}
    assert told["admin_action"]["name"] == "admin"
    assert told["admin_action"]["action"] == "pause_destination"
    assert FILE in told["audit_failed"]["reason"]


async def test_a_reload_changes_what_a_person_may_do(tmp_path: Path) -> None:
    """After a reload an operator who became a viewer can only look, and the person removed not."""
    async with administered(tmp_path, SHARED) as admin:
        path = tmp_path / "gateway.toml"
        fewer = f'operators = {{ olga = "{PROXY}2" }}\nviewers = {{ alice = "{ALICE}" }}\n'
        path.write_text(path.read_text().replace(PEOPLE, fewer))
        assert (await call(admin, ALICE, "POST", "/config/reload"))[0] == 200
        assert (await call(admin, ALICE, "POST", "/destinations/crm/pause"))[0] == 403
        assert (await call(admin, ALICE, "GET", "/status"))[0] == 200
        assert (await call(admin, VERA, "GET", "/status"))[0] == 401


async def test_a_stream_ends_with_its_callers_access(tmp_path: Path) -> None:
    """A reload that takes a caller's token, role or sign-in ends the open stream, with the reason.

    Streams of others go on.
    """
    async with administered(tmp_path, SHARED) as admin:
        pat = {"x-gateway-proxy-secret": PROXY, "x-forwarded-user": "pat"}
        ona = {**pat, "x-forwarded-user": "ona", "x-forwarded-groups": "oncall"}
        get = partial(admin.running.client.get, f"{admin.url}{PREFIX}/tail")
        async with (
            get(headers=headers(ALICE)) as alice,
            get(headers=headers(VERA)) as vera,
            get(headers=pat) as viewer,
            get(headers=ona) as operator,
            asyncio.timeout(PATIENCE),
        ):
            path = tmp_path / "gateway.toml"
            first = path.read_text()
            kept = PEOPLE.replace(f'vera = "{VERA}"', f'vera = "{VERA}2"').replace(
                "oncall", "night"
            )
            path.write_text(first.replace(PEOPLE, kept))
            assert (await call(admin, ALICE, "POST", "/config/reload"))[0] == 200
            assert b"the token vera is no longer valid" in await vera.read()
            assert (
                b"the sign-in of ona has changed from operator to viewer" in await operator.read()
            )
            path.write_text(first.replace(PEOPLE, kept.replace(PROXY, f"{PROXY}2")))
            assert (await call(admin, ALICE, "POST", "/config/reload"))[0] == 200
            assert b'event: ended\ndata: {"reason":"the sign-in of pat' in await viewer.read()
            event, key = {"uid": "u", "name": "n"}, {"authorization": "Bearer api_chrts_test"}
            await admin.running.client.post(
                f"{admin.running.url}/event/track", json=event, headers=key
            )
            while not (await alice.content.readline()).startswith(b"data:"):
                assert not alice.content.at_eof()


def test_a_reload_without_tokens_opens_nothing() -> None:
    """On an address that others can reach, the people of the start stay the ones who may call."""
    started = AdminConfig(
        listen=":8081", viewers={"vera": SecretStr(VERA)}, proxy_secret=SecretStr(PROXY)
    )
    kept = in_force(started, AdminConfig())
    assert (kept.viewers, kept.proxy_secret) == (started.viewers, started.proxy_secret)
    assert not in_force(AdminConfig(viewers=started.viewers), AdminConfig()).guarded
