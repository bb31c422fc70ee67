"""Tracking plans: which schema applies to an event, its violations, and dropped fields."""

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Fault, Rejected
from gateway.event import Context, Event, Page, Product, Properties, Traits
from gateway.tracking import Schema, SchemaError, TrackingPlan, ViolationCounter, ViolationPolicy
from gateway.tracking.field_removal import without_fields
from gateway.tracking.schema import as_schema_input

HERE = Path(__file__)
ORDER = Event(
    type="track", name="Order Completed", id="r-0", user_id="u-1", origin="chrts",
    properties=Properties(
        order_id="o-1", total=12.5, products=(
            Product(product_id="1", price=2.0, extra={"colour": "red", "size": 43}),
            Product(product_id="2", price=-1.0), Product(product_id="3"),
        ),
        extra={"plan": "pro", "card": {"number": "4111", "month": 4}},
    ),
    traits=Traits(email="ann@shop.example", extra={"vip": True}),
    context=Context(page=Page(url="https://shop.example/"), extra={"screen": {"width": 390}}),
    extra={"leftover": 1},
)  # fmt: skip


def plan(schemas: dict[str, Any], violations: ViolationPolicy = "allow") -> TrackingPlan:
    """Return a plan of JSON schemas."""
    compiled = {name: Schema(schema, HERE) for name, schema in schemas.items()}
    return TrackingPlan("shop", compiled, violations)


def of_properties(**properties: Any) -> dict[str, Any]:
    """Return a schema of some properties."""
    return {"properties": {"properties": {"properties": properties}}}


def neutral(_event: Event, _index: int, path: tuple[str | int, ...]) -> str:
    """Write a path in the event's own names."""
    return ".".join(map(str, path))


def test_a_schema_sees_the_names_that_conditions_see() -> None:
    """A schema sees free names beside typed ones, and no unset field."""
    assert as_schema_input(ORDER) == {
        "type": "track",
        "name": "Order Completed",
        "user_id": "u-1",
        "traits": {"email": "ann@shop.example", "vip": True},
        "properties": {
            "order_id": "o-1", "total": 12.5, "plan": "pro",
            "card": {"number": "4111", "month": 4},
            "products": [
                {"product_id": "1", "price": 2.0, "colour": "red", "size": 43},
                {"product_id": "2", "price": -1.0}, {"product_id": "3"},
            ],
        },
        "context": {
            "page": {"url": "https://shop.example/"}, "extra": {"screen": {"width": 390}},
        },
        "extra": {"leftover": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "judge"),
    [
        (Event(type="track", name="Product Viewed"), "Product Viewed"),
        (Event(type="track", name="Product Added"), "Product *"),
        (Event(type="track", name="zork"), "*"),
        (Event(type="page", name="Product Viewed"), "page"),
        (Event(type="identify"), "*"),
    ],
)
def test_an_exact_name_goes_before_patterns(event: Event, judge: str) -> None:
    """An event's exact name selects its schema, else the first pattern; types count as names."""
    found = plan({"*": True, "Product *": True, "Product Viewed": True, "page": True})
    ordered = plan({"Product *": True, "Product Viewed": True, "page": True, "*": True})
    planned = ordered.schema(event)
    assert planned is not None
    assert planned.name == judge
    first = found.schema(Event(type="track", name="Product Added"))
    assert first is not None
    assert first.name == "*"


@pytest.mark.parametrize(
    ("schema", "path", "what", "fault"),
    [
        ({"required": ["message_id"]}, "message_id", "is required", Fault.MISSING),
        (of_properties(total={"type": "string"}), "properties.total", "must be text", Fault.TYPE),
        (
            of_properties(plan={"enum": ["free", "team"]}),
            "properties.plan", 'must be one of "free", "team"', Fault.VALUE,
        ),
        (of_properties(total={"minimum": 20}), "properties.total", "must be at least 20",
         Fault.VALUE),
        (of_properties(plan={"pattern": "^x"}), "properties.plan", "must match ^x", Fault.VALUE),
        (of_properties(plan={"format": "email"}), "properties.plan",
         "must have the format email", Fault.VALUE),
        (
            of_properties(products={"items": {"required": ["price"]}}),
            "properties.products.2.price", "is required", Fault.MISSING,
        ),
        (
            of_properties(plan={"anyOf": [{"type": "number"}, {"const": "x"}]}),
            "properties.plan",
            'must match one of these: must be a number; or must be "x"', Fault.VALUE,
        ),
        (
            {
                "properties": {
                    "traits": {"properties": {"vip": True}, "additionalProperties": False}
                }
            },
            "traits.email", "is not in the schema", Fault.VALUE,
        ),
        (False, "", "is not in the plan", Fault.VALUE),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_wrong(schema: Any, path: str, what: str, fault: Fault) -> None:
    """A rejection has the path, the reason without the value, and the kind of fault."""
    tally = ViolationCounter()
    with pytest.raises(Rejected) as caught:
        plan({"Order *": schema}, "refuse").apply([ORDER], neutral, "r", tally)
    assert (caught.value.path, caught.value.reason, caught.value.fault) == (path, what, fault)
    assert sum(tally.counts.values()) == 1


def test_allowed_violations_are_counted() -> None:
    """With ``allow`` events pass unchanged, and each violation is counted."""
    tally = ViolationCounter()
    keeps = plan({"*": of_properties(products={"items": {"required": ["price", "sku"]}})})
    kept = keeps.apply([ORDER], neutral, "r", tally)
    assert kept.events == [ORDER]
    assert not kept.dropped
    assert tally.counts == {
        ("shop", "*", "properties.products.[].price: is required"): 1,
        ("shop", "*", "properties.products.[].sku: is required"): 3,
    }


def test_invalid_fields_are_dropped() -> None:
    """With ``drop-field`` exactly the invalid fields are removed, at any depth."""
    schema = of_properties(
        total={"type": "string"},
        plan={"const": "free"},
        card={"properties": {"number": False}},
        products={"items": {"properties": {"price": {"minimum": 0}, "size": {"maximum": 40}}}},
    )
    before = as_schema_input(ORDER)
    kept = plan({"*": schema}, "drop-field").apply([ORDER], neutral, "r", ViolationCounter())
    (event,) = kept.events
    expected = as_schema_input(ORDER)["properties"]
    del expected["total"], expected["plan"]
    expected["card"] = {"month": 4}
    del expected["products"][0]["size"], expected["products"][1]["price"]
    assert as_schema_input(event)["properties"] == expected
    assert as_schema_input(ORDER) == before
    assert event.traits == ORDER.traits
    assert not event.extra, "what no table maps may hold the same value once more"
    assert without_fields(ORDER, kept.dropped[0]) == event


def test_invalid_members_and_fields_are_removed_together() -> None:
    """Invalid list members and invalid fields of other members are removed together."""
    items = {"properties": {"price": {"minimum": 0}}, "not": {"required": ["colour"]}}
    schema = of_properties(products={"items": items, "maxItems": 2})
    kept = plan({"*": schema}, "drop-field").apply([ORDER], neutral, "r", ViolationCounter())
    assert "products" not in as_schema_input(kept.events[0])["properties"]
    kept = plan({"*": of_properties(products={"items": items})}, "drop-field").apply(
        [ORDER], neutral, "r", ViolationCounter()
    )
    left = as_schema_input(kept.events[0])["properties"]["products"]
    assert left == [{"product_id": "2"}, {"product_id": "3"}]
    assert without_fields(ORDER, kept.dropped[0]) == kept.events[0]


def test_violations_say_whether_their_field_was_dropped() -> None:
    """Each violation says whether its field was dropped, alone or with its parent."""
    items = {"properties": {"price": {"minimum": 0}}, "required": ["sku"]}
    schema = of_properties(products={"items": items, "maxItems": 2}, plan=False)
    found = plan({"*": schema}, "drop-field").judge(ORDER)
    assert found is not None
    assert sorted(found.told()) == [
        ("properties.plan: is not allowed", True),
        ("properties.products.0.sku: is required", False),
        ("properties.products.1.price: must be at least 0", True),
        ("properties.products.1.sku: is required", False),
        ("properties.products.2.sku: is required", False),
        ("properties.products: must have at most 2 members", True),
    ]
    mended = plan({"*": {"anyOf": [{"required": ["group_id"]}, of_properties(plan=False)]}})
    unsure = mended.judge(ORDER)
    assert unsure is not None
    assert [gone for _, gone in unsure.told()] == [False]


def test_violations_that_dropping_cannot_correct_are_counted() -> None:
    """A violation that dropping cannot correct is only counted."""
    tally = ViolationCounter()
    schema = {"required": ["message_id"], "properties": {"name": {"const": "x"}}}
    kept = plan({"*": schema}, "drop-field").apply([ORDER], neutral, "r", tally)
    assert kept.events == [ORDER]
    assert sum(tally.counts.values()) == 2


def test_an_invalid_free_value_is_dropped_too() -> None:
    """An invalid value is also dropped if it is among the free fields."""
    event = Event(type="track", name="x", properties=Properties(extra={"total": "much"}))
    schema = of_properties(total={"type": "number"})
    kept = plan({"*": schema}, "drop-field").apply([event], neutral, "r", ViolationCounter())
    assert as_schema_input(kept.events[0]) == {"type": "track", "name": "x"}


def test_one_kind_of_violation_is_logged_once_a_minute() -> None:
    """The number of counted kinds of violation is bounded."""
    now = 0.0
    tally = ViolationCounter(lambda: now)
    for number in range(3000):
        tally.note("shop", "*", f"f{number}: is required", request="r", done="allowed")
    assert len(tally.counts) == 2001
    assert sum(tally.counts.values()) == 3000


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"type": "objct"}, 'type must be "string", "number"'),
        ({"minimum": "x"}, "minimum must be a number"),
        (
            {"properties": {"a": {"pattern": "(?=x)"}}},
            "a/pattern is not a valid pattern",
        ),
        ({"$ref": "http://127.0.0.1:1/x.json"}, "schemas are never fetched from the network"),
        ({"$ref": "there-is-none.json"}, "there-is-none.json cannot be read: no such file"),
        ({"$schema": "https://zork.example"}, "has a reference that cannot be resolved"),
        ([], "must be an object, true or false"),
    ],
)
def test_an_invalid_schema_is_an_error(schema: Any, what: str) -> None:
    """An invalid schema is an error with its place, and no reference is read from the network."""
    with pytest.raises(SchemaError) as caught:
        Schema(schema, HERE)
    assert what in str(caught.value)


def test_schemas_share_files(tmp_path: Path) -> None:
    """A reference reads a file beside the schema, and the file is listed as read."""
    (tmp_path / "product.json").write_text('{"required": ["price"]}')
    schema = Schema(of_properties(products={"items": {"$ref": "product.json"}}), tmp_path / "x")
    assert [found.place for found in schema.violations(as_schema_input(ORDER))] == [
        "properties.products.2.price"
    ]
    assert schema.files == [tmp_path / "product.json"]
