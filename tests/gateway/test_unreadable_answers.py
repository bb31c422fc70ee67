"""Odd responses of real vendors, proxies and networks, byte by byte.

The status line decides the verdict. Without a status line there is no response.
"""

import asyncio

import pytest
from pydantic import SecretStr

from gateway.delivery.connection import Connection
from gateway.delivery.transport import HttpTransport
from gateway.errors import TransportError
from gateway.http import Request, Response
from gateway.plugin.vendor import Output
from gateway.verdict import Delivered, Refused, RetryLater
from plugins.chrts.output import ChrtsOutput
from plugins.growlytics.output import GrowlyticsOutput
from plugins.personaclick.output import PersonaclickOutput
from plugins.quartic.output import QuarticOutput
from plugins.segment.output import SegmentOutput
from plugins.tracardi.output import TracardiOutput
from tests.gateway.odd_servers import (
    CUT,
    EITHER,
    NONE,
    OK,
    WELL,
    Said,
    Tls,
    http,
    once,
    server,
    unsized,
)

URL = "http://vendor.example"
KEY = SecretStr("k")
OUTPUTS: list[Output] = [
    ChrtsOutput(ChrtsOutput.Config(api_key=KEY, url=URL)),
    GrowlyticsOutput(GrowlyticsOutput.Config(api_key=KEY, url=URL)),
    PersonaclickOutput(PersonaclickOutput.Config(shop_id=KEY, url=URL)),
    QuarticOutput(QuarticOutput.Config(api_key=KEY, customer="c", url=URL)),
    SegmentOutput(SegmentOutput.Config(write_key=KEY, url=URL)),
    TracardiOutput(TracardiOutput.Config(source_id=KEY, url=URL)),
]


pytestmark = pytest.mark.both_loops


PATIENCE = 10.0
"""Seconds for responses that come to an end by themselves."""


async def asked(
    said: Said, times: int = 1, tls: Tls = None, patience: float = 0.5
) -> list[Response]:
    """Return the responses to as many requests, one after the other."""
    served, trusted = tls or (None, None)
    transport = HttpTransport(timeout=patience, connections=1, tls=trusted)
    try:
        async with server(said, served) as vendor:
            request = Request(method="POST", url=f"{vendor.url}/a", body=b"{}")
            return [await transport.send(request) for _ in range(times)]
    finally:
        await transport.close()


def cases(*tables: dict[str, Said]) -> list[object]:
    """Return the responses of *tables* with their names."""
    return [pytest.param(said, id=name) for table in tables for name, said in table.items()]


@pytest.mark.parametrize("said", cases(WELL))
async def test_readable_responses_have_no_reading_error(said: Said, tls: Tls) -> None:
    """A readable response has no reading error, also on a reused connection."""
    for response in await asked(said, 2, tls, PATIENCE):
        assert 200 <= response.status < 300
        assert response.unread == ""


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate", "bare deflate", "chunks", "plain",
                                  "an oversized header", "many headers",
                                  "byte by byte"])  # fmt: skip
async def test_a_verdict_has_the_whole_body(name: str, tls: Tls) -> None:
    """A compressed or chunked body is decoded completely."""
    (response,) = await asked(WELL[name], 1, tls, PATIENCE)
    assert (response.body, response.truncated) == (OK, False)


@pytest.mark.parametrize("said", cases(CUT))
async def test_the_status_line_decides_where_no_more_can_be_read(said: Said, tls: Tls) -> None:
    """A broken response keeps its status, gives the reason, and does not break the next one."""
    for response in await asked(said, 2, tls):
        assert response.status == 200
        assert response.unread
        assert response.truncated, "it would be handed back as if it were whole"


@pytest.mark.parametrize("said", cases(WELL, CUT, EITHER))
async def test_a_2xx_is_delivered(said: Said) -> None:
    """A 2xx response counts as delivered for every vendor, even with a broken body."""
    (response,) = await asked(said)
    for output in OUTPUTS:
        assert output.verdict(response) == Delivered(), output.name


@pytest.mark.parametrize("at", range(1, 12))
async def test_a_status_line_decides_in_pieces_as_well(at: int, tls: Tls) -> None:
    """How the network cuts a status line that the parser refuses makes no difference."""
    (whole,) = CUT["HTTP/2 in words"].pieces
    (response,) = await asked(Said((whole[:at], whole[at:]), closes=True, pause=0.01), 1, tls)
    assert (response.status, bool(response.unread)) == (200, True)


@pytest.mark.parametrize(("status", "kind"), [(b"500 Oh", RetryLater), (b"400 No", Refused),
                                              (b"429 Slow", RetryLater)])  # fmt: skip
@pytest.mark.parametrize("ending", [b"x bad : 1\r\n", b"content-length: 400\r\n",
                                    b"content-length: x\r\n"])  # fmt: skip
async def test_any_other_status_decides_as_well(status: bytes, kind: type, ending: bytes) -> None:
    """A response with another status gets its usual verdict, even if it is cut off."""
    (response,) = await asked(once(unsized(b"{", ending, status), closes=True))
    assert response.unread
    for output in OUTPUTS:
        assert isinstance(output.verdict(response), kind), output.name


@pytest.mark.parametrize(("said", "cause"), NONE.values(), ids=NONE)
async def test_without_a_status_line_there_is_no_answer(said: Said, cause: str, tls: Tls) -> None:
    """A response without a status line is a transport error with its cause."""
    with pytest.raises(TransportError) as caught:
        await asked(said, 1, tls)
    assert caught.value.cause == cause


async def test_a_connection_with_an_extra_response_is_not_reused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection that received an extra response is not reused."""
    transport = HttpTransport(timeout=10.0, connections=1)
    idle, stray = asyncio.Event(), asyncio.Event()
    receive = Connection.data_received

    def watched(self: Connection, data: bytes) -> None:
        receive(self, data)
        if b"Stray" in data:
            stray.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            writer.write(http())
            await idle.wait()
            writer.write(http(status=b"201 Stray"))
            await reader.read()
        finally:
            writer.close()

    monkeypatch.setattr(Connection, "data_received", watched)
    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
        request = Request(method="POST", url=url, body=b"{}")
        assert (await transport.send(request)).status == 200
        idle.set()
        await stray.wait()
        assert (await transport.send(request)).status == 200
    finally:
        running.close()
        await transport.close()
