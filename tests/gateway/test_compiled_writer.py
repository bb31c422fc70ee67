"""Generated writers have the same result as a loop over the table's rows."""

import linecache
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.mapping.compiled_rows import CompiledRow
from gateway.mapping.compiled_writer import compile_writer
from gateway.mapping.table import Table
from gateway.plugin.vendor import Output
from gateway.testing.samples import EVENTS
from gateway.verdict import Declined
from tests.gateway.test_unreadable_answers import OUTPUTS

VENDORS: dict[str, Output] = {output.name: output for output in OUTPUTS}


def interpreted(
    steps: Sequence[CompiledRow], event: Any, product: Any, payload: dict[str, Any], *, same: bool
) -> None:
    """Write the fields of *event* that *steps* name, one row after the other."""
    for step in steps:
        holder = product if step.single else event
        value = None if holder is None else step.get(holder)
        if value is None or (not value and value in ((), {})):
            step.missing()
            continue
        if step.encode is not None:
            value = step.encode(value)
        elif step.nested is not None:
            value = step.nested.write(value, same=same)
            if not value:
                continue
        *above, last = step.paths[0]
        into = payload
        for key in above:
            into = into.setdefault(key, {})
        into[last] = value


def outcome(write: Any, *args: Any, same: bool) -> tuple[list[tuple[str, Any]], str]:
    """Return the payload that *write* fills, in order, and its error."""
    payload: dict[str, Any] = {}
    try:
        write(*args, payload, same=same)
    except Unrenderable as error:
        return _ordered(payload), str(error)
    return _ordered(payload), ""


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [(key, _ordered(below)) for key, below in value.items()]
    return [_ordered(one) for one in value] if isinstance(value, list | tuple) else value


def written(table: Table, struct: Any) -> Iterator[tuple[Table, Any, Any]]:
    """Yield *table* and its inner tables, each with its struct and product."""
    products = struct.properties.products if isinstance(struct, Event) else ()
    product = products[0] if products else None
    yield table, struct, product
    for step in table._steps:
        if step.nested is None or (step.single and product is None):
            continue
        value = step.get(product if step.single else struct)
        for member in value if isinstance(value, tuple) else () if value is None else (value,):
            yield from written(cast("Table", step.nested.table), member)
    if table.items is not None and (inner := table.items[1].table_for(struct)) is not None:
        yield from written(inner, struct)


def compare(output: Output, event: Event) -> int:
    """Compare every table that writes *event*, and return their number."""
    call = output.select(event)
    if isinstance(call, Declined):
        return 0
    count = 0
    for table, struct, product in written(call.table, call.event):
        write = compile_writer(table.wire.__name__, table._steps)
        for same in (False, True):
            generated = outcome(
                lambda *args, same, write=write: write(*args, same), struct, product, same=same
            )
            assert generated == outcome(
                lambda *args, same, table=table: interpreted(table._steps, *args, same=same),
                struct, product, same=same,
            )  # fmt: skip
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


def test_a_traceback_shows_the_line_of_a_writer() -> None:
    """The traceback of a failed codec shows the generated line that calls it."""
    table = next(
        table
        for event in EVENTS
        if not isinstance(call := VENDORS["chrts"].select(event), Declined)
        for table in [call.table]
    )
    write = compile_writer("Broken", table._steps)
    try:
        write(object(), None, {}, False)  # noqa: FBT003 - as a table calls it
    except AttributeError as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
    assert "value = event." in linecache.getline(frame.filename, frame.lineno or 0)
