# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The generated parts of the vendors' pages: written from the translation tables themselves."""

import ast
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from docs.markdown import ROOT, blocks, code, listed, table
from gateway.event import Event
from gateway.event_fields import bare, is_mapping, is_struct
from gateway.mapping import NEVER_LOST, EventMapping, Row, Switch, Table
from gateway.plugin.registry import PluginRegistry

Cells: TypeAlias = tuple[str, str, str, str]
"""A row as it is shown: the vendor's paths, the event's, how the value changes, notes."""

Words: TypeAlias = tuple[str, ...]

OTHER = "any other"
"""What is said for the words that a switch does not list."""
LITERAL = "always "
"""How the names of codecs begin that write always the same."""
COLUMNS = ("vendor", "event", "how", "notes")
FEW = 4
"""How many words a heading or a note lists."""
SMALL = 2
"""How many rows are too few for a part of their own."""
SPELLINGS = 2
"""How many spellings of one field a cell shows."""
NONE = "—"
NEVER = NEVER_LOST - {"name"} | {"extra.*"}
"""Fields that no vendor sends: the gateway's own, and what no row maps."""
GROUPS = {
    "properties.products[].": "Products",
    "properties.": "Properties",
    "traits.": "Traits",
    "context.": "Context",
    "": "The event",
}
"""What the fields of the event begin with, and what that part of it is called."""
LEGEND = (
    "If a row has several spellings, the gateway reads the first that is present, and writes the "
    "first. `*` is every key that no other row names, `[]` each member of an array, `[0]` the only "
    "product of an event about one. If *how* is empty, the value stays as it is."
)


def fields(registry: PluginRegistry, vendor: str, only: Collection[str] = ()) -> str:
    """Return the rows of each endpoint of *vendor*, or of *only* some, in Markdown."""
    endpoints = {**registry.inputs[vendor].endpoints, **registry.outputs[vendor].endpoints}
    alike: dict[tuple[str, ...], list[str]] = {}
    for endpoint, mapped in endpoints.items():
        if only and endpoint not in only:
            continue
        alike.setdefault(tuple(_sections(mapped, "")), []).append(code(endpoint))
    parts = [LEGEND]
    for sections, same in alike.items():
        parts += [f"### {listed(same)}", *sections]
    return blocks(parts)


def _sections(mapped: EventMapping, outer: str) -> Iterator[str]:
    """Yield the tables of one payload, whose paths all begin with *outer*."""
    if isinstance(mapped, Switch):
        yield from _choices(mapped, outer)
    elif isinstance(mapped, Table) and mapped.items is not None:
        key, inner = mapped.items
        every = list(mapped.flat())
        yield "Once per request:"
        yield _rows(every[: len(every) - len(list(inner.flat()))], outer)
        yield f"In each of {code(key)}:"
        yield from _sections(inner, f"{outer}.{key}[]".removeprefix("."))
    else:
        yield _rows(mapped.flat(), outer)


def _choices(switch: Switch, outer: str) -> Iterator[str]:
    """Yield what the words of *switch* mean, then the rows, those of the same words together."""
    words = dict(switch.tables)
    if switch.otherwise is not None:
        words[OTHER] = switch.otherwise
    holders: dict[Cells, list[str]] = {}
    for word, chosen in words.items():
        for row in chosen.flat():
            if not (row.wire == switch.field and row.codec.name.startswith(LITERAL)):
                holders.setdefault(_cells(row, outer), []).append(word)
    parts = _parts(holders)
    field = f"{outer}.{switch.field}".removeprefix(".")
    meanings = (
        (_word(word), _becomes(chosen), ", ".join(_numbers(word, parts)))
        for word, chosen in words.items()
    )
    yield table((code(field), "becomes", "its fields: parts"), meanings)
    for number, (held, rows) in enumerate(parts.items(), start=1):
        yield f"Part {number}{_where(held, words)}:"
        yield table(COLUMNS, rows)


def _parts(holders: Mapping[Cells, Sequence[str]]) -> dict[Words, list[Cells]]:
    """Return the rows by the words that they are for, the most general ones first.

    A row or two that only a few words lack stand with the rows of all of these words, and say so.
    """
    exact: dict[Words, list[Cells]] = {}
    for cells, held in holders.items():
        exact.setdefault(tuple(dict.fromkeys(held)), []).append(cells)
    parts: dict[Words, list[Cells]] = {}
    for held, rows in sorted(exact.items(), key=lambda part: -len(part[0])):
        above = [wider for wider in parts if {*held} < {*wider} and len(wider) - len(held) <= FEW]
        if not above or len(rows) > SMALL or len(held) <= FEW:
            parts[held] = rows
            continue
        lacking = [_word(word) for word in above[-1] if word not in held]
        but = f"not in {listed(lacking, 'or')}"
        parts[above[-1]] += [
            (theirs, ours, how, f"{notes}; {but}" if notes else but)
            for theirs, ours, how, notes in rows
        ]
    return parts


def _numbers(word: str, parts: Mapping[Words, Any]) -> Iterator[str]:
    return (str(number) for number, held in enumerate(parts, start=1) if word in held)


def _where(held: Collection[str], words: Collection[str]) -> str:
    if len(held) == len(words):
        return ", in all of them"
    return f", in {listed([_word(w) for w in held])}" if len(held) <= FEW else ""


def _word(word: str) -> str:
    """Return *word* as code if it is the vendor's own, else marked as a description."""
    return code(word) if re.fullmatch(r"[\w./-]+", word) else f"*{word}*"


def _becomes(chosen: Table) -> str:
    kind, name = chosen.fixed["type"], chosen.fixed.get("name")
    if name is not None:
        return name
    return "track, under its own name" if kind == "track" else kind


def _cells(row: Row, outer: str) -> Cells:
    paths = (f"{outer}.{path}".removeprefix(".") for path in row.synonyms)
    return listed([*map(code, paths)], "or"), _to(row), _how(row), _notes(row)


def _rows(rows: Iterable[Row], outer: str) -> str:
    return table(COLUMNS, (_cells(row, outer) for row in rows))


def _to(row: Row) -> str:
    return code(row.event) if row.event else ""


def _how(row: Row) -> str:
    name = row.codec.name
    if not name.startswith(LITERAL):
        return name
    return LITERAL + code(json.dumps(ast.literal_eval(name.removeprefix(LITERAL))))


def _notes(row: Row) -> str:
    notes = ["required"] if row.required else []
    if not row.event and not row.codec.name.startswith(LITERAL):
        notes.append("not passed on")
    return "; ".join([*notes, row.note] if row.note else notes)


def vendors(registry: PluginRegistry) -> str:
    """Return the list of vendors, each with what its page says that it is."""
    rows = []
    for vendor in registry.vendors:
        title, sentence = _opening(vendor)
        docs = {**registry.inputs, **registry.outputs}[vendor].docs
        rows.append((f"[{title}]({vendor}.md)", sentence, f"<{docs}>"))
    return blocks([table(("vendor", "what it is", "its document"), rows)])


@cache
def _opening(vendor: str) -> tuple[str, str]:
    """Return the title of a vendor's page and the sentence that says what the vendor is.

    The paragraph between them says what a reader can do after the page.
    """
    page = (ROOT / f"docs/vendors/{vendor}.md").read_text()
    title, _, about, *_ = page.split("\n\n")
    paragraph = " ".join(about.split())
    return title.removeprefix("# "), paragraph.partition(". ")[0].rstrip(".") + "."


def rosetta(registry: PluginRegistry) -> str:
    """Return how each vendor spells each field of the event, in Markdown."""
    titles = [_opening(vendor)[0] for vendor in registry.formats]
    known = {name: _spellings(registry.inputs[name].endpoints) for name in registry.formats}
    grouped: dict[str, list[tuple[str, ...]]] = {GROUPS[""]: []}
    for leaf in leaves(Event):
        if leaf not in NEVER:
            group = next(title for start, title in GROUPS.items() if leaf.startswith(start))
            cells = (_spelt(spellings.get(leaf, [])) for spellings in known.values())
            grouped.setdefault(group, []).append((code(leaf), *cells))
    parts = []
    for group, rows in grouped.items():
        parts += [f"### {group}", table(("event", *titles), rows)]
    return blocks(parts)


def _spelt(spellings: list[str]) -> str:
    if not spellings:
        return NONE
    more = "<br>…" if len(spellings) > SPELLINGS else ""
    return "<br>".join(map(code, spellings[:SPELLINGS])) + more


def _spellings(endpoints: Mapping[str, EventMapping]) -> dict[str, list[str]]:
    """Return the fields of the event to what they are called, one spelling per row."""
    found: dict[str, dict[str, None]] = {}
    for mapped in endpoints.values():
        for row in mapped.flat():
            if row.event:
                found.setdefault(_leaf(row), {})[row.synonyms[0]] = None
    return {leaf: list(spellings) for leaf, spellings in found.items()}


def _leaf(row: Row) -> str:
    """Return the field of the event that *row* is about, as `leaves` spells it."""
    path = row.event.replace("[0]", "[]")
    if path.partition(".")[0] == "consent":
        return "consent.*"
    return f"{path}.*" if row.wire.endswith("*") else path


def leaves(into: Any, above: str = "") -> Iterator[str]:
    """Yield the dotted paths of every field of a struct and of what it holds.

    ``[]`` marks the members of a tuple, ``.*`` a mapping of free keys.
    """
    for field, hint in get_type_hints(into).items():
        here, path = bare(hint), f"{above}{field}"
        if get_origin(here) is tuple:
            yield from leaves(get_args(here)[0], f"{path}[].")
        elif is_struct(here):
            yield from leaves(here, f"{path}.")
        else:
            yield f"{path}.*" if is_mapping(here) else path
