"""Where a client's key is found, and how it replaces the placeholder in a request."""

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
import pytest

from gateway.errors import Unrenderable
from gateway.http import Request, with_query_values
from gateway.plugin.client_credentials import (
    check_client_key,
    client_secrets,
    forward_as_sent,
    with_client_key,
)
from plugins.segment.input import SegmentInput
from tests.gateway.config_loading import AcmeInput


class Both(AcmeInput):
    """A vendor with keys in header, body and query."""

    credential_headers = frozenset({"authorization"})
    credential_keys = ("key", "source.id")

    def credential(self, request: Request, payload: Any) -> str | None:
        """Return the header."""
        del payload
        return request.headers.get("authorization")


class InBody(Both):
    """A vendor with a key in the body only."""

    credential_in_body: ClassVar[bool] = True


def request(body: object, headers: Mapping[str, str] | None = None, url: str = "/e") -> Request:
    """Return a client's request."""
    return Request(method="POST", url=url, headers=headers or {}, body=orjson.dumps(body))


def test_every_form_of_a_credential_is_known() -> None:
    """Keys are found in headers, Basic user names, body and query, decoded and encoded."""
    basic = base64.b64encode(b"user-1:pass-1").decode()
    sent = request(
        {"key": 'a"b', "source": {"id": "s-1"}, "other": "public"},
        {"authorization": f"Basic {basic}", "user-agent": "me"},
        "/e?key=q%2F1&other=x",
    )
    found = client_secrets(sent, Both())
    for form in (f"Basic {basic}", basic, "user-1:pass-1", "user-1", "pass-1", 'a\\"b', "s-1"):
        assert form in found
    assert {"q/1", "q%2F1"} <= set(found)
    assert not {"public", "me", "x"} & set(found)
    assert [len(form) for form in found] == sorted(map(len, found), reverse=True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"source": 3, "key": null}'])
def test_odd_bodies_have_no_credential(body: bytes) -> None:
    """A body that is no object, or has another type at the key's path, contains no key."""
    sent = Request(method="POST", url="/e", headers={"authorization": "Basic %%%"}, body=body)
    assert set(client_secrets(sent, Both())) == {
        "Basic %%%",
        "%%%",
        "Basic%20%25%25%25",
        "%25%25%25",
    }


def test_a_placeholder_is_replaced_or_removed() -> None:
    """A placeholder becomes the client's key; where the client sent none, it is removed."""
    rendered = Request(
        method="POST", url="https://v/e", headers={"authorization": "Bearer -", "x": "1"},
        body=orjson.dumps({"key": "-", "source": {"id": "-", "kind": 1}, "a": 1}),
    )  # fmt: skip
    client = request({"key": 7, "source": {"id": "s"}}, {"authorization": "Bearer mine"})
    made = with_client_key(rendered, client, Both())
    assert made.headers == {"authorization": "Bearer mine", "x": "1"}
    assert orjson.loads(made.body) == {"key": 7, "source": {"id": "s", "kind": 1}, "a": 1}
    made = with_client_key(rendered, request({}), Both())
    assert made.headers == {"x": "1"}
    assert orjson.loads(made.body) == {"source": {"kind": 1}, "a": 1}


def test_forms_and_queries_have_credentials_too() -> None:
    """A key from a form or a query replaces the placeholder in JSON, and is a secret."""
    rendered = Request(method="POST", url="https://v/e", body=b'{"key":"-","a":1}')
    form = Request(method="POST", url="/e", body=b"key=mi%20ne&a=1")
    query = Request(method="POST", url="/e?key=mi+ne&a=1")
    for sent in (form, query):
        assert orjson.loads(with_client_key(rendered, sent, Both()).body) == {
            "key": "mi ne",
            "a": 1,
        }
        assert {"mi ne", "mi%20ne"} <= set(client_secrets(sent, Both()))


def test_segments_keys_are_found_in_every_place() -> None:
    """Segment keys are found in pixel data, batch calls and Basic headers, and forwarded."""
    packed = base64.b64encode(b'{"writeKey":"canary-1","userId":"u","event":"e"}').decode()
    pixel = Request(method="GET", url=f"/v1/pixel/track?data={packed}")
    batch = request({"batch": [{"writeKey": "canary-2"}], "deep": [[{"writeKey": "canary-3"}]]})
    basic = base64.b64encode(b"canary-4:").decode()
    header = Request(method="POST", url="/v1/t", headers={"authorization": f"Basic {basic}"})
    reads = SegmentInput()
    assert "canary-1" in client_secrets(pixel, reads)
    assert {"canary-2", "canary-3"} <= set(client_secrets(batch, reads))
    assert {"canary-4", basic} <= set(client_secrets(header, reads))
    rendered = Request(
        method="POST", url="https://v/v1/track", headers={"authorization": "Basic LTo="},
        body=b'{"userId":"u"}',
    )  # fmt: skip
    made = with_client_key(rendered, pixel, reads)
    assert (made.headers, orjson.loads(made.body)) == ({}, {"userId": "u", "writeKey": "canary-1"})
    made = with_client_key(rendered, header, reads)
    assert (made.headers, made.body) == ({"authorization": f"Basic {basic}"}, rendered.body)


def test_a_forwarded_request_is_unchanged() -> None:
    """A request forwarded as sent keeps path, query, stored headers and body."""
    sent = forward_as_sent(request({"a": 1}, {"authorization": "k"}, "/e?x=1"), "https://v/prefix/")
    assert (sent.url, sent.headers, sent.body) == (
        "https://v/prefix/e?x=1", {"authorization": "k"}, b'{"a":1}',
    )  # fmt: skip


def test_a_request_without_the_vendors_key_is_unrenderable() -> None:
    """A request without the destination vendor's key is unrenderable."""
    sent = request({}, {"authorization": "k"})
    check_client_key(sent, "acme", Both())
    check_client_key(request({}), "acme", InBody())
    with pytest.raises(Unrenderable, match="a horn request has no key for acme"):
        check_client_key(sent, "horn", Both())
    with pytest.raises(Unrenderable, match="stored without"):
        check_client_key(request({}), "acme", Both())


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("/a", "/a"),
        ("/a?", "/a?"),
        ("/a?x=1&key=old&y=%2B&&z", "/a?x=1&key=n%20%26&y=%2B&&z"),
        ("/a?key=1&key=2", "/a?key=n%20%26&key=n%20%26"),
        ("/a?key", "/a?key"),
        ("/a?k%65y=1", "/a?k%65y=n%20%26"),
    ],
)
def test_values_are_replaced_in_a_query(url: str, made: str) -> None:
    """Only the named query values change, and are escaped; the rest stays byte for byte."""
    assert with_query_values(url, {"key": "n &", "none": "x"}) == made
