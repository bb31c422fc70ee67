"""Hypothesis strategies for payloads: valid by type, and hostile.

payloads(Thing)    values that the TypedDict allows bodies(table)      payloads that a sender may
write for that table spoilt(body)       a valid body with some values replaced by hostile ones
drawn(strategy)    some values of a strategy; the same ones for the same number
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache, reduce
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from gateway.mapping import EventMapping, Switch, Table

Strategy: TypeAlias = st.SearchStrategy[Any]
Path: TypeAlias = tuple[Any, ...]
GONE = object()
"""Replaces a value that is removed."""

LARGE = 2**63
TEXTS: Strategy = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from([
        "", " ", "0", "1", "-1", "1.5", "1e400", "nan", "infinity", "true", "null", "u1", "\x00",
        "2024-03-28T10:15:30Z", "2024-02-30", "0000-00-00", "9999-12-31T23:59:59-23:59",
        "1767323045",
        "https://shop.example/p/42", "http://[", "ada@shop.example", "{", "[]", "é", "\U0001f45f",
        "\u202e", "a" * 300,
    ]),
)  # fmt: skip
"""Texts that JSON can hold, including some that look like other types."""
WHOLE: Strategy = st.one_of(
    st.integers(-LARGE, LARGE - 1), st.sampled_from([0, 1, -1, 1767323045, 1767323045000])
)
NUMBERS: Strategy = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 0.1, 1e300])
)
SCALARS: Strategy = st.one_of(TEXTS, WHOLE, NUMBERS, st.booleans())
ANYTHING: Strategy = st.recursive(
    st.none() | SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=6,
)
"""Any JSON value."""


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for turn in range(depth):
        value = {"a": value} if turn % 2 else [value]
    return value


HOSTILE: Strategy = st.one_of(
    ANYTHING,
    st.sampled_from([None, "", 0, True, [], {}, [None], [[]], [{}], {"": None}, -LARGE, LARGE]),
    st.builds(_nested, st.sampled_from([30, 200])),
)
"""Values that replace others."""


def payloads(annotation: Any) -> Strategy:
    """Return JSON values that *annotation* allows: a TypedDict, a union, a list, or a scalar.

    Raises:
        TypeError: it is not a type of JSON values.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Required, NotRequired}:
        return payloads(arguments[0])
    if origin in {Union, UnionType}:
        return st.one_of([payloads(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if is_typeddict(annotation):
        return _objects(annotation)
    if origin in {list, tuple}:
        return st.lists(payloads(arguments[0]), max_size=3)
    if origin in {dict, Mapping} or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return st.dictionaries(TEXTS, payloads(arguments[1]), max_size=3)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    raise TypeError(f"{annotation!r} is not a type of JSON values")


_SCALARS: dict[Any, Strategy] = {
    str: TEXTS, int: WHOLE, float: NUMBERS, bool: st.booleans(), Any: ANYTHING,
    NoneType: st.none(), None: st.none(), dict: st.dictionaries(TEXTS, ANYTHING, max_size=3),
    list: st.lists(ANYTHING, max_size=3),
    datetime: st.datetimes().map(datetime.isoformat),
}  # fmt: skip


@cache
def _objects(wire: Any) -> Strategy:
    """Return objects with the fields of the TypedDict *wire*; some have additional fields."""
    hints = get_type_hints(wire)
    fields = {name: payloads(hint) for name, hint in hints.items()}
    needed = {name: fields.pop(name) for name in hints if name in wire.__required_keys__}
    said = st.fixed_dictionaries(needed, optional=fields)
    further = st.dictionaries(TEXTS, ANYTHING, max_size=2)
    return said | st.builds(lambda known, free: {**free, **known}, said, further)


def bodies(mapped: EventMapping) -> Strategy:
    """Return payloads for *mapped* by their types; most have the required fields."""
    if isinstance(mapped, Switch):
        tables = [*mapped.tables.values(), *filter(None, [mapped.otherwise])]
        said = st.one_of([bodies(table) for table in dict.fromkeys(tables)])
        words = st.sampled_from(sorted(mapped.tables)) | TEXTS
        return said | _joined(said, {mapped.field: words})
    if not isinstance(mapped, Table):
        raise TypeError(f"{mapped!r} is neither a table nor a switch")
    hints = get_type_hints(mapped.wire)
    keys = {row.synonyms[0].split(".")[0] for row in mapped.rows if row.required}
    always = {key: payloads(hints[key]) for key in sorted(keys)}
    if mapped.items is not None:
        always[mapped.items[0]] = st.lists(bodies(mapped.items[1]), max_size=3)
    said = payloads(mapped.wire)
    return said | _joined(said, always)


def _joined(said: Strategy, more: dict[str, Strategy]) -> Strategy:
    return st.builds(lambda some, rest: {**some, **rest}, said, st.fixed_dictionaries(more))


def spoilt(body: Any) -> Strategy:
    """Return *body* with up to three values removed or replaced by hostile ones."""
    change = st.tuples(st.sampled_from(list(places(body))), st.just(GONE) | HOSTILE)
    changes = st.lists(change, min_size=1, max_size=3)
    return changes.map(lambda chosen: reduce(changed, chosen, body))


def drawn(strategy: Strategy, count: int, number: int) -> list[Any]:
    """Return up to *count* values of *strategy*; *number* is the seed."""
    made: list[Any] = []

    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @seed(number)
    @given(strategy)
    def draw(value: Any) -> None:
        made.append(value)

    draw()
    return made


def places(node: Any, here: Path = ()) -> Iterator[Path]:
    """Yield the paths of all values in *node*, and of *node* itself."""
    yield here
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        inner = node.items()
    elif isinstance(node, list):
        inner = enumerate(node)
    for key, below in inner:
        yield from places(below, (*here, key))


def changed(node: Any, change: tuple[Path, Any]) -> Any:
    """Return *node* with the value at a path replaced; unchanged if the path does not exist."""
    (path, value) = change
    if not path:
        return {} if value is GONE else value
    key, *below = path
    there = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    if key not in there:
        return node
    inner, copy = node[key], node.copy()
    if below or value is not GONE:
        copy[key] = changed(inner, (tuple(below), value))
    else:
        del copy[key]
    return copy
