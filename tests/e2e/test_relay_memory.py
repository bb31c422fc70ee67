"""Relayed bodies are streamed: their size does not affect memory."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.e2e.configs import base_config, destination, source
from tests.e2e.process import gateway_process
from tests.e2e.raw_http import Got, body_of, vendor
from tests.e2e.running import PATIENCE, sandboxed

SIZE = 50 * 1024 * 1024
PIECE = b"x" * 65536
ROOM = 12 * 1024 * 1024
"""Maximum growth of the process in bytes: a quarter of the response, mostly buffers."""


def resident(pid: int) -> int:
    """Return the peak of a process' resident memory in bytes (proc(5), VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


async def large(got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send as many bytes as the query requests; read an upload to its end."""
    if got.line.startswith("PUT"):
        left = int(got.header("content-length") or 0)
        while left:
            left -= len(await reader.read(min(left, 1 << 20)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
        return
    await body_of(got, reader)
    size = int(got.line.split("size=")[1].split()[0])
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
    for _ in range(size // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()


async def test_fifty_megabytes_stream_in_bounded_memory(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Neither a large response to a slow reader nor a large upload is held in memory."""
    async with sandboxed() as (sandbox, client), vendor() as upstream:
        upstream.script = large
        path = tmp_path / "gateway.toml"
        path.write_text(
            base_config(tmp_path)
            + source("personaclick", name="shop")
            + f'url = "{upstream.url}"\n'
            f'{destination("chrts", sandbox)}[[routes]]\nto = ["chrts"]\n'
        )
        async with gateway_process(path) as gateway, asyncio.timeout(3 * PATIENCE):
            for _ in range(3):
                async with client.get(f"{gateway.url}/search?size={len(PIECE) * 16}") as answer:
                    await answer.read()
            before = resident(gateway.process.pid)
            async with client.get(f"{gateway.url}/search?size={SIZE}") as answer:
                first = await answer.content.readexactly(1)
                await asyncio.sleep(0.5)  # an idle reader must cause backpressure
                rest = 0
                async for piece in answer.content.iter_any():
                    rest += len(piece)
            assert len(first) + rest == SIZE

            async def upload() -> object:
                for _ in range(SIZE // len(PIECE)):
                    yield PIECE

            headers = {"content-length": str(SIZE)}
            url = f"{gateway.url}/import/products"
            async with client.put(url, data=upload(), headers=headers) as answer:
                assert await answer.read() == b"done"
            grown = resident(gateway.process.pid) - before
    assert grown < ROOM, f"{grown / 1024 / 1024:.1f} MiB"
    record_property("table", f"50 MiB down, 50 MiB up: grown by {grown / 1024 / 1024:.1f} MiB")
