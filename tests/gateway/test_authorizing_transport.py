"""Tokens and signatures on requests over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import structlog
from aiohttp import web

from gateway.delivery.authorization import PAUSE, AuthorizingTransport
from gateway.delivery.transport import HttpTransport
from gateway.errors import TransportError
from gateway.http import Request, Response
from gateway.testing.live_gateway import PATIENCE, serving
from plugins.http.output import HttpOutput

SECRET = "client-secret-1"  # noqa: S105 - not used anywhere else


@dataclass
class Vendor:
    """A server with a token endpoint; it accepts the last token that it issued."""

    lifetime: float = 3600
    token: str = "token"  # noqa: S105 - the beginning of a name
    """What its tokens begin with."""
    refuses: bool = False
    """Whether it issues no token."""
    revoked: set[str] = field(default_factory=set)
    issued: int = 0
    seen: list[str] = field(default_factory=list)
    """The authorization headers of the requests for events."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where tokens may be issued."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as a token is asked for."""

    def app(self) -> web.Application:
        """Return the server."""
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_post("/events", self._events)
        self.ready.set()
        return app

    async def _token(self, http: web.Request) -> web.Response:
        self.asked.set()
        async with asyncio.timeout(PATIENCE):
            await self.ready.wait()
        assert "x-tenant" not in http.headers, "a header of the destination is not the token's"
        if self.refuses:
            return web.json_response({"error": f"invalid_client {SECRET}"}, status=401)
        self.issued += 1
        said = {"access_token": f"{self.token}-{self.issued}", "expires_in": self.lifetime}
        return web.json_response(said)

    async def _events(self, http: web.Request) -> web.Response:
        token = http.headers["authorization"]
        self.seen.append(token)
        if token.removeprefix("Bearer ") in self.revoked:
            return web.json_response({"echo": token}, status=401)
        return web.json_response({"echo": token})


@dataclass
class Client:
    """Sends requests with tokens, at a time of its own."""

    url: str
    transport: AuthorizingTransport
    now: list[float]

    async def send(self) -> Response:
        """Return the response to a request; raise its `TransportError`."""
        ended: asyncio.Future[Response | TransportError] = asyncio.Future()
        request = Request(method="POST", url=f"{self.url}/events", body=b"{}")
        self.transport.post(request, ended.set_result)
        assert not ended.done(), "a request ended before the call returned"
        async with asyncio.timeout(PATIENCE):
            end = await ended
        if isinstance(end, TransportError):
            raise end
        return end


@asynccontextmanager
async def client(vendor: Vendor) -> AsyncIterator[Client]:
    """Yield a client of *vendor*."""
    async with serving(vendor.app()) as url:
        auth = {"oauth2": {"token_url": f"{url}/token", "client_id": "c", "client_secret": SECRET}}
        made = HttpOutput(HttpOutput.Config.model_validate({"url": url, "auth": auth}))
        assert made.authorization is not None
        now = [1000.0]
        transport = AuthorizingTransport(
            made.authorization,
            HttpTransport(timeout=PATIENCE, connections=4, headers={"x-tenant": "t"}),
            HttpTransport(timeout=PATIENCE, connections=1),
            clock=lambda: now[0],
        )
        try:
            yield Client(url, transport, now)
        finally:
            await transport.close()


async def test_one_token_serves_many_requests() -> None:
    """Requests that come together wait for one token, and later ones use it."""
    vendor = Vendor()
    async with client(vendor) as to:
        vendor.ready.clear()
        sending = [asyncio.create_task(to.send()) for _ in range(5)]
        async with asyncio.timeout(PATIENCE):
            await vendor.asked.wait()
        vendor.ready.set()
        assert {(await one).status for one in sending} == {200}
        assert (await to.send()).status == 200
    assert vendor.issued == 1
    assert vendor.seen == ["Bearer token-1"] * 6


async def test_a_token_is_renewed_before_its_end() -> None:
    """Near its end a token is renewed; requests meanwhile use the old one, and none waits."""
    vendor = Vendor(lifetime=100)
    async with client(vendor) as to:
        await to.send()
        to.now[0] += 89
        await to.send()
        assert vendor.issued == 1
        to.now[0] += 2
        await to.send()
        async with asyncio.timeout(PATIENCE):
            while vendor.seen[-1] != "Bearer token-2":
                await to.send()
    assert vendor.issued == 2
    assert vendor.seen[2] == "Bearer token-1"


async def test_a_token_that_ended_is_not_used() -> None:
    """After its end a request waits for a new token."""
    vendor = Vendor(lifetime=100)
    async with client(vendor) as to:
        await to.send()
        to.now[0] += 101
        await to.send()
    assert vendor.seen == ["Bearer token-1", "Bearer token-2"]


async def test_after_401_the_request_is_sent_once_more() -> None:
    """A revoked token is replaced, and the request that met it goes out again, once."""
    vendor = Vendor()
    async with client(vendor) as to:
        await to.send()
        vendor.revoked = {"token-1"}
        assert (await to.send()).status == 200
        vendor.revoked = {"token-2", "token-3"}
        assert (await to.send()).status == 401
    assert vendor.seen == [
        "Bearer token-1", "Bearer token-1", "Bearer token-2", "Bearer token-2", "Bearer token-3",
    ]  # fmt: skip


async def test_nobody_sees_a_token() -> None:
    """A token that the vendor repeats is cut out of its response."""
    vendor = Vendor(revoked={"token-1", "token-2"})
    async with client(vendor) as to:
        assert (await to.send()).body == b'{"echo": "Bearer ***"}'
        vendor.revoked.clear()
        assert (await to.send()).body == b'{"echo": "Bearer ***"}'


async def test_without_a_token_nothing_is_sent() -> None:
    """If no token is issued, requests fail with the reason, and the server is left alone awhile."""
    vendor = Vendor(refuses=True)
    async with client(vendor) as to:
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(TransportError, match=r"no access token: HTTP 401") as caught:
                    await to.send()
                assert caught.value.cause == "credential"
                assert SECRET not in str(caught.value)
        assert [line["event"] for line in logs] == ["token_refused"]
        assert SECRET not in str(logs)
        vendor.refuses = False
        to.now[0] += PAUSE + 1
        assert (await to.send()).status == 200
    assert vendor.seen == ["Bearer token-1"]


async def test_a_token_that_no_header_carries_is_refused() -> None:
    """A token with a space, a control or non-ASCII character, or too long, is as good as none."""
    vendor = Vendor()
    async with client(vendor) as to:
        for odd in ("a b", "a\r\nx-evil: 1", "a\x00", "ключ", "a" * 9000):
            vendor.token = odd
            with pytest.raises(TransportError, match="/token fits into no header") as caught:
                await to.send()
            assert caught.value.cause == "credential"
            to.now[0] += PAUSE + 1
        vendor.token = "token"  # noqa: S105 - the beginning of a name
        assert (await to.send()).status == 200
    assert vendor.seen == ["Bearer token-6"]


async def test_a_close_ends_what_waits() -> None:
    """A request that waits for a token ends when the destination is closed."""
    vendor = Vendor()
    async with client(vendor) as to:
        vendor.ready.clear()
        sending = asyncio.create_task(to.send())
        async with asyncio.timeout(PATIENCE):
            await vendor.asked.wait()
        await to.transport.close()
        with pytest.raises(TransportError, match="no access token"):
            await sending
        vendor.ready.set()
