"""Values of the configuration with expressions: checks before any event, and what they build."""

import re
import time
from datetime import UTC, datetime
from typing import Any

import cel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.conditions.export import INTERNAL, exporter
from gateway.conditions.field_uses import FieldUse
from gateway.conditions.first_match import FirstMatch
from gateway.conditions.template import EventCondition, Template
from gateway.errors import Unrenderable
from gateway.event import Context, Event, Page, Product, Properties, Traits
from gateway.event_fields import plain
from gateway.explain.static_losses import full
from gateway.json_text import dumps, loads
from gateway.mapping.losses import filled_fields

AT = datetime(2026, 11, 21, 12, 0, 0, 250000, tzinfo=UTC)
ORDER = Event(
    type="track", name="Order Completed", id="r-0", received_at=AT, timestamp=AT, user_id="u1",
    properties=Properties(
        total=120, currency="EUR",
        products=(
            Product(product_id="1", price=5, extra={"tag": "new"}), Product(product_id="2"),
        ),
        extra={
            "plan": "pro", "tags": ["a", None, "b"], "two words": 1, "nothing": None,
            "deep": {"er": {"y": 1}}, "pairs": [[1, 2], [3]], "sizes": [{"n": 1}, {"m": 2}],
        },
    ),
    context=Context(page=Page(url="https://shop.example/sale"), extra={"os": {"name": "iOS"}}),
    traits=Traits(address={"city": "Oslo"}, age=36),
    consent={"advertising": True},
)  # fmt: skip


def built(raw: Any, event: Event = ORDER) -> Any:
    """Return the value of a template for an event."""
    return Template(raw).build(event)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("=event.user_id", "u1"),
        ("= event.properties.total", 120),
        ("=event.timestamp", "2026-11-21T12:00:00.250Z"),
        ("=unix_seconds(event.timestamp)", 1795262400),
        ("=unix_millis(event.timestamp)", 1795262400250),
        ("=unix_micros(event.timestamp)", 1795262400250000),
        ("=unix_micros(timestamp('2026-11-21T12:00:00.250001Z'))", 1795262400250001),
        ("=unix_seconds(timestamp(string(event.timestamp)) - duration('1s'))", 1795262399),
        ("=unix_seconds(event.timestamp - (event.timestamp - timestamp(string(event.timestamp))))",
         1795262400),
        ("=unix_seconds(has(event.sent_at) ? event.sent_at : timestamp(string(event.timestamp)))",
         1795262400),
        ("=[timestamp(string(event.timestamp))]", ["2026-11-21T12:00:00.250Z"]),
        ("=string(unix_millis(event.timestamp)) + '!'", "1795262400250!"),
        ("=lower(event.name)", "order completed"),
        ("=lower(event.name + ' X')", "order completed x"),
        ("=upper(event.name)", "ORDER COMPLETED"),
        ("=sha256(lower(trim(' John_Smith@gmail.com ')))",
         "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"),
        ("=digits('+1 (650) 555-1212')", "16505551212"),
        ('=letters(" Val D\'Isère 7")', "ValDIsère"),
        ("=replace(event.name, ' ', '_')", "Order_Completed"),
        ("=round(event.properties.total * 0.1 + 0.5)", 13),
        ("=round(-2.5)", -3),
        ("=round(event.properties.total)", 120),
        ("=join(event.properties.products.map(p, p.product_id), ',')", "1,2"),
        ("=join(event.properties.products.map(p, p.price), ' ')", "5"),
        ("=join([event.anonymous_id, event.user_id, 1.5], '/')", "u1/1.5"),
        ("=join(event.properties.tags, '')", "ab"),
        ("=join(event.properties.absent, '')", None),
        ("=[{'x': event.session_id}] + []", [{}]),
        ("=[event.session_id, 1] + event.properties.tags", [1, "a", None, "b"]),
        ("=[{'x': event.properties.total > 1e9 ? 1 : null}] + [2]", [{}, 2]),
        ("=[1].map(i, {'y': i, 'p': {'x': event.session_id}}) + [2]", [{"y": 1, "p": {}}, 2]),
        ("=event.properties.pairs + event.properties.pairs", [[1, 2], [3], [1, 2], [3]]),
        ("=size(event.properties.pairs.filter(p, size(p) > 1) + [event.session_id])", 1),
        ("=event.properties.absent + [1]", None),
        ("='a' + (has(event.session_id) ? 'b' : null)", None),
        ("=(has(event.user_id) ? 1 : null) + 1", 2),
        ("=unix_seconds(event.timestamp) - 60", 1795262340),
        ("=string(true)", "true"),
        ("=string(event.consent.advertising) + '!'", "true!"),
        ("=string(event.received_at)", "2026-11-21T12:00:00.250Z"),
        ("=string(event.properties.total / 1e9)", "0.00000012"),
        ("=string(event.properties.total)", "120"),
        ("=event.name.size()", 15),
        ("=event.properties.tags.exists(t, lower(t) == 'b')", True),
        ("=event.properties.tags.all(t, t == 'a')", False),
        ("=event.properties.products.all(p, p.price > 1.0)", None),
        ("=event.properties.products.exists_one(p, has(p.price))", True),
        ("=event.traits.address.map(key, key)", ["city"]),
        ("=event.consent.map(key, key)", ["advertising"]),
        ("=coalesce(event.session_id, event.properties.total)", 120),
        ("=coalesce(event.session_id, event.context.page)", {"url": "https://shop.example/sale"}),
        ("=coalesce(event.session_id, event.anonymous_id)", None),
        ("=coalesce(event.session_id, 1) + 1", 2),
        ("=coalesce(event.properties.total, 1.0) * 2.0", 240.0),
        ("=coalesce(event.session_id, 'x') + '!'", "x!"),
        ("=left(event.name, 5)", "Order"),
        ("=left('é€x', 2)", "é€"),
        ("=url_encode('a b/é~.-_&')", "a%20b%2F%C3%A9~.-_%26"),
        ("='?' + query({'a b': event.name, 'b': event.session_id, 't': event.properties.tags})",
         "?a%20b=Order%20Completed&t=a&t=b"),
        ("=query({'on': true, 'n': event.properties.total, 'at': event.timestamp})",
         "on=true&n=120&at=2026-11-21T12%3A00%3A00.250Z"),
        ("=query(event.properties.deep.er)", "y=1"),
        ("=json(event.properties.products)",
         '[{"tag":"new","product_id":"1","price":5},{"product_id":"2"}]'),
        ("=json({'a': event.session_id, 'b': event.properties.pairs})", '{"b":[[1,2],[3]]}'),
        ("=json(event.context.page)", '{"url":"https://shop.example/sale"}'),
        ("=json(event.session_id)", None),
        ("=sha256(event.traits.email)", None),
        ("=lower(has(event.anonymous_id) ? event.anonymous_id : event.name)", "order completed"),
        ("=unix_seconds(has(event.sent_at) ? event.sent_at : event.timestamp)", 1795262400),
        ("=event.properties.total > 1.0 ? event.name : null", "Order Completed"),
        ({"a": "=event.properties.total < 1.0 ? event.name : null"}, {}),
        ("=sha256(has(event.name) ? null : event.name)", None),
        ({"*": "=event.traits", "age": 1, "x": "=event.session_id"},
         {"age": 1, "address": {"city": "Oslo"}}),
        ({"*": "=event.context.device"}, {}),
        ({"*": "all"}, {"*": "all"}),
        ("=event.properties.plan", "pro"),
        ('=event.properties["two words"]', 1),
        ("=event.properties.deep.er", {"y": 1}),
        ("=event.context.extra.os.name", "iOS"),
        ("=event.traits.address.city", "Oslo"),
        ("=event.traits.age", 36),
        ("=event.consent", {"advertising": True}),
        ("=event.consent.advertising", True),
        ("=has(event.user_id)", True),
        ("=has(event.anonymous_id)", False),
        ("=event.properties.total * 100.0", 12000.0),
        ("=int(event.properties.total * 100.0)", 12000),
        ("=event.name.startsWith('Order') ? 'order' : 'other'", "order"),
        ("=has(event.anonymous_id) ? event.anonymous_id : event.user_id", "u1"),
        ("=has(event.anonymous_id) || event.properties.total > 1.0", True),
        ("=size(event.properties.products)", 2),
        ("=event.properties.products.map(p, p.product_id)", ["1", "2"]),
        ("=event.properties.products.map(p, {'id': p.product_id, 'n': 1, 't': p.tag})",
         [{"id": "1", "n": 1, "t": "new"}, {"id": "2", "n": 1}]),
        ("=event.properties.products.map(p, has(p.price), p.price * 2.0)", [10.0]),
        ("=event.properties.products.filter(p, has(p.price)).map(p, p.product_id)", ["1"]),
        ("=event.properties.products.filter(p, p.product_id == '2')", [{"product_id": "2"}]),
        ("=event.properties.products.map(p, [p.product_id, p.tag])", [["1", "new"], ["2"]]),
        ("=event.properties.products[0].product_id", "1"),
        ("=event.properties.products[1].tag", None),
        ("=event.properties.products[7].tag", None),
        ("=event.properties.products.exists(p, p.tag == 'new')", True),
        ("=event.properties.products.map(p, p)",
         [{"tag": "new", "product_id": "1", "price": 5}, {"product_id": "2"}]),
        ("=event.properties.tags.map(t, t + '!')", ["a!", "b!"]),
        ("=event.properties.tags.map(t, {'t': t})", [{"t": "a"}, {}, {"t": "b"}]),
        ("=event.properties.sizes.map(s, s.n)", [1]),
        ("=event.properties.pairs.map(a, a.map(b, b))", [[1, 2], [3]]),
        ("=event.properties.pairs[0][1]", 2),
        ("=[event.user_id, event.anonymous_id, 'x']", ["u1", "x"]),
        ("={'a': event.user_id, 'b': event.anonymous_id}", {"a": "u1"}),
        ("=duration('90s')", 90.0),
        ("={'Order Completed': 'purchase'}[event.name]", "purchase"),
        ("={'Signed Up': 'sign_up'}[event.name]", None),
        ("=-1.5", -1.5),
        ("=event.traits", {"age": 36, "address": {"city": "Oslo"}}),
        ("=event.context", {"os": {"name": "iOS"}, "page": {"url": "https://shop.example/sale"}}),
        ("=event.context.device", None),
        ("=event.session_id", None),
        ("=event.properties.nothing", None),
        ("=event.anonymous_id + 'x'", None),
        ("==event", "=event"),
        ("event.user_id", "event.user_id"),
        (5, 5),
    ],
)  # fmt: skip
def test_a_value_is_what_its_expression_says(text: Any, value: Any) -> None:
    """An expression gives a value of any type, from any field of the event."""
    assert built(text) == value
    assert type(built(text)) is type(value)


def test_missing_values_are_left_out_at_every_level() -> None:
    """A missing value leaves its key or its member out, in tables of TOML and of expressions."""
    raw = {
        "id": "=event.user_id",
        "gone": "=event.session_id",
        "list": ["=event.session_id", "=event.name", "plain"],
        "table": {"x": "=event.session_id", "y": {"z": "=event.context.ip"}},
        "same": {"a": [1, {"b": "==c"}]},
    }
    assert built(raw) == {
        "id": "u1",
        "list": ["Order Completed", "plain"],
        "table": {"y": {}},
        "same": {"a": [1, {"b": "=c"}]},
    }


def test_an_event_without_products_has_no_list_of_them() -> None:
    """A list of products is missing, not empty, where the event has none."""
    empty = Event(type="track")
    assert built({"items": "=event.properties.products.map(p, p.sku)"}, empty) == {}
    assert built({"n": "=size(event.properties.products)"}, empty) == {}


def test_numbers_stay_as_they_came() -> None:
    """A copied number keeps its digits and its kind, however long it is."""
    text = b'{"n":12345678901234567890123,"m":1.10,"k":3,"l":[0.30000000000000000001]}'
    event = Event(type="track", properties=Properties(extra=loads(text)))
    raw = {key: f"=event.properties.{key}" for key in "nmkl"}
    assert dumps(built(raw, event)) == dumps(loads(text))


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("=event.usr_id", "column 8: there is no field event.usr_id; did you mean event.user_id?"),
        ("=evnt.name", "column 2: unknown name evnt; did you mean event?"),
        ("=source", "column 2: unknown name source; known: event"),
        ("=event.properties.total + 1", "write 2.0, not 2"),
        ("=coalesce(event.properties.total, 0) * 100", "write 2.0, not 2"),
        ("=coalesce(event.properties.points, 0) + 1", "write 2.0, not 2"),
        ("=(has(event.properties.total) ? event.properties.total : 0) * 100", "write 2.0, not 2"),
        ("=event.name +", "column 14: expected a value, found the end"),
        ("=event + 'x'", "event is not a single field"),
        ("=string(event.context.page)", "event.context.page is not a single field"),
        ("=string(event.properties.products)", "cannot be used with list; write json(...)"),
        ("=event.properties.map(k, k)", "event.properties is not a single field"),
        ("=event.properties.filter(k, true).map(k, k)", "event.properties is not a single field"),
        (
            "=(has(event.name) ? event.properties.tags : []).map(t, t)",
            "write has(x) ? x.map(...) : []",
        ),
        (
            "=sise(event.name)",
            "there is no function sise; did you mean size? Known: all, coalesce,",
        ),
        ("=coalesce()", "must have the form coalesce(VALUE, VALUE, ...)"),
        ("=unix_millis(event.name)", "unix_millis cannot be used with text"),
        ("=unix_milis(event.timestamp)", "did you mean unix_millis?"),
        ({"a": {"b": "=event.nam"}}, "a.b, column 8: there is no field event.nam"),
        ({"a": ["x", "=event.nam"]}, "a item 2, column 8: there is no field event.nam"),
    ],
)
def test_mistakes_are_found_before_any_event_comes(raw: Any, problem: str) -> None:
    """A wrong expression is an error with its place, its column and a hint."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        Template(raw)
    assert problem in str(caught.value)


def test_every_mistake_is_reported() -> None:
    """Each wrong expression of a table has a line of its own."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        Template({"a": "=event.nam", "b": "=evnt"})
    assert [line.partition(",")[0] for line in str(caught.value).splitlines()] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("event.properties.products.map(p, [p.sku, p.name])", "p.sku"),
        ("{'row': [event.type, event.name, 'x']}", "event.name"),
        ("event.properties.products.map(p, [coalesce(p.sku, ''), p.name])", ""),
        ("event.properties.products.map(p, has(p.sku), [p.sku, p.name])", ""),
        ("join([event.user_id, event.name], '/')", ""),
        ("event.name in [event.user_id, event.name]", ""),
    ],
)
def test_a_member_whose_absence_moves_others_is_a_doubt(text: str, moved: str) -> None:
    """A list with a member that may be missing before another gets a warning and its cure."""
    said = " ".join(Template(f"={text}").doubts)
    assert (f"write coalesce({moved}, '')" in said) if moved else not said


def test_near_misses_are_doubts() -> None:
    """A free name that is close to a known one is probably a mistake, but allowed."""
    assert Template("=event.properties.currrency").doubts == (
        "column 2: did you mean event.properties.currency?",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("=event.properties.plan + 1.0", "cannot compute event.properties.plan + 1.0"),
        ("=event.properties.tags.size() > 2.0 && event.properties.plan", "cannot compute"),
        ("='e=' + event.properties['two words']", "string(...) makes a number a text"),
        ("=lower(event.properties.deep)", "cannot compute lower(event.properties.deep)"),
        ("=sha256(event.properties.tags)", "cannot compute sha256(event.properties.tags)"),
        ("=round(event.properties.plan)", "cannot compute round(event.properties.plan)"),
        ("=join(event.properties.sizes, ',')", "cannot compute join(event.properties.sizes, ',')"),
        ("=join(event.properties.plan, ',')", "cannot compute join(event.properties.plan, ',')"),
        ("=double(event.name)", "cannot compute double(event.name)"),
        ("=string(event.properties.tags)", "is a list or table; json(...) writes these"),
        ("=[1] + event.properties.plan", "only a list can be added to a list"),
        ("=query({'a': event.properties.deep})", "is a list or table; json(...) writes these"),
        ("=left(event.name, event.properties.plan)", "is no number from 0"),
        ("=event.properties.tags.exists(t, t)", "its condition is neither true nor false"),
    ],
)
def test_what_cannot_be_computed_is_no_missing_value(text: str, reason: str) -> None:
    """An expression that fails on an event makes it unrenderable, with the expression."""
    with pytest.raises(Unrenderable) as caught:
        built({"x": text})
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["=replace(event.name, '-', event.user_id)", "=join(event.properties.numbers, event.name)"],
)
def test_two_texts_make_none_that_is_far_longer(text: str) -> None:
    """What the sender chose cannot make a text that fills the memory."""
    numbers = Properties(extra={"numbers": list(range(100))})
    event = replace(ORDER, name="-" * 20_000, user_id="y" * 20_000, properties=numbers)
    with pytest.raises(Unrenderable, match="characters, above 1048576"):
        built({"x": text}, event)


def test_only_a_table_has_members_to_give() -> None:
    """What stands at ``*`` must be a table, or be missing."""
    with pytest.raises(Unrenderable, match="is no table"):
        built({"*": "=event.properties.plan"})


def test_own_functions_tell_their_form_and_fields() -> None:
    """A wrong number or type of arguments is a mistake; what is computed with is coerced."""
    for text, said in (
        ("replace(event.name)", "must have the form replace(VALUE, VALUE, VALUE)"),
        ("null", "null never occurs"),
        ("event.name + (has(event.user_id) ? null : 1.0)", "+ cannot be used with"),
        ("join(event.name, ',')", "join cannot be used with text and text"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            Template(f"={text}")
    used = Template({"a": "=join(event.properties.products.map(p, p.sku), ',')"}).uses
    needs = (("properties", "products"),)
    assert used == (FieldUse("a", "properties.products[].sku", exact=False, needs=needs),)
    assert Template({"a": {"*": "=event.context.device", "b": "=event.name"}}).uses == (
        *(FieldUse(f"a.{name}", f"context.device.{name}", exact=True)
          for name in ("id", "type", "manufacturer", "model", "name")),
        FieldUse("a.b", "name", exact=True),
    )  # fmt: skip


COMPARED = {text: Template(f"={text}") for text in (
    "event.properties.total", "event.properties.total + 1.0", "event.user_id + event.name",
    "event.properties.total * 2.0 - 1.0 > 3.0", "event.properties.x * 1e300 * 1e300",
    "event.name + ':' + event.user_id", "event.properties.x + event.properties.x",
    "event.name + 'a' == 'aa'", "event.properties.x < 2.0 ? 'low' : event.name",
    "event.properties.x != 'a'", "event.name < event.user_id + 'b'",
    "event.properties.x == 1 ? event.name : 'other'", "[event.name, event.properties.total]",
    "{'a': event.name, 'b': [event.user_id]}", "event.properties.x > 0.0 || event.name == 'a'",
    "event.properties.products.map(p, p.product_id)",
    "event.properties.products.map(p, {'id': p.product_id, 'double': p.price * 2.0})",
    "event.properties.products.map(p, p.price > 1.0, p.price)",
    "event.properties.products.filter(p, p.price > 1.0).map(p, p.product_id)",
    "event.properties.products.filter(p, p.price > 1.0)", "event.properties.products[0].price",
    "event.properties.products.all(p, p.price < 3.0)", "event.properties.list.map(n, [n, n])",
    "event.properties.list.map(n, event.properties.list.map(m, n + m))", "has(event.properties.x)",
    "event.properties.list.filter(n, n > 0.0)", "size(event.properties.products)",
    "event.properties.list.map(n, n * 2.0) + [event.properties.x]",
    "string(event.properties.total)",
    "[{'a': event.name}] + event.properties.products", "string(event.properties.x)",
    "event.properties.list + event.properties.list", "event.name.size()",
    "event.properties.list.exists(n, n > 0.0)", "event.properties.list.exists_one(n, n > 0.0)",
    "size(event.properties.list.filter(n, n > 0.0) + [1]) > 1", "event.properties",
    "event.properties.products",
)}  # fmt: skip
"""Expressions all of whose values are there."""
NUMBERS = st.floats(-5, 5).map(lambda number: round(number, 2))


@settings(max_examples=50)
@given(
    total=NUMBERS,
    name=st.sampled_from(["a", "b", ""]),
    products=st.lists(st.tuples(st.text("ab", max_size=2), NUMBERS), min_size=1, max_size=4),
    extra=st.fixed_dictionaries({"x": st.integers(-2, 2), "list": st.lists(NUMBERS, max_size=3)}),
)
def test_structure_agrees_with_the_cel_library(
    total: float, name: str, products: list[tuple[str, float]], extra: dict[str, Any]
) -> None:
    """What is built without the library is what the library makes of the whole event."""
    listed = tuple(Product(product_id=product, price=price) for product, price in products)
    held = Properties(total=total, products=listed, extra=extra)
    event = Event(type="track", name=name, user_id="u", properties=held)
    whole = {"event": plain(event)}
    for text, template in COMPARED.items():
        assert plain(template.build(event)) == plain(cel.evaluate(text, whole)), text


def exported(value: Any) -> Any:
    """Return a part of an event for a payload, field by field."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, tuple):
        return [exported(one) for one in value]
    if not hasattr(value, "__struct_fields__"):
        return value
    hidden = INTERNAL if isinstance(value, Event) else {"extra"}
    own = {name: exported(getattr(value, name)) for name in value.__struct_fields__}
    free = {} if isinstance(value, Event) else getattr(value, "extra", {})
    free = {name: one for name, one in free.items() if one is not None}
    kept = {name: one for name, one in own.items() if name not in hidden}
    return free | {name: one for name, one in kept.items() if one not in (None, {}, [])}


def test_a_whole_event_has_each_of_its_fields() -> None:
    """``=event`` writes all that an event has, free fields beside the others."""
    for event in (full("track", "x"), replace(ORDER, session_id="s"), Event(type="page")):
        assert exporter(Event)(event) == exported(event)
        assert built("=event", event) == exported(event)
    assert "extra" not in built("=event", full("track", "x"))


def test_the_fields_in_use_are_known() -> None:
    """A template knows each field that it copies or computes with, and where it is."""
    found = Template(
        {
            "id": "=event.user_id",
            "sum": "=event.properties.total * 2.0",
            "color": "=event.properties.color",
            "first": "=event.properties.products[0].sku",
            "items": "=event.properties.products.map(p, {'n': p.name, 't': p.tag})",
            "kind": "=event.type == 'page' ? 'a' : 'b'",
            "city": "=event.traits.address.city",
            "consent": "=event.consent.ads",
            "page": "=event.context.page",
        }
    ).uses
    assert set(found) >= {
        FieldUse("id", "user_id", exact=True),
        FieldUse("sum", "properties.total", exact=False, needs=(("properties", "total"),)),
        FieldUse("color", "properties.extra.color", exact=True),
        FieldUse("first", "properties.products[0].sku", exact=True),
        FieldUse("items[].n", "properties.products[].name", exact=True),
        FieldUse("items[].t", "properties.products[].extra.tag", exact=True),
        FieldUse("city", "traits.address", exact=False),
        FieldUse("consent", "consent.ads", exact=True),
        FieldUse("page.url", "context.page.url", exact=True),
    }
    assert not any(use.wire == "kind" for use in found), "a condition is not in the payload"


def test_the_whole_event_uses_every_field() -> None:
    """``=event`` counts as using each field that it writes."""
    used = {use.event for use in Template("=event").uses}
    for path, _ in filled_fields(full("track", "x")):
        holder = path.partition(".extra.")[0] + ".extra" if ".extra." in path else path
        holder = "consent" if path.startswith("consent.") else holder
        hidden = path.partition(".")[0] in INTERNAL
        assert (holder in used) != hidden, path


def test_large_inputs_are_refused_quickly() -> None:
    """An expression over more than the library may get fails, and a long list costs little."""
    many = replace(ORDER, properties=Properties(extra={"l": list(range(5000))}))
    with pytest.raises(Unrenderable, match="a list or table has more than 1000 values"):
        built("=1.0 in event.properties.l", many)
    nested = "=event.properties.l.map(n, event.properties.m.exists(m, m == n))"
    for sizes, said in (((1001, 2), "1001 members"), ((2, 101), "101 members")):
        lists = {name: list(range(size)) for name, size in zip("lm", sizes, strict=True)}
        with pytest.raises(Unrenderable, match=f"a list of {said} is too long here"):
            built(nested, replace(ORDER, properties=Properties(extra=lists)))
    with pytest.raises(Unrenderable, match="too long"):
        built("=event.name + 'x'", replace(ORDER, name="n" * 20_000))
    began = time.process_time()
    assert len(built("=event.properties.l.map(n, [n])", many)) == 5000
    assert built("=size(event.properties.l)", many) == 5000
    assert built("=event.properties.l.all(n, n < 1.0)", many) is False
    assert time.process_time() - began < 1


def test_the_first_condition_that_holds_is_found() -> None:
    """Of several conditions the first that holds counts; one that fails is an error."""
    texts = ['event.type == "page"', "event.properties.total > 100.0", None, "event.type == 'x'"]
    match = FirstMatch([None if text is None else EventCondition(text) for text in texts])
    assert match.index(Event(type="page")) == 0
    assert match.index(ORDER) == 1
    assert match.index(replace(ORDER, properties=Properties(total=5))) == 2
    assert FirstMatch([EventCondition("event.properties.total > 1.0")]).index(ORDER) == 0
    assert FirstMatch([EventCondition("event.properties.x > 1.0")]).index(ORDER) is None
    with pytest.raises(ValueError, match=r"event\.properties\.plan > 1\.0: "):
        FirstMatch([EventCondition("event.properties.plan > 1.0")]).index(ORDER)


def test_names_beyond_what_is_remembered_change_nothing() -> None:
    """Events of any number of names are matched alike."""
    match = FirstMatch([EventCondition('event.name == "n7"'), EventCondition("has(event.user_id)")])
    for number in range(3000):
        event = replace(ORDER, name=f"n{number}")
        assert match.index(event) == (0 if number == 7 else 1)
