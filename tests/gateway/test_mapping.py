"""Tables translate in both directions, and invalid tables are errors."""

from datetime import UTC, datetime
from typing import Any, TypedDict

import orjson
import pytest

from gateway.errors import Fault, MappingError, Rejected, Unrenderable
from gateway.event import Context, Event, Page, Product, Properties, Traits
from gateway.mapping import (
    EPOCH_MILLIS,
    EPOCH_SECONDS,
    INTEGER,
    ISO8601,
    NO_FIELD,
    NUMBER,
    TEXT,
    Codec,
    Row,
    Stamp,
    Switch,
    Table,
    constant,
    nested_list,
    nested_object,
    prefixed,
    vocabulary,
)
from gateway.mapping.losses import losses


class Item(TypedDict, total=False):
    """An item of the invented vendor."""

    id: str | int
    price: float | str


class Where(TypedDict, total=False):
    """A place of the invented vendor."""

    url: str


class Payload(TypedDict, total=False):
    """A payload of the invented vendor, with every kind of value."""

    key: str
    what: str
    who: str
    uid: str
    at: int
    where: Where
    items: list[Item]
    events: list[dict[str, Any]]
    traits: dict[str, Any]


ITEM = Table(Item, [Row("id", "product_id", TEXT), Row("price", "price", NUMBER)], into=Product)
ROWS = (
    Row("key", NO_FIELD, required=True),
    Row("what", "name", required=True),
    Row("who|uid", "user_id"),
    Row("at", "timestamp", EPOCH_SECONDS),
    Row("where.url", "context.page.url"),
    Row("items", "properties.products", nested_list(ITEM, bare="id")),
)
TABLE = Table(Payload, ROWS)
STRICT = Table(Payload, ROWS, strict=True)


def read(table: Table | Switch, **payload: Any) -> Event:
    """Return the only event in *payload*."""
    (event,) = table.read(payload)
    return event


def test_a_row_connects_two_paths() -> None:
    """A row reads the value at the vendor's path into the event's path, and writes it back."""
    event = read(TABLE, key="k", what="Bought", who="u", at=86400, where={"url": "https://a/"})
    assert event.name == "Bought"
    assert event.user_id == "u"
    assert event.timestamp == datetime(1970, 1, 2, tzinfo=UTC)
    assert event.context.page.url == "https://a/"
    assert TABLE.write(event) == {
        "what": "Bought",
        "who": "u",
        "at": 86400,
        "where": {"url": "https://a/"},
    }


def test_the_first_synonym_present_is_read_and_the_other_is_kept() -> None:
    """Of two synonyms the first named is read, whatever their order; the other is a leftover."""
    event = read(TABLE, uid="second", key="k", what="x", who="first")
    assert event.user_id == "first"
    assert event.extra == {"uid": "second"}
    assert read(TABLE, key="k", what="x", uid="second").user_id == "second"


@pytest.mark.parametrize(
    ("payload", "path", "fault"),
    [
        ({"what": "x"}, "key", Fault.MISSING),
        ({"key": None, "what": "x"}, "key", Fault.MISSING),
        ({"key": "k", "what": 7}, "what", Fault.TYPE),
        ("no object", "$", Fault.TYPE),
    ],
)
def test_a_required_row_refuses_the_payload(payload: Any, path: str, fault: Fault) -> None:
    """A missing or wrong required field rejects the payload, with its path."""
    with pytest.raises(Rejected) as caught:
        TABLE.read(payload)
    assert caught.value.path == path
    assert caught.value.fault is fault


def test_a_lenient_table_keeps_what_has_the_wrong_type() -> None:
    """An optional field of the wrong type is a leftover; a strict table rejects it."""
    event = read(TABLE, key="k", what="x", who=7, at="soon", where=["?"])
    assert event.user_id is None
    assert event.extra == {"who": 7, "at": "soon", "where": ["?"]}
    for path, value in (("who", 7), ("at", "soon"), ("where", 1)):
        with pytest.raises(Rejected) as caught:
            STRICT.read({"key": "k", "what": "x", path: value})
        assert caught.value.path == path


def test_nested_values_have_tables_of_their_own() -> None:
    """A list becomes a tuple of structs; a plain member is read as an object's id."""
    event = read(TABLE, key="k", what="x", items=[{"id": 7, "price": "1.5", "size": "L"}, "8"])
    assert event.properties.products == (
        Product(product_id="7", price=1.5, extra={"size": "L"}),
        Product(product_id="8"),
    )
    assert TABLE.write(event)["items"] == [{"id": "7", "price": 1.5}, {"id": "8"}]
    assert TABLE.write(event, same=True)["items"][0] == {"size": "L", "id": "7", "price": 1.5}


def test_a_fault_inside_an_array_says_where() -> None:
    """The path of a rejection leads to the list member."""
    strict = Table(Item, [Row("price", "price", NUMBER)], into=Product, strict=True)
    table = Table(Payload, [Row("items", "properties.products", nested_list(strict))])
    with pytest.raises(Rejected) as caught:
        table.read({"items": [{"price": 1}, {"price": "dear"}]})
    assert caught.value.path == "items.1.price"


def test_one_event_per_product_where_the_table_says_so() -> None:
    """With ``split_products`` each product becomes an event, with numbered ids."""
    table = Table(Payload, ROWS, event="Product Viewed", split_products=True)
    events = table.read(
        {"key": "k", "what": "Product Viewed", "items": [{"id": "a"}, {"id": "b"}]},
        Stamp("vendor", "r1"),
    )
    assert [e.properties.products[0].product_id for e in events] == ["a", "b"]
    assert [e.id for e in events] == ["r1-0", "r1-1"]
    assert {e.origin for e in events} == {"vendor"}


INNER = Table(Payload, [Row("what", "name", required=True), Row("who", "user_id")])
OUTER = Table(Payload, [Row("key", NO_FIELD), Row("uid", "anonymous_id")], items=("events", INNER))


def test_a_table_carries_a_list_of_events() -> None:
    """Fields around a list of events hold for each event; leftovers belong to one event."""
    first, second = OUTER.read(
        {"uid": "a", "v": 1, "events": [{"what": "x", "n": 1}, {"what": "y", "who": "u"}]}
    )
    assert (first.name, first.anonymous_id, first.user_id) == ("x", "a", None)
    assert (second.name, second.anonymous_id, second.user_id) == ("y", "a", "u")
    assert first.extra == {"v": 1, "events": [{"n": 1}]}
    assert second.extra == {"v": 1}
    assert OUTER.write(second) == {"uid": "a", "events": [{"what": "y", "who": "u"}]}


@pytest.mark.parametrize(
    ("events", "path"), [(None, "events"), ({}, "events"), ([{}], "events.0.what")]
)
def test_a_list_of_events_is_required(events: Any, path: str) -> None:
    """A missing or wrong list of events rejects the payload, with the path."""
    with pytest.raises(Rejected) as caught:
        OUTER.read({"events": events})
    assert caught.value.path == path


def test_a_star_takes_what_no_row_claims() -> None:
    """A ``*`` row reads and writes the keys that no other row maps."""
    rows = prefixed("traits", "traits", [Row("email", "email"), Row("*", "extra")])
    table = Table(Payload, list(rows))
    event = read(table, traits={"email": "a@b.example", "city": "Oslo", "none": None})
    assert event.traits == Traits(email="a@b.example", extra={"city": "Oslo"})
    assert table.write(event) == {"traits": {"email": "a@b.example", "city": "Oslo"}}


def test_a_literal_is_written_and_never_read() -> None:
    """A constant is written into the payload, and ignored on reading."""
    table = Table(Payload, [Row("what", NO_FIELD, constant("view"))], event="Product Viewed")
    assert read(table, what="anything").name == "Product Viewed"
    assert table.write(Event(type="track", name="Product Viewed")) == {"what": "view"}


def test_a_switch_picks_the_table_by_the_vendors_word() -> None:
    """A switch selects its table by the vendor's word on reading, by the event on writing."""
    viewed = Table(Payload, [Row("what", NO_FIELD, constant("view"))], event="Product Viewed")
    known = Table(Payload, [Row("what", NO_FIELD, constant("me"))], event="identify")
    switch = Switch("what", {"view": viewed, "me": known})
    assert read(switch, what="view").name == "Product Viewed"
    assert read(switch, what="me").type == "identify"
    assert switch.table_for(Event(type="track", name="Product Viewed")) is viewed
    assert switch.table_for(Event(type="identify")) is known
    assert switch.table_for(Event(type="track", name="Other")) is None
    for word in ("other", 7, ["view"]):
        with pytest.raises(Rejected):
            switch.read({"what": word})


@pytest.mark.parametrize("name", ["page", "identify", "Product Viewed"])
def test_an_event_named_like_a_type_is_any_other_event(name: str) -> None:
    """A track event named "page" is written by the table for other events."""
    page = Table(Payload, [Row("what", NO_FIELD, constant("page"))], event="page")
    other = Table(Payload, [Row("what", "name", required=True)])
    switch = Switch("what", {"page": page}, otherwise=other)
    assert switch.table_for(Event(type="page")) is page
    assert switch.table_for(Event(type="track", name=name)) is other


def test_a_vocabulary_names_the_events_of_a_shared_table() -> None:
    """One table may serve several of the vendor's words, which a codec translates."""
    words = vocabulary(
        {"seen": "Product Viewed", "looked-at": "Product Viewed", "put": "Product Added"}
    )
    table = Table(Payload, [Row("what", "name", words, required=True)])
    switch = Switch("what", {"seen": table, "put": table}, vocabulary=words, otherwise=None)
    event = read(switch, what="put")
    assert event.name == "Product Added"
    found = switch.table_for(event)
    assert found is table
    assert found.write(event) == {"what": "put"}
    assert table.write(Event(type="track", name="Product Viewed")) == {"what": "seen"}


def test_an_event_without_a_required_field_cannot_be_written() -> None:
    """An event without a required field is unrenderable; the error names both fields."""
    with pytest.raises(Unrenderable, match=r"name: required by what"):
        TABLE.write(Event(type="track"))


@pytest.mark.parametrize(
    "row",
    [
        Row("waht", "name"),
        Row("what", "nmae"),
        Row("what", "context.page.uri"),
        Row("at", "name"),
        Row("what", "timestamp"),
        Row("traits.*", "name"),
        Row("what", "traits.extra.deep.er"),
        Row("items", "traits", nested_list(ITEM)),
    ],
    ids=lambda row: f"{row.wire}-{row.event}",
)
def test_a_misspelt_row_is_an_error_at_import(row: Row) -> None:
    """Both paths of a row are checked against their types when the table is made."""
    with pytest.raises(MappingError):
        Table(Payload, [row])


def test_two_kinds_of_rows_for_the_products_stop_the_import() -> None:
    """A table does not fill the products from a list and from single fields: one would be lost."""
    listed = Row("items", "properties.products", nested_list(ITEM))
    single = Row("what", "properties.products[0].name")
    with pytest.raises(MappingError, match=r"'what' to '.*name': the row 'items' fills"):
        Table(Payload, [listed, single])
    assert Table(Payload, [listed]).rows == (listed,)
    assert Table(Payload, [single]).rows == (single,)


@pytest.mark.parametrize(
    ("codec", "theirs", "ours", "back"),
    [
        (TEXT, 7, "7", "7"),
        (NUMBER, "1.50", 1.5, 1.5),
        (NUMBER, " 3 ", 3, 3),
        (NUMBER, "18446744073709551615", 2**64 - 1, 2**64 - 1),
        (NUMBER, "18446744073709551616", 2.0**64, 2.0**64),
        (INTEGER, "4", 4, 4),
        (EPOCH_SECONDS, 86400, datetime(1970, 1, 2, tzinfo=UTC), 86400),
        (EPOCH_MILLIS, 1500, datetime(1970, 1, 1, 0, 0, 1, 500000, UTC), 1500),
        (ISO8601, "1970-01-02", datetime(1970, 1, 2, tzinfo=UTC), "1970-01-02T00:00:00.000Z"),
        (ISO8601, "1970-01-02T01:00:00+01:00", datetime(1970, 1, 2, tzinfo=UTC),
         "1970-01-02T00:00:00.000Z"),
    ],
)  # fmt: skip
def test_a_codec_is_a_pair_of_inverse_functions(
    codec: Codec, theirs: Any, ours: Any, back: Any
) -> None:
    """A codec decodes a vendor's value, and encodes it in the vendor's first form."""
    assert codec.decode(theirs) == ours
    assert codec.encode(ours) == back


@pytest.mark.parametrize(
    ("codec", "bad"),
    [(NUMBER, "dear"), (NUMBER, "nan"), (NUMBER, "inf"), (NUMBER, "9" * 400), (INTEGER, 1.5),
     (INTEGER, 1e30), (INTEGER, "9" * 30), (EPOCH_SECONDS, 1e300), (ISO8601, "tomorrow")],
)  # fmt: skip
def test_a_codec_calls_bad_input_a_value_error(codec: Codec, bad: Any) -> None:
    """A value that cannot be decoded raises ValueError."""
    with pytest.raises(ValueError, match=r"."):
        codec.decode(bad)


@pytest.mark.parametrize("text", [str(2**64), str(-(2**63) - 1), "9" * 300])
def test_a_number_beyond_64_bits_is_a_double(text: str) -> None:
    """An integer in a text that exceeds 64 bits becomes a double, as in plain JSON."""
    number = NUMBER.decode(text)
    assert number == orjson.loads(text)
    assert orjson.loads(orjson.dumps(number)) == number


def test_fields_without_a_row_are_lost() -> None:
    """A field that no row writes is lost; one that cannot be read back exactly is coerced."""
    event = Event(
        type="track",
        name="x",
        timestamp=datetime(1970, 1, 2, 0, 0, 0, 500000, UTC),
        session_id="s",
        properties=Properties(products=(Product(product_id="1", brand="b"),), extra={"k": 1}),
        context=Context(page=Page(url="https://a/", title="t")),
    )
    found = {loss.path: loss.how for loss in losses(event, TABLE.said(event), same=False)}
    assert found == {
        "timestamp": "coerced",
        "session_id": "lost",
        "properties.products[].brand": "lost",
        "properties.extra.k": "lost",
        "context.page.title": "lost",
    }


def test_a_table_of_one_product_loses_the_others() -> None:
    """A table for one product reports all further products as lost."""
    table = Table(Item, [Row("id", "properties.products[0].product_id", TEXT)])
    event = Event(
        type="track",
        name="x",
        properties=Properties(products=(Product(product_id="1"), Product(product_id="2"))),
    )
    assert table.write(event) == {"id": "1"}
    assert [loss.path for loss in losses(event, table.said(event), same=False)] == [
        "properties.products[1:]"
    ]


def test_a_single_object_has_a_table_too() -> None:
    """A nested object becomes a struct; its unknown keys become the struct's extra."""
    inner = Table(Item, [Row("id", "title", TEXT)], into=Traits)
    table = Table(Payload, [Row("traits", "traits", nested_object(inner))])
    event = read(table, traits={"id": 7, "more": 1})
    assert event.traits == Traits(title="7", extra={"more": 1})
    assert table.write(event) == {"traits": {"id": "7"}}
    assert table.write(event, same=True) == {"traits": {"more": 1, "id": "7"}}
