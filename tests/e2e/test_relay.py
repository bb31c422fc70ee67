"""Calls that are not events are relayed to the vendor, and its responses come back unchanged."""

import asyncio
import gzip
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.e2e.configs import destination
from tests.e2e.raw_http import Got, Vendor, body_of, exchange, vendor
from tests.e2e.running import PATIENCE, Running, running

CLOSE = "connection: close\r\n"
SOURCE = '[sources.shop]\nvendor = "{}"\nkeys = ["key-1"]\nurl = "{}"\n{}\n'
PUSH = {"shop_id": "key-1", "did": "d", "seance": "s", "event": "view", "items": [{"id": "1"}]}


def config(folder: Path, sources: str) -> Callable[[str], str]:
    """Return a function that makes a configuration of *sources* and the sandbox's chrts."""

    def text(sandbox: str) -> str:
        return (
            f'[server]\nlisten = "127.0.0.1:0"\nmax_body = "10KiB"\n'
            f'[spool]\npath = "{folder / "spool"}"\n{sources}{destination("chrts", sandbox)}'
            '[[routes]]\nto = ["chrts"]\n'
        )

    return text


@asynccontextmanager
async def relaying(
    folder: Path, of: str = "personaclick", more: str = "", prefix: str = ""
) -> AsyncIterator[tuple[Running, Vendor]]:
    """Run a vendor and a gateway that relays to it."""
    async with vendor() as upstream:
        source = SOURCE.format(of, upstream.url + prefix, more)
        async with running(folder, config(folder, source)) as run:
            yield run, upstream


@pytest.mark.usefixtures("each_spool")
async def test_a_read_and_its_response_are_relayed(tmp_path: Path) -> None:
    """A read reaches the vendor with its query, headers and key; status and body come back."""
    async with relaying(tmp_path, prefix="/tenant") as (run, upstream):
        upstream.answer = (
            b"HTTP/1.1 206 Partly So\r\nset-cookie: a=1; Path=/\r\nset-cookie: b=2\r\n"
            b"content-type: application/vnd.x+json\r\nx-own: yes\r\nserver: vendor\r\n"
            b'content-length: 7\r\n\r\n{"a":1}'
        )
        target = "/init?shop_id=key-1&q=%D0%B0+b%2Fc&did="
        async with run.client.get(
            f"{run.url}{target}", headers={"cookie": "did=x", "x-mine": "1", "user-agent": "me"}
        ) as answer:
            assert (answer.status, answer.reason) == (206, "Partly So")
            assert await answer.read() == b'{"a":1}'
            assert answer.headers.getall("set-cookie") == ["a=1; Path=/", "b=2"]
            assert answer.headers["content-type"] == "application/vnd.x+json"
            assert (answer.headers["x-own"], answer.headers["server"]) == ("yes", "vendor")
            assert len(answer.headers["x-gateway-request-id"]) == 24
        (got,) = upstream.got
        assert got.line.startswith("GET /tenant/init?shop_id=key-1&q=")
        assert got.header("host") == upstream.url.removeprefix("http://")
        assert (got.header("cookie"), got.header("x-mine")) == ("did=x", "1")
        assert got.header("user-agent") == "me"
        assert not got.names & {"via", "x-forwarded-for", "forwarded", "x-forwarded-host"}


async def test_latin1_headers_are_relayed(tmp_path: Path) -> None:
    """A header in Latin-1 arrives as the same text."""
    async with relaying(tmp_path) as (run, upstream):
        sent = f"GET /init?shop_id=key-1 HTTP/1.1\r\nhost: h\r\n{CLOSE}x-name: Zo\xeb\r\n\r\n"
        assert b" 200 OK\r\n" in await exchange(run.url, sent.encode("latin-1"))
        assert upstream.got[0].header("x-name") == "Zoë"


async def test_the_target_is_unchanged(tmp_path: Path) -> None:
    """Path and query are unchanged: escapes, double slashes and empty parameters too."""
    async with relaying(tmp_path, more='mount = "/m"') as (run, upstream):
        target = "//recommend/%7Ea%2Fb//c;d=e?x=%20&&y=a+b&z"
        sent = f"GET /m{target} HTTP/1.1\r\nhost: h\r\n{CLOSE}\r\n".encode()
        assert b" 200 OK\r\n" in await exchange(run.url, sent)
        assert upstream.got[0].line == f"GET {target} HTTP/1.1"


async def test_hop_by_hop_headers_are_not_relayed(tmp_path: Path) -> None:
    """Hop-by-hop headers, by name or by `connection`, are relayed in neither direction."""
    async with relaying(tmp_path) as (run, upstream):
        upstream.answer = (
            b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: down\r\n"
            b"keep-alive: timeout=9\r\nproxy-authenticate: Basic\r\nx-end: 1\r\n"
            b"content-length: 2\r\n\r\nok"
        )
        sent = (
            "GET /init?shop_id=key-1 HTTP/1.1\r\nhost: elsewhere.example\r\n"
            "connection: close, X-Private\r\nx-private: up\r\nproxy-authorization: Basic x\r\n"
            "te: trailers\r\nupgrade: websocket\r\nkeep-alive: 5\r\nx-end: 2\r\n\r\n"
        )
        back = (await exchange(run.url, sent.encode())).lower()
        assert b"x-end: 1\r\n" in back
        for name in (b"x-hop", b"keep-alive", b"proxy-authenticate"):
            assert name not in back
        (got,) = upstream.got
        assert got.header("x-end") == "2"
        assert not got.names & {"x-private", "proxy-authorization", "te", "upgrade", "keep-alive"}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", b""),
        (b"HTTP/1.1 302 Found\r\nlocation: /x?y\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 23\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
    ],
)
async def test_every_kind_of_response_is_unchanged(
    tmp_path: Path, answer: bytes, wanted: bytes | None
) -> None:
    """Empty responses, redirects, errors, compressed and chunked ones come back unchanged."""
    packed = gzip.compress(b"abc", mtime=0)
    async with relaying(tmp_path) as (run, upstream):
        upstream.answer = answer if wanted is not None else answer + packed
        sent = f"GET /init HTTP/1.1\r\nhost: h\r\n{CLOSE}\r\n"
        head, _, body = (await exchange(run.url, sent.encode())).partition(b"\r\n\r\n")
        assert head.startswith(answer.partition(b"\r\n")[0])
        if b"chunked" in head.lower():
            body = b"".join(body.split(b"\r\n")[1:-3:2])
        assert body == (packed if wanted is None else wanted)
        for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            assert line.lower() in head.lower()
        assert b"octet-stream" not in head


async def test_head_has_no_body_and_a_length(tmp_path: Path) -> None:
    """The response to HEAD keeps the content length that GET would have."""
    async with relaying(tmp_path) as (run, upstream):
        upstream.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4711\r\n\r\n"
        async with run.client.head(f"{run.url}/search?shop_id=key-1") as answer:
            assert (answer.status, answer.headers["content-length"]) == (200, "4711")
        assert upstream.got[0].line.startswith("HEAD ")


@pytest.mark.parametrize("size", [0, 5, 60_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_any_size_is_relayed(tmp_path: Path, size: int, *, chunked: bool) -> None:
    """A body of any size and framing is relayed; the size limit for events does not apply."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    async with relaying(tmp_path) as (run, upstream):
        data = pieces() if chunked else io.BytesIO(body)
        headers = {"content-type": "image/x-own"}
        url = f"{run.url}/import/products?shop_id=key-1"
        async with run.client.put(url, data=data, headers=headers) as answer:
            assert await answer.read() == b"ok"
        (got,) = upstream.got
        assert got.body == body
        assert got.header("content-type") == "image/x-own"
        if not chunked:
            assert got.header("content-length") == str(size)


async def test_a_compressed_body_is_relayed_compressed(tmp_path: Path) -> None:
    """A relayed body keeps its bytes and its content coding."""
    async with relaying(tmp_path) as (run, upstream):
        packed = gzip.compress(b'{"a": 1}' * 9000)
        for coding in ("gzip", "br"):
            async with run.client.post(
                f"{run.url}/sync/orders", data=packed, headers={"content-encoding": coding}
            ) as answer:
                assert answer.status == 200
        for got, coding in zip(upstream.got, ("gzip", "br"), strict=True):
            assert got.body == packed
            assert got.header("content-encoding") == coding


async def test_the_gateway_answers_expectations(tmp_path: Path) -> None:
    """The gateway answers `expect: 100-continue`, and does not relay it."""
    async with relaying(tmp_path) as (run, upstream):
        sent = (
            "POST /sync/orders HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n"
            f"content-length: 2\r\n{CLOSE}\r\nhi"
        )
        back = await exchange(run.url, sent.encode())
        assert back.startswith(b"HTTP/1.1 100 ")
        assert b"HTTP/1.1 200 OK" in back
        assert "expect" not in upstream.got[0].names


@pytest.mark.parametrize(
    "target",
    [
        "/import/../secret", "/import/%2e%2e/secret", "/import/.%2E/secret", "/import/./x",
        "/import/..%2fsecret", "/import/..;a=b/secret", "/import/..%5csecret", "/import/..",
    ],
)  # fmt: skip
async def test_dot_segments_are_refused(tmp_path: Path, target: str) -> None:
    """A path with dot segments, plain or escaped, is refused and not relayed."""
    async with relaying(tmp_path, prefix="/tenant") as (run, upstream):
        sent = f"GET {target} HTTP/1.1\r\nhost: h\r\n{CLOSE}\r\n".encode()
        assert b" 404 Not Found\r\n" in await exchange(run.url, sent)
        assert upstream.got == []


@pytest.mark.parametrize(
    "line",
    [
        "GET http://{}/init HTTP/1.1", "GET //{}/init HTTP/1.1", "GET /init@{} HTTP/1.1",
        "CONNECT {} HTTP/1.1", "TRACE /init HTTP/1.1", "GET {} HTTP/1.1", "OPTIONS * HTTP/1.1",
    ],
)  # fmt: skip
async def test_the_relay_is_no_open_proxy(tmp_path: Path, line: str) -> None:
    """The gateway connects only to the configured address, whatever host a client names."""
    async with vendor() as other, relaying(tmp_path) as (run, upstream):
        place = other.url.removeprefix("http://")
        sent = f"{line.format(place)}\r\nhost: {place}\r\n{CLOSE}\r\n"
        await exchange(run.url, sent.encode())
        assert (other.got, other.connections) == ([], 0)
        for got in upstream.got:
            assert got.header("host") == upstream.url.removeprefix("http://")
            assert not got.line.startswith(("CONNECT", "TRACE"))


async def test_an_unreachable_vendor_is_the_vendors_own_error(tmp_path: Path) -> None:
    """An unreachable vendor's client gets a 503 in the vendor's words, with a Retry-After."""
    async with vendor() as upstream:
        pass
    source = SOURCE.format("personaclick", upstream.url, "")
    async with (
        running(tmp_path, config(tmp_path, source)) as run,
        run.client.get(f"{run.url}/init?shop_id=key-1") as answer,
    ):
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        said = await answer.json()
        assert said["status"] == "error"
        assert said["message"] == "no response from the vendor: cannot connect"


async def test_a_silent_vendor_times_out(tmp_path: Path) -> None:
    """A call ends after `relay_timeout` without a byte; a slow response with bytes does not."""

    async def slow(got: Got, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "silent" in got.line:
            await asyncio.Event().wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n")
        for _step in range(8):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)

    async with relaying(tmp_path, more='relay_timeout = "400ms"') as (run, upstream):
        upstream.script = slow
        async with run.client.get(f"{run.url}/search?silent") as answer:
            assert answer.status == 503
            assert "timeout" in await answer.text()
        async with run.client.get(f"{run.url}/search?q") as answer:
            assert await answer.read() == b"xxxxxxxx"


async def test_a_partial_response_ends_as_an_error(tmp_path: Path) -> None:
    """When the vendor breaks off, the client's response breaks off too."""

    async def broken(_: Got, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.close()

    async with relaying(tmp_path) as (run, upstream):
        upstream.script = broken
        async with run.client.get(f"{run.url}/search") as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientError):
                await answer.read()


async def test_a_client_that_leaves_ends_the_call(tmp_path: Path) -> None:
    """When the client leaves during a response, the vendor's connection is closed."""
    ended = asyncio.Event()

    async def endless(_: Got, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
        finally:
            ended.set()

    async with relaying(tmp_path) as (run, upstream):
        upstream.script = endless
        async with run.client.get(f"{run.url}/search") as answer:
            await answer.content.readexactly(100_000)
            answer.close()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\nok",
    ],
    ids=["no HTTP", "another protocol", "two lengths"],
)
async def test_an_invalid_response_is_a_503(tmp_path: Path, answer: bytes) -> None:
    """An invalid response becomes a 503 in the vendor's format, without the client's key."""
    async with relaying(tmp_path) as (run, upstream):
        upstream.answer = answer
        async with run.client.get(f"{run.url}/search?shop_id=key-1") as response:
            assert response.status == 503
            assert "shop_id" not in await response.text()


async def test_interim_responses_are_not_relayed(tmp_path: Path) -> None:
    """Interim responses are not relayed; a client's header in Latin-1 arrives as the same text."""
    async with relaying(tmp_path) as (run, upstream):
        upstream.answer = (
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        )
        sent = f"GET /init HTTP/1.1\r\nhost: h\r\nuser-agent: caf\xe9\r\n{CLOSE}\r\n"
        answer = await exchange(run.url, sent.encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nok")
        assert upstream.got[0].header("user-agent") == "caf\xe9"


async def test_a_read_on_a_closed_connection_is_repeated(tmp_path: Path) -> None:
    """A read on a kept connection that the vendor has closed is sent again."""

    async def once(_: Got, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with relaying(tmp_path) as (run, upstream):
        upstream.script = once
        for _ in range(20):
            async with run.client.get(f"{run.url}/search?shop_id=key-1") as answer:
                assert await answer.read() == b"ok"


async def test_a_key_must_be_the_sources(tmp_path: Path) -> None:
    """A key in query or header must be one of the source's; a call without a key is relayed."""
    async with relaying(tmp_path) as (run, upstream):
        async with run.client.get(f"{run.url}/init?shop_id=other") as answer:
            assert answer.status == 403
        assert upstream.got == []
        async with run.client.get(f"{run.url}/init") as answer:
            assert answer.status == 200
        assert len(upstream.got) == 1


async def test_the_sources_origins_hold_for_relayed_calls(tmp_path: Path) -> None:
    """A relayed response has the source's CORS headers, not the vendor's; its cookies stay."""
    async with relaying(tmp_path, more='origins = ["https://shop.example"]') as (run, upstream):
        upstream.answer = (
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nset-cookie: a=1\r\n"
            b"set-cookie: b=2\r\nVary: accept\r\ncontent-length: 2\r\n\r\nok"
        )
        for origin, allowed in (("https://shop.example", True), ("https://other.example", False)):
            asked = {"origin": origin}
            async with run.client.get(f"{run.url}/init?shop_id=key-1", headers=asked) as answer:
                allowed_origins = answer.headers.getall("access-control-allow-origin", [])
                assert allowed_origins == ([origin] if allowed else [])
                assert answer.headers.getall("set-cookie") == ["a=1", "b=2"]
                assert "origin" in answer.headers["vary"]
                assert "accept" in answer.headers["vary"]
        leave = {"origin": "https://shop.example", "access-control-request-method": "GET"}
        async with run.client.options(f"{run.url}/init", headers=leave) as answer:
            assert answer.status == 204
        assert [got.line.split()[0] for got in upstream.got] == ["GET", "GET"]


@pytest.mark.usefixtures("each_spool")
async def test_events_are_not_relayed(tmp_path: Path) -> None:
    """An event is stored and delivered, not relayed; another method on its path is relayed."""
    async with relaying(tmp_path) as (run, upstream):
        async with run.client.post(f"{run.url}/push", json=PUSH) as answer:
            assert answer.status == 200
        await run.watch.until(lambda w: bool(w.settled))
        assert upstream.got == []
        async with run.client.get(f"{run.url}/push") as answer:
            assert await answer.read() == b"ok"


async def test_a_vendor_is_known_by_the_start_of_the_path(tmp_path: Path) -> None:
    """With two relaying sources at one address, each gets the paths of its vendor."""
    async with vendor() as one, vendor() as two:
        sources = SOURCE.format("personaclick", one.url, "") + SOURCE.format(
            "quartic", two.url, ""
        ).replace("shop", "store")
        async with running(tmp_path, config(tmp_path, sources)) as run:
            for path in ("/recommend/abc", "/subscriptions/x", "/store/anything", "/neither"):
                async with run.client.get(run.url + path) as answer:
                    await answer.read()
                    assert answer.status == (404 if path == "/neither" else 200)
        assert [got.line.split()[1] for got in one.got] == ["/recommend/abc", "/subscriptions/x"]
        assert [got.line.split()[1] for got in two.got] == ["/store/anything"]


async def test_the_only_relaying_source_gets_every_other_path(tmp_path: Path) -> None:
    """The only relaying source at an address, or at a mount, gets every other path."""
    async with vendor() as one, vendor() as two:
        sources = SOURCE.format("personaclick", one.url, "") + SOURCE.format(
            "quartic", two.url, 'mount = "/q"'
        ).replace("shop", "store")
        async with running(tmp_path, config(tmp_path, sources)) as run:
            for path in ("/whatever", "/q/whatever"):
                async with run.client.get(run.url + path) as answer:
                    assert answer.status == 200
        assert [got.line.split()[1] for got in one.got] == ["/whatever"]
        assert [got.line.split()[1] for got in two.got] == ["/whatever"]


async def test_a_known_key_is_exchanged(tmp_path: Path) -> None:
    """With a destination's key, a known client's key is exchanged in query, header and body."""
    async with vendor() as one, vendor() as two:
        sources = (
            SOURCE.format(
                "personaclick",
                one.url,
                'relay_as = "ours"\nrelay_endpoints = '
                '["GET /init", "POST /init", "POST /mobile_push_tokens"]',
            )
            + SOURCE.format("quartic", two.url, 'relay_as = "store"').replace(".shop]", ".store]")
            + '[destinations.ours]\nvendor = "personaclick"\nshop_id = "our shop"\n'
            '[destinations.store]\nvendor = "quartic"\napi_key = "our-key"\n'
            'customer = "our-symbol"\n'
        )
        async with running(tmp_path, config(tmp_path, sources)) as run:
            url = f"{run.url}/init?a=%2B&shop_id=key-1&did=x"
            async with run.client.post(url, data=b'{"shop_id": "key-1",  "b": 1}') as answer:
                assert answer.status == 200
            (got,) = one.got
            assert got.line == "POST /init?a=%2B&shop_id=our%20shop&did=x HTTP/1.1"
            assert got.body == b'{"shop_id": "our shop",  "b": 1}'
            async with run.client.get(f"{run.url}/init") as answer:
                assert answer.status == 403
            for key, status in (("key-1", 200), ("wrong", 403)):
                body = {"shop_id": key, "token": "t"}
                async with run.client.post(f"{run.url}/mobile_push_tokens", json=body) as answer:
                    assert answer.status == status
            assert one.got.pop().body == b'{"shop_id": "our shop", "token": "t"}'
            url = f"{run.url}/store/recommendation?customer=mine"
            headers = {"x-api-key": "key-1", "x-other": "1"}
            async with run.client.get(url, headers=headers) as answer:
                assert answer.status == 200
            assert two.got[0].line.startswith("GET /store/recommendation?customer=our-symbol ")
            assert (two.got[0].header("x-api-key"), two.got[0].header("x-other")) == (
                "our-key",
                "1",
            )
            async with run.client.get(url, headers={"x-api-key": "wrong"}) as answer:
                assert answer.status == 401
            assert (len(one.got), len(two.got)) == (1, 1)


@pytest.mark.parametrize("of", ["quartic", "personaclick", "tracardi"])
async def test_without_a_relay_address(tmp_path: Path, of: str) -> None:
    """Without a relay address `/init` makes ids, Quartic has no data, other calls are refused."""
    source = f'[sources.shop]\nvendor = "{of}"\nkeys = ["key-1"]\n'
    key = {"x-api-key": "key-1"}
    async with running(tmp_path, config(tmp_path, source)) as run:
        if of == "quartic":
            async with run.client.get(f"{run.url}/store/recommendation?customer=c") as answer:
                said = await answer.json()
                assert (answer.status, said["status"], said["data"]) == (200, "OK", [])
            async with run.client.get(f"{run.url}/store/contact", headers=key) as answer:
                said = await answer.json()
                assert said["data"]["error_code"] == "http.status.404"
            async with run.client.get(f"{run.url}/store/contact") as answer:
                assert answer.status == 401
        elif of == "personaclick":
            async with run.client.get(f"{run.url}/init?shop_id=key-1&stream=ios") as answer:
                said = await answer.json()
                assert said.keys() == {"did", "seance"}
                assert answer.cookies["did"].value == said["did"]
            cookie = {"cookie": f"a=b; did={said['did']}"}
            async with run.client.get(f"{run.url}/init?shop_id=key-1", headers=cookie) as answer:
                assert (await answer.json())["did"] == said["did"]
            async with run.client.get(f"{run.url}/profile?shop_id=key-1") as answer:
                assert answer.status == 501
        else:
            async with run.client.get(f"{run.url}/collect/a/b") as answer:
                assert (answer.status, await answer.json()) == (404, {"detail": "Not Found"})


async def test_many_calls_at_once(tmp_path: Path) -> None:
    """Concurrent relayed calls do not wait for each other, and each gets its own response."""

    async def echo(got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await body_of(got, reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async with relaying(tmp_path) as (run, upstream):
        upstream.script = echo

        async def call(number: int) -> None:
            body = orjson.dumps({"n": number}) * 500
            async with run.client.post(f"{run.url}/sync/orders", data=body) as answer:
                assert await answer.read() == body

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(call(number) for number in range(200)))
