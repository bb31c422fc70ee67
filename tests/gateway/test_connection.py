"""When a connection to a vendor is reused, and which bytes go out over it."""

import asyncio
import contextlib
import gc
import gzip
import socket
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from gateway.delivery import transport as transports
from gateway.delivery.connection import MAX_BODY, Connection
from gateway.delivery.request_head import Origin, build_head
from gateway.delivery.transport import Addresses, AddressInfo, HttpTransport
from gateway.errors import TransportError
from gateway.http import Request, Response
from gateway.http_client import Connector, vendor_session
from tests.gateway.odd_servers import OK, WELL, Said, Server, Tls, http, once, server, unsized

pytestmark = pytest.mark.both_loops


@pytest.fixture
async def transport(tls: Tls) -> AsyncIterator[HttpTransport]:
    """Return a transport with at most two connections and a timeout of one second."""
    made = HttpTransport(timeout=1.0, connections=2, tls=tls and tls[1])
    yield made
    await made.close()


def to(vendor: Server, **more: object) -> Request:
    """Return a request with a body of two bytes."""
    return Request(**{"method": "POST", "url": f"{vendor.url}/a", "body": b"{}"} | more)  # type: ignore[arg-type]


def served(tls: Tls, said: Said) -> contextlib.AbstractAsyncContextManager[Server]:
    """Run a server that responds with *said*."""
    return server(said, tls and tls[0])


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[None]:
    """Return a queue that gets an item for each lost connection."""
    queue: asyncio.Queue[None] = asyncio.Queue()
    forget = HttpTransport.on_connection_lost

    def note(self: HttpTransport, connection: Connection) -> None:
        forget(self, connection)
        queue.put_nowait(None)

    monkeypatch.setattr(HttpTransport, "on_connection_lost", note)
    return queue


async def test_requests_one_after_the_other_share_a_connection(
    transport: HttpTransport, tls: Tls
) -> None:
    """A connection whose response was complete is used for the next request."""
    async with served(tls, WELL["chunks"]) as vendor:
        for _ in range(5):
            assert (await transport.send(to(vendor))).body == OK
        assert vendor.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        once(http(more=b"connection: close\r\n")),
        once(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        once(http() + http(status=b"500 Nobody asked")),
        once(http() + b"x"),
        once(http(b"x" * (MAX_BODY + 1))),
        once(unsized(b"{}", b"content-length: 3\r\n"), closes=True),
    ],
    ids=["close", "HTTP/1.0", "two responses", "a byte too many", "more than is read", "cut"],
)
async def test_a_connection_that_did_not_end_well_is_not_used_again(
    transport: HttpTransport, tls: Tls, said: Said
) -> None:
    """A connection with extra, incomplete or closing data is not reused."""
    async with served(tls, said) as vendor:
        for _ in range(3):
            assert (await transport.send(to(vendor))).status == 200
        assert vendor.connections == 3


async def test_a_closed_connection_is_freed_at_once(
    transport: HttpTransport, tls: Tls, lost: asyncio.Queue[None]
) -> None:
    """A connection that the vendor closed leaves nothing for the garbage collector.

    A vendor that closes each connection would else fill the memory with the buffers of TLS.
    """
    gc.collect()
    gc.disable()
    try:
        async with served(tls, once(http(), closes=True)) as vendor:
            for _ in range(5):
                await transport.send(to(vendor))
                await lost.get()
        left = [one for one in gc.get_objects() if isinstance(one, Connection)]
    finally:
        gc.enable()
    assert left == []


async def test_an_early_response_closes_the_connection(transport: HttpTransport, tls: Tls) -> None:
    """A response before the whole request was sent closes the connection."""
    connections, ended = 0, asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(status=b"413 Too large"))
        await ended.wait()
        writer.close()

    running = await asyncio.start_server(refuse, "127.0.0.1", 0, ssl=tls and tls[0])
    url = f"{'https' if tls else 'http'}://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
    try:
        for _ in range(2):
            request = Request(method="POST", url=url, body=b"x" * 8_000_000)
            assert (await transport.send(request)).status == 413
        assert connections == 2
    finally:
        ended.set()
        running.close()


async def test_a_closed_idle_connection_is_not_used(
    transport: HttpTransport, tls: Tls, lost: asyncio.Queue[None]
) -> None:
    """A connection that the server closed while idle is not used again."""
    async with served(tls, once(http(), closes=True)) as vendor:
        for _ in range(3):
            assert (await transport.send(to(vendor))).status == 200
            await asyncio.wait_for(lost.get(), 10)
        assert vendor.asked == vendor.connections == 3


async def test_nothing_is_sent_twice(transport: HttpTransport, tls: Tls) -> None:
    """A request whose connection ends without a response fails, and is not resent."""
    async with served(tls, once(b"", closes=True)) as vendor:
        with pytest.raises(TransportError) as caught:
            await transport.send(to(vendor))
        assert caught.value.cause == "reset"
        assert vendor.asked == 1


async def test_a_cancelled_request_ends_its_connection(transport: HttpTransport, tls: Tls) -> None:
    """A cancelled request closes its connection, so its response reaches no other request."""
    async with served(tls, once(b"")) as vendor:
        given_up = asyncio.ensure_future(transport.send(to(vendor)))
        await vendor.asking.wait()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        vendor.said = once(http())
        assert (await transport.send(to(vendor))).status == 200
        assert vendor.connections == 2


async def test_no_more_connections_than_allowed(transport: HttpTransport, tls: Tls) -> None:
    """Requests beyond the connection limit wait, and each gets its own response."""
    async with served(tls, WELL["plain"]) as vendor:
        ended = await asyncio.gather(*(transport.send(to(vendor)) for _ in range(50)))
        assert [one.body for one in ended] == [OK] * 50
        assert (vendor.asked, vendor.connections) == (50, 2)


async def test_waiting_for_a_connection_counts(transport: HttpTransport, tls: Tls) -> None:
    """The wait for a free connection counts towards the timeout."""
    async with served(tls, once(b"")) as vendor:
        sent = (transport.send(to(vendor)) for _ in range(5))
        ended = await asyncio.gather(*sent, return_exceptions=True)
        causes = [end.cause for end in ended if isinstance(end, TransportError)]
        assert causes == ["timeout"] * 5
        vendor.said = once(http())
        assert (await transport.send(to(vendor))).status == 200


async def test_an_idle_connection_gives_way_to_another_server(
    transport: HttpTransport, tls: Tls
) -> None:
    """An idle connection is closed if another server needs one."""
    async with (
        served(tls, WELL["plain"]) as one, served(tls, WELL["plain"]) as two,
        served(tls, WELL["plain"]) as three,
    ):  # fmt: skip
        for vendor in (one, two, three):
            assert (await transport.send(to(vendor))).status == 200


async def test_a_decompressed_body_is_limited(transport: HttpTransport, tls: Tls) -> None:
    """The limit on a body's size applies to the decompressed body."""
    packed = gzip.compress(bytes(20_000_000))
    async with served(tls, once(http(packed, b"content-encoding: gzip\r\n"))) as vendor:
        response = await transport.send(to(vendor))
    assert (len(response.body), response.truncated) == (MAX_BODY, True)


@pytest.mark.parametrize("size", [MAX_BODY, MAX_BODY + 1])
async def test_a_body_past_the_limit_is_marked_as_cut(
    transport: HttpTransport, tls: Tls, size: int
) -> None:
    """A response has at most `MAX_BODY` bytes of a body, and says whether there were more."""
    async with served(tls, once(http(b"x" * size))) as vendor:
        response = await transport.send(to(vendor))
    assert (len(response.body), response.truncated) == (MAX_BODY, size > MAX_BODY)


async def test_a_folded_header_is_read(transport: HttpTransport, tls: Tls) -> None:
    """A header that continues on the next line is read (RFC 9112, section 5.2)."""
    async with served(tls, once(http(more=b"retry-after:\r\n 7\r\n"))) as vendor:
        response = await transport.send(to(vendor))
    assert (response.status, response.unread) == (200, "")
    assert response.headers["retry-after"].strip() == "7"


async def test_a_head_request_has_no_body(transport: HttpTransport, tls: Tls) -> None:
    """A response to HEAD has no body, whatever its content length."""
    async with served(tls, once(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")) as vendor:
        response = await transport.send(to(vendor, method="HEAD"))
    assert (response.status, response.body, response.truncated) == (200, b"", False)


async def test_a_relayed_response_has_every_header(transport: HttpTransport, tls: Tls) -> None:
    """A relayed response keeps all headers, repeated ones too, except framing headers."""
    cookies = b"set-cookie: a=1\r\nset-cookie: b=2\r\nkeep-alive: timeout=5\r\n"
    async with served(tls, once(http(b"x" * 900_000, cookies))) as vendor:
        response = await transport.send(to(vendor), whole=True)
    assert list(response.headers.items()) == [
        ("content-type", "application/json"), ("set-cookie", "a=1"), ("set-cookie", "b=2"),
    ]  # fmt: skip
    assert (len(response.body), response.truncated) == (900_000, False)


async def test_an_untrusted_certificate_is_refused(tls: Tls) -> None:
    """No request is sent to a server with an untrusted certificate or another host's."""
    transport = HttpTransport(timeout=5.0, connections=2)
    async with served(tls, WELL["plain"]) as vendor:
        if tls is None:
            assert (await transport.send(to(vendor))).status == 200
        else:
            named = HttpTransport(timeout=5.0, connections=2, tls=tls[1])
            other = vendor.url.replace("127.0.0.1", "localhost")
            for sends, url in ((transport, vendor.url), (named, other)):
                with pytest.raises(TransportError) as caught:
                    await sends.send(Request(method="POST", url=url, body=b"{}"))
                assert caught.value.cause == "connect"
                assert "certificate" in str(caught.value).lower()
            assert vendor.asked == 0
            await named.close()
    await transport.close()


async def test_closing_fails_running_requests(transport: HttpTransport, tls: Tls) -> None:
    """Closing the transport fails running requests and those that wait for a connection."""
    async with served(tls, once(b"")) as vendor:
        sent = [asyncio.ensure_future(transport.send(to(vendor))) for _ in range(4)]
        await vendor.asking.wait()
        await transport.close()
        ended = await asyncio.gather(*sent, return_exceptions=True)
    assert [end.cause for end in ended if isinstance(end, TransportError)] == ["reset"] * 4


async def test_a_closed_transport_sends_nothing(transport: HttpTransport, tls: Tls) -> None:
    """A request on a closed transport fails at once, and opens no connection."""
    async with served(tls, WELL["plain"]) as vendor:
        await transport.close()
        with pytest.raises(TransportError) as caught:
            await transport.send(to(vendor))
        assert (caught.value.cause, vendor.connections) == ("reset", 0)


async def test_a_callback_that_raises_disturbs_no_other_request(
    transport: HttpTransport, tls: Tls
) -> None:
    """A callback that raises does not affect other requests, which still time out."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(context.get("exception"))
    )
    broken = RuntimeError("a callback that raises")

    def fail(_: object) -> None:
        raise broken

    async with served(tls, once(b"")) as vendor:
        for _ in range(4):
            transport.post(to(vendor), fail)
        with pytest.raises(TransportError) as caught:
            await asyncio.wait_for(transport.send(to(vendor)), 10)
        assert caught.value.cause == "timeout"
        assert reported.count(broken) == 4


async def test_requests_that_wait_are_sent_in_their_order(tls: Tls) -> None:
    """A new request is sent after the requests that already wait for a connection."""
    transport = HttpTransport(timeout=10.0, connections=1, tls=tls and tls[1])
    ended: list[int] = []
    done = asyncio.Event()
    async with served(tls, WELL["plain"]) as vendor:

        def post(number: int) -> None:
            transport.post(to(vendor), lambda _: end(number))

        def end(number: int) -> None:
            ended.append(number)
            if number < 3:
                post(number + 3)
            if len(ended) == 6:
                done.set()

        for number in range(3):
            post(number)
        await asyncio.wait_for(done.wait(), 10)
    await transport.close()
    assert ended == [0, 1, 2, 3, 4, 5]


async def test_a_connection_with_unread_bytes_is_not_reused(tls: Tls) -> None:
    """A connection with unread bytes, received while the loop was busy, is not reused."""
    transport = HttpTransport(timeout=10.0, connections=1, tls=tls and tls[1])
    said: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        writer.write(http())

    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls and tls[0])
    url = f"{'https' if tls else 'http'}://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
    try:
        for count in (1, 2):
            response = await transport.send(Request(method="POST", url=url, body=b"{}"))
            assert (response.status, len(said)) == (200, count)
            said[-1].write(http(status=b"408 Too late"))
            time.sleep(0.05)  # noqa: ASYNC251 - the loop is busy
    finally:
        await transport.close()
        for writer in said:
            writer.close()
        running.close()


async def test_an_old_connection_is_not_used_again(
    transport: HttpTransport, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection older than ``MAX_AGE`` is not reused, so that a changed address is noticed."""
    async with served(tls, WELL["plain"]) as vendor:
        for _ in range(2):
            await transport.send(to(vendor))
        monkeypatch.setattr(transports, "MAX_AGE", 0.0)
        for _ in range(2):
            await transport.send(to(vendor))
        assert vendor.connections == 2


async def test_a_late_lookup_failure_does_not_fail_the_next_request(
    transport: HttpTransport, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed DNS lookup that ends after its request's timeout is not used for the next one."""
    failed = asyncio.Event()

    async with served(tls, WELL["plain"]) as vendor:
        port = int(vendor.url.rpartition(":")[2])

        async def look_up(_: Origin) -> list[AddressInfo]:
            if not failed.is_set():
                await asyncio.sleep(1.5)
                failed.set()
                raise socket.gaierror(socket.EAI_AGAIN, "try again")
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

        monkeypatch.setattr(Addresses, "_look_up", staticmethod(look_up))
        with pytest.raises(TransportError) as caught:
            await transport.send(to(vendor))
        assert caught.value.cause == "timeout"
        await asyncio.wait_for(failed.wait(), 10)
        assert (await transport.send(to(vendor))).status == 200


@pytest.mark.parametrize("hangs", [True, False])
async def test_known_addresses_serve_while_the_name_server_fails(
    transport: HttpTransport,
    tls: Tls,
    monkeypatch: pytest.MonkeyPatch,
    *,
    hangs: bool,
) -> None:
    """A host that was reached before is reached again, though its name cannot be looked up."""
    looked_up = 0
    async with served(tls, once(http(more=b"connection: close\r\n"))) as vendor:
        port = int(vendor.url.rpartition(":")[2])

        async def look_up(_: Origin) -> list[AddressInfo]:
            nonlocal looked_up
            looked_up += 1
            if looked_up == 1:
                return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]
            if hangs:
                await asyncio.Event().wait()
            raise socket.gaierror(socket.EAI_AGAIN, "try again")

        monkeypatch.setattr(Addresses, "_look_up", staticmethod(look_up))
        monkeypatch.setattr(transports, "LOOKUP_TTL", 0.0)
        for _ in range(3):
            assert (await transport.send(to(vendor))).status == 200
        assert looked_up >= 2


async def test_a_trailing_dot_of_a_host_is_ignored_in_certificates(
    transport: HttpTransport, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trailing dot of a host is not compared with its certificate (RFC 6066, section 3)."""
    async with served(tls, WELL["plain"]) as vendor:
        port = int(vendor.url.rpartition(":")[2])

        async def look_up(_: Origin) -> list[AddressInfo]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

        monkeypatch.setattr(Addresses, "_look_up", staticmethod(look_up))
        dotted = vendor.url.replace("127.0.0.1", "127.0.0.1.")
        assert (await transport.send(to(vendor, url=dotted))).status == 200


async def test_endless_trailers_are_cut(transport: HttpTransport, tls: Tls) -> None:
    """The bytes of a response outside its body are limited as well."""
    endless = unsized(
        b"2\r\n{}\r\n0\r\n" + b"x-a: b\r\n" * 200_000, b"transfer-encoding: chunked\r\n"
    )
    async with served(tls, once(endless)) as vendor:
        response = await transport.send(to(vendor))
    assert response.status == 200
    assert "besides the body" in response.unread


async def test_a_cut_refusal_keeps_its_wait_and_body(transport: HttpTransport, tls: Tls) -> None:
    """A response with an incomplete body keeps its Retry-After and the decompressed part."""
    more = b"retry-after: 7\r\ncontent-encoding: gzip\r\n"
    answer = http(gzip.compress(b"slow down"), more, b"429 Slow")[:-4]
    async with served(tls, once(answer, closes=True)) as vendor:
        response = await transport.send(to(vendor))
    assert (response.status, response.headers["retry-after"]) == (429, "7")
    assert b"slow down".startswith(response.body)
    assert response.body
    assert response.unread


async def test_headers_are_text(transport: HttpTransport, tls: Tls) -> None:
    """Header bytes that are not UTF-8 are read as ISO 8859-1, control characters as spaces."""
    more = b"location: http://a/\xe9\x01\r\n"
    async with served(tls, once(http(more=more, status=b"302 Found"))) as vendor:
        response = await transport.send(to(vendor))
    assert response.headers["location"] == "http://a/é "


async def test_headers_may_change_between_requests(transport: HttpTransport, tls: Tls) -> None:
    """A plugin may reuse and change one object for the headers of its requests."""
    headers: dict[str, str] = {}
    async with served(tls, WELL["plain"]) as vendor:
        for signature in ("one", "two"):
            headers["x-signature"] = signature
            await transport.send(to(vendor, headers=headers))
        assert b"x-signature: one\r\n" in vendor.heads[0]
        assert b"x-signature: two\r\n" in vendor.heads[1]


def test_a_host_in_any_script_is_written_in_ascii() -> None:
    """An internationalised host is looked up and sent in ASCII (RFC 5891, section 4.4)."""
    head = build_head(Request(method="POST", url="http://bücher.example:81/"))
    assert head.origin == Origin("xn--bcher-kva.example", 81, tls=False)
    assert b"host: xn--bcher-kva.example:81\r\n" in head.start


NAMES = st.sampled_from(["x-key", "Authorization", "Content-Type", "Host", "Content-Length", "x"])
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12).map(
    str.strip
)


Heard = tuple[bytes, dict[str, list[str]], bytes]


async def heard(request: Request, *, ours: bool) -> Heard:
    """Return the first line, headers and body that a server gets from our client or aiohttp's."""
    got: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *fields = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        named: dict[str, list[str]] = {}
        for one in fields:
            name, _, value = one.decode().partition(":")
            named.setdefault(name.lower(), []).append(value.strip())
        body = await reader.readexactly(int(named.get("content-length", ["0"])[0]))
        got.set_result((line, named, body))
        writer.write(http())
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = running.sockets[0].getsockname()[1]
    url = request.url.replace("vendor", f"127.0.0.1:{port}")
    try:
        if ours:
            transport = HttpTransport(timeout=10, connections=1)
            sent = Request(
                method=request.method, url=url, headers=request.headers, body=request.body
            )
            await transport.send(sent)
            await transport.close()
        else:
            async with vendor_session(Connector()) as session:
                answer = await session.request(
                    request.method, URL(url, encoded=True), data=request.body,
                    headers=request.headers, allow_redirects=False,
                )  # fmt: skip
                answer.release()
        line, named, body = await asyncio.wait_for(got, 10)
    finally:
        running.close()
    named["host"] = [value.replace(str(port), "PORT") for value in named["host"]]
    return line, named, body


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["POST", "PUT", "PATCH", "GET", "DELETE"]),
    url=st.sampled_from(
        [
            "http://vendor/",
            "http://vendor/a%20b?x=1&y=%C3%A9",
            "http://vendor",
            "http://vendor/?q",
            "http://me:secret@vendor/a",
            "http://vendor/a//b/",
        ]
    ),
    headers=st.dictionaries(NAMES, VALUES, max_size=3),
    body=st.binary(max_size=20),
)
@example(method="POST", url="http://vendor/a", headers={}, body=b"")
async def test_a_request_is_what_aiohttp_would_send(
    method: str, url: str, headers: dict[str, str], body: bytes
) -> None:
    """First line, headers and body of a request equal those of aiohttp's client."""
    headers = {k: v for k, v in headers.items() if v and (k.lower() != "host" or v.isascii())}
    if "@" in url:
        headers.pop("Authorization", None)  # aiohttp refuses both
    if "Content-Length" in headers:
        headers["Content-Length"] = str(len(body))
    request = Request(method=method, url=url, headers=headers, body=body)
    assert await heard(request, ours=True) == await heard(request, ours=False)


@pytest.mark.parametrize(
    "headers",
    [{"x": "a\r\nb: c"}, {"x\r\ny": "1"}, {"x": "a\nb"}, {"x": "\0"}, {"x y": "1"}, {"": "1"}],
)
async def test_a_line_break_in_a_header_is_refused(
    transport: HttpTransport, tls: Tls, headers: dict[str, str]
) -> None:
    """A request with a line break in a header's name or value is not sent."""
    async with served(tls, WELL["plain"]) as vendor:
        for _ in range(2):
            with pytest.raises(TransportError) as caught:
                await transport.send(to(vendor, headers=headers))
            assert caught.value.cause == "protocol"
        assert vendor.asked == 0


PIECES = st.sampled_from([
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 503 No\r\n", b"\r\n",
    b"content-length: 2\r\n", b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n", b"content-encoding: gzip\r\n", b"x-a: b\r\n", b" folded\r\n", b"{}",
    b"2\r\n{}\r\n", b"0\r\n\r\n", b"\x00", b"\xff", b"HTTP/1.1", b"retry-after: 7\r\n",
])  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=8), closes=st.booleans())
async def test_the_status_is_what_aiohttp_reads(pieces: list[bytes], closes: bool) -> None:  # noqa: FBT001 - drawn
    """For any bytes, aiohttp's client and the gateway read the same status."""
    said = once(b"HTTP/1.1 200 OK\r\n" * closes + b"".join(pieces), closes=True)
    async with server(said) as vendor:
        transport = HttpTransport(timeout=5, connections=1)
        try:
            ours: Response | None = await transport.send(to(vendor))
        except TransportError:
            ours = None
        await transport.close()
        theirs: int | None = None
        async with vendor_session(Connector()) as session:
            try:
                async with session.post(vendor.url, data=b"{}") as answer:
                    theirs = answer.status
            except aiohttp.ClientError:
                pass
    if theirs is not None and theirs >= 200:
        assert ours is not None
        assert ours.status == theirs
