# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""What is lost from each vendor to each other, from `gateway.losses.vendor_pairs`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from docs.markdown import blocks, code, table
from gateway.losses.field_outcomes import reason_of
from gateway.losses.reviewed import reviewed
from gateway.losses.vendor_pairs import EventLosses, Pair, pairs
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Output

NONE = "—"
DECLINED = "no"
SHOWN = 6
"""How many kinds of events a reason lists."""

Pairs = dict[tuple[str, str], Pair]


def losses(registry: PluginRegistry) -> str:
    """Return what is kept, coerced, lost and declined between all vendors, in Markdown."""
    found = pairs(registry)
    vendors = sorted({source for source, _ in found})
    parts = [
        "## Kinds of events: delivered / declined",
        _matrix(vendors, found, _events),
        "## Fields of the delivered ones: kept / coerced / lost",
        _matrix(vendors, found, _fields),
    ]
    for vendor in vendors:
        to = {source: found[source, vendor] for source in vendors}
        parts += [f"## To {vendor}", *_details(to, registry.outputs[vendor])]
    return blocks(parts)


def _matrix(vendors: Sequence[str], found: Pairs, shown: Callable[[Pair], str]) -> str:
    rows = [(f"from {one}", *(shown(found[one, other]) for other in vendors)) for one in vendors]
    return table(("", *(f"to {vendor}" for vendor in vendors)), rows, right=len(vendors))


def _events(pair: Pair) -> str:
    declined = sum(bool(told.declined) for told in pair.values())
    return f"{len(pair) - declined} / {declined}"


def _fields(pair: Pair) -> str:
    total = Counter[str]()
    for told in pair.values():
        total.update(told.counts())
    return _counts(total)


def _counts(count: Counter[str]) -> str:
    return " / ".join(str(count[how]) for how in ("kept", "coerced", "lost"))


def _reviewed(output: type[Output]) -> Iterator[tuple[str, str, str, str]]:
    for one in reviewed(output):
        written = one.step.replace("{field}", "<field>").replace(
            "{place}", "<properties or traits>"
        )
        step = code(written) if written else ""
        fields = ", ".join(map(code, one.fields))
        yield fields, ", ".join(one.events) or "every event", one.reason, step


def _details(to: dict[str, Pair], output: type[Output]) -> Iterator[str]:
    yield "Fields of each kind of event, kept / coerced / lost:"
    header = ("event", *(f"from {source}" for source in to))
    yield table(header, _kinds(to), right=len(to))
    yield "In how many kinds of events a field is lost, or (in brackets) coerced:"
    yield table(("field", *(f"from {source}" for source in to)), _lost(to), right=len(to))
    if left := list(_reviewed(output)):
        yield "Left out on purpose, where the vendor has a place for anything:"
        yield table(("field", "of", "why", "to send it"), left)
    if reasons := list(_reasons(to)):
        yield "Declined:"
        yield table(("reason", "events"), reasons)


def _kinds(to: dict[str, Pair]) -> Iterator[tuple[str, ...]]:
    """Yield a row per kind of event, of those of one row together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for kind in dict.fromkeys(kind for pair in to.values() for kind in pair):
        cells = tuple(_cell(pair.get(kind)) for pair in to.values())
        alike.setdefault(cells, []).append(kind)
    for cells, kinds in alike.items():
        yield ", ".join(kinds), *cells


def _cell(told: EventLosses | None) -> str:
    if told is None:
        return NONE
    return DECLINED if told.declined else _counts(told.counts())


def _lost(to: dict[str, Pair]) -> Iterator[tuple[str, ...]]:
    every = dict.fromkeys(
        field for pair in to.values() for told in pair.values() for field in told.fields
    )
    for field in every:
        cells = [_affected(pair, field) for pair in to.values()]
        if any(cell not in {"", NONE} for cell in cells):
            yield code(field), *cells


def _affected(pair: Pair, field: str) -> str:
    count = Counter(told.fields[field] for told in pair.values() if field in told.fields)
    if not count:
        return NONE
    lost = str(count["lost"] or "")
    return f"{lost} ({count['coerced']})".strip() if count["coerced"] else lost


def _reasons(to: dict[str, Pair]) -> Iterator[tuple[str, str]]:
    found: dict[str, dict[str, None]] = {}
    for pair in to.values():
        for kind, told in pair.items():
            if told.declined:
                found.setdefault(reason_of(told.declined), {})[kind] = None
    for why, kinds in found.items():
        rest = len(kinds) - SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        yield why, ", ".join([*kinds][:SHOWN]) + more
