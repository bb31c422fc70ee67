"""Writers: the rows of a table as one Python function, which reads an event and fills a payload.

The source of a writer is generated when the table is first used. It does what a loop over the rows
would do, without asking of each row, for each event, which kind it is. Tracebacks show its lines.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gateway.mapping.compiled_rows import EMPTY, SINGLE, CompiledRow
from gateway.mapping.generated import define

RowWriter = Callable[[Any, Any, dict[str, Any], bool], None]
"""Fills a payload: the event, its only product or None, the payload, and whether the event came in
the same vendor's format."""


def compile_writer(name: str, steps: Sequence[CompiledRow]) -> RowWriter:
    """Return a function that writes what *steps* say of an event, in their order.

    The function raises Unrenderable if the event lacks a required field.

    Args:
        name: of the table, for tracebacks.
        steps: rows of the table but those that take free keys.
    """
    names: dict[str, Any] = {"EMPTY": EMPTY}
    lines = ["def write(event, product, payload, same):"]
    for number, step in enumerate(steps):
        lines += _lines(step, number, names)
    lines.append("    return None")
    writer: RowWriter = define("write", lines, names, f"writer of {name}")
    return writer


def _lines(step: CompiledRow, number: int, names: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that write one row; *names* takes what they refer to."""
    if not (step.literal or step.row.event):
        return
    names[f"step{number}"] = step
    if step.literal:
        names[f"get{number}"] = step.get
    yield f"    value = {_read(step, number)}"
    yield "    if value is not None and (value or value not in EMPTY):"
    if step.encode is not None:
        names[f"encode{number}"] = step.encode
        yield f"        value = encode{number}(value)"
    put, indent = _put(step), "        "
    if step.nested is not None:
        names[f"nested{number}"] = step.nested.write
        yield f"        value = nested{number}(value, same=same)"
        yield "        if value:"
        indent += "    "
    yield f"{indent}{put} = value"
    if step.row.required and step.row.event:
        yield "    else:"
        yield f"        step{number}.missing()"


def _read(step: CompiledRow, number: int) -> str:
    holder = "product" if step.single else "event"
    if step.literal:
        read = f"get{number}({holder})"
    else:
        path = step.row.event.removeprefix(SINGLE)
        group, _, key = path.rpartition(".")
        if group == "extra" or group.endswith(".extra") or group == "consent":
            read = f"{holder}.{group}.get({key!r})"
        else:
            read = f"{holder}.{path}"
    return f"None if product is None else {read}" if step.single else read


def _put(step: CompiledRow) -> str:
    *above, last = step.paths[0]
    into = "payload" + "".join(f".setdefault({key!r}, {{}})" for key in above)
    return f"{into}[{last!r}]"
