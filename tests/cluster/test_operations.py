"""What operators see and do at one gateway of a cluster, for all of them."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.spool.jetstream import peers
from tests.cluster.servers import NatsServers
from tests.cluster.two_nodes import (
    PATIENCE,
    POLL,
    differ,
    name_of,
    setup_of,
    two_nodes,
    until,
)
from tests.e2e.admin import Admin, administered
from tests.e2e.configs import ADMIN, filled
from tests.e2e.process import gateway_process
from tests.e2e.test_alerts import listening


async def command(admin: Admin, *words: str) -> Result:
    """Run a command that asks a gateway."""
    path = admin.running.gateway.config.path
    listen = ADMIN.replace("127.0.0.1:0", admin.url.removeprefix("http://"))
    path.with_name("cli.toml").write_text(path.read_text().replace(ADMIN, listen))
    told = [*words, "-c", str(path.with_name("cli.toml"))]
    return await asyncio.to_thread(CliRunner().invoke, main, told, catch_exceptions=False)


def headlines(found: dict[str, Any]) -> list[str]:
    """Return what is wrong."""
    return [finding["headline"] for finding in found["findings"]]


async def test_any_gateway_shows_the_cluster(tmp_path: Path, nats_server: NatsServers) -> None:
    """It shows all gateways, owners and streams; what is wrong with it is a part of its health."""
    async with two_nodes(tmp_path, setup_of(nats_server)) as (one, two):
        found = await one.get("/cluster")
        assert (found["healthy"], found["node"]) == (True, name_of(one))
        states = [(each["name"], each["state"]) for each in found["nodes"]]
        assert states == sorted([(name_of(one), "ready"), (name_of(two), "ready")])
        assert {(shard["pending"], shard["lag"]) for shard in found["shards"]} == {(0, 0.0)}
        assert {(each["current"], each["replicas"]) for each in found["streams"]} == {(1, 1)}

        path = two.running.gateway.config.path
        path.write_text(path.read_text() + "when = \"event.name != 'x'\"")
        await two.post("/config/reload")
        found = await until(one, lambda found: not found["healthy"])
        differs = f"The configuration of {name_of(two)} differs from that of {name_of(one)}"
        assert headlines(found) == [differs]
        told = await command(one, "cluster", "status")
        assert told.exit_code == 1
        assert f"! {differs}" in " ".join(told.stdout.split())
        assert "(differs)" in told.stdout
        one.running.gateway.monitor.forget()
        assert differs in headlines(await one.get("/health"))


async def send(admin: Admin, user: str) -> str:
    """Send an event of a user to a gateway; return the id of its request."""
    running = admin.running
    track = {"uid": user, "name": "product_viewed", "properties": {"price": 10}}
    headers = {"authorization": "Bearer any"}
    url = f"{running.url}/event/track"
    async with running.client.post(url, json=track, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["x-gateway-request-id"]


async def test_any_gateway_finds_every_event(
    tmp_path: Path, nats_server: NatsServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records name their gateway, users' are complete, pages whole, and who is silent is named."""
    async with two_nodes(tmp_path, setup_of(nats_server)) as (one, two):
        names = {name_of(one), name_of(two)}
        sent = [await send(one, f"u{number}") for number in range(24)]
        shown = [await delivered(two, request) for request in sent]
        assert {trace["received"]["node"] for trace in shown} == {name_of(one)}
        assert {trace["attempts"][0]["node"] for trace in shown} == names
        told = await command(two, "trace", sent[0])
        assert f"(format: chrts) at {name_of(one)}\n" in told.stdout
        assert f" mail from {shown[0]['attempts'][0]['node']}, attempt 1: HTTP 200" in told.stdout
        (view,) = (await two.get(f"/request?id={sent[0]}"))["requests"]
        assert view["node"] == name_of(one)
        assert view["events"][0]["deliveries"][0]["attempts"][0]["node"] in names
        for number, trace in enumerate(shown):
            assert (await one.get(f"/trace?id=u{number}"))["traces"] == [trace]

        whole = (await two.get("/traces?limit=500"))["lines"]
        assert {(line["node"], line["kind"]) for line in whole} == {
            (name_of(one), "event"), *((name, "delivery") for name in names)
        }  # fmt: skip
        paged: list[Any] = []
        place: str | None = ""
        while place is not None:
            page = await two.get(f"/traces?limit=5{place and f'&before={quote(place)}'}")
            paged += page["lines"]
            place = page["next"]
        assert paged == whole
        mine = (await one.get(f"/traces?limit=500&node={name_of(two)}"))["lines"]
        assert mine == [line for line in whole if line["node"] == name_of(two)]
        status, problem = await one.call("GET", "/api/v1/traces?node=nobody")
        assert (status, "nobody" in problem["detail"]) == (400, True)

        async def hang(_: bytes) -> bytes:
            return await asyncio.Future[bytes]()

        monkeypatch.setattr(peers, "LIMIT", 0.1)
        for gateway in (one.running.gateway, two.running.gateway):
            assert gateway.spool.peers is not None
            gateway.spool.peers.serve("trace.show", hang)
        found = await one.get(f"/trace?id={sent[0]}")
        assert list(found["silent"]) == [name_of(two)]
        assert found["traces"][0]["request"] == sent[0], "what it has itself is shown"
        status, problem = await one.call("GET", "/api/v1/trace?id=nothing")
        assert (status, f"{name_of(two)} did not answer" in problem["detail"]) == (404, True)


async def delivered(admin: Admin, request: str) -> dict[str, Any]:
    """Wait until a gateway shows a delivery of a request; return the trace."""
    async with asyncio.timeout(PATIENCE):
        while True:
            status, found = await admin.call("GET", f"/api/v1/trace?id={request}")
            if status == 200 and found["traces"][0]["attempts"]:
                (trace,) = found["traces"]
                assert found["silent"] == {}
                return dict(trace)
            await asyncio.sleep(POLL)


async def test_a_gateway_that_is_alone_has_no_cluster(tmp_path: Path) -> None:
    """A gateway with a spool of its own refuses to show one, and says why."""
    async with administered(tmp_path) as admin:
        status, problem = await admin.call("GET", "/api/v1/cluster")
        assert (status, "no url" in problem["detail"]) == (409, True)


async def test_a_balancer_learns_of_the_start_and_the_end_before_senders_do(
    tmp_path: Path, nats_server: NatsServers
) -> None:
    """A gateway accepts events before it is ready, and for a while after it is no more."""
    path = tmp_path / "gateway.toml"
    text = filled(setup_of(nats_server), tmp_path, "http://127.0.0.1:1")
    path.write_text(text.replace("[server]", '[server]\nstop_delay = "1h"'))
    async with gateway_process(path) as node, aiohttp.ClientSession() as client:

        async def readiness() -> tuple[int, str]:
            async with client.get(f"{node.url}/readyz") as answer:
                return answer.status, (await answer.text()).partition("\n")[0]

        async def becomes(status: int, reason: str) -> None:
            async with asyncio.timeout(PATIENCE):
                while await readiness() != (status, reason):  # noqa: ASYNC110 - nothing signals it
                    await asyncio.sleep(POLL)

        async def accepts() -> None:
            headers = {"authorization": "Bearer any"}
            track = {"uid": "u", "name": "product_viewed"}
            async with client.post(
                f"{node.url}/event/track", json=track, headers=headers
            ) as answer:
                assert answer.status == 200

        await becomes(503, "joining the cluster")
        await accepts()
        await becomes(200, "ok")
        node.process.terminate()
        await becomes(503, "stopping")
        await accepts()
        node.process.terminate()
        assert await node.ended() == 0


async def test_one_gateway_alerts_for_the_cluster(tmp_path: Path, nats_server: NatsServers) -> None:
    """The first by name tells what concerns all; each tells what concerns itself, with its name."""
    async with listening() as hook:
        alerts = f'[alerts]\nurl = "{hook.url}"\ncheck_interval = "50ms"\npaused_for = "0s"\n'
        async with two_nodes(tmp_path, setup_of(nats_server, alerts)) as (one, two):
            first = min(name_of(one), name_of(two))
            await differ(two)
            alert = await hook.next("cluster")
            assert (alert["node"], alert["state"]) == (first, "firing")
            await one.post("/destinations/mail/pause")
            alert = await hook.next("destination_paused")
            assert (alert["node"], alert["state"]) == (first, "firing")
            two.running.gateway.accepting = False
            alert = await hook.next("not_accepting")
            assert alert["node"] == name_of(two)
            assert alert["text"].startswith(f"{name_of(two)}: ")
            two.running.gateway.accepting = True
            await hook.next("not_accepting")
            told = [await each.json() for each in hook.got]
            about_all = [each for each in told if each["kind"] in {"destination_paused", "cluster"}]
            assert {each["node"] for each in about_all} == {first}
