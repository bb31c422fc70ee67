"""Conditions in CEL: checks before any event arrives, and evaluation on events."""

import time
from datetime import UTC, datetime
from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conditions import types
from gateway.conditions.analysis import LONGEST, ConditionAnalysis, placed
from gateway.conditions.condition import Condition, Evaluation, deciding_part
from gateway.conditions.syntax import CelSyntaxError, parse
from gateway.conditions.variables import MOST, ConditionInput, VariableSet
from gateway.event import Context, Event, Page, Product, Properties, Traits
from gateway.explain.static_losses import full
from gateway.mapping.losses import filled_fields

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ORDER = Event(
    type="track", name="Order Completed", received_at=AT, timestamp=AT, user_id="u1",
    properties=Properties(
        total=120, currency="EUR",
        products=(
            Product(product_id="1", price=5, extra={"tag": "new"}), Product(product_id="2"),
        ),
        extra={
            "plan": "pro", "many": list(range(500)), "two words": 1, "nothing": None,
            "deep": {"er": {"y": 1}}, "pairs": [[1, 2], [3]],
        },
    ),
    context=Context(page=Page(url="https://shop.example/sale"), extra={"os": {"name": "iOS"}}),
    traits=Traits(address={"city": "Oslo"}),
    consent={"advertising": True},
)  # fmt: skip


def scene_of(condition: Condition, slots: VariableSet, event: Event = ORDER) -> ConditionInput:
    """Return the variables of *condition* for an event of the source ``shop``."""
    return slots.stage(condition.names).scene("shop", event)


def judged(text: str, event: Event = ORDER) -> Evaluation:
    """Return the evaluation of a condition for an event of the source ``shop``."""
    slots = VariableSet()
    condition = Condition(text, slots)
    judgement = condition.judge(scene_of(condition, slots, event))
    return judgement._replace(missing=condition.path(judgement.missing))


def holds(text: str, event: Event = ORDER) -> bool:
    """Return whether a condition holds; fail if it cannot be evaluated."""
    found = judged(text, event)
    assert not found.error, found.error
    return found.holds


def problems(text: str) -> list[str]:
    """Return the errors in a condition."""
    return [placed(text, remark) for remark in ConditionAnalysis(text).problems]


def doubts(text: str) -> list[str]:
    """Return the warnings about a valid condition."""
    study = ConditionAnalysis(text)
    assert not study.problems
    return [placed(text, remark) for remark in study.doubts]


@pytest.mark.parametrize(
    "text",
    [
        'event.type == "track" && event.properties.total > 100',
        "event.properties.total * 1.2 > 143.9",
        'event.properties.plan in ["pro", "team"]',
        'event.properties["two words"] == 1 && event["user_id"] == "u1"',
        'event.traits.address.city == "Oslo" && event.context.extra.os.name.startsWith("i")',
        "event.properties.products.exists(p, p.price > 4 && p.tag == 'new')",
        "size(event.properties.products) == 2 && event.properties.products.size() == 2",
        "event.properties.products[0].price == 5",
        "event.properties.products.filter(p, has(p.price)).size() == 1",
        "event.properties.products.map(p, p.product_id).exists(i, i == '2')",
        'source == "shop" ? event.consent.advertising : false',
        'event.received_at - event.timestamp < duration("1m") && event.received_at.getHours() < 13',
        r'event.context.page.url.matches("(?i)^HTTPS://.*/sale$") // a comment',
        "has(event.properties.deep.er.y) && !has(event.properties.deep.x.y)",
        "event.properties.pairs.exists(p, p.exists(n, n == 3))",
    ],
)
def test_conditions_reach_everything_that_an_event_holds(text: str) -> None:
    """Conditions can read typed and free fields, products, consent, times and the source."""
    assert holds(text)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("event.properties.absent == 1", "event.properties.absent"),
        ("!(event.properties.absent == 1)", "event.properties.absent"),
        ("event.properties.nothing != 1", "event.properties.nothing"),
        ('event.type == "track" && event.context.ip == "x"', "event.context.ip"),
        ("event.properties.deep.x.y == 1", "event.properties.deep.x.y"),
        ("event.properties.products.all(p, p.price > 4)", "price"),
        ("event.properties.products[7].price > 4", "index out of bounds: 7"),
    ],
)
def test_a_missing_value_makes_a_condition_false_and_is_no_error(text: str, missing: str) -> None:
    """A missing, null or out-of-range value makes the whole condition false, even negated."""
    assert judged(text) == Evaluation(holds=False, missing=missing)


@pytest.mark.parametrize(
    "text",
    [
        'event.properties.absent == 1 || event.type == "track"',
        'event.type == "track" || event.properties.absent == 1',
        '!(event.properties.absent == 1 && event.type == "page")',
        "!has(event.properties.absent)",
        'has(event.properties.absent) ? event.properties.absent == 1 : event.type == "track"',
        "event.properties.products.exists(p, p.price > 4)",
    ],
)
def test_some_operators_tolerate_a_missing_value(text: str) -> None:
    """``||``, a false ``&&``, ``?:``, has() and exists() tolerate a missing value."""
    assert holds(text)


NAMES = ("event.properties.a", "event.properties.b", "event.properties.c")


def _formulas() -> st.SearchStrategy[str]:
    leaves = st.sampled_from([f"{name} == 1" for name in NAMES] + [f"has({n})" for n in NAMES])
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(lambda one: f"!({one})"),
            st.tuples(inner, inner, st.sampled_from(["&&", "||", "=="])).map(
                lambda t: f"(({t[0]}) {t[2]} ({t[1]}))"
            ),
            st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
        ),
        max_leaves=6,
    )


@given(_formulas(), st.dictionaries(st.sampled_from("abc"), st.sampled_from([1, 2])))
def test_conditions_agree_with_the_cel_library(text: str, extra: dict[str, int]) -> None:
    """A condition holds exactly where the CEL library, given the whole event, returns true."""
    plain = {"event": {"properties": {name: float(value) for name, value in extra.items()}}}
    try:
        expected = cel.evaluate(text, plain) is True
    except KeyError:
        expected = False
    event = Event(type="track", properties=Properties(extra=extra))
    assert holds(text, event) == expected


@given(_formulas(), st.dictionaries(st.sampled_from("abc"), st.sampled_from([1, 2])))
def test_deciding_the_kind_in_advance_changes_no_result(text: str, extra: dict[str, int]) -> None:
    """Deciding source, type and name in advance does not change a condition's result."""
    whole = f'event.type == "track" && ({text}) && event.name != "x"'
    event = Event(type="track", name="y", properties=Properties(extra=extra))
    slots = VariableSet()
    condition = Condition(whole, slots)
    left = condition.of_kind("shop", event)
    answer = left if isinstance(left, bool) else left.ask(scene_of(condition, slots, event))
    assert answer == condition.judge(scene_of(condition, slots, event)).holds


def test_only_fields_in_use_are_converted() -> None:
    """The variables contain each field that conditions use, once for all, and no other."""
    slots = VariableSet()
    one = Condition("event.properties.total > 1 && event.user_id == 'u1'", slots)
    other = Condition("event.properties.total > 2 && has(event.user_id)", slots)
    scene = slots.stage(one.names | other.names).scene("shop", ORDER)
    assert sorted(scene.context.variables.values(), key=str) == [120.0, True, "u1"]


def test_of_products_only_members_in_use_are_converted() -> None:
    """A product has only the members that conditions use, unless one uses it whole."""
    slots = VariableSet()
    condition = Condition("event.properties.products.exists(p, p.price > 4)", slots)
    (held,) = scene_of(condition, slots).context.variables.values()
    assert held == [{"price": 5.0}, {}]
    Condition("event.properties.products.map(p, p).size() > 1", slots)
    (held,) = scene_of(condition, slots).context.variables.values()
    assert held[0] == {"product_id": "1", "price": 5.0, "tag": "new"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("event.properties.plan > 3", "No such overload"),
        ("int(event.properties.plan) > 3", "Function 'int' error"),
        ("string(event.properties.pairs) == 'x'", "string does not take a value of this type"),
        ("1.0 / event.properties.total > 1 / 0", "division by zero"),
        ('event.properties.plan ? true : event.type == "x"', "No such overload"),
        ("event.properties.plan", "the result 'pro' is neither true nor false"),
    ],
)
def test_a_runtime_failure_is_returned_not_raised(text: str, error: str) -> None:
    """A failure at run time is returned as an error text, not raised."""
    assert judged(text).error.startswith(error)


def test_expensive_conditions_are_bounded() -> None:
    """A list that is too long or a value that is too large is an error."""
    assert "has 500 members; at most 200" in judged("event.properties.many.all(x, x > 1)").error
    assert holds("size(event.properties.many) == 500")
    large: dict[str, Any] = {"l": [[0] * 20] * (MOST // 10), "t": "x" * 20_000}
    event = Event(type="track", properties=Properties(extra=large))
    assert "too large" in judged("size(event.properties.l) > 1", event).error
    assert "text of 20000 characters" in judged('event.properties.t == "x"', event).error
    thirty = Event(type="track", properties=Properties(extra={"l": [1] * 31}))
    nested = "event.properties.l.exists(a, event.properties.l.exists(b, a == b))"
    assert "at most 30" in judged(nested, thirty).error


def test_the_most_expensive_conditions_are_quick() -> None:
    """The most expensive allowed conditions take less than half a second."""
    inner = "event.properties.l.filter(y, y > x)"
    for size, text in (
        (30, f"event.properties.l.filter(x, {inner}.size() > 1).size() > 40"),
        (200, "event.properties.l.filter(x, x > 1).map(x, x).size() > 300"),
    ):
        event = Event(type="track", properties=Properties(extra={"l": list(range(size))}))
        began = time.process_time()
        assert not holds(text, event)
        assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("event.proprties.total > 1", "column 7: there is no field event.proprties; did"),
        ('event.context.os == "x"', "column 15: there is no field event.context.os; known: app"),
        ('event.type == "a" ||\n  event.nme == "b"', "line 2, column 9: there is no field"),
        ("event.type.x == 1", "column 12: type has no members"),
        ("event.properties.extra.x == 1", "18: extra cannot be named; write properties.NAME"),
        ("event.properties.products.price > 4", "products is a list; use .exists("),
        ("event.properties > 1", "column 1: event.properties is not a single field"),
        ("sorce == 'a'", "column 1: unknown name sorce; did you mean source?"),
        ("type == 'a'", "column 1: unknown name type; did you mean event.type?"),
        ("event.type = 'a'", "column 12: unexpected '='; write == instead of ="),
        ("event.type === 'a'", "write == instead of ==="),
        ("event.type <> 'a'", "write != instead of <>"),
        ("event.type == 'a' AND has(event.name)", "column 19: expected the end of the express"),
        ("event.type == 'a' and has(event.name)", "found 'and'; write && instead of and"),
        ("event.type == 'a' & has(event.name)", "write && instead of &"),
        ("not has(event.name)", "write ! instead of not"),
        ("event.name == 'a", "column 15: unexpected \"'\"; the text that starts here has"),
        ("event.type > 3", "column 1: > cannot be used with text and whole number"),
        ("event.user_id == 5", "column 1: text never equals whole number"),
        ("event.properties.total * 2 > 100", "numbers of an event are decimals: write 2.0"),
        ("event.type", "column 1: is text; a condition must be true or false"),
        ("event.consent.a && event.name", "column 20: is text, not true or false"),
        ('event.type.matches("[")', "column 20: error: unclosed character class"),
        ("event.type.matches(event.name)", "column 20: the pattern must be a text in quotes"),
        ('event.timestamp > timestamp("2024")', "column 29: Function 'timestamp' error"),
        ("event.type.match('x')", "column 12: there is no function match; did you mean matches?"),
        ("size(event.properties.total) > 1", "column 1: size cannot be used with number"),
        ("string(event.consent.a) == 'x'", "it takes text, a number, a time or a duration"),
        ("event.properties.x == null", "column 23: null never occurs"),
        ("1u == event.properties.x", "column 1: 1u has a type that no field has"),
        ("event.properties.x > 99999999999999999999", "is not a valid CEL value"),
        ("has(event)", "must have the form has(event.FIELD)"),
        ("event.properties.l.exists(x)", "must have the form LIST.exists(x, CONDITION)"),
        ("event.properties.l.exists(__x, true)", "column 27: __x is reserved"),
        ("event.properties.l.exists(event, true)", "column 27: event is reserved"),
        ("(event.properties.l + event.properties.l).exists(x, x == 1)",
         "a comprehension needs a field or a literal list"),
        ("event.properties.total.exists(x, true)", "number has no members"),
        ("event.properties.l.exists(x, x + 1.0)", "column 30: is number, not true or false"),
        ("event.properties.l.all(a, a.all(b, b.all(c, c)))", "more than 2 deep"),
        ("event.type ==", "column 14: expected a value, found the end"),
        ("(event.type", "column 12: expected ')', found the end"),
        ('event.type == "x', "column 15: "),
        ("event..type", "column 7: expected a name after the dot"),
        ("event.type == 'a' 'b'", "column 19: "),
        ("!" * 60 + "event.consent.a", "more than 40 signs in a row"),
        ("(" * 60 + "1", "brackets are nested more than 40"),
        ("event.consent.a || " * 200 + "true", f"is longer than {LONGEST} characters"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_any_event_comes(text: str, problem: str) -> None:
    """A condition that can never work is an error with its column and a suggestion."""
    (found,) = problems(text)
    assert problem in found
    with pytest.raises(ValueError, match="column"):
        Condition(text, VariableSet())


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("event.properties.totl > 1", "did you mean event.properties.total?"),
        ("event.properties.products.exists(p, p.pric > 1)", "did you mean price?"),
        ("event.properties.l.all(a, a.all(b, b > 1))", "nested comprehensions are slow"),
        ("1 == 1", "uses no field of the event"),
    ],
)
def test_near_misses_are_warnings(text: str, doubt: str) -> None:
    """Near misses of field names, nested comprehensions and constants draw a warning only."""
    (found,) = doubts(text)
    assert doubt in found


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('event.type == "track" && event.properties.total > 200', "event.properties.total > 200"),
        ('event.type == "page" || event.user_id == "u1"', 'event.user_id == "u1"'),
        ('event.type == "x" || event.name == "y"', 'event.type == "x" || event.name == "y"'),
        ('!(event.type == "track" && event.user_id == "u2")', 'event.user_id == "u2"'),
        (
            "has(event.user_id) ? event.properties.total > 200 : true",
            "event.properties.total > 200",
        ),
        ("event.consent.advertising && event.context.ip == '1'", "event.context.ip == '1'"),
    ],
)
def test_the_deciding_part_is_identified(text: str, part: str) -> None:
    """The smallest part of a condition that decided its result is identified."""
    slots = VariableSet()
    condition = Condition(text, slots)
    assert deciding_part(condition, scene_of(condition, slots)) == part


@pytest.mark.parametrize("path", [path for path, _ in filled_fields(full("track", "any"))])
def test_every_field_of_the_event_can_be_asked_for(path: str) -> None:
    """A condition about any field has types, whatever the field's own type is."""
    if not path.startswith(("extra.", "context.")):
        path = path.replace(".extra.", ".")
    if "[]" in path:
        field = f"p.{path.rpartition('.')[2]}"
        text = f"event.properties.products.exists(p, has({field}) && {field} == {field})"
    else:
        text = f"has(event.{path}) && event.{path} == event.{path}"
    assert not problems(text)


def test_members_of_free_values_may_be_anything() -> None:
    """A member of a free table or list may have any type, also if its key is in brackets."""
    assert holds('event.properties.products.exists(p, p["tag"] == "new")')
    assert holds("event.properties.pairs[0][1] == 2")


def test_the_parser_agrees_with_the_cel_library() -> None:
    """The parser accepts the same texts as the CEL library, on odd and broken texts."""
    for text in (
        "a && b || !c", 'x["z w"] > 1.5e3 // c\n', "r'\\d' == \"q\"", "[1, 2,]", '{"a": 1,}',
        "- -1", "1-1", "((a))", 'b"x" == b"y"', '"""a\nb""" == x', "0x1F == .5", "a.b(1).c[2]",
        "a ? b : c ? d : e", "a..b", "(a", "a b", '"abc', "$", "a &", "", "a ==", "a[", "{1}",
    ):  # fmt: skip
        ours = theirs = True
        try:
            parse(text)
        except CelSyntaxError:
            ours = False
        try:
            cel.compile(text)
        except ValueError:
            theirs = False
        assert ours == theirs, text


def test_the_cel_library_knows_every_function() -> None:
    """The CEL library knows every function that conditions may call."""
    for name, function in types.FUNCTIONS.items():
        every = frozenset(types._SAMPLES)
        assert types.takes(name, (every,) * (function.arguments + function.method)), name
