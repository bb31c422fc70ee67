"""Generated readers have the same result as a walk over the payload."""

import linecache
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.errors import Rejected
from gateway.event import Event, Product, Traits
from gateway.http import Request
from gateway.json_text import dumps
from gateway.mapping import (
    INTEGER,
    ISO8601,
    MONEY,
    NO_FIELD,
    NUMBER,
    TEXT,
    Codec,
    EventMapping,
    Row,
    Stamp,
    Table,
    constant,
    nested_list,
    nested_object,
)
from gateway.mapping.compiled_reader import ALONE
from gateway.plugin.registry import load_plugins
from gateway.plugin.vendor import Input
from gateway.testing.samples import ARRIVAL, json_of, load_samples, request_of
from gateway.testing.strategies import ANYTHING, bodies, spoilt
from tests.example_plugins.acme.acme.input import AcmeInput
from tests.example_plugins.amplitude.amplitude.input import AmplitudeInput
from tests.gateway import table_interpreter

ROOT = Path(__file__).parents[1]
FOLDERS = {
    **{name: ROOT / "vendors" / name for name in load_plugins().formats},
    "acme": ROOT / "example_plugins" / "acme" / "samples",
    "amplitude": ROOT / "example_plugins" / "amplitude" / "samples",
}
INPUTS: dict[str, Input] = {
    **{name: load_plugins().inputs[name]() for name in load_plugins().formats},
    "acme": AcmeInput(),
    "amplitude": AmplitudeInput(),
}
ENDPOINTS: dict[str, EventMapping] = {
    label: mapped
    for mapped, label in {
        mapped: f"{name} {endpoint}"
        for name, reads in INPUTS.items()
        for endpoint, mapped in reads.endpoints.items()
    }.items()
}
"""Each mapping of the vendors' endpoints once."""
STAMP = Stamp("vendor", "r", ARRIVAL)


class Outcome(NamedTuple):
    """What reading leads to: events with the order of their unmapped fields, or an error."""

    events: list[Event]
    keys: Any = None
    error: Any = None


def outcome(read: Any, *arguments: Any) -> Outcome:
    """Return what *read* leads to.

    A switch of a vendor may fail for a payload that the vendor's input would not give it.
    """
    try:
        events = read(*arguments)
    except Rejected as error:
        return Outcome([], None, (error.path, error.reason, error.fault, error.value))
    except (AttributeError, KeyError) as error:
        return Outcome([], None, repr(error))
    return Outcome(events, [_ordered((event.extra, event.context.extra)) for event in events])


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, _ordered(below)) for key, below in value.items()]
    return [_ordered(one) for one in value] if isinstance(value, list | tuple) else value


def compare(mapped: EventMapping, payload: Any, stamp: Stamp = STAMP) -> Outcome:
    """Read *payload* in both ways; both lead to the same, which is returned."""
    found = outcome(mapped.read, payload, stamp)
    assert found == outcome(table_interpreter.read, mapped, payload, stamp)
    return found


def read_by_tables(reads: Input, request: Request) -> list[tuple[Table, Any, Stamp]]:
    """Return the tables that read *request*, each with its payload and stamp."""
    found = []
    plain = Table.read

    def read(table: Table, payload: Any, stamp: Stamp, *rest: Any) -> list[Event]:
        if not rest or rest == (0, ALONE):
            found.append((table, payload, stamp))
        return plain(table, payload, stamp, *rest)

    with pytest.MonkeyPatch.context() as patch, suppress(Rejected):
        patch.setattr(Table, "read", read)
        reads.parse(request)
    return found


@pytest.mark.parametrize("vendor", INPUTS)
def test_samples_are_read_the_same(vendor: str) -> None:
    """A reader makes the events of each sample that the walk makes."""
    for sample in load_samples(FOLDERS[vendor]).values():
        reads = read_by_tables(INPUTS[vendor], request_of(sample))
        assert reads
        for table, payload, stamp in reads:
            assert compare(table, payload, stamp).events


@pytest.mark.parametrize("vendor", INPUTS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_corrupted_samples_are_read_the_same(vendor: str, data: st.DataObject) -> None:
    """For a sample with hostile values, a reader has the events or the error of the walk."""
    sample = data.draw(st.sampled_from([*load_samples(FOLDERS[vendor]).values()]))
    request = request_of(sample)
    if request.body:
        body = data.draw(spoilt(json_of(request.body)))
        request = replace(request, body=dumps(body))
    for table, payload, stamp in read_by_tables(INPUTS[vendor], request):
        compare(table, payload, stamp)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_payloads_of_every_type_are_read_the_same(endpoint: str, data: st.DataObject) -> None:
    """For payloads that the types allow, and others, a reader has the result of the walk."""
    mapped = ENDPOINTS[endpoint]
    payload = data.draw(bodies(mapped))
    compare(mapped, payload)
    compare(mapped, data.draw(spoilt(payload)))


class Place(TypedDict, total=False):
    """A nested object of the invented vendor."""

    id: str | int
    price: float | str
    label: str


class Odd(TypedDict, total=False):
    """A payload of the invented vendor."""

    a: str
    b: str
    when: str
    count: int
    cost: float | str
    flag: bool
    free: dict[str, Any]
    inner: Place
    list: list[Place]
    address: dict[str, Any]


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


INNER = Table(Place, [
    Row("id", "product_id", TEXT, required=True), Row("price", "price", MONEY),
    Row("label", "extra.label"),
], into=Product)  # fmt: skip
PERSON = Table(Place, [Row("id", "title", TEXT), Row("label", "name")], into=Traits, strict=True)
ROWS = (
    Row("a|b|free.a", "user_id"),
    Row("b", "group_id"),
    Row("b", NO_FIELD, required=True),
    Row("a", "name", required=True),
    Row("free.name|a", "name"),
    Row("free.deep.id", "session_id", TEXT),
    Row("when", "timestamp", ISO8601),
    Row("when", "sent_at", ISO8601, required=True),
    Row("count", "properties.extra.count", Codec("even", _even, _even, (int,))),
    Row("count", "properties.value", INTEGER),
    Row("cost", "properties.total", MONEY),
    Row("cost", "properties.revenue", NUMBER, required=True),
    Row("flag", "consent.email"),
    Row("flag", "extra.flag"),
    Row("flag", NO_FIELD, constant(1)),
    Row("free", "consent", Codec("all", lambda found: found, lambda found: found, (dict,))),
    Row("free.*", "properties.extra"),
    Row("free.*", "context.extra"),
    Row("*", "traits.extra"),
    Row("inner", "traits", nested_object(PERSON)),
    Row("inner.label", "traits.email"),
    Row("inner.id", "context.device.id", TEXT),
    Row("address", "traits.address"),
    Row("address.city", "traits.extra.city"),
    Row("address.*", "context.extra"),
)
"""Rows of any shape, some with the same keys or the same fields."""
PRODUCTS = (
    Row("list", "properties.products", nested_list(INNER, bare="id")),
    Row("list", "properties.products", nested_list(INNER), required=True),
    Row("cost", "properties.products[0].price", NUMBER),
    Row("a", "properties.products[0].extra.size"),
)
"""Rows for the products: of a list, or of one product."""


def tables() -> st.SearchStrategy[Table]:
    """Return tables with any of these rows, some around a list of events."""
    rows = st.lists(st.sampled_from(ROWS), unique=True, max_size=8).flatmap(
        lambda some: st.sampled_from([(), *((one,) for one in PRODUCTS), PRODUCTS[2:]]).map(
            lambda more: [*some, *more]
        )
    )
    plain = st.builds(
        lambda rows, strict, split, event: Table(
            Odd, rows, strict=strict, split_products=split, event=event
        ),
        rows, st.booleans(), st.booleans(), st.sampled_from(["track", "Order Completed", "page"]),
    )  # fmt: skip
    around = st.lists(st.sampled_from(ROWS), unique=True, max_size=4)
    return st.recursive(
        plain,
        lambda inner: st.builds(
            lambda rows, strict, table: Table(Odd, rows, strict=strict, items=("list", table)),
            around, st.booleans(), inner,
        ),
        max_leaves=2,
    )  # fmt: skip


def _payloads() -> st.SearchStrategy[Any]:
    texts = st.sampled_from(["", "x", "7", "1.5", "2026-01-02", "soon"])
    values = st.none() | texts | st.integers(-3, 3) | st.booleans() | st.just(1.5)
    keys = st.sampled_from([*Odd.__annotations__, *Place.__annotations__, "city", "deep", "name"])
    some = st.recursive(
        values,
        lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=8),
        max_leaves=25,
    )
    return st.dictionaries(keys, some, max_size=8) | ANYTHING


@settings(deadline=None, max_examples=500)
@given(table=tables(), payload=_payloads())
def test_any_table_reads_like_the_walk(table: Table, payload: Any) -> None:
    """Whatever the rows of a table are, its reader has the result of the walk."""
    compare(table, payload)


def test_a_row_counts_more_than_a_free_key() -> None:
    """A mapping has the value of its row, although another free key has the same name."""
    table = Table(Odd, [Row("address.city", "traits.extra.city"), Row("*", "traits.extra")])
    for payload in ({"city": "b", "address": {"city": "a"}}, {"address": {"city": "a"}, "city": 1}):
        (event,) = compare(table, {**payload, "more": 2}).events
        assert event.traits.extra == {"city": "a", "more": 2}


def test_a_member_of_a_list_counts_more_than_what_is_around() -> None:
    """Each event has the fields and free keys around it, and its own instead where it has them."""
    inner = Table(Odd, [Row("a", "user_id"), Row("address.*", "properties.extra")])
    rows = [Row("a", "user_id"), Row("b", "group_id"), Row("free.*", "properties.extra")]
    outer = Table(Odd, rows, items=("list", inner))
    members = [{"a": "in", "address": {"x": 3}}, {}]
    first, second = compare(
        outer, {"a": "out", "b": "g", "free": {"x": 1, "y": 2}, "list": members}
    ).events
    assert (first.user_id, first.group_id, first.properties.extra) == ("in", "g", {"x": 3, "y": 2})
    assert (second.user_id, second.properties.extra) == ("out", {"x": 1, "y": 2})


def test_lists_of_events_in_lists_have_all_that_is_around() -> None:
    """An event in a list within a list has the fields and free keys around both."""
    innermost = Table(Odd, [Row("a", "user_id")])
    inner = Table(Odd, [Row("free.*", "properties.extra")], items=("list", innermost))
    outer = Table(
        Odd,
        [Row("b", "group_id"), Row("free.*", "properties.extra")],
        items=("list", inner),
    )
    members = [{"free": {"x": 2}, "list": [{"a": "u", "left": 1}]}]
    payload = {"b": "g", "free": {"x": 1, "y": 1}, "list": members}
    (event,) = compare(outer, payload).events
    assert (event.user_id, event.group_id) == ("u", "g")
    assert event.properties.extra == {"x": 2, "y": 1}
    assert event.extra == {"list": [{"list": [{"left": 1}]}]}


def test_a_nested_object_stays_where_no_row_reads_its_fields() -> None:
    """The struct of a nested object stays if the rows for its fields find none."""
    rows = [Row("inner", "traits", nested_object(PERSON)), Row("inner.label", "traits.email")]
    (event,) = compare(Table(Odd, rows), {"inner": {"id": 1}}).events
    assert event.traits == Traits(title="1")


def test_fields_of_the_unmapped_are_kept_with_the_others() -> None:
    """A row may fill a key of ``Event.extra``, beside the unmapped fields."""
    table = Table(Odd, [Row("flag", "extra.flag")])
    assert compare(table, {"more": 1, "flag": True}).events[0].extra == {"flag": True, "more": 1}


def test_of_two_rows_with_one_field_the_later_counts() -> None:
    """Of two rows with one field of the event, the later one is read, whatever the keys' order."""
    table = Table(Odd, [Row("b", "user_id"), Row("a", "user_id")])
    for payload in ({"a": "x", "b": "y"}, {"b": "y", "a": "x"}):
        (event,) = compare(table, payload).events
        assert (event.user_id, event.extra) == ("x", {})


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"a": [], "inner": {"id": 1, "label": []}}, "a"),
        ({"inner": {"id": 1, "label": []}, "a": []}, "inner.label"),
        ({"flag": [], "count": [], "inner": []}, "flag"),
        ({"inner": [], "count": "x"}, "inner"),
    ],
)
def test_the_first_fault_of_the_payload_is_reported(payload: Any, path: str) -> None:
    """Of several values that the vendor refuses, the error has the first one in the payload."""
    rows = [
        Row("a", "name"),
        Row("count", "properties.value"),
        Row("inner.label", "user_id"),
        Row("flag", NO_FIELD),
    ]
    with pytest.raises(Rejected) as caught:
        Table(Odd, rows, strict=True).read(payload)
    assert caught.value.path == path


def test_a_codec_is_not_asked_for_what_it_leaves_unchanged() -> None:
    """The values that a codec says it leaves unchanged are what it returns for them."""
    rows = [
        row for reads in INPUTS.values() for one in reads.endpoints.values() for row in one.flat()
    ]
    codecs = {row.codec for row in rows if row.codec.keeps}
    assert {TEXT, NUMBER, MONEY} <= codecs
    values: dict[type, list[Any]] = {
        str: ["", "x", " 1 "],
        int: [0, -1, 2**64 - 1],
        float: [0.0, -1.5, 1e300],
    }
    for codec in codecs:
        for kind in codec.keeps:
            assert all(codec.decode(value) is value for value in values[kind])


def test_a_traceback_shows_the_line_of_a_reader() -> None:
    """The traceback of a failed codec shows the generated line that calls it."""

    def fail(_: Any) -> str:
        raise RuntimeError("failed")

    table = Table(Odd, [Row("a", "name", Codec("broken", fail, fail, (str,)))])
    try:
        table.read({"a": "x"})
    except RuntimeError as error:
        frame = traceback.extract_tb(error.__traceback__)[-2]
    assert "reader of Odd" in frame.filename
    assert "new_name = decode" in linecache.getline(frame.filename, frame.lineno or 0)
