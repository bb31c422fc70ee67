"""Proxies, added headers and client certificates of destinations, over real sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from gateway.config.proxy import parse_proxy
from gateway.config.tls_files import read_tls_files
from gateway.delivery.transport import HttpTransport
from gateway.errors import TransportError
from gateway.http import Request
from tests.gateway.connect_proxy import connect_proxy, refusal
from tests.gateway.odd_servers import OK, WELL, Server, Tls, server

pytestmark = pytest.mark.both_loops

PASSWORD = "p@ss/word:1"  # noqa: S105 - of the proxy that the tests run
CREDENTIALS = f"gate:{PASSWORD}"
ESCAPED = "gate:p%40ss%2Fword%3A1"


@asynccontextmanager
async def sending(
    address: str, tls: Tls, user: str = "", patience: float = 5.0
) -> AsyncIterator[HttpTransport]:
    """Return a transport that goes through the proxy at *address*."""
    proxy = parse_proxy(f"http://{user and user + '@'}{address}")
    made = HttpTransport(timeout=patience, connections=2, tls=tls and tls[1], proxy=proxy)
    yield made
    await made.close()


def to(vendor: Server) -> Request:
    """Return a request with a body of two bytes."""
    return Request(method="POST", url=f"{vendor.url}/a", body=b"{}")


async def failure(transport: HttpTransport, vendor: Server) -> TransportError:
    """Return the error of a request."""
    with pytest.raises(TransportError) as caught:
        await transport.send(to(vendor))
    return caught.value


async def test_requests_share_a_tunnel(tls: Tls) -> None:
    """A tunnel is asked for once per connection, with the password; the vendor never sees it."""
    async with (
        server(WELL["plain"], tls and tls[0]) as vendor, connect_proxy(CREDENTIALS) as proxy,
        sending(proxy.address, tls, ESCAPED) as transport,
    ):  # fmt: skip
        for _ in range(3):
            assert (await transport.send(to(vendor))).body == OK
        assert proxy.targets == [vendor.url.partition("://")[2]]
        assert (vendor.asked, vendor.connections) == (3, 1)
        assert not any(b"proxy" in head.lower() for head in vendor.heads)
        assert vendor.heads[0].startswith(b"POST /a HTTP/1.1\r\n")


async def test_the_vendors_certificate_is_checked_through_a_tunnel(tls: Tls) -> None:
    """A tunnel changes nothing of whom the gateway trusts."""
    if tls is None:
        pytest.skip("there is no certificate")
    async with (
        server(WELL["plain"], tls[0]) as vendor, connect_proxy() as proxy,
        sending(proxy.address, None) as transport,
    ):  # fmt: skip
        error = await failure(transport, vendor)
        assert (error.cause, vendor.asked) == ("connect", 0)
        assert "certificate" in str(error).lower()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            refusal(b"407 Proxy Authentication Required"),
            "the proxy wants another user or password (status 407)",
        ),
        (refusal(b"403 Forbidden"), "the proxy opens no tunnel (status 403)"),
        (refusal(b"503 Service Unavailable"), "the proxy opens no tunnel (status 503)"),
        (b"HTTP/1.1 301 Moved\r\nlocation: /\r\n\r\n", "the proxy opens no tunnel (status 301)"),
        (b"", "the proxy closed the connection"),
        (b"HTTP/1.1 200 OK\r\nx: ", "the proxy closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the proxy sent no valid response"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, "the proxy sent no valid response"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "the proxy sent more than its"),
        (b"HTTP/1.1 200 OK\r\n\r\nx", "the proxy sent more than its response"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_named(tls: Tls, said: bytes, told: str) -> None:
    """A failing proxy is a transport error with its address and without its password.

    Nothing that it says is taken for the vendor's response.
    """
    async with (
        server(WELL["plain"], tls and tls[0]) as vendor, connect_proxy("", said) as proxy,
        sending(proxy.address, tls, ESCAPED) as transport,
    ):  # fmt: skip
        error = await failure(transport, vendor)
        host = vendor.url.partition("://")[2]
        assert error.cause == "connect"
        assert str(error).startswith(
            f"cannot connect to {host} through proxy {proxy.address}: {told}"
        )
        assert not any(part in str(error) for part in (PASSWORD, "gate", "p%40ss"))
        assert vendor.asked == 0
        proxy.said = None
        assert (await transport.send(to(vendor))).body == OK


async def test_a_wrong_password_is_retryable(tls: Tls) -> None:
    """Status 407 is a transport error, and the next request asks again."""
    async with (
        server(WELL["plain"], tls and tls[0]) as vendor, connect_proxy("other:one") as proxy,
        sending(proxy.address, tls, ESCAPED) as transport,
    ):  # fmt: skip
        assert "status 407" in str(await failure(transport, vendor))
        proxy.credentials = CREDENTIALS
        assert (await transport.send(to(vendor))).body == OK


async def test_a_silent_proxy_is_named(tls: Tls) -> None:
    """The wait for a tunnel counts towards the timeout, whose message names the proxy."""
    async with (
        server(WELL["plain"], tls and tls[0]) as vendor, connect_proxy(silent=True) as proxy,
        sending(proxy.address, tls, patience=0.3) as transport,
    ):  # fmt: skip
        error = await failure(transport, vendor)
        assert (error.cause, vendor.asked) == ("timeout", 0)
        assert str(error) == f"no response in 0.3 s through proxy {proxy.address}"


async def test_an_absent_proxy_is_named(tls: Tls) -> None:
    """Without its proxy a vendor is not reached, least of all directly."""
    async with connect_proxy() as gone:
        address = gone.address
    async with (
        server(WELL["plain"], tls and tls[0]) as vendor, sending(address, tls) as transport,
    ):  # fmt: skip
        error = await failure(transport, vendor)
        assert error.cause == "connect"
        assert f"through proxy {address}: " in str(error)
        assert vendor.connections == 0


async def test_a_vendor_that_the_proxy_cannot_reach(tls: Tls) -> None:
    """A proxy without a way to the vendor opens no tunnel."""
    async with server(WELL["plain"], tls and tls[0]) as vendor:
        pass
    async with connect_proxy() as proxy, sending(proxy.address, tls) as transport:
        assert "no tunnel (status 503)" in str(await failure(transport, vendor))


async def test_closing_ends_the_wait_for_a_tunnel(tls: Tls) -> None:
    """A transport that is closed waits for no proxy, and leaves no socket open."""
    async with (
        server(WELL["plain"], tls and tls[0]) as vendor, connect_proxy(silent=True) as proxy,
        sending(proxy.address, tls) as transport,
    ):  # fmt: skip
        sent = asyncio.ensure_future(transport.send(to(vendor)))
        await asyncio.wait_for(proxy.asked.wait(), 10)
        await asyncio.wait_for(transport.close(), 10)
        with pytest.raises(TransportError):
            await sent


async def test_added_headers_are_sent_with_every_request(tls: Tls) -> None:
    """Added headers replace those of the same name, which a sender may have written."""
    transport = HttpTransport(
        timeout=5.0, connections=1, tls=tls and tls[1], headers={"x-tenant": "shop-1"}
    )
    async with server(WELL["plain"], tls and tls[0]) as vendor:
        for headers in ({}, {"X-Tenant": "shop-2", "x-other": "1"}):
            request = Request(method="POST", url=vendor.url, headers=headers, body=b"{}")
            assert (await transport.send(request)).status == 200
    await transport.close()
    assert [head.lower().count(b"x-tenant: shop-1\r\n") for head in vendor.heads] == [1, 1]
    assert not any(b"shop-2" in head for head in vendor.heads)
    assert b"x-other: 1\r\n" in vendor.heads[1]


async def test_a_vendor_may_demand_a_certificate(
    certificate_authority: trustme.CA, tmp_path: Path
) -> None:
    """With ``cert`` and ``ca`` a vendor that checks both sides' certificates is reached."""
    clients, files = trustme.CA(), tmp_path
    issued = clients.issue_cert("gateway@shop.example")
    issued.private_key_pem.write_to_path(files / "key.pem")
    issued.cert_chain_pems[0].write_to_path(files / "cert.pem")
    certificate_authority.cert_pem.write_to_path(files / "ca.pem")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate_authority.issue_cert("127.0.0.1").configure_cert(served)
    clients.configure_trust(served)
    served.verify_mode = ssl.CERT_REQUIRED
    shown = read_tls_files(files / "ca.pem", files / "cert.pem", files / "key.pem")
    bare = read_tls_files(files / "ca.pem", None, None)
    async with server(WELL["plain"], served) as vendor, connect_proxy() as proxy:
        for through in (None, parse_proxy(f"http://{proxy.address}")):
            for files_of, status in ((shown, 200), (bare, None)):
                transport = HttpTransport(
                    timeout=5.0, connections=1, tls=files_of.context, proxy=through
                )
                try:
                    assert (await transport.send(to(vendor))).status == status
                except TransportError as error:
                    assert status is None, error  # noqa: PT017 - either is right in its turn
                await transport.close()
        assert vendor.asked == 2
