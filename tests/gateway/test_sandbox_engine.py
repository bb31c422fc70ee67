"""The sandbox over real sockets: responses, the journal and the stream."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from gateway.errors import ConfigError
from gateway.sandbox import make_app
from plugins.chrts.sandbox import ChrtsSandbox
from plugins.quartic.sandbox import QuarticSandbox

Client = TestClient[Request, Application]
Open = Callable[[Application], Awaitable[Client]]

BEARER = {"authorization": "Bearer key-1"}
TRACK = "/chrts/event/track"
EVENT = {"uid": "u1", "name": "Signed Up"}


@pytest.fixture
async def client(aiohttp_client: Open) -> Client:
    """Return a client of a sandbox with two vendors."""
    return await aiohttp_client(make_app([ChrtsSandbox(), QuarticSandbox()], {}))


async def track(client: Client, **body: Any) -> int:
    """Send one event to chrts and return the status."""
    async with client.post(TRACK, json={**EVENT, **body}, headers=BEARER) as answer:
        return answer.status


async def journal(client: Client, query: str = "") -> list[dict[str, Any]]:
    """Return the journal's entries."""
    async with client.get(f"/_sandbox/requests{query}") as answer:
        assert answer.status == 200
        entries: list[dict[str, Any]] = await answer.json()
        return entries


async def lines_until(client: Client, query: str, end: bytes, **headers: str) -> list[bytes]:
    """Follow the stream until a line contains *end*, and return the lines."""
    lines = []
    async with asyncio.timeout(5), client.get(f"/_sandbox/events{query}", headers=headers) as said:
        async for line in said.content:
            lines.append(line)
            if end in line:
                return lines
    raise AssertionError(lines)


async def test_an_accepted_request_is_recorded_whole(client: Client) -> None:
    """A journal entry has the decoded request and the response."""
    assert await track(client, plan="pro") == 200
    [entry] = await journal(client)
    sent = entry["headers"]
    assert sent["authorization"] == "Bearer key-1"
    assert (entry["vendor"], entry["method"], entry["path"]) == ("chrts", "POST", "/event/track")
    assert entry["body"] == {**EVENT, "plan": "pro"}
    assert (entry["verdict"], entry["reason"]) == ("accepted", None)
    assert entry["answer"]["status"] == 200
    assert entry["answer"]["body"]["message"] == "Event tracked successfully"
    assert entry["answer"]["headers"] == {"content-type": "application/json"}


async def test_a_refused_request_is_recorded_with_its_reason(client: Client) -> None:
    """A refusal is recorded with its reason, and a body that is not JSON as text."""
    async with client.post(
        TRACK, data=b"{no", headers={**BEARER, "content-type": "application/json"}
    ) as answer:
        assert answer.status == 400
    [entry] = await journal(client)
    assert entry["verdict"] == "refused"
    assert entry["reason"].startswith("the body: expected JSON")
    assert entry["body"] == "{no"


async def test_query_and_path_are_separate(client: Client) -> None:
    """A journal entry has path and query in separate fields."""
    async with client.get("/quartic/store/recommendation?customer=c&cookie=a") as answer:
        assert answer.status == 200
    [entry] = await journal(client)
    assert (entry["path"], entry["query"]) == ("/store/recommendation", "customer=c&cookie=a")


async def test_the_journal_is_narrowed_by_vendor_and_index(client: Client) -> None:
    """``vendor`` selects a vendor, ``after`` later entries, and both combine."""
    for name in ("a", "b"):
        await track(client, name=name)
    async with client.get("/quartic/nothing"):
        pass
    await track(client, name="c")
    assert [entry["index"] for entry in await journal(client)] == [1, 2, 3, 4]
    assert [entry["index"] for entry in await journal(client, "?vendor=quartic")] == [3]
    assert [entry["index"] for entry in await journal(client, "?after=2")] == [3, 4]
    assert [entry["index"] for entry in await journal(client, "?after=1&vendor=chrts")] == [2, 4]
    assert await journal(client, "?after=99") == []


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("?after=x", 400, "after: expected the index of an entry"),
        ("?after=-1", 400, "after: expected the index of an entry"),
        ("?vendor=nobody", 404, "use chrts or quartic"),
    ],
)
async def test_an_invalid_filter_is_an_error(
    client: Client, query: str, status: int, said: str
) -> None:
    """An invalid filter is an error with a sentence."""
    async with client.get(f"/_sandbox/requests{query}") as answer:
        assert answer.status == status
        assert said in await answer.text()


async def test_clearing_keeps_the_numbering(client: Client) -> None:
    """After a clear the journal is empty, and numbering continues."""
    await track(client)
    async with client.delete("/_sandbox/requests") as answer:
        assert answer.status == 204
    assert await journal(client) == []
    await track(client)
    assert [entry["index"] for entry in await journal(client, "?after=1")] == [2]


async def test_the_journal_keeps_the_newest(aiohttp_client: Open) -> None:
    """A full journal drops its oldest entries."""
    client = await aiohttp_client(make_app([ChrtsSandbox()], {}, journal_size=3))
    for number in range(5):
        await track(client, name=str(number))
    assert [entry["body"]["name"] for entry in await journal(client)] == ["2", "3", "4"]
    assert [entry["index"] for entry in await journal(client, "?after=1")] == [3, 4, 5]


async def test_without_a_journal_responses_are_the_same(aiohttp_client: Open) -> None:
    """``journal=False`` records nothing and changes no response."""
    client = await aiohttp_client(make_app([ChrtsSandbox()], {}, journal=False))
    assert await track(client) == 200
    assert await track(client, name="") == 400
    assert await journal(client) == []


async def test_every_request_is_recorded_once(client: Client) -> None:
    """Concurrent requests get one entry each, numbered without gaps."""
    await asyncio.gather(*(track(client, name=str(number)) for number in range(100)))
    entries = await journal(client)
    assert sorted(entry["index"] for entry in entries) == list(range(1, 101))
    assert {entry["body"]["name"] for entry in entries} == {str(number) for number in range(100)}


async def test_a_key_turns_other_credentials_away(aiohttp_client: Open) -> None:
    """A vendor with a configured key accepts only that key, and the reason does not show it."""
    client = await aiohttp_client(make_app([ChrtsSandbox()], {"chrts": "the-secret"}))
    assert await track(client) == 401
    async with client.post(
        TRACK, json=EVENT, headers={"authorization": "Bearer the-secret"}
    ) as answer:
        assert answer.status == 200
    refused, accepted = await journal(client)
    assert (refused["verdict"], accepted["verdict"]) == ("refused", "accepted")
    assert "the-secret" not in refused["reason"]
    assert "key-1" not in refused["reason"]


def test_all_invalid_sandbox_settings_are_reported() -> None:
    """A duplicate name and a key for an unknown vendor are reported together."""
    with pytest.raises(ConfigError) as caught:
        make_app([ChrtsSandbox(), ChrtsSandbox()], {"nobody": "x"})
    assert caught.value.problems == [
        "two sandboxes have the name 'chrts'",
        "--key nobody: there is no vendor 'nobody'; use chrts",
    ]


@pytest.mark.parametrize("path", ["/nobody", "/nobody/event", "/_sandbox/nothing"])
async def test_a_path_of_no_vendor_lists_the_vendors(client: Client, path: str) -> None:
    """A path of an unknown vendor gets 404 and the list of vendors."""
    async with client.post(path) as answer:
        assert answer.status == 404
        assert "use chrts or quartic" in await answer.text()


async def test_a_gzipped_body_is_inflated(client: Client) -> None:
    """A compressed body is checked and recorded in decompressed form."""
    headers = {**BEARER, "content-type": "application/json", "content-encoding": "gzip"}
    body = gzip.compress(json.dumps(EVENT).encode())
    async with client.post(TRACK, data=body, headers=headers) as answer:
        assert answer.status == 200
    [entry] = await journal(client)
    assert entry["body"] == EVENT


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"no gzip at all", 400), (gzip.compress(bytes(17 * 1024 * 1024)), 413)],
    ids=["broken", "bomb"],
)
async def test_a_body_that_cannot_be_read_is_refused_in_the_vendors_shape(
    client: Client, body: bytes, status: int
) -> None:
    """A broken or too large compressed body is refused in the vendor's format, and recorded."""
    headers = {**BEARER, "content-type": "application/json", "content-encoding": "gzip"}
    async with client.post(TRACK, data=body, headers=headers) as answer:
        assert answer.status == status
        assert (await answer.json())["code"] == status
    assert await track(client) == 200
    refused, accepted = await journal(client)
    assert (refused["verdict"], accepted["verdict"]) == ("refused", "accepted")


async def test_bytes_that_are_no_utf8_do_not_break_the_journal(client: Client) -> None:
    """Invalid UTF-8 in headers and body is recorded with replacement characters."""
    server = client.server
    assert isinstance(server, TestServer)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(
        b"POST /chrts/event/track HTTP/1.1\r\nhost: x\r\nx-odd: a\xffb\r\n"
        b"content-length: 2\r\nconnection: close\r\n\r\n\xff\xfe"
    )
    async with asyncio.timeout(5):
        await reader.read()
    writer.close()
    await writer.wait_closed()
    [entry] = await journal(client)
    assert entry["headers"]["x-odd"] == "a\ufffdb"
    assert entry["body"] == "\ufffd\ufffd"


async def test_a_body_nested_deeper_than_json_is_written_can_be_read_back(client: Client) -> None:
    """A body that is nested too deeply for the JSON writer is recorded byte for byte."""
    deep = b'{"uid":"1","name":"n","properties":{"a":' + b"[" * 500 + b"]" * 500 + b"}}"
    headers = {**BEARER, "content-type": "application/json"}
    async with client.post(TRACK, data=deep, headers=headers) as answer:
        assert answer.status == 200
    async with client.get("/_sandbox/requests") as listed:
        assert deep in await listed.read()
    async with client.get("/") as page:
        assert page.status == 200


async def test_the_stream_has_new_entries_at_once(client: Client) -> None:
    """The stream sends each new entry as one event with its number and journal JSON."""
    following = asyncio.create_task(lines_until(client, "?after=0", b"second"))
    await track(client, name="first")
    await track(client, name="second")
    lines = await following
    assert [line for line in lines if line.startswith(b"id:")] == [b"id: 1\n", b"id: 2\n"]
    entries = [orjson.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
    assert entries == await journal(client)


async def test_a_stream_resumes_after_the_last_event_id(
    client: Client,
) -> None:
    """``Last-Event-ID`` resumes after that entry, and ``vendor`` still filters."""
    for name in ("one", "two"):
        await track(client, name=name)
    async with client.get("/quartic/nothing"):
        pass
    await track(client, name="three")
    lines = await lines_until(client, "?after=0&vendor=chrts", b"three", **{"Last-Event-ID": "1"})
    assert [line for line in lines if line.startswith(b"id:")] == [b"id: 2\n", b"id: 4\n"]


async def test_a_body_cannot_forge_an_event_of_the_stream(client: Client) -> None:
    """Line breaks in a body stay inside the data of its event."""
    body = b'{"uid":"1",\r"name":"n"\r\n\r\n,"event: x":\n\n1}'
    async with client.post(
        TRACK, data=body, headers={**BEARER, "content-type": "application/json"}
    ) as answer:
        assert answer.status == 200
    lines = await lines_until(client, "?after=0", b'"answer"')
    assert all(line.startswith((b"id: ", b"data: ")) for line in lines)
    assert not any(b"\r" in line for line in lines)
    data = b"\n".join(line[6:].rstrip(b"\n") for line in lines if line.startswith(b"data: "))
    assert orjson.loads(data)["body"]["event: x"] == 1


async def test_stopping_the_server_ends_its_streams(aiohttp_client: Open) -> None:
    """An open stream does not delay the server's shutdown."""
    client = await aiohttp_client(make_app([ChrtsSandbox()], {}))
    async with client.get("/_sandbox/events") as following:
        assert following.headers["content-type"] == "text/event-stream"
        server = client.server
        assert isinstance(server, TestServer)
        async with asyncio.timeout(5):
            await asyncio.gather(server.close(), following.content.read())
