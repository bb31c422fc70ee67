"""Read payloads by a walk over their keys: what a generated reader must agree with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from gateway.errors import Fault, Rejected
from gateway.event import Event
from gateway.mapping.compiled_rows import CompiledRow, TrieEntry, TrieNode, build_trie, json_name
from gateway.mapping.struct_builder import StructGroup, groups
from gateway.mapping.table import EventMapping, Stamp, Switch, Table

Built: TypeAlias = dict[str, dict[str, Any]]
"""Values by group and field; the struct itself is the group ``""``."""
Found: TypeAlias = tuple[Built, dict[str, Any]]
"""The values of one event by group, and its unmapped fields."""


def read(mapped: EventMapping, payload: Any, stamp: Stamp) -> list[Event]:
    """Return the events in *payload*."""
    events = []
    for index, (built, rest) in enumerate(find(mapped, payload)):
        top = built.setdefault("", {})
        top["origin"], request_id, top["received_at"] = stamp
        top["id"] = f"{request_id}-{index}"
        events.append(_struct(Event, built, rest))
    return events


def find(mapped: EventMapping, payload: Any) -> Iterator[Found]:
    """Yield mapped values and unmapped fields, once per event."""
    table = mapped._table(payload) if isinstance(mapped, Switch) else mapped
    assert isinstance(table, Table)
    built: Built = {}
    rest = pick(table, payload, built)
    if table.items is not None:
        yield from _find_each(table.items, built, rest)
        return
    built.setdefault("", {}).update(table.fixed)
    products = built.get("properties", {}).get("products", ())
    if table.split_products and len(products) > 1:
        for product in products:
            yield _copy(built, {"properties": {"products": (product,)}}), dict(rest)
    else:
        yield built, rest


def _find_each(each: tuple[str, EventMapping], outer: Built, rest: dict[str, Any]) -> Iterator[Any]:
    key, items = each
    found = rest.pop(key, None)
    if type(found) is not list:
        fault = Fault.MISSING if found is None else Fault.TYPE
        raise Rejected(key, "expected an array", fault, found)
    for index, item in enumerate(found):
        try:
            for inner, left in find(items, item):
                yield _copy(outer, inner), {**rest, key: [left]} if left else dict(rest)
        except Rejected as error:
            raise error.below(f"{key}.{index}") from error


def _copy(outer: Built, inner: Built) -> Built:
    merged = {group: dict(values) for group, values in outer.items()}
    for group, values in inner.items():
        merged.setdefault(group, {}).update(values)
    return merged


def build(table: Table, payload: Any) -> Any:
    """Return *payload* as the struct of *table*."""
    built: Built = {}
    rest = pick(table, payload, built)
    return _struct(table.into, built, rest)


def _struct(into: type, built: Built, rest: dict[str, Any]) -> Any:
    if rest:
        built["extra"] = {**built.get("extra", {}), **rest}
    order: Sequence[StructGroup] = groups(into)
    for path, above, field, make, indexed in order:
        values = built.get(path)
        if values:
            value: Any = values if make is None else make(**values)
            built.setdefault(above, {})[field] = (value,) if indexed else value
    return into(**built.get("", {}))


def pick(table: Table, payload: Any, built: Built) -> dict[str, Any]:
    """Copy the mapped values of *payload* into *built*; return the unmapped fields."""
    if type(payload) is not dict:
        raise Rejected("$", "expected an object", Fault.TYPE, payload)
    for step in table._all:
        if step.row.required and step.find(payload) is None:
            raise Rejected(step.row.synonyms[0], "required", Fault.MISSING)
    return PayloadWalk(table, payload, built).over(payload, build_trie(table._all))


@dataclass
class InterpretedTable:
    """A nested table that is read by walks, too."""

    table: Any

    def build(self, payload: Any) -> Any:
        """Return *payload* as the struct of the table."""
        return build(self.table, payload)


class PayloadWalk:
    """One walk over one payload."""

    def __init__(self, table: Table, payload: dict[str, Any], built: Built) -> None:
        self.payload = payload
        self.built = built
        self.strict = table.strict
        self.ranks = {id(step): rank for rank, step in enumerate(table._all)}
        self.noted: dict[tuple[str, str], int] = {}

    def over(self, here: dict[str, Any], node: TrieNode, place: str = "") -> dict[str, Any]:
        """Read the keys of *node* from *here*; return the unmapped fields. Null counts as missing.

        Raises:
            Rejected: the vendor does not accept a value.
        """
        rest: dict[str, Any] = {}
        for key, value in here.items():
            if value is not None:
                entry = node.keys.get(key)
                left = value if entry is None else self._key(entry, value, place + key)
                if left is not None:
                    rest[key] = left
        if node.star and rest:
            target = self.built.setdefault(node.star, {})
            for key, value in rest.items():
                target.setdefault(key, value)
            return {}
        return rest

    def _key(self, entry: TrieEntry, value: Any, place: str) -> Any:
        step, rank, below = entry
        inside = below if type(value) is dict else None
        if step is not None and (inside is None or step.whole):
            left = None if self.take(step, rank, value) else value
            if inside is not None:
                self.over(value, inside, f"{place}.")
            return left
        if inside is not None:
            return self.over(value, inside, f"{place}.") or None
        if self.strict:
            raise Rejected(place, f"expected object, got {json_name(value)}", Fault.TYPE, value)
        return value

    def take(self, step: CompiledRow, rank: int, value: Any) -> bool:  # noqa: C901 - one case a line
        """Store *value* for the event; return whether the row has handled it.

        Raises:
            Rejected: the vendor does not accept the value.
        """
        if step.literal:
            return True
        if rank and step.beaten(self.payload, rank):
            return False
        must = step.row.required or self.strict
        if type(value) not in step.accepts:
            if must:
                raise step.wrong(value, rank)
            return False
        if not step.field:
            return True
        if step.nested is not None:
            if not (must or step.nested.fits(value)):
                return False
            nested = replace(step.nested, table=cast("Any", InterpretedTable(step.nested.table)))
            value = nested.read(value, step.row.synonyms[rank])
        elif step.decode is not None:
            try:
                value = step.decode(value)
            except ValueError as error:
                if must:
                    place = step.row.synonyms[rank]
                    raise Rejected(place, str(error), Fault.VALUE, value) from error
                return False
        self._note(step, value)
        return True

    def _note(self, step: CompiledRow, value: Any) -> None:
        field, rank = (step.group, step.field), self.ranks[id(step)]
        if self.noted.get(field, -1) < rank:
            self.noted[field] = rank
            self.built.setdefault(step.group, {})[step.field] = value
