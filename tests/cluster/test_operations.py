"""What operators see and do at one gateway of a cluster, for all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.spool.jetstream import peers, presence
from tests.cluster.servers import NatsServers
from tests.e2e.admin import TOKEN, Admin, administered
from tests.e2e.configs import ADMIN, base_config, destination, route, source
from tests.e2e.running import sandboxed

SHARDS = 4
PATIENCE = 30.0
POLL = 0.05

Setup = Callable[[str], str]
"""Returns a configuration with further lines for its route."""


@pytest.fixture
def setup(tmp_path: Path, nats_server: NatsServers, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Return the configuration of all gateways of one cluster."""
    monkeypatch.setattr(presence, "WARM_UP", 1.0)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    spool = (
        f'url = "{nats_server.urls[0]}"\nname = "t{uuid4().hex}"\nshards = {SHARDS}\nreplicas = 1\n'
        'max_bytes = "16MiB"\n'
    )
    return lambda more: (
        base_config(spool=spool)
        + f'{ADMIN}token = "{TOKEN}"\n'
        + source("chrts", name="shop")
        + destination("growlytics", name="mail", settings='api_key = "growlytics-canary"')
        + route("mail", more=more)
    )


@asynccontextmanager
async def two_nodes(folder: Path, setup: str) -> AsyncIterator[tuple[Admin, Admin]]:
    """Run two gateways that share all shards, and one sandbox."""
    async with (
        sandboxed() as (url, _),
        administered(folder / "one", setup, url) as one,
        administered(folder / "two", setup, url) as two,
    ):
        await until(one, lambda found: owners(found) == {name_of(one), name_of(two)})
        yield one, two


def name_of(admin: Admin) -> str:
    """Return the name of a gateway in its cluster."""
    return admin.running.gateway.spool.node


async def command(admin: Admin, *words: str) -> Result:
    """Run a command that asks a gateway."""
    path = admin.running.gateway.config.path
    listen = ADMIN.replace("127.0.0.1:0", admin.url.removeprefix("http://"))
    path.with_name("cli.toml").write_text(path.read_text().replace(ADMIN, listen))
    told = [*words, "-c", str(path.with_name("cli.toml"))]
    return await asyncio.to_thread(CliRunner().invoke, main, told, catch_exceptions=False)


async def until(admin: Admin, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the state of the cluster is such; return it."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found and holds(found)):
                await asyncio.sleep(POLL)
                found = await admin.get("/cluster")
    except TimeoutError:
        raise TimeoutError(found) from None
    return found


def owners(found: dict[str, Any]) -> set[str]:
    """Return who delivers the shards; nobody does while they are being claimed."""
    return {shard["owner"] if shard["lag"] is not None else "" for shard in found["shards"]}


def headlines(found: dict[str, Any]) -> list[str]:
    """Return what is wrong."""
    return [finding["headline"] for finding in found["findings"]]


async def test_any_gateway_shows_the_cluster(tmp_path: Path, setup: Setup) -> None:
    """It shows all gateways, owners and streams; what is wrong with it is a part of its health."""
    async with two_nodes(tmp_path, setup("")) as (one, two):
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
    tmp_path: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record names its gateway, pages are whole, and who does not answer is named."""
    async with two_nodes(tmp_path, setup("")) as (one, two):
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
