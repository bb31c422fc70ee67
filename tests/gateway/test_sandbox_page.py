"""The sandbox's page, and its protection against scripts in recorded requests."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from html.parser import HTMLParser

import orjson
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from hypothesis import given
from hypothesis import strategies as st

from gateway import http
from gateway.sandbox import make_app, page
from gateway.sandbox.journal import JournalEntry
from plugins.chrts.sandbox import ChrtsSandbox
from plugins.quartic.sandbox import QuarticSandbox

Client = TestClient[Request, Application]

EVIL = "</pre><script>alert(1)</script>\"'&"


@pytest.fixture
async def client(aiohttp_client: Callable[[Application], Awaitable[Client]]) -> Client:
    """Return a client of a sandbox with two vendors."""
    return await aiohttp_client(make_app([ChrtsSandbox(), QuarticSandbox()], {}))


async def track(client: Client, name: str, text: bytes | None = None) -> None:
    """Send an event, or a raw body, to chrts."""
    body = text if text is not None else orjson.dumps({"uid": "u", "name": name})
    headers = {"authorization": "Bearer k", "content-type": "application/json", "x-evil": EVIL}
    async with client.post("/chrts/event/track", data=body, headers=headers) as answer:
        await answer.read()


async def shown(client: Client, query: str = "") -> str:
    """Return the page."""
    async with client.get(f"/{query}") as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        return await answer.text()


class Seen(HTMLParser):
    """The tags of a document, its attributes by name, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a tag."""
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        """Record text."""
        self.text += data


async def test_the_page_shows_the_newest_first_with_counts(client: Client) -> None:
    """Requests are listed newest first, with accepted and refused counts per vendor."""
    await track(client, "older")
    await track(client, "")
    await track(client, "newer")
    text = await shown(client)
    assert text.index("newer") < text.index("older")
    words = " ".join(Seen(text).text.split())
    assert "all 2 1 chrts 2 1 quartic 0 0" in words
    assert "name: expected a string that is not empty" in words


async def test_the_page_narrows_to_one_vendor(client: Client) -> None:
    """``?vendor=`` shows only that vendor's requests, and marks the vendor."""
    await track(client, "Signed Up")
    text = await shown(client, "?vendor=quartic")
    assert "Signed Up" not in text
    assert 'data-vendor="quartic" aria-current="page"' in text
    assert "Signed Up" in await shown(client, "?vendor=chrts")
    async with client.get("/?vendor=nobody") as answer:
        assert answer.status == 404


async def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    """The page loads no other resource, and its policy allows only its own script and style."""
    async with client.get("/") as answer:
        policy = answer.headers["content-security-policy"]
        text = await answer.text()
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == [
        "data:,",
        "/",
        "/?vendor=chrts",
        "/?vendor=quartic",
    ]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert text.count("<script") == text.count("<style") == 1
    assert "style=" not in text
    assert "onclick" not in text


@given(st.text(), st.text(), st.text(), st.binary())
def test_nothing_that_was_sent_becomes_markup(
    url: str, header: str, reason: str, body: bytes
) -> None:
    """Any request is shown as text, with the same tags and attributes."""
    dull = row("/", "x", "x", b"x")
    wild = row(url, header, reason, body)
    assert Seen(wild).tags == Seen(dull).tags
    assert Seen(wild).attributes == Seen(dull).attributes
    text = Seen(wild).text
    assert all(part in text for part in (url, header, reason))


def row(url: str, header: str, reason: str, body: bytes) -> str:
    """Return the HTML row of a refused request."""
    request = http.Request(
        method="POST",
        url=url,
        headers={"x-test": header},
        body=body,
        received_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC),
    )
    response = http.Response(400, {"x-said": header}, body)
    entry = JournalEntry(
        index=1, arrival=1, vendor="chrts", request=request, response=response, reason=reason
    )
    return page.row(entry)


async def test_hostile_bodies_are_shown_as_text(client: Client) -> None:
    """A script in a body, a header or a name is shown as text."""
    await track(client, EVIL)
    await track(client, "", EVIL.encode())
    text = await shown(client)
    assert text.count("<script") == 1
    assert "alert(1)</script>" not in text


async def test_an_endless_body_is_cut_on_the_page_only(client: Client) -> None:
    """The page truncates a long body and shows its length."""
    await track(client, "x" * 50_000)
    text = await shown(client)
    assert "(of 50,0" in text
    assert len(text) < 60_000


async def events(client: Client, end: bytes) -> bytes:
    """Return the page's stream up to the first line that contains *end*."""
    said = b""
    async with asyncio.timeout(5), client.get("/_sandbox/events?as=page&after=0") as stream:
        async for line in stream.content:
            said += line
            if end in line:
                return said
    raise AssertionError(said)


async def test_the_stream_has_the_same_rows_and_counts(client: Client) -> None:
    """The stream sends the same row as a fresh page, then the counts."""
    await track(client, "Signed Up")
    said = await events(client, b'"chrts"')
    start, counts, _ = said.decode().rsplit("event: counts\ndata: ", 1)[0], said, None
    data = "\n".join(
        line.removeprefix("data: ") for line in start.splitlines() if line.startswith("data: ")
    )
    assert data in await shown(client)
    assert orjson.loads(counts.rpartition(b"data: ")[2]) == {
        "": [1, 0],
        "chrts": [1, 0],
        "quartic": [0, 0],
    }


async def test_a_carriage_return_cannot_end_a_line_of_the_stream(client: Client) -> None:
    """No kind of line break in a body starts a new stream event (WHATWG HTML, 9.2)."""
    await track(client, "", b"a\rid: 9\r\nevent: cleared\n\ndata: b")
    said = await events(client, b"event: counts")
    assert b"\r" not in said
    fields = [line.split(b":")[0] for line in said.split(b"\n") if line]
    assert fields == [b"id", *[b"data"] * (len(fields) - 2), b"event"]


async def test_the_stream_reports_a_cleared_journal(client: Client) -> None:
    """Clearing the journal sends an event that empties open pages."""
    await track(client, "Signed Up")
    async with asyncio.timeout(5), client.get("/_sandbox/events?as=page") as stream:
        await stream.content.readuntil(b"\n\n")
        async with client.delete("/_sandbox/requests"):
            pass
        assert await stream.content.readuntil(b"\n\n") == b"event: cleared\ndata:\n\n"
        counts = await stream.content.readuntil(b"\n\n")
    assert orjson.loads(counts.partition(b"data: ")[2])[""] == [0, 0]
