"""Generate requests from valid ones, with the changes that clients, proxies and attackers make.

This is much faster than hypothesis, which provides the first payloads and the hostile values.
"""

import gzip
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from gateway.http import Request
from gateway.testing.samples import json_of
from gateway.testing.strategies import GONE, Path, changed, places

Carry = Callable[[Request, Any], Request]
"""Puts a payload into a request, as clients of the endpoint do."""

TURNS = (0, 1, 1, 1, 2, 2, 3, 6)
"""Numbers of mistakes in one payload; one is chosen at random."""
FRAGMENTS = (
    b"\xff", b"\x00", b"\xc3", b"\xef\xbb\xbf", b"NaN", b"-", b"1e999", b"9" * 400, b'"\\ud800"',
    b"\\u0000", b"\\", b'"', b"{", b"}", b"[" * 2000, b"]", b",", b":", b"null", b"%zz", b"%00",
    b"%F0%9F%91%9F", b"&", b"=", b"+", b"\r\n\r\n", b"\xf0\x9f\x91\x9f", b" " * 300_000,
)  # fmt: skip
"""Bytes that are inserted into a body."""
CODINGS = ("gzip", "deflate", "br", "zstd", "identity", "x")
"""Content encodings of a body that is not encoded."""
LABELS = (
    "application/json", "application/json; charset=utf-8", "application/json; charset=utf-16",
    "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "multipart/form-data", "application/octet-stream",
    "application/gzip", "json", ";", "", "\udcff",
)  # fmt: skip
"""Content types, whatever the body is."""
HEADERS = (
    "accept", "accept-language", "cookie", "forwarded", "origin", "referer", "user-agent",
    "x-forwarded-for", "x-forwarded-host", "x-http-method-override", "x-request-id",
)  # fmt: skip
"""Headers that any client may send, in addition to those that the vendor knows."""
VALUES = (
    "", " ", "0", "null", "*", ",", ";=", "Basic", "Basic !", "Basic Og==", "Basic /w==", "Bearer",
    "Bearer \udcff", "json", "\udcc3", "\udcf0\udc9f\udc91\udc9f", "é", "a" * 4000, "127.0.0.1",
    "for=[::1", "https://shop.example", "%00",
)  # fmt: skip
"""Values of headers; bytes that are not UTF-8 are written with ``surrogateescape``."""
QUERIES = (
    "x", "=", "&&", "%", "%zz=%00", "a=%ff", "shop_id=", "profile_less=true", "data=%7B%7D",
    "data=e30", "data=!", "writeKey=a", "debug", "a=1&a=2", "%F0%9F=%91",
)  # fmt: skip
"""Queries that are appended to the path."""


class RequestFuzzer:
    """Generates requests to one endpoint.

    Args:
        chance: the random generator; the same seed gives the same requests.
        likes: valid requests to the endpoint, with their headers.
        bodies: payloads that its types allow.
        hostile: values that replace others.
        carry: puts a payload into a request.
        headers: names of headers that the vendor knows, in lower case.
    """

    def __init__(  # noqa: PLR0913 - one parameter per kind of data
        self,
        chance: Random,
        *,
        likes: Sequence[Request],
        bodies: Sequence[Any],
        hostile: Sequence[Any],
        carry: Carry,
        headers: Sequence[str] = (),
    ) -> None:
        self._chance = chance
        self._likes = likes
        good = [json_of(like.body) for like in likes]
        self._raw = [like for like, body in zip(likes, good, strict=True) if type(body) is not dict]
        shared = [body for body in good if type(body) is dict]
        self._seeds = [
            [(body, list(places(body))) for body in some] for some in (shared, bodies) if some
        ]
        self._hostile = hostile
        self._carry = carry
        self._headers = [*headers, *HEADERS]

    def request(self) -> Request:
        """Return one more request, with its body before encoding."""
        chance = self._chance
        like = chance.choice(self._likes)
        if self._raw and chance.random() < 0.2:
            made = self._broken(chance.choice(self._raw))
        else:
            made = self._carry(like, self._payload())
            if chance.random() < 0.2:
                made = self._broken(made)
        if chance.random() < 0.1:
            mark = "&" if "?" in made.url else "?"
            made = replace(made, url=made.url + mark + chance.choice(QUERIES))
        if chance.random() < 0.3:
            made = replace(made, headers=self._dressed(made.headers))
        return made

    def packed(self, request: Request) -> bytes:
        """Return *request* as bytes for the connection; sometimes compressed or chunked."""
        turn = self._chance.random()
        headers, body = dict(request.headers), request.body
        if turn < 0.05:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, 1)
        elif turn < 0.08:
            headers["content-encoding"] = self._chance.choice(CODINGS)
        elif turn < 0.1:
            headers["content-encoding"] = "gzip"
            body = self._cut(gzip.compress(body, 1))
        if self._chance.random() < 0.05:
            headers["transfer-encoding"] = "chunked"
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        else:
            headers["content-length"] = str(len(body))
        lines = [f"{request.method} {request.url} HTTP/1.1", "host: kit.example"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape") + body

    def _payload(self) -> Any:
        body, where = self._seed()
        for _ in range(self._chance.choice(TURNS)):
            path = self._chance.choice(where)
            body = changed(body, (path, self._value(body, path)))
        return body

    def _seed(self) -> tuple[Any, list[Path]]:
        """Return a payload and its paths; equally often from a sample and from the types."""
        return self._chance.choice(self._chance.choice(self._seeds))

    def _value(self, body: Any, path: Path) -> Any:
        """Return a replacement for the value in *body* at *path*."""
        turn = self._chance.random()
        if turn < 0.15:
            return GONE
        if turn < 0.55:
            return self._chance.choice(self._hostile)
        other, where = self._seed()
        if turn < 0.75:
            return _at(other, self._chance.choice(where))
        return self._bent(_at(body, path))

    def _bent(self, value: Any) -> Any:
        """Return a slightly changed *value*."""
        odd = self._chance.choice(self._hostile)
        if type(value) is dict:
            keys = [*value, "id", "properties", "__proto__", ""]
            return {**value, self._chance.choice(keys): odd}
        if type(value) is list:
            return [*value, odd, *value]
        if type(value) is str:
            at = self._chance.randint(0, len(value))
            return value[:at] + str(odd)[:50] + value[at:]
        return [value] if type(value) is bool or value is None else -value

    def _broken(self, request: Request) -> Request:
        """Return *request* with bytes of its body removed, repeated or inserted."""
        body = self._cut(request.body)
        if self._chance.random() < 0.7:
            at = self._chance.randint(0, len(request.body))
            piece = self._chance.choice(FRAGMENTS)
            body = request.body[:at] + piece + request.body[at:]
        return replace(request, body=body)

    def _cut(self, body: bytes) -> bytes:
        first, last = sorted(self._chance.randint(0, len(body)) for _ in range(2))
        return self._chance.choice((body[:first], body[:first] + body[last:], body[:last] + body))

    def _dressed(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return *headers* with one removed, changed or added."""
        dressed = dict(headers)
        turn = self._chance.random()
        if turn < 0.4:
            dressed["content-type"] = self._chance.choice(LABELS)
        elif turn < 0.6 and dressed:
            del dressed[self._chance.choice(list(dressed))]
        else:
            dressed[self._chance.choice(self._headers)] = self._chance.choice(VALUES)
        return dressed


def _at(node: Any, path: Path) -> Any:
    """Return the value in *node* at *path*; None if an earlier change removed it."""
    for key in path:
        there = node if type(node) is dict else range(len(node)) if type(node) is list else ()
        if key not in there:
            return None
        node = node[key]
    return node
