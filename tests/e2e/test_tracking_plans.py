"""Tracking plans over real sockets: refuse, drop fields or allow, before and after a crash."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.trace_text import trace_lines
from tests.e2e.configs import VENDORS, base_config, destination, source
from tests.e2e.process import gateway_process
from tests.e2e.running import PATIENCE, running, sandboxed
from tests.e2e.test_crash import down
from tests.e2e.test_refusals import CREDENTIALS, VALID, says_no

KEY = {"authorization": "Bearer right"}
CARD = {"uid": "u", "name": "paid", "properties": {"card": "4111 1111", "plan": "pro"}}
NO_CARD = """
[sources.shop.schemas.paid.properties.properties.properties]
card = false
"""


def config(folder: Path, sandbox: str, violations: str, schemas: str) -> str:
    """Return a configuration of one source with a plan, and two destinations."""
    return (
        base_config(folder)
        + source("chrts", "right", name="shop")
        + f'on_violation = "{violations}"\n'
        + schemas
        + destination("chrts", sandbox, 'retry_min = "50ms"\nretry_max = "200ms"')
        + destination("growlytics", sandbox, 'retry_min = "50ms"\nretry_max = "200ms"')
        + '[[routes]]\nto = ["chrts", "growlytics"]\n'
    )


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_refusal_is_the_vendors_own(tmp_path: Path, vendor: str) -> None:
    """An event that violates the plan gets the vendor's own 4xx, and is neither stored nor sent."""
    path, body = VALID[vendor]

    def planned(sandbox: str) -> str:
        return (
            base_config(tmp_path)
            + f'[sources.{vendor}]\nvendor = "{vendor}"\nkeys = "any"\non_violation = "refuse"\n'
            'schemas = { "*" = { required = ["group_id"] } }\n'
            + destination(vendor, sandbox)
            + f'[[routes]]\nto = ["{vendor}"]\n'
        )

    async with running(tmp_path, planned) as run:
        async with run.client.post(
            f"{run.url}{path}", json=body, headers=CREDENTIALS[vendor]
        ) as answer:
            said = await answer.read()
            assert 400 <= answer.status < 500, said
            assert says_no(vendor, said)
            assert b"is required" in said
        assert await run.journal() == []
        assert run.gateway.spool.shards[0].position() == 0
        assert sum(run.gateway.tally.counts.values()) == 1


async def test_a_refusal_names_the_senders_own_path(tmp_path: Path) -> None:
    """A refusal names the sender's path, not the event's."""
    schemas = "schemas = { paid = { properties = { user_id = { minLength = 5 } } } }\n"
    async with running(
        tmp_path, lambda sandbox: config(tmp_path, sandbox, "refuse", schemas)
    ) as run:
        body = {"userId": "u", "name": "paid"}
        async with run.client.post(f"{run.url}/event/track", json=body, headers=KEY) as answer:
            assert answer.status == 400
            assert (await answer.json())["message"] == "userId: must have at least 5 characters"
        body = {"userId": "u", "name": "not in the plan"}
        async with run.client.post(f"{run.url}/event/track", json=body, headers=KEY) as answer:
            assert answer.status == 200


async def test_an_allowed_violation_is_counted_and_delivered(tmp_path: Path) -> None:
    """With ``allow`` the event arrives whole, and the violation is counted and traced."""
    async with running(
        tmp_path, lambda sandbox: config(tmp_path, sandbox, "allow", NO_CARD)
    ) as run:
        async with run.client.post(f"{run.url}/event/track", json=CARD, headers=KEY) as answer:
            assert answer.status == 200
        await run.watch.until(lambda w: len(w.settled) == 2)
        (sent,) = await run.journal("chrts")
        assert sent["body"] == CARD
        assert run.gateway.tally.counts == {("shop", "paid", "properties.card: is not allowed"): 1}
        await run.gateway.observer.recorder.stop()
        (trace,) = await run.gateway.observer.traces.show(answer.headers["x-gateway-request-id"])
        assert trace.events[0].violations == ("properties.card: is not allowed",)
        assert "  violates the tracking plan: properties.card: is not allowed" in trace_lines(
            trace, whole=False
        )


async def test_a_dropped_field_reaches_no_destination(tmp_path: Path) -> None:
    """With ``drop-field`` no destination gets the field, not even the source's own vendor."""
    async with running(
        tmp_path, lambda sandbox: config(tmp_path, sandbox, "drop-field", NO_CARD)
    ) as run:
        async with run.client.post(f"{run.url}/event/track", json=CARD, headers=KEY) as answer:
            assert answer.status == 200
        await run.watch.until(lambda w: len(w.settled) == 2)
        sent = await run.journal()
        assert {entry["vendor"] for entry in sent} == {"chrts", "growlytics"}
        assert "4111 1111" not in str([entry["body"] for entry in sent])
        assert "pro" in str(sent)


async def _sent(client: Any, sandbox: str, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE), client.get(f"{sandbox}/_sandbox/events") as stream:
        while True:
            async with client.get(f"{sandbox}/_sandbox/requests") as answer:
                journal = [one for one in await answer.json() if one["verdict"] == "accepted"]
            if len(journal) >= count:
                return journal
            await stream.content.readline()


@pytest.mark.parametrize("later", ["the same", "none", "refuse"])
async def test_a_dropped_field_stays_dropped_after_a_crash(tmp_path: Path, later: str) -> None:
    """A dropped field stays dropped after a crash, whatever the plan says then."""
    path = tmp_path / "gateway.toml"
    async with sandboxed() as (sandbox, client):
        path.write_text(config(tmp_path, sandbox, "drop-field", NO_CARD))
        await down(client, sandbox)
        async with gateway_process(path) as gateway:
            url = f"{gateway.url}/event/track"
            async with client.post(url, json=CARD, headers=KEY) as answer:
                assert answer.status == 200
            gateway.kill()
            assert await gateway.ended() == -signal.SIGKILL
        if later == "none":
            path.write_text(config(tmp_path, sandbox, "allow", ""))
        elif later == "refuse":
            path.write_text(config(tmp_path, sandbox, "refuse", NO_CARD))
        async with client.delete(f"{sandbox}/_sandbox/faults") as answer:
            assert answer.status < 300
        async with gateway_process(path):
            sent = await _sent(client, sandbox, 2)
    assert {entry["vendor"] for entry in sent} == {"chrts", "growlytics"}
    assert "4111 1111" not in str([entry["body"] for entry in sent])
    assert "pro" in str(sent)


async def test_a_reload_changes_the_plan(tmp_path: Path) -> None:
    """A new plan applies from the reload on; counts are kept."""
    async with sandboxed() as (sandbox, client):
        path = tmp_path / "gateway.toml"
        path.write_text(config(tmp_path, sandbox, "allow", NO_CARD))
        async with gateway_process(path) as gateway:
            url = f"{gateway.url}/event/track"
            async with client.post(url, json=CARD, headers=KEY) as answer:
                assert answer.status == 200
            line = await gateway.saw("plan_violation")
            assert (line["source"], line["schema"], line["done"]) == ("shop", "paid", "allowed")
            assert "4111 1111" not in str(line)
            path.write_text(config(tmp_path, sandbox, "refuse", NO_CARD))
            gateway.process.send_signal(signal.SIGHUP)
            await gateway.saw("reloaded")
            async with client.post(url, json=CARD, headers=KEY) as answer:
                assert answer.status == 400
                assert "properties.card: is not allowed" in await answer.text()


async def test_violations_are_counted_without_credentials(tmp_path: Path) -> None:
    """A field named like a credential, or with a long name, is not a metric's label."""
    plan = "[sources.shop.schemas.paid.properties.properties]\nadditionalProperties = false\n"

    def planned(sandbox: str) -> str:
        return (
            config(tmp_path, sandbox, "allow", plan)
            .replace("[server]\n", "[server]\nmetrics = true\n")
            .replace('["right"]', '["right", "canary-key"]')
        )

    async with running(tmp_path, planned) as run:
        fields = {"canary-key": 1, "x" * 10_000: 2, "other": 3}
        body = {"uid": "u", "name": "paid", "properties": fields}
        async with run.client.post(f"{run.url}/event/track", json=body, headers=KEY) as answer:
            assert answer.status == 200
        async with run.client.get(f"{run.url}/metrics") as answer:
            page = await answer.text()
    lines = [
        line for line in page.splitlines() if line.startswith("cdp_gateway_plan_violations_total{")
    ]
    assert len(lines) == len(fields)
    assert any("properties.***: " in line for line in lines)
    assert "canary-key" not in page
    assert "xxx" not in page
