"""The JSON reader keeps what orjson rejects or rounds."""

import copy
import math
import pickle
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.steps import Hash, Map
from gateway.event import Event, Properties
from gateway.event_fields import plain
from gateway.json_text import (
    LongInteger,
    LongNumber,
    as_valid_json,
    dumps,
    loads,
    not_json,
    query_fields,
    repaired,
)
from gateway.mapping import NUMBER, TEXT
from gateway.mapping.payload import replace_values
from gateway.routing.step_privacy import hash_values
from gateway.routing.step_values import map_value
from gateway.tracking.schema import as_schema_input

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=8,
)
LONG = "18446744073709551617"
OTHER = "18446744073709551618"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\uD83D\uDE00"', "\U0001f600"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\\ud83d"', r"\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'{"\udc00": {"\ud800": [1]}}', {"\ufffd": {"\ufffd": [1]}}),
        (b'"\xed\xa0\xbd"', "\ufffd"),
        (b'"\xed\xa0\xbd\xed\xb8\x80"', "\U0001f600"),
        (b'"\xff\xe2\x82"', "\ufffd\ufffd"),
        (b'"caf\xc3\xa9 \xff"', "caf\u00e9 \ufffd"),
    ],
)
def test_invalid_characters_are_replaced(body: bytes, wanted: Any) -> None:
    """Lone surrogates and invalid UTF-8 become U+FFFD; all other text stays."""
    assert loads(body) == wanted
    assert orjson.loads(as_valid_json(body)) == wanted


@given(JSON)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    """Valid JSON is read and written unchanged, with integers of any length."""
    text = orjson.dumps if not _has_long(value) else dumps
    body = text(_long(value))
    assert dumps(loads(body)) == body
    assert repaired(body) == body


def _has_long(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_long, value.values()))
    if isinstance(value, list):
        return any(map(_has_long, value))
    return type(value) is int and not -(2**63) <= value < 2**64


def _long(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.replace("\ud800", ""): _long(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_long(member) for member in value]
    return LongInteger(str(value)) if _has_long(value) else value


@given(st.integers(-(2**70), 2**70) | st.integers(2**63 - 2, 2**64 + 2))
def test_whole_numbers_keep_their_digits(number: int) -> None:
    """An integer of any length is written as it was read, and as an id keeps its digits."""
    found = loads(b'{"id":%d}' % number)["id"]
    assert TEXT.decode(found) == str(number)
    assert dumps(found) == b"%d" % number


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_decimals_keep_their_digits(number: Any) -> None:
    """A decimal that a double would round keeps its digits; any other is a double."""
    text = format(number, "f")
    found = loads(f"[{text}]")[0]
    if isinstance(found, LongNumber):
        assert str(found) == text
    else:
        assert found == (float(text) if isinstance(found, float) else int(text))


@pytest.mark.parametrize("text", ["1e400", "-1E999", "9" * 400, "9" * 5000, "1." + "1" * 400])
def test_numbers_beyond_doubles_are_numbers(text: str) -> None:
    """A number too large for a double is kept as a free value, and rejected as an amount."""
    found = loads(f'{{"v":{text}}}')
    assert dumps(found) == f'{{"v":{text}}}'.encode()
    if math.isinf(found["v"]):
        with pytest.raises(ValueError, match="finite"):
            NUMBER.decode(found["v"])


@pytest.mark.parametrize("body", [b'{"a":NaN}', b"[-Infinity]", b"[01]", b"[1.]", b'["\xff]', b""])
def test_invalid_json_is_refused_with_its_place(body: bytes) -> None:
    """The error for invalid JSON has line and column, and no text of a library."""
    with pytest.raises(orjson.JSONDecodeError) as caught:
        loads(body)
    said = str(not_json(caught.value))
    assert re.match(r"(not valid JSON at line 1, column \d+$|the body is empty)", said)


@pytest.mark.parametrize("before", range(4))
def test_the_shortest_long_number_is_found_at_any_place(before: int) -> None:
    """A number of 17 characters that a double would round keeps its digits wherever it stands."""
    shortest = "900719925474099.3"
    assert dumps(loads(f"{' ' * before}[{shortest}]")) == f"[{shortest}]".encode()


def test_a_text_that_looks_like_a_long_number_stays_text() -> None:
    """A text that looks like a long number stays a text."""
    body = f'{{"a":{LONG},"b":"{LONG}","c":":{LONG}"}}'
    assert loads(body) == {"a": LongInteger(LONG), "b": LONG, "c": f":{LONG}"}


def test_long_numbers_differ() -> None:
    """Long numbers that are equal as doubles differ, and their copies are equal."""
    one, other = LongInteger(LONG), LongInteger(OTHER)
    assert one != other
    assert copy.deepcopy(one) == one == pickle.loads(pickle.dumps(one))  # noqa: S301 - our own
    assert len({one, other, LongInteger(LONG)}) == 2


@pytest.mark.parametrize("number", [LongInteger(LONG), LongInteger("9" * 400), LongNumber("1e400")])
def test_conditions_and_schemas_see_numbers(number: LongNumber) -> None:
    """Conditions and schemas get a long number as the closest ordinary number."""
    assert type(plain(number)) is float
    event = Event(type="track", properties=Properties(extra={"ref": [number]}))
    (seen,) = as_schema_input(event)["properties"]["ref"]
    assert type(seen) in {int, float}
    assert math.isfinite(seen)


def test_steps_distinguish_long_numbers() -> None:
    """Long numbers that are equal as doubles are hashed and looked up separately."""
    events = [
        Event(type="track", properties=Properties(extra={"ref": LongInteger(text)}))
        for text in (LONG, OTHER)
    ]
    hashed = hash_values(Hash.model_validate({"hash": ["properties.ref"]}))
    assert len({hashed(event).properties.extra["ref"] for event in events}) == 2
    mapped = map_value(Map.model_validate({"map": "properties.ref", "table": {OTHER: "b"}}))
    assert mapped(events[1]).properties.extra["ref"] == "b"
    assert mapped(events[0]).properties.extra["ref"] == LongInteger(LONG)


def test_replacing_a_key_keeps_long_numbers_and_repaired_text() -> None:
    """Replacing a key in a body keeps its long numbers and repaired text."""
    body = as_valid_json(b'{"key":"old","n":%b,"q":"\\ud83d"}' % LONG.encode())
    assert (
        replace_values(body, {"key": "new"})
        == b'{"key":"new","n":%b,"q":"\\ufffd"}' % LONG.encode()
    )


def test_surrogates_are_written_as_the_replacement() -> None:
    """A surrogate in an event's text is written as U+FFFD."""
    assert orjson.loads(dumps({"a\ud800": ["\udfff", LongInteger(LONG)]})) == {
        "a\ufffd": ["\ufffd", float(LONG)]
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("q=%ED%A0%BD", "\ufffd"),
        ("q=%ED%A0%BD%ED%B8%80", "\U0001f600"),
        ("q=%FF", "\ufffd"),
        ("q=\udcff", "\ufffd"),
        ("q=%C3%A9+%41", "\u00e9 A"),
    ],
)
def test_queries_are_read_as_bodies_are(text: str, value: str) -> None:
    """Invalid UTF-8 in a query or form, escaped or raw, becomes U+FFFD."""
    assert query_fields(text) == [("q", value)]
