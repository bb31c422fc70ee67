"""Unusual and hostile requests are accepted or refused, and delay no other sender."""

import asyncio
import gzip
import time
import zlib
from pathlib import Path

import orjson
import pytest

from tests.e2e.configs import everything
from tests.e2e.process import GatewayProcess, gateway_process
from tests.e2e.raw_http import exchange
from tests.e2e.running import PATIENCE, running, sandboxed

VIEW = orjson.dumps({
    "event": "view", "shop_id": "0d42fd8b713d0752776ca589cc0056", "did": "d", "seance": "s",
    "stream": "web", "items": [{"id": "1"}],
})  # fmt: skip
PIECE = bytes(1_000_000)


def sent(body: bytes = VIEW, *headers: bytes, line: bytes = b"POST /push HTTP/1.1") -> bytes:
    """Return a request as bytes, whose connection is closed after the response."""
    usual = [line, b"host: x", b"content-length: %d" % len(body), b"connection: close"]
    return b"\r\n".join([*usual, *headers, b"", body])


@pytest.fixture(scope="module")
def bomb() -> tuple[bytes, float]:
    """Return a small body that inflates to 400 MB, and the CPU seconds that inflating takes."""
    packing, unpacking = zlib.compressobj(9, wbits=31), zlib.decompressobj(wbits=31)
    packed = b"".join([*(packing.compress(PIECE) for _ in range(400)), packing.flush()])
    began = time.process_time()
    left = packed
    while left:
        unpacking.decompress(left, len(PIECE))
        left = unpacking.unconsumed_tail
    return packed, time.process_time() - began


@pytest.mark.parametrize(
    ("body", "header", "status"),
    [
        (VIEW, b"user-agent: caf\xe9", b"200"),
        (b"\xef\xbb\xbf" + VIEW, b"x: y", b"200"),
        (VIEW.decode().encode("utf-16"), b"x: y", b"400"),
        (gzip.compress(b"\xef\xbb\xbf" + VIEW), b"content-encoding: gzip", b"200"),
        (gzip.compress(VIEW[:9]) + gzip.compress(VIEW[9:]), b"content-encoding: X-GZIP", b"200"),
        (zlib.compress(VIEW), b"content-encoding: deflate", b"200"),
        (zlib.compress(VIEW)[2:-4], b"content-encoding: deflate", b"200"),
        (VIEW, b"content-encoding: utf-8", b"200"),
        (VIEW, b"content-encoding: br", b"400"),
        (gzip.compress(VIEW)[:-9], b"content-encoding: gzip", b"400"),
        (gzip.compress(b"") * 20_000 + gzip.compress(VIEW), b"content-encoding: gzip", b"400"),
        (zlib.compress(b"") * 20_000 + zlib.compress(VIEW), b"content-encoding: deflate", b"400"),
    ],
    ids=[
        "agent-in-latin-1",
        "mark",
        "utf-16",
        "packed-mark",
        "pieces",
        "deflate",
        "raw-deflate",
        "mislabelled",
        "brotli",
        "cut",
        "empty-pieces",
        "empty-deflate",
    ],
)
async def test_odd_encodings(tmp_path: Path, body: bytes, header: bytes, status: bytes) -> None:
    """A readable body is accepted and delivered; any other is refused with a hint what to send."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox)) as run:
        answer = await exchange(run.url, sent(body, header))
        assert answer.startswith(b"HTTP/1.1 " + status), answer
        if status == b"200":
            await run.watch.until(
                lambda seen: {to for _, to, _ in seen.settled} >= {"personaclick"}
            )
            (got,) = await run.journal("personaclick")
            assert got["answer"]["status"] == 200
        else:
            hints = (b"send UTF-8", b"use gzip", b"body is incomplete", b"compress it as one")
            assert any(hint in answer for hint in hints), answer


@pytest.mark.parametrize(
    "line", [b"POST /push HTTP/1.1", b"POST /nobodys HTTP/1.1", b"GET /healthz HTTP/1.1"]
)
async def test_a_compression_bomb_is_not_inflated(
    tmp_path: Path, line: bytes, bomb: tuple[bytes, float]
) -> None:
    """A compressed body is inflated up to the limit at most, and its sender gets a response."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox)) as run:
        packed, whole = bomb
        began = time.process_time()
        answer = await exchange(run.url, sent(packed, b"content-encoding: gzip", line=line))
        assert answer[9:12] in {b"413", b"404", b"200"}
        assert time.process_time() - began < whole / 2


async def _provoke(gateway: GatewayProcess) -> None:
    broken = sent(b"no gzip", b"content-encoding: gzip", b"authorization: Bearer s3cret")
    quoted = sent(VIEW, b"authorization: Bearer s3cret\x00")
    for request in (broken, quoted):
        assert b" 400 " in await exchange(gateway.url, request)
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent()[:-5])
    await writer.drain()
    writer.close()


async def test_senders_cannot_write_into_the_log(tmp_path: Path) -> None:
    """Unreadable requests and senders who leave log nothing above info, and none of their bytes."""
    async with sandboxed() as (sandbox, client):
        path = tmp_path / "gateway.toml"
        path.write_text(everything(tmp_path, sandbox))
        async with gateway_process(path) as gateway:
            await _provoke(gateway)
            async with asyncio.timeout(PATIENCE), client.get(f"{gateway.url}/readyz") as answer:
                assert answer.status == 200
            gateway.process.terminate()
            await gateway.ended()
            assert {line["level"] for line in gateway.lines} == {"info"}, gateway.lines
            assert "s3cret" not in str(gateway.lines)
