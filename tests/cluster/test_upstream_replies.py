"""Any gateway of a cluster hands the vendor's own reply back, whichever delivers the event."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.cluster.servers import NatsServers
from tests.cluster.tcp_proxy import tcp_proxies
from tests.cluster.two_nodes import SHARDS, cluster_of, name_of, owners, two_nodes, until
from tests.e2e.admin import Admin
from tests.e2e.configs import PROMPT_RETRIES, SETTINGS, route, source
from tests.e2e.raw_http import OK, Got, Vendor, body_of, vendor

KEY = "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"
BRIEF = 0.3
"""Seconds that clients of the source *brief* wait; those of others wait longer than the test."""
AT_ONCE = 20.0
"""Seconds within which everything is answered, also on a busy machine."""


def answer(status: str, body: str) -> bytes:
    """Return a response as bytes, with two cookies."""
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nset-cookie: a=1\r\n"
        f"set-cookie: b=2\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def config(server: NatsServers, url: str) -> str:
    """Return the configuration of both gateways, for a vendor at *url*."""
    waits = 'respond = "upstream"\nrespond_timeout = '
    tables = [
        source("tracardi", name="shop", more=f'{waits}"60s"\ndedup = "10m"'),
        source("tracardi", name="brief", more=f'{waits}"{BRIEF}s"\nmount = "/brief"'),
        source("segment", name="pages", more=f'{waits}"60s"'),
    ]
    tables += [
        f'[destinations.{name}]\nvendor = "{name}"\nurl = "{url}"\n{SETTINGS[name]}\n'
        f"{PROMPT_RETRIES}\n"
        for name in ("tracardi", "segment")
    ]
    tables += [
        route("tracardi", more='from = ["shop", "brief"]'),
        route("segment", more='from = ["pages"]'),
    ]
    return cluster_of(server) + "".join(tables)


async def sent(admin: Admin, user: str, at: str = "") -> tuple[int, str, int]:
    """Send an event of a user to a gateway; return status, body and the number of cookies."""
    event = {
        "source": {"id": "s-1"}, "session": {"id": user}, "profile": {"id": user},
        "events": [{"type": "page-view", "id": f"{user}-{at}"}],
    }  # fmt: skip
    return await posted(admin, f"{at}/track", event)


async def posted(admin: Admin, path: str, body: Any) -> tuple[int, str, int]:
    """Send a request to a gateway; return status, body and the number of cookies."""
    url, headers = admin.running.url + path, {"authorization": "Basic a2V5Og=="}
    async with (
        asyncio.timeout(AT_ONCE),
        admin.running.client.post(url, json=body, headers=headers) as got,
    ):
        return got.status, await got.text(), len(got.headers.getall("set-cookie", []))


async def users_of(one: Admin, two: Admin) -> list[str]:
    """Return users whose events come to the first gateway, and are delivered by the second."""
    await until(one, lambda found: {*Counter(s["owner"] for s in found["shards"]).values()} == {2})
    users = [f"user-{number}" for number in range(40)]
    for user in users[:8]:
        assert (await sent(one, user))[1:] == ('{"popup":1}', 2), user
    watch, spool = one.running.watch, two.running.gateway.spool
    await watch.until(lambda w: len(w.accepted) == 8)
    names = {
        event.user_key.removesuffix(user)
        for event, user in zip(watch.accepted, users, strict=False)
    }
    (start,) = names
    own = {shard.number for shard in spool.shards}
    return [user for user in users if spool.user_hash(start + user) % SHARDS in own]


def times(vendor: Vendor, user: str, at: str = "") -> int:
    """Return how often the vendor got an event."""
    return sum(f'"{user}-{at}"'.encode() in got.body for got in vendor.got)


async def test_any_gateway_hands_the_vendors_reply_back(
    tmp_path: Path, nats_server: NatsServers
) -> None:
    """A client gets the vendor's reply through another gateway, or at once the gateway's own."""
    async with vendor() as upstream, two_nodes(tmp_path, config(nats_server, upstream.url)) as (
        one, two,
    ):  # fmt: skip
        upstream.answer = answer("200 OK", '{"popup":1}')
        far = await users_of(one, two)
        assert two.running.watch.settled, "the second gateway delivered some"
        assert len(far) < 40, "not all"

        refused = answer("422 No", f'{{"no":"{KEY}"}}')
        upstream.answer = refused
        assert await sent(one, far[9]) == (422, f'{{"no":"{"*" * len(KEY)}"}}', 2)

        upstream.answer = answer("500 Oh", "{}")
        status, own, cookies = await sent(one, far[10])
        assert (status, cookies) == (200, 0), "the vendor is asked again, so the gateway responds"
        upstream.answer = answer("200 OK", '{"popup":1}')
        assert '"task"' in own
        assert '"task"' in (await sent(one, far[9]))[1], "a duplicate"
        assert times(upstream, far[9]) == 1

        batch = [{"type": "track", "event": "e", "userId": f"u{number}"} for number in range(9)]
        status, body, _ = await posted(one, "/v1/batch", {"batch": batch})
        assert (status, "popup" in body) == (200, False), "several gateways have a part of it"


async def test_a_client_does_not_wait_for_an_owner_that_is_gone(
    tmp_path: Path, nats_server: NatsServers
) -> None:
    """Without an answer in time the gateway responds itself; nothing is lost or repeated."""
    release = asyncio.Event()

    async def slow(got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.body = await body_of(got, reader)
        await release.wait()
        writer.write(OK)

    with tcp_proxies() as proxies:
        port = int(nats_server.urls[0].rpartition(":")[2])
        link = proxies.to(port)
        async with vendor() as upstream:
            setup = config(nats_server, upstream.url)
            linked = setup.replace(nats_server.urls[0], f"nats://127.0.0.1:{link.port}")
            async with two_nodes(tmp_path, setup, linked) as (one, two):
                upstream.answer = answer("200 OK", '{"popup":1}')
                slow_one, gone = (await users_of(one, two))[-2:]

                upstream.script = slow
                assert '"task"' in (await sent(one, slow_one, "/brief"))[1]
                upstream.script = None
                release.set()
                await two.running.watch.until(
                    lambda w: any(slow_one in event.user_key for event, *_ in w.settled)
                )
                await until(one, lambda found: all(s["pending"] == 0 for s in found["shards"]))

                link.cut()
                began = asyncio.get_running_loop().time()
                assert '"task"' in (await sent(one, gone, "/brief"))[1]
                assert asyncio.get_running_loop().time() - began < AT_ONCE / 2
                await one.running.watch.until(
                    lambda w: any(gone in event.user_key for event, *_ in w.settled)
                )
                link.heal()
                await until(one, lambda found: owners(found) == {name_of(one), name_of(two)})
                assert times(upstream, slow_one, "/brief") == 1
                assert times(upstream, gone, "/brief") == 1
