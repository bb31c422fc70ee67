"""Two gateways of one cluster, in the process of a test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.spool.jetstream import presence
from tests.cluster.servers import NatsServers
from tests.e2e.admin import Admin, administered
from tests.e2e.configs import ADMIN, base_config, destination, route, source
from tests.e2e.running import sandboxed

SHARDS = 4
PATIENCE = 30.0
POLL = 0.05
WARM_UP = 1.0
"""Seconds that a node listens to the other, which is in the same process, before it judges."""


def cluster_of(server: NatsServers) -> str:
    """Return the tables that make gateways those of a new cluster."""
    spool = (
        f'url = "{server.urls[0]}"\nname = "t{uuid4().hex}"\nshards = {SHARDS}\nreplicas = 1\n'
        'max_bytes = "16MiB"\n'
    )
    return base_config(spool=spool) + ADMIN


def setup_of(server: NatsServers, more: str = "") -> str:
    """Return the configuration of all gateways of a new cluster, with further tables."""
    return (
        cluster_of(server)
        + more
        + source("chrts", name="shop")
        + destination("growlytics", name="mail", settings='api_key = "growlytics-canary"')
        + route("mail")
    )


@asynccontextmanager
async def two_nodes(
    folder: Path, setup: str, second: str | None = None
) -> AsyncIterator[tuple[Admin, Admin]]:
    """Run two gateways that share all shards, and one sandbox.

    *second* is the setup of the second one, if it is not the same.
    """
    places = [folder / "one", folder / "two"]
    for place in places:
        await asyncio.to_thread(place.mkdir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "WARM_UP", WARM_UP)
        async with (
            sandboxed() as (url, _),
            administered(places[0], setup, url) as one,
            administered(places[1], second or setup, url) as two,
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


async def differ(two: Admin) -> None:
    """Give the second gateway another configuration than the first."""
    path = two.running.gateway.config.path
    path.write_text(path.read_text() + "when = \"event.name != 'x'\"")
    await two.post("/config/reload")
