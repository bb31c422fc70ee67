"""The cluster for tests: its servers end, pause and part when a test says so."""

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.errors import TimeoutError as NatsTimeout

from tests.cluster.access import (
    ANYBODY,
    Access,
    by_certificate,
    by_credentials,
    by_nkey,
    by_password,
)
from tests.cluster.servers import NatsServers, nats_servers
from tests.cluster.tcp_proxy import tcp_proxies

BRIEF = 0.3
"""Seconds in which nothing must arrive."""


async def _ignore(_: Exception) -> None:
    """Ignore what the client tells of a connection that it tries again."""


async def connected(
    url: str, access: Access = ANYBODY, closed: asyncio.Event | None = None
) -> Client:
    """Return a client of one server, which sets *closed* when its connection ends."""

    async def close() -> None:
        if closed:
            closed.set()

    client = Client()
    try:
        await client.connect(
            [url], error_cb=_ignore, closed_cb=close, connect_timeout=1, allow_reconnect=False,
            **access.connect,
        )  # fmt: skip
    except BaseException:
        await client.close()  # the client leaves a refused connection open
        raise
    return client


async def hearing(client: Client, subject: str) -> Subscription:
    """Return a subscription that the server knows; a flush may overtake its registration."""
    subscription = await client.subscribe(subject)
    await client.publish(subject, b"")
    await subscription.next_msg(5)
    return subscription


async def test_servers_end_and_come_back(nats_cluster: NatsServers) -> None:
    """A stream finds another leader when its leader stops, and its messages survive a kill."""
    name = uuid.uuid4().hex
    client = await connected(nats_cluster.urls[0])
    await client.jetstream().add_stream(name=name, subjects=[name], num_replicas=3)
    await client.jetstream().publish(name, b"x")
    await client.close()
    first = nats_cluster.leader(name)
    assert first is not None
    nats_cluster.stop(first)
    while nats_cluster.leader(name) in {None, first}:
        pass
    for end in (lambda _: None, nats_cluster.kill):
        end(first)
        nats_cluster.start(first)
        nats_cluster.ready(first)
    client = await connected(nats_cluster.urls[first])
    assert (await client.jetstream().get_last_msg(name, name)).data == b"x"
    await client.jetstream().delete_stream(name)
    await client.close()


async def test_a_paused_server_keeps_its_connections(nats_cluster: NatsServers) -> None:
    """A paused server does nothing, and goes on when it is resumed."""
    client = await connected(nats_cluster.urls[1])
    heard = await hearing(client, "paused")
    nats_cluster.pause(1)
    await client.publish("paused", b"x")
    with pytest.raises(NatsTimeout):
        await heard.next_msg(BRIEF)
    nats_cluster.resume(1)
    assert (await heard.next_msg(5)).data == b"x"
    await client.close()


async def test_parted_servers_do_not_hear_each_other(tmp_path: Path) -> None:
    """What is published on one side of a partition does not arrive on the other, until it heals."""
    with nats_servers(tmp_path, parted=True) as servers:
        clients = [await connected(url) for url in servers.urls]
        heard = [await client.subscribe("x") for client in clients]
        await _until_heard(clients, heard)
        servers.part([0], [1, 2])
        await clients[0].publish("x", b"parted")
        assert (await heard[0].next_msg(5)).data == b"parted"
        for other in heard[1:]:
            with pytest.raises(NatsTimeout):
                await other.next_msg(BRIEF)
        servers.join()
        for other in heard[1:]:
            assert (await other.next_msg(5)).data == b"parted"
        for client in clients:
            await client.close()


async def _until_heard(clients: list[Client], heard: list[Subscription]) -> None:
    """Publish until every server knows every subscription, and empty these."""
    for number, client in enumerate(clients):
        mark = b"%d" % number
        for sub in heard:
            got = b""
            while got != mark:  # what other clients published proves nothing about this one
                await client.publish("x", mark)
                with contextlib.suppress(NatsTimeout):
                    while got != mark:
                        got = (await sub.next_msg(0.05)).data
    for client in clients:
        await client.publish("x", b"end")
    for sub in heard:
        ends = 0
        while ends < len(clients):
            ends += (await sub.next_msg(5)).data == b"end"


async def test_a_client_is_cut_off_by_its_own_proxy(nats_cluster: NatsServers) -> None:
    """A cut proxy holds back what it gets, a reset one ends the connection; others go on."""
    with tcp_proxies() as proxies:
        urls, ways = nats_cluster.proxied(proxies)
        closed = asyncio.Event()
        mine = await connected(urls[0], closed=closed)
        other = await connected(nats_cluster.urls[0])
        heard, beside = await hearing(mine, "cut"), await hearing(other, "beside")
        ways[0].cut()
        for subject in ("cut", "beside"):
            await other.publish(subject, b"x")
        assert (await beside.next_msg(5)).data == b"x"
        with pytest.raises(NatsTimeout):
            await heard.next_msg(BRIEF)
        ways[0].heal()
        assert (await heard.next_msg(5)).data == b"x"
        ways[0].reset()
        await asyncio.wait_for(closed.wait(), 5)
        await other.close()


@pytest.mark.parametrize("how", ["password", "nkey", "credentials", "certificate"])
async def test_servers_admit_only_those_they_know(
    how: str, tmp_path: Path, certificate_authority: trustme.CA
) -> None:
    """With each kind of access its client may use JetStream, and a stranger may not connect."""
    ways: dict[str, Callable[[], Access]] = {
        "password": by_password,
        "nkey": by_nkey,
        "credentials": lambda: by_credentials(tmp_path),
        "certificate": lambda: by_certificate(tmp_path, certificate_authority),
    }
    access = ways[how]()
    with nats_servers(tmp_path / "servers", 1, access=access) as servers:
        client = await connected(servers.urls[0], access)
        await client.jetstream().add_stream(name="S", subjects=["s"])
        await client.close()
        trusting = ssl.create_default_context()
        certificate_authority.configure_trust(trusting)
        stranger = (
            Access(connect={"tls": trusting}, scheme="tls") if how == "certificate" else ANYBODY
        )
        with pytest.raises((Error, OSError)):
            await connected(servers.urls[0], stranger)
