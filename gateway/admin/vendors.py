"""Endpoints for vendors: their endpoints and the tables that map their fields."""

import msgspec

from gateway.admin.context import AdminContext
from gateway.admin.endpoint import Endpoint, Name, endpoint
from gateway.mapping import EventMapping, Row, Switch
from gateway.suggestions import check_name


class VendorInfo(msgspec.Struct, frozen=True):
    """A vendor, and what the gateway supports."""

    name: str
    docs: str
    """The vendor's documentation of its format."""
    input: bool
    output: bool
    endpoints: list[str]
    """Translated endpoints."""
    unsupported: list[str]
    """Documented endpoints that are no events."""


class Vendors(msgspec.Struct, frozen=True):
    """All vendors."""

    vendors: list[VendorInfo]


class FieldRow(msgspec.Struct, frozen=True):
    """One field, in the vendor's payload and in the event."""

    wire: list[str]
    """The vendor's paths: the first one present is read, the first one is written."""
    event: str
    """The event's path; empty if the field is not passed on."""
    codec: str
    """The codec that converts the value; empty if it is unchanged."""
    required: bool
    note: str
    words: list[str]
    """The vendor's names of the events that have the field; empty if all have it."""


class Meaning(msgspec.Struct, frozen=True):
    """The neutral meaning of a vendor's event name."""

    word: str
    event: str
    """The neutral name of the event, or its type."""


class EndpointTable(msgspec.Struct, frozen=True):
    """The fields of one endpoint, or of several that are equal."""

    endpoints: list[str]
    field: str
    """The field that has the event's name; empty if there is none."""
    meanings: list[Meaning]
    rows: list[FieldRow]


class VendorTables(msgspec.Struct, frozen=True):
    """A vendor with all of its tables."""

    vendor: VendorInfo
    tables: list[EndpointTable]


@endpoint("GET", "/vendors")
async def list_vendors(context: AdminContext) -> Vendors:
    """List the installed vendors."""
    return Vendors([_vendor(context, name) for name in context.gateway.registry.vendors])


@endpoint("GET", "/vendors/{name}", refuses={404: "There is no such vendor."})
async def show_vendor(context: AdminContext, name: Name) -> VendorTables:
    """Show how a vendor's fields map to the event's."""
    registry = context.gateway.registry
    check_name("vendor", name, registry.vendors)
    halves = [half[name] for half in (registry.inputs, registry.outputs) if name in half]
    endpoints: dict[str, EventMapping] = {}
    for half in halves:
        endpoints |= half.endpoints
    alike: dict[int, list[str]] = {}
    for path, mapped in endpoints.items():
        alike.setdefault(id(mapped), []).append(path)
    tables = [_table(endpoints[paths[0]], paths) for paths in alike.values()]
    return VendorTables(_vendor(context, name), tables)


def _vendor(context: AdminContext, name: str) -> VendorInfo:
    registry = context.gateway.registry
    reads, writes = registry.inputs.get(name), registry.outputs.get(name)
    known = reads or writes
    return VendorInfo(
        name=name,
        docs=known.docs if known else "",
        input=reads is not None,
        output=writes is not None,
        endpoints=list(known.endpoints) if known else [],
        unsupported=sorted(reads.unsupported) if reads else [],
    )


def _table(mapped: EventMapping, paths: list[str]) -> EndpointTable:
    if not isinstance(mapped, Switch):
        return EndpointTable(paths, "", [], [_row(row, []) for row in mapped.flat()])
    tables = dict(mapped.tables)
    if mapped.otherwise is not None:
        tables["any other"] = mapped.otherwise
    held: dict[Row, list[str]] = {}
    for word, table in tables.items():
        for row in dict.fromkeys(table.flat()):
            if row.wire != mapped.field:  # the meanings have it
                held.setdefault(row, []).append(word)
    rows = [_row(row, [] if len(w) == len(tables) else w) for row, w in held.items()]
    meanings = [
        Meaning(word, table.fixed.get("name") or table.event) for word, table in tables.items()
    ]
    return EndpointTable(paths, mapped.field, meanings, rows)


def _row(row: Row, words: list[str]) -> FieldRow:
    return FieldRow(row.synonyms, row.event, row.codec.name, row.required, row.note, words)


ENDPOINTS: tuple[Endpoint, ...] = (list_vendors, show_vendor)
