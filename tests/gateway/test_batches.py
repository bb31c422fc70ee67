"""`merge_lists` puts the events of two requests into one."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.plugin import Request, dumps, merge_lists

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def request_with(content: Any, /, **more: Any) -> Request:
    """Return an output request whose body is *content*."""
    return replace(
        Request(method="POST", url="https://a.example/x", headers={"k": "v"}, body=dumps(content)),
        **more,
    )


@given(st.lists(JSON), st.lists(JSON), st.dictionaries(st.text(), JSON))
def test_lists_are_joined_in_order(ours: list[Any], theirs: list[Any], around: Any) -> None:
    """The merged body has both lists in order, and nothing else changes."""
    one = request_with({**around, "events": ours})
    other = request_with({**around, "events": theirs})
    merged = merge_lists(one, other, "events")
    assert merged == replace(one, body=merged.body if merged else b"")
    assert merged is not None
    assert orjson.loads(merged.body) == {**orjson.loads(one.body), "events": ours + theirs}


def test_a_list_can_be_nested_in_objects() -> None:
    """A dotted path leads to the list; the values beside the path must be equal."""
    one = request_with({"a": {"b": [1], "c": 2}})
    merged = merge_lists(one, request_with({"a": {"b": [3], "c": 2}}), "a.b")
    assert merged is not None
    assert merged.body == b'{"a":{"b":[1,3],"c":2}}'
    assert merge_lists(one, request_with({"a": {"b": [3], "c": 4}}), "a.b") is None


def test_numbers_stay_as_they_are_written() -> None:
    """Events are copied byte by byte, so that no digit of a number is lost."""
    long = b'{"events":[12345678901234567890123.10, 1.0]}'
    merged = merge_lists(request_with({}, body=long), request_with({"events": [2]}), "events")
    assert merged is not None
    assert merged.body == b'{"events":[12345678901234567890123.10, 1.0,2]}'


@pytest.mark.parametrize(
    "other",
    [
        request_with({"events": [2], "who": "another"}),
        request_with({"events": [2]}),
        request_with({"events": [2], "who": "u", "more": 1}),
        request_with({"events": {"2": 2}, "who": "u"}),
        request_with({"who": "u"}),
        request_with([2]),
        request_with({}, body=b"events=2"),
        request_with({"events": [2], "who": "u"}, url="https://a.example/y"),
        request_with({"events": [2], "who": "u"}, method="PUT"),
        request_with({"events": [2], "who": "u"}, headers={"k": "w"}),
        request_with({"events": [2], "who": "u"}, also=(request_with({}),)),
    ],
)
def test_different_requests_are_not_merged(other: Request) -> None:
    """Requests that differ in anything but the list are not merged."""
    one = request_with({"events": [1], "who": "u"})
    assert merge_lists(one, other, "events") is None
    assert merge_lists(other, one, "events") is None


def test_a_body_keeps_within_its_size() -> None:
    """A merged body stays within ``max_bytes``; without it, any size is allowed."""
    one, whole = request_with({"events": [1]}), len(b'{"events":[1,1]}')
    assert merge_lists(one, one, "events") is not None
    assert merge_lists(one, one, "events", max_bytes=whole) is not None
    assert merge_lists(one, one, "events", max_bytes=whole - 1) is None
