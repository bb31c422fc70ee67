"""What operators see and do at one gateway of a cluster, for all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from gateway.admin.cluster import ClusterStatus
from gateway.cli.cluster import print_cluster
from gateway.cli.output import console
from gateway.spool.jetstream import presence
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


async def test_any_gateway_shows_the_cluster(
    tmp_path: Path, setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
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
        print_cluster(msgspec.convert(found, ClusterStatus), console())
        shown = capsys.readouterr().out
        assert f"! {differs}" in shown
        assert "(differs)" in shown
        one.running.gateway.monitor.forget()
        assert differs in headlines(await one.get("/health"))


async def test_a_gateway_that_is_alone_has_no_cluster(tmp_path: Path) -> None:
    """A gateway with a spool of its own refuses to show one, and says why."""
    async with administered(tmp_path) as admin:
        status, problem = await admin.call("GET", "/api/v1/cluster")
        assert (status, "no url" in problem["detail"]) == (409, True)
