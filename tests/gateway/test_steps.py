"""The steps of routes: what each does to an event, and that nothing else is touched."""

import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.steps import STEPS, StepConfig
from gateway.errors import Unrenderable
from gateway.event import Context, Event, Product, Properties, Traits, as_json
from gateway.routing.steps import CHANGES, FILTERS, StepChain
from gateway.testing.samples import EVENTS

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EVENT = Event(
    type="track", name="Product Viewed", id="r-0", message_id="m1", received_at=AT, timestamp=AT,
    user_id="u1", anonymous_id="a1", session_id="s1",
    traits=Traits(email=" Ada@Shop.Example ", phone="+44 (0)20 7946 0000", extra={"plan": "pro"}),
    properties=Properties(
        total=10.5, coupon="MAY", category="shoes",
        products=(Product(product_id="1", brand="Acme", extra={"tag": "x"}), Product(price=2)),
        extra={"deep": {"a": 1, "b": 2}, "emails": ["A@b.c", "d@e.f"], "n": 5, "flag": True},
    ),
    context=Context(ip="192.0.2.77", user_agent="Mozilla", extra={"os": {"name": "iOS"}}),
    consent={"ads": True, "mail": False},
    extra={"user_mail": "ada@shop.example"},
    origin="acme",
)  # fmt: skip


def step(**keys: Any) -> StepConfig:
    """Return a step, written as in the configuration."""
    (word,) = (key for key in keys if key in STEPS)
    return STEPS[word].model_validate(keys)


def after(event: Event = EVENT, **keys: Any) -> dict[str, Any]:
    """Return what one step makes of an event, as JSON."""
    found: dict[str, Any] = as_json(StepChain("r", [step(**keys)]).apply(event))
    return found


def changed(**keys: Any) -> dict[str, Any]:
    """Return what one step changes: the new values by path, None for what is gone."""
    before, now = _flat(as_json(EVENT)), _flat(after(**keys))
    return {path: now.get(path) for path in before | now if before.get(path) != now.get(path)}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {
            k: v for name, held in value.items() for k, v in _flat(held, f"{path}.{name}").items()
        }
    if isinstance(value, list) and value:
        return {k: v for n, held in enumerate(value) for k, v in _flat(held, f"{path}.{n}").items()}
    return {path[1:]: value}


GONE = {"extra.user_mail": None}
"""Leftovers that each step that hides a value removes as well."""


def taken(table: dict[str, Any], event: Event) -> Event:
    """Return what one step makes of an event."""
    return StepChain("r", [step(**table)]).apply(event)


def digest(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_every_step_is_there() -> None:
    """Every configurable step is implemented as a change or as a filter."""
    assert {*CHANGES, *FILTERS} == set(STEPS.values())


def test_rename_by_map_and_by_glob() -> None:
    """Exact names are tried first, then patterns in order; a star keeps the matched text."""
    names = {"Product *": "Item *", "Product Viewed": "Seen", "* (?)": "*", "[XY]*": "letter *"}
    for old, new in {
        "Product Viewed": "Seen", "Product Added": "Item Added", "Order (1)": "Order",
        "Xylophone": "letter ylophone", "other": "other",
    }.items():  # fmt: skip
        event = msgspec.structs.replace(EVENT, name=old)
        assert after(event, rename=names)["name"] == new
    assert after(Event(type="identify"), rename={"*": "x"}) == {
        "type": "identify", "received_at": "1970-01-01T00:00:00Z",
    }  # fmt: skip


def test_a_name_cannot_make_a_pattern_search_for_long() -> None:
    """Pattern matching takes linear time, for any name and any number of stars."""
    began = time.process_time()
    event = Event(type="track", name="a" * 50_000)
    assert after(event, rename={"*a*a*a*a*b": "x"})["name"] == event.name
    assert after(event, rename={"*a*b*": "x", "*a*": "* and *"})["name"].startswith(" and a")
    assert time.process_time() - began < 1


def test_set_and_default() -> None:
    """``set`` overwrites a value, ``default`` does not; both create missing fields."""
    values = {"properties.total": 7, "properties.new.deeper": "x", "context.channel": "web"}
    made = {"properties.extra.new.deeper": "x", "context.channel": "web"}
    assert changed(set=values) == {"properties.total": 7.0, **made}
    assert changed(default=values) == made
    assert changed(set={"name": "Other", "user_id": "u2"}) == {"name": "Other", "user_id": "u2"}


def test_copy_leaves_the_source_and_fits_the_target() -> None:
    """``copy`` keeps the source, and skips a value that is missing or has the wrong type."""
    assert changed(copy={"traits.plan": "properties.category"}) == {"properties.category": "pro"}
    assert changed(copy={"properties.n": "properties.total"}) == {"properties.total": 5}
    assert changed(copy={"properties.flag": "properties.total"}) == {}
    assert changed(copy={"traits.absent": "properties.category"}) == {}


def test_drop_removes_fields_and_whole_parts() -> None:
    """``drop`` removes fields, also within lists and tables, and whole parts."""
    assert changed(drop=["properties.coupon", "properties.deep.a"]) == {
        "properties.coupon": None, "properties.extra.deep.a": None, **GONE,
    }  # fmt: skip
    assert changed(drop=["properties.products.*.brand", "properties.products.*.tag"]) == {
        "properties.products.0.brand": None, "properties.products.0.extra.tag": None, **GONE,
    }  # fmt: skip
    left = after(drop=["traits", "context", "properties", "consent", "timestamp"])
    assert left == {
        "type": "track", "name": "Product Viewed", "id": "r-0", "message_id": "m1",
        "received_at": "2026-11-21T12:00:00Z", "user_id": "u1", "anonymous_id": "a1",
        "session_id": "s1", "origin": "acme",
    }  # fmt: skip


def test_keep_removes_what_it_does_not_name() -> None:
    """``keep`` removes all unnamed properties, traits, context, consent and extra."""
    left = after(keep=["properties.total", "properties.products.*.product_id", "properties.deep.b",
                       "traits.plan", "context.extra.os", "consent.ads"])  # fmt: skip
    assert left["properties"] == {
        "total": 10.5, "products": [{"product_id": "1"}, {}], "extra": {"deep": {"b": 2}},
    }  # fmt: skip
    assert left["traits"] == {"extra": {"plan": "pro"}}
    assert left["context"] == {"extra": {"os": {"name": "iOS"}}}
    assert left["consent"] == {"ads": True}
    assert "extra" not in left
    assert left["user_id"] == "u1"
    assert after(keep=["traits", "extra.user_mail"])["extra"] == {"user_mail": "ada@shop.example"}


def test_hash_normalises_as_ad_platforms_ask() -> None:
    """E-mail addresses are trimmed and lower-cased, phone numbers become E.164, by field name."""
    assert changed(hash=["traits.email", "traits.phone", "user_id", "traits.absent"]) == {
        "traits.email": digest("ada@shop.example"), "traits.phone": digest("+442079460000"),
        "user_id": digest("u1"), **GONE,
    }  # fmt: skip
    assert changed(hash="traits.phone", phone="digits")["traits.phone"] == digest("442079460000")
    assert changed(hash="traits.email", normalize="none")["traits.email"] == digest(
        " Ada@Shop.Example "
    )
    assert changed(hash="properties.emails.*", normalize="email") == {
        "properties.extra.emails.0": digest("a@b.c"), "properties.extra.emails.1": digest("d@e.f"),
        **GONE,
    }  # fmt: skip


def test_hash_gives_what_the_platforms_document() -> None:
    """Meta's own examples come out as Meta prints them.

    https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/customer-information-parameters
    """
    event = Event(
        type="identify", traits=Traits(email="John_Smith@gmail.com", phone="1(650)555-1212")
    )
    traits = after(event, hash=["traits.email", "traits.phone"], phone="digits")["traits"]
    assert traits == {
        "email": "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f",
        "phone": "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176",
    }


def test_hash_with_a_key_is_an_hmac() -> None:
    """With a key, the hash is an HMAC-SHA256."""
    expected = hmac.new(b"secret", b"u1", hashlib.sha256).hexdigest()
    assert changed(hash=["user_id"], key="secret")["user_id"] == expected


def test_hash_lets_no_kind_of_value_through() -> None:
    """Numbers, booleans, lists and tables are hashed too; equal values have equal hashes."""
    for path, text in (
        ("properties.n", "5"), ("properties.flag", "true"), ("properties.deep", '{"a":1,"b":2}'),
        ("properties.emails", '["A@b.c","d@e.f"]'),
    ):  # fmt: skip
        extra = after(hash=[path])["properties"]["extra"]
        assert extra[path.removeprefix("properties.")] == digest(text)


def test_mask_leaves_as_much_as_is_asked_for() -> None:
    """Middle characters become stars; a text too short to be masked is masked as a whole."""
    assert changed(mask=["user_id"])["user_id"] == "**"
    assert changed(mask="properties.category", first=1, last=2)["properties.category"] == "s**es"
    assert changed(mask="properties.category", last=9)["properties.category"] == "*****"
    assert changed(mask=["traits.absent"]) == GONE


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.77", "192.0.2.0"),
        (" 10.1.2.3 ", "10.1.2.0"),
        ("2001:db8:85a3:8d3:1319:8a2e:370:7348", "2001:db8:85a3::"),
        ("::ffff:192.0.2.77", "192.0.2.0"),
        ("unknown", None),
        ("192.0.2.77:443", None),
        ("fe80::1%eth0", None),
        ("192.0.2.77\0", None),
        ("2001:db8::\ud800", None),
    ],
)
def test_truncate_ip_blanks_the_end(address: str, expected: str | None) -> None:
    """The last octet of IPv4 and the last 80 bits of IPv6 become zero; a non-address is removed."""
    event = Event(type="page", context=Context(ip=address))
    assert after(event, truncate_ip="context.ip").get("context", {}).get("ip") == expected


def test_map_looks_values_up() -> None:
    """Values are replaced from the table; unknown ones stay, or are dropped on request."""
    table = {"shoes": "footwear", "5": "five", "true": "yes"}
    assert changed(map="properties.category", table=table) == {"properties.category": "footwear"}
    assert changed(map="properties.coupon", table=table) == {}
    assert changed(map="properties.coupon", table=table, unknown="drop") == {
        "properties.coupon": None
    }
    assert changed(map="properties.n", table=table) == {"properties.extra.n": "five"}
    assert changed(map="properties.flag", table=table, to="properties.coupon") == {
        "properties.coupon": "yes"
    }
    assert changed(map="properties.category", table={"shoes": 3}, to="properties.total") == {
        "properties.total": 3.0
    }


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(-10, -7), (-6.9, -6.9), (0, 0), (0.001, 0.001), (1, 0.0034722)],
)
def test_timestamps_are_clamped_to_their_arrival(offset: float, expected: float) -> None:
    """A time too far before or after the arrival becomes the nearest allowed time."""
    event = msgspec.structs.replace(EVENT, timestamp=AT + timedelta(days=offset))
    clamped = StepChain("r", [step(timestamp="clamp", past="7d", future="5m")]).apply(event)
    assert clamped.timestamp is not None
    assert (clamped.timestamp - AT).total_seconds() == pytest.approx(expected * 86400, abs=1)
    assert StepChain("r", [step(timestamp="clamp")]).apply(Event(type="page")).timestamp is None


# Filters


def test_a_users_sample_decision_never_changes() -> None:
    """A user is always in or always out; the share is about right; a seed changes the choice."""
    tenth, other = (
        StepChain("a", [step(sample="10%")]),
        StepChain("b", [step(sample=0.1, seed="other")]),
    )
    users = [f"user-{n}" for n in range(5000)]

    def inside(steps: StepChain, **event: Any) -> set[str]:
        return {u for u in users if not steps.filtered_by(Event(type="track", user_id=u, **event))}

    assert inside(tenth) == inside(tenth, name="other", message_id="m")
    assert inside(tenth) == inside(StepChain("c", [step(sample=0.1)]))
    assert inside(tenth) < inside(StepChain("c", [step(sample=0.5)]))
    assert 400 < len(inside(tenth)) < 600
    assert len(inside(tenth) & inside(other)) < 100
    assert StepChain("all", [step(sample=1)]).filtered_by(Event(type="track")) == ""


@pytest.mark.parametrize(
    ("own", "remembered", "reason"),
    [
        ({"ads": True}, {}, ""),
        ({}, {"ads": True}, ""),
        ({"ads": True}, {"ads": False}, ""),
        ({"ads": False}, {"ads": True}, "consent: the user has not consented to ads"),
        ({}, {"ads": False}, "consent: the user has not consented to ads"),
        ({"mail": True}, {}, "consent: no recorded consent to ads"),
    ],
)
def test_consent_is_the_events_own_before_what_is_remembered(
    own: dict[str, bool], remembered: dict[str, bool], reason: str
) -> None:
    """Only granted consent passes; the event's own consent overrides the recorded one."""
    steps = StepChain("r", [step(consent="ads")])
    assert steps.asks_consent
    assert steps.filtered_by(Event(type="track", consent=own), remembered) == reason


def test_all_categories_are_needed() -> None:
    """A consent step requires every listed category."""
    steps = StepChain("r", [step(consent=["ads", "mail"])])
    assert steps.filtered_by(EVENT) == "consent: the user has not consented to mail"
    both = msgspec.structs.replace(EVENT, consent={"ads": True, "mail": True})
    assert steps.filtered_by(both) == ""


def test_a_filter_sees_earlier_changes() -> None:
    """A filter sees the event as the steps before it changed it."""
    dropped = [step(drop=["consent"]), step(consent="ads")]
    assert StepChain("r", dropped).filtered_by(EVENT) == "consent: no recorded consent to ads"
    assert StepChain("r", dropped[::-1]).filtered_by(EVENT) == ""


# All steps


def test_steps_can_be_watched_one_at_a_time() -> None:
    """Each step is reported with the event before and after it, up to a filter."""
    steps = StepChain("r", [
        step(set={"name": "A"}), step(rename={"A": "B"}), step(sample=1), step(consent="none"),
        step(drop=["traits"]),
    ])  # fmt: skip
    taken = list(steps.each(EVENT))
    assert [(t.word, t.before.name, t.after.name) for t in taken] == [
        ("set", "Product Viewed", "A"), ("rename", "A", "B"), ("sample", "B", "B"),
        ("consent", "B", "B"),
    ]  # fmt: skip
    assert taken[-1].filtered == "no recorded consent to none"


def test_a_step_that_fails_says_which() -> None:
    """A step that raises makes the event unrenderable, and names the step and the route."""
    steps = StepChain("ads", [step(set={"name": "A"}), step(hash=["user_id"])])
    odd = msgspec.structs.replace(EVENT, user_id="\ud800")
    with pytest.raises(Unrenderable, match=r"step 2 \(hash\) of route 'ads' failed"):
        steps.apply(odd)


PATHS = st.sampled_from([
    "user_id", "traits.email", "traits.plan", "properties.category", "properties.coupon",
    "properties.deep.a", "properties.products.*.brand", "properties.products.*.tag", "context.ip",
])  # fmt: skip
ONE = PATHS.filter(lambda path: "*" not in path)
WRITTEN = st.one_of(
    st.builds(lambda p, v: step(set={p: v}), PATHS, st.text(min_size=1)),
    st.builds(lambda p, v: step(default={p: v}), PATHS, st.text(min_size=1)),
    st.builds(lambda a, b: step(copy={a: b}), ONE, ONE),
    st.builds(lambda p: step(drop=p), st.lists(PATHS, min_size=1)),
    st.builds(lambda p: step(keep=p), st.lists(PATHS, min_size=1)),
    st.builds(lambda p: step(hash=p), st.lists(PATHS, min_size=1)),
    st.builds(lambda p, n: step(mask=p, last=n), st.lists(PATHS, min_size=1), st.integers(0, 5)),
    st.builds(lambda p: step(truncate_ip=p), st.lists(PATHS, min_size=1)),
    st.builds(lambda p, t: step(map=p, table=t), ONE, st.dictionaries(st.text(), st.text())),
    st.builds(lambda n: step(rename={"*": f"{n} *"}), st.text("ab", min_size=1)),
    st.just(step(timestamp="clamp", past=10)),
)  # fmt: skip


@given(st.lists(WRITTEN, max_size=6), st.sampled_from([EVENT, *EVENTS]))
def test_steps_never_change_the_event_that_they_are_given(
    steps: list[StepConfig], event: Event
) -> None:
    """Steps never change the accepted event, nor the tables inside it."""
    before = msgspec.to_builtins(event)
    first = StepChain("r", steps).apply(event)
    assert msgspec.to_builtins(event) == before
    assert StepChain("again", steps).apply(event) == first


@given(st.lists(PATHS, min_size=1), st.booleans())
def test_a_hashed_value_does_not_occur_in_the_event(paths: list[str], keyed: bool) -> None:  # noqa: FBT001 - drawn
    """A value that a step hashes does not occur anywhere in the event."""
    value = "a-value-to-hide"
    holding = StepChain("fill", [step(set={path: value}) for path in paths]).apply(
        msgspec.structs.replace(EVENT, extra={"again": value})
    )
    hidden = StepChain("r", [step(hash=paths, **({"key": "k"} if keyed else {}))]).apply(holding)
    assert value not in str(msgspec.to_builtins(hidden))


FLAT = {"product_id": "p1", "price": 5, "productUrl": "u", "free": True}


@pytest.mark.parametrize(
    "table",
    [
        {"rename": {"my view": "Product Viewed"}},
        {"rename": {"my *": "Product Viewed"}},
        {"set": {"name": "Product Viewed"}},
        {"copy": {"properties.extra_name": "name"}},
        {"map": "name", "table": {"my view": "Product Viewed"}},
    ],
    ids=["rename", "pattern", "set", "copy", "map"],
)
def test_an_event_with_another_name_is_read_again(table: dict[str, Any]) -> None:
    """A step that renames an event to a product event reads its product from free properties."""
    free = {**FLAT, "extra_name": "Product Viewed"}
    properties = Properties(category="shoes", currency="EUR", extra=free)
    event = Event(type="track", name="my view", properties=properties)
    made = taken(table, event)
    (product,) = made.properties.products
    assert (product.product_id, product.price, product.category) == ("p1", 5, "shoes")
    assert made.properties.currency == "EUR"
    assert made.properties.category is None
    assert made.properties.extra.keys() == {"productUrl", "free", "extra_name"}


def test_an_order_with_another_name_is_read_again() -> None:
    """After a rename to an order, free properties are read; existing values stay."""
    free = {"id": "o1", "total": "$7", "Products": [{"id": "1"}, None], "free": 1}
    event = Event(type="track", name="bought", properties=Properties(revenue=3, extra=free))
    made = taken({"rename": {"bought": "Order Completed"}}, event).properties
    assert (made.order_id, made.total, made.revenue) == ("o1", 7, 3)
    assert [product.product_id for product in made.products] == ["1"]
    assert made.extra == {"free": 1}


def test_an_event_about_something_else_stays_as_it_is() -> None:
    """A rename to a name that is not in the Spec changes only the name."""
    event = Event(type="track", name="a", properties=Properties(extra={"free": 1, "id": 2}))
    made = taken({"rename": {"a": "b"}}, event)
    assert made == msgspec.structs.replace(event, name="b")


def test_an_old_name_is_renamed_like_the_current_one() -> None:
    """A rename of `Viewed Product` also renames Product Viewed, its current name."""
    event = Event(type="track", name="Product Viewed")
    assert taken({"rename": {"Viewed Product": "Seen"}}, event).name == "Seen"
    both = {"viewed product": "Other", "Product Viewed": "Seen"}
    assert taken({"rename": both}, event).name == "Seen"
