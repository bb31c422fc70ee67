"""A credential in a body is replaced, and nothing else changes."""

import orjson
import pytest

from gateway.mapping.payload import replace_values


@pytest.mark.parametrize(
    ("body", "changes", "after"),
    [
        (b'{ "key" :"old", "n":1.10 }', {"key": "new"}, b'{ "key" :"new", "n":1.10 }'),
        (b'{"source":{"id":"old"},"x":2}', {"source": {"id": "new"}},
         b'{"source":{"id":"new"},"x":2}'),
        (b'{"key":"same","n": 1}', {"key": "same"}, b'{"key":"same","n": 1}'),
        (b'{"n": 12345678901234567890123}', {}, b'{"n": 12345678901234567890123}'),
    ],
)  # fmt: skip
def test_every_other_byte_stays(body: bytes, changes: dict[str, object], after: bytes) -> None:
    """A value that occurs once in the body is replaced in place."""
    assert replace_values(body, changes) == after


@pytest.mark.parametrize(
    ("body", "changes", "after"),
    [
        (b'{"key":"old","other":"old"}', {"key": "new"}, {"key": "new", "other": "old"}),
        (b'{"n":1}', {"key": "new"}, {"n": 1, "key": "new"}),
        (b'{"key":"\\u006fld"}', {"key": "new"}, {"key": "new"}),
        (b'{"key":"\\u006fld","other":"old"}', {"key": "new"}, {"key": "new", "other": "old"}),
        (b'{"source":null}', {"source": {"id": "new"}}, {"source": {"id": "new"}}),
    ],
)
def test_an_ambiguous_value_is_replaced_by_its_key(
    body: bytes, changes: dict[str, object], after: object
) -> None:
    """If the value is not unique in the body, the body is rewritten and only the key changes."""
    assert orjson.loads(replace_values(body, changes)) == after
