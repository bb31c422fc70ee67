"""The bytes of responses."""

from collections.abc import Mapping

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11
from multidict import CIMultiDict

from gateway.http import Response
from gateway.ingest.responses import Answer, header_lines, to_bytes
from gateway.ingest.sources import LONGEST_LINES, REMEMBERED, Source
from gateway.plugin.registry import load_plugins

JSON = {"content-type": "application/json"}


def written(
    answer: Answer,
    method: str = "POST",
    version: HttpVersion = HttpVersion11,
    *,
    keeps: bool = True,
) -> tuple[str, CIMultiDict[str], bytes]:
    """Return status line, headers and body of an answer as it is sent."""
    head, _, body = to_bytes(answer, method, version, keeps=keeps).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return first, CIMultiDict((name, value) for name, _, value in pairs), body


def test_an_ordinary_response_has_length_date_and_nosniff() -> None:
    """A response has its own headers, and those that each response has."""
    first, headers, body = written(Answer(200, header_lines(JSON), b"{}"))
    assert first == "HTTP/1.1 200 OK"
    assert headers.popone("date").endswith("GMT")
    assert headers == {
        **JSON, "x-content-type-options": "nosniff", "content-length": "2",
    }  # fmt: skip
    assert body == b"{}"


@pytest.mark.parametrize(
    ("version", "keeps", "connection"),
    [
        (HttpVersion11, True, None),
        (HttpVersion11, False, "close"),
        (HttpVersion10, True, "keep-alive"),
        (HttpVersion10, False, None),
    ],
)
def test_the_connection_header_says_what_is_not_usual(
    version: HttpVersion,
    *,
    keeps: bool,
    connection: str | None,
) -> None:
    """HTTP/1.1 keeps a connection unless it says so, HTTP/1.0 closes it unless it says so."""
    first, headers, _ = written(Answer(200, b"", b"x"), version=version, keeps=keeps)
    assert first == f"HTTP/{version.major}.{version.minor} 200 OK"
    assert headers.get("connection") == connection


def test_a_response_to_head_has_the_length_without_the_body() -> None:
    """A response to HEAD has the headers of GET, and no body (RFC 9110, section 9.3.2)."""
    _, headers, body = written(Answer(200, header_lines(JSON), b"{}"), "HEAD")
    assert (headers["content-length"], body) == ("2", b"")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_no_length(status: int) -> None:
    """Such a response ends with its head, so the next response begins after it."""
    _, headers, body = written(Answer(status, header_lines({}, has_body=False)))
    assert "content-length" not in headers
    assert "content-type" not in headers
    assert body == b""


def test_an_unknown_status_has_no_phrase() -> None:
    """A status that is not registered is sent with an empty phrase."""
    assert written(Answer(299, b""))[0] == "HTTP/1.1 299 "


def test_a_header_cannot_begin_another_line() -> None:
    """Control characters in names and values become spaces."""
    lines = header_lines({"x-a": "1\r\nset-cookie: b=2\x00", "x-\r\nb": "\udcff"})
    assert b"x-a: 1 set-cookie: b=2 \r\nx- b: \xc3\xbf\r\n" in lines
    assert lines.count(b"\r\n") == 4


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (CIMultiDict([("set-cookie", "a=1"), ("Set-Cookie", "b=2")]), ["a=1", "b=2"]),
        ({"set-cookie": "a=1"}, ["a=1"]),
    ],
)
def test_a_repeated_header_stays_repeated(given: Mapping[str, str], sent: list[str]) -> None:
    """Headers with the same name are sent in their order."""
    assert written(Answer(200, header_lines(given)))[1].getall("set-cookie") == sent


def test_a_given_date_and_type_stay() -> None:
    """A date, a type and a sniffing policy that a response has are not replaced."""
    given = {
        "Content-Type": "text/plain", "Date": "Sat, 28 Mar 2026 10:15:30 GMT",
        "X-Content-Type-Options": "none",
    }  # fmt: skip
    _, headers, _ = written(Answer(200, header_lines(given), b"x"))
    assert headers.popone("content-length") == "1"
    assert {name.lower(): value for name, value in headers.items()} == {
        name.lower(): value for name, value in given.items()
    }


def test_a_body_without_a_type_is_binary() -> None:
    """A body without a type is not left to the browser's guess."""
    assert written(Answer(200, header_lines({}), b"x"))[1]["content-type"] == (
        "application/octet-stream"
    )


@pytest.mark.parametrize(
    "name", ["Connection", "Content-Length", "Transfer-Encoding", "X-Gateway-Request-Id"]
)
def test_headers_of_the_gateway_cannot_be_given(name: str) -> None:
    """A vendor's response cannot set what only the gateway knows."""
    assert header_lines({name: "1", **JSON}) == header_lines(JSON)


def source() -> Source:
    """Return a source that every origin may call."""
    return Source("shop", load_plugins().inputs["chrts"](), None, origins="*")


def test_lines_differ_by_origin_headers_and_body() -> None:
    """Each combination of origin, headers and body has its own lines, the first time and later."""
    shop, answer = source(), Response(200, JSON, b"{}")
    for _ in range(2):
        assert b"access-control" not in shop.response_lines(answer, None)
        assert b"access-control-allow-origin: *" in shop.response_lines(answer, "https://a.example")
        assert b"x-b: 1" in shop.response_lines(Response(200, {**JSON, "x-b": "1"}, b"{}"), None)
        assert b"octet" in shop.response_lines(Response(200, {}, b"{}"), None)
        assert b"octet" not in shop.response_lines(Response(200), None)


def test_invented_origins_take_no_memory() -> None:
    """However many origins and long headers senders invent, few lines are kept."""
    shop = source()
    for number in range(10 * REMEMBERED):
        shop.response_lines(Response(200, JSON, b"{}"), f"https://{number}.example")
    shop.response_lines(Response(200, {"x-long": "x" * LONGEST_LINES}), None)
    assert len(shop._lines) <= REMEMBERED
    assert max(map(len, shop._lines.values())) <= LONGEST_LINES
