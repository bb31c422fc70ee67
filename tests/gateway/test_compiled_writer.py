"""Generated writers have the same result as a loop over the table's rows."""

import linecache
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, TypedDict, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Unrenderable
from gateway.event import Event, Properties, Traits
from gateway.mapping.compiled_rows import CompiledRow
from gateway.mapping.compiled_writer import WriterPlan, compile_writer
from gateway.mapping.row import Row
from gateway.mapping.table import Table
from gateway.plugin.vendor import Output
from gateway.testing.samples import EVENTS
from gateway.verdict import Declined
from tests.gateway.test_unreadable_answers import OUTPUTS

VENDORS: dict[str, Output] = {output.name: output for output in OUTPUTS}


def interpreted(plan: WriterPlan, event: Any, *, same: bool) -> dict[str, Any]:
    """Return the payload of *event*, written one row after the other."""
    payload: dict[str, Any] = {}
    products = event.properties.products if isinstance(event, Event) else ()
    product = products[0] if products else None
    for row in plan.rows:
        holder = product if row.single else event
        write_row(row, None if holder is None else row.get(holder), payload, same=same)
    if plan.items is not None:
        key, table_for = plan.items
        table = cast("Table | None", table_for(event))
        payload[key] = [] if table is None else [interpreted(table.plan, event, same=same)]
    for star, claimed in plan.stars:
        holder = product if star.single else event
        free = None if holder is None else star.get(holder)
        if free:
            write_free(star, free, payload, claimed)
    if same and plan.into is not Event and not plan.stars:
        said = {row.field for row in plan.rows if row.group == "extra"}
        payload = {**{k: v for k, v in event.extra.items() if k not in said}, **payload}
    return payload


def write_free(
    star: CompiledRow, free: Mapping[str, Any], into: dict[str, Any], claimed: frozenset[str]
) -> None:
    """Write the *free* keys that no other row of the table has (*claimed*)."""
    for key in star.paths[0][:-1]:
        into = into.setdefault(key, {})
    for key, value in free.items():
        if value is None or key in claimed:
            continue
        if key not in into or into[key] is None:
            into[key] = value
        elif isinstance(into[key], dict) and isinstance(value, dict):
            into[key] = joined(into[key], value)


def joined(mine: dict[str, Any], free: dict[str, Any]) -> dict[str, Any]:
    """Return both objects merged; *mine* takes precedence."""
    both = {**free, **mine}
    for key in mine.keys() & free.keys():
        if isinstance(mine[key], dict) and isinstance(free[key], dict):
            both[key] = joined(mine[key], free[key])
    return both


def write_row(row: CompiledRow, value: Any, payload: dict[str, Any], *, same: bool) -> None:
    """Write *value* as *row* says."""
    if value is None or (not value and value in ((), {})):
        row.missing()
        return
    if row.encode is not None:
        value = row.encode(value)
    elif row.nested is not None:
        plan = cast("Table", row.nested.table).plan
        if row.nested.many:
            value = [interpreted(plan, member, same=same) for member in value]
        else:
            member = value[0] if isinstance(value, tuple) else value
            value = interpreted(plan, member, same=same)
        if not value:
            return
    *above, last = row.paths[0]
    for key in above:
        payload = payload.setdefault(key, {})
    payload[last] = value


def outcome(write: Callable[[], dict[str, Any]]) -> tuple[list[tuple[str, Any]], str]:
    """Return the payload that *write* makes, in order, or its error."""
    try:
        return _ordered(write()), ""
    except Unrenderable as error:
        return [], str(error)


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [(key, _ordered(below)) for key, below in value.items()]
    return [_ordered(one) for one in value] if isinstance(value, list | tuple) else value


def written(table: Table, struct: Any) -> Iterator[tuple[Table, Any]]:
    """Yield *table* and its inner tables, each with its struct."""
    yield table, struct
    plan = table.plan
    products = struct.properties.products if isinstance(struct, Event) else ()
    for row in plan.rows:
        if row.nested is None or (row.single and not products):
            continue
        value = row.get(products[0] if row.single else struct)
        for member in value if isinstance(value, tuple) else () if value is None else (value,):
            yield from written(cast("Table", row.nested.table), member)
    if plan.items is not None and (inner := plan.items[1](struct)) is not None:
        yield from written(cast("Table", inner), struct)


def compare(output: Output, event: Event) -> int:
    """Compare every table that writes *event*, and return their number."""
    call = output.select(event)
    if isinstance(call, Declined):
        return 0
    count = 0
    for table, struct in written(call.table, call.event):
        write, plan = compile_writer(table.plan), table.plan
        for same in (False, True):
            generated = outcome(partial(write, struct, same))
            assert generated == outcome(partial(interpreted, plan, struct, same=same))
        count += 1
    return count


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_writer_writes_what_its_rows_say(vendor: str) -> None:
    """A writer has the same payload, key order and errors as a loop over the rows."""
    assert sum(compare(VENDORS[vendor], event) for event in EVENTS) > 3


@given(data=st.data(), event=st.sampled_from(EVENTS), vendor=st.sampled_from(sorted(VENDORS)))
def test_a_writer_of_incomplete_events_agrees_with_the_loop(
    data: st.DataObject, event: Event, vendor: str
) -> None:
    """For an event with missing fields, a writer has the same result as the loop."""
    plain = msgspec.to_builtins(event)
    properties = plain.get("properties", {})
    for holder in (plain, properties):
        for name in sorted(holder):
            if name not in {"type", "name", "properties"} and data.draw(st.booleans()):
                del holder[name]
    compare(VENDORS[vendor], msgspec.convert(plain, Event))


class Inner(TypedDict, total=False):
    """An object in a payload."""

    b: dict[str, Any]
    d: str


class Outer(TypedDict, total=False):
    """A payload."""

    a: Inner


@pytest.mark.parametrize("title", ["Dr", None])
@pytest.mark.parametrize("address", [{"city": "Rome"}, None])
def test_a_row_may_write_into_what_another_row_wrote(
    title: str | None, address: dict[str, Any] | None
) -> None:
    """An object that one row writes as a whole takes the values of further rows."""
    rows = [
        Row("a.b", "traits.address"),
        Row("a.b.c", "traits.title"),
        Row("a.d", "traits.name"),
    ]
    plan = Table(Outer, rows).plan
    generated, expected = (
        outcome(partial(write, Event(type="track", traits=traits)))
        for write in (
            lambda event: compile_writer(plan)(event, False),  # noqa: FBT003 - as a table calls it
            partial(interpreted, plan, same=False),
        )
        for traits in [Traits(name="A", title=title, address=address and dict(address))]
    )
    assert generated == expected


def test_a_traceback_shows_the_line_of_a_writer() -> None:
    """The traceback of a failed codec shows the generated line that calls it."""
    table = next(
        table
        for event in EVENTS
        if not isinstance(call := VENDORS["chrts"].select(event), Declined)
        for table in [call.table]
    )
    write = compile_writer(table.plan)
    try:
        write(SimpleNamespace(properties=Properties()), False)  # noqa: FBT003 - as a table calls it
    except AttributeError as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
    assert "value := event." in linecache.getline(frame.filename, frame.lineno or 0)
