"""Readers: the rows of a table as one Python function, which makes an event of a payload.

The source of a reader is generated when the table first reads. It looks up the key of each row,
keeps the value in a variable named after the event's field, and makes the structs at the end. Keys
without a row and values that do not fit are the unmapped fields. Each value that the vendor would
refuse is noted, and the error of the first one in the payload is raised.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from gateway.errors import Fault, Rejected
from gateway.event import NOTHING, Event
from gateway.event_fields import defaults
from gateway.mapping.compiled_rows import (
    JSON_NAMES,
    CompiledRow,
    Path,
    TrieEntry,
    TrieNode,
    build_trie,
    json_name,
)
from gateway.mapping.generated import define, indented
from gateway.mapping.struct_builder import needed

Reader: TypeAlias = Callable[..., Any]
COMPARED = 2
"""Most classes that are compared one by one; more are looked up in a set."""
TAB = "    "


class Around(NamedTuple):
    """What the fields around a list of events say of each event in it."""

    fields: tuple[str, ...] = ()
    """Paths in the event."""
    values: tuple[Any, ...] = ()


ALONE = Around()
"""Nothing is around the payload of one event."""


def compile_event_reader(
    name: str,
    steps: Sequence[CompiledRow],
    around: Sequence[str],
    fixed: Mapping[str, str],
    *,
    strict: bool,
) -> Reader:
    """Return a function that makes an `Event` of a payload, a `Stamp`, an index and values.

    Args:
        name: of the table, for tracebacks.
        steps: its rows.
        around: paths in the event of the values, which rows may replace.
        fixed: values of fields, whatever the payload has.
        strict: whether a value of the wrong type is an error; otherwise it stays unmapped.
    """
    source = _ReaderSource(Event, steps, around, strict=strict)
    lines = ["origin, request_id, received_at = stamp"]
    stamped = {"origin": "origin", "id": "f'{request_id}-{index}'", "received_at": "received_at"}
    known = {field: repr(value) for field, value in fixed.items()}
    lines += source.made({**stamped, **known})
    return source.defined(name, "payload, stamp, index, around", lines)


def compile_struct_reader(
    name: str, steps: Sequence[CompiledRow], into: type, *, strict: bool
) -> Reader:
    """Return a function that makes a struct of the class *into* of a payload.

    The other arguments are those of `compile_event_reader`.
    """
    source = _ReaderSource(into, steps, (), strict=strict)
    return source.defined(name, "payload", list(source.made({})))


def compile_around_reader(
    name: str, steps: Sequence[CompiledRow], around: Sequence[str], *, strict: bool
) -> tuple[Reader, tuple[str, ...]]:
    """Return a function that makes values of a payload and values, and the values' paths.

    It returns the unmapped fields, too. The arguments are those of `compile_event_reader`.
    """
    source = _ReaderSource(Event, steps, around, strict=strict)
    found = "".join(f"{_local(path)}, " for path in source.fields)
    lines = [*source.joined_maps(), f"return ({found}), {{**rest}} if rest else {{}}"]
    return source.defined(name, "payload, around", lines), source.fields


class _ReaderSource:
    """The source of a reader; the arguments are those of `compile_event_reader`."""

    def __init__(
        self, into: type, steps: Sequence[CompiledRow], around: Sequence[str], *, strict: bool
    ) -> None:
        self._into = into
        self._steps = steps
        self._strict = strict
        self._around = tuple(around)
        mine = [step.variable for step in steps if step.variable]
        self.fields = tuple(dict.fromkeys((*around, *mine)))
        self._groups = needed(into, self.fields)
        self._maps = {group.path for group in self._groups if group.make is None}
        self._names: dict[str, Any] = {
            "Rejected": Rejected, "TYPE": Fault.TYPE, "NOTHING": NOTHING, "first": first_fault,
            "leftovers": leftovers, "no_object": _no_object, "missing": _missing,
            "invalid": _invalid, **{kind.__name__: kind for kind in JSON_NAMES},
        }  # fmt: skip
        self._known = {id(value): name for name, value in self._names.items()}

    def defined(self, name: str, arguments: str, ending: Iterable[str]) -> Reader:
        """Return the function that reads a payload, and then does what *ending* says."""
        body = [
            *self._required(),
            *self._defaults(),
            "faults = []",
            *self._node(build_trie(self._steps), "payload", ()),
            "if faults:",
            TAB + "raise first(payload, faults)",
            *ending,
        ]
        lines = [f"def read({arguments}):", *indented(body)]
        reader: Reader = define("read", lines, self._names, f"reader of {name}")
        return reader

    def _name(self, kind: str, value: Any) -> str:
        """Return the name of *value* in the source; a new one begins with *kind*."""
        name = self._known.setdefault(id(value), f"{kind}{len(self._names)}")
        self._names[name] = value
        return name

    def _required(self) -> Iterator[str]:
        yield "if type(payload) is not dict:"
        yield TAB + "raise Rejected('$', 'expected an object', TYPE, payload)"
        for step in self._steps:
            if step.row.required:
                key, row = f"payload.get({step.key!r})", self._name("row", step)
                yield f"if {key if step.key else f'{row}.find(payload)'} is None:"
                yield TAB + f"raise missing({step.row.synonyms[0]!r})"

    # The values of the fields before anything is read.

    def _defaults(self) -> Iterator[str]:
        if self._around:
            yield "".join(f"{self._outer(path)}, " for path in self._around) + "= around"
        for path in self.fields:
            if path not in self._around or path in self._maps:
                yield f"{_local(path)} = {self._default(path)}"

    def _variables(self) -> Iterator[str]:
        """Yield the paths of all variables: of the fields, and of the structs that hold them."""
        held = (group.path.removesuffix("[0]") for group in self._groups)
        yield from dict.fromkeys((*self.fields, *held))

    def _outer(self, path: str) -> str:
        return f"outer_{_local(path)}" if path in self._maps else _local(path)

    def _default(self, path: str) -> str:
        """Return the default of a field in the source."""
        if path in self._maps:
            return "NOTHING"
        above, _, field = path.rpartition(".")
        struct = next((group.make for group in self._groups if group.path == above), self._into)
        return self._named_default(defaults(struct)[field])

    def _named_default(self, default: Any) -> str:
        return "None" if default is None else self._name("default", default)

    # Reading: one node of the payload, one key, one row.

    def _node(self, node: TrieNode, here: str, path: Path) -> Iterator[str]:
        """Yield the lines that read an object; what is unmapped of it is in ``rest``.

        They count the keys that have rows: an object with no others leaves nothing.
        """
        left, met = f"left{len(path)}", f"met{len(path)}"
        lines = []
        for key, entry in node.keys.items():
            read = [f"value = {here}[{key!r}]", *self._key(entry, (*path, key), left)]
            lines += [f"if {key!r} in {here}:", *indented([f"{met} += 1", *read])]
        keys = self._name("keys", frozenset(node.keys))
        yield f"{left}, {met} = {{}}, 0"
        yield from lines
        yield f"rest = None if not {left} and {met} == len({here}) else \\"
        yield TAB + f"leftovers({here}, {keys}, {left})"
        if node.star:
            free = _local(node.star)
            yield "if rest:"
            yield TAB + f"{free} = {{**{free}, **rest, **{free}}} if {free} else rest"
            yield "rest = None"

    def _key(self, entry: TrieEntry, path: Path, left: str) -> Iterator[str]:
        """Yield the lines that read the value of a key with rows; all but null is a value."""
        step, rank, below = entry
        mine = [] if step is None else [*self._value(step, rank, path, left)]
        if below is None:
            yield from mine
            return
        inside = f"here{len(path)}"
        yield "if type(value) is dict:"
        yield TAB + f"{inside} = value"
        whole = step is not None and step.whole
        if whole:
            yield from indented(mine)
        yield from indented(self._node(below, inside, path))
        if not whole and not below.star:
            yield TAB + "if rest:"
            yield TAB * 2 + f"{left}[{path[-1]!r}] = rest"
        if step is not None:
            yield "else:"
            yield from indented(mine)
        else:
            fault = f"faults.append(({path!r}, no_object({'.'.join(path)!r}, value)))"
            yield "elif value is not None:"
            yield TAB + (fault if self._strict else f"{left}[{path[-1]!r}] = value")

    def _value(self, step: CompiledRow, rank: int, path: Path, left: str) -> Iterator[str]:
        """Yield the lines that read the value of a row."""
        if step.literal:
            yield "pass"
            return
        row, must = self._name("row", step), step.row.required or self._strict
        keep = f"{left}[{path[-1]!r}] = value"
        place = step.row.synonyms[rank]
        word = "if"
        if rank:
            yield f"if value is not None and {row}.beaten(payload, {rank}):"
            yield TAB + keep
            word = "elif"
        fault = f"faults.append(({path!r}, {row}.wrong(value, {rank})))"
        for classes, lines in self._cases(step, place, path, keep, must=must):
            if classes:
                yield f"{word} {self._is_one_of(classes)}:"
                yield from indented(lines)
                word = "elif"
        yield f"{word} value is not None:"
        yield TAB + (fault if must else keep)

    def _cases(
        self, step: CompiledRow, place: str, path: Path, keep: str, *, must: bool
    ) -> Iterator[tuple[frozenset[type], list[str]]]:
        """Yield classes of a row's value, each with the lines that take such a value."""
        accepts = step.accepts - {type(None)}
        if not step.field:
            yield accepts, ["pass"]
        elif step.nested is not None:
            nested = self._name("nested", step.nested)
            lines = [
                "try:",
                TAB + self._put(step, f"{nested}.read(value, {place!r})"),
                "except Rejected as error:",
                TAB + f"faults.append(({path!r}, error))",
            ]
            if not must:
                unfit = [f"if not {nested}.fits(value):", TAB + keep, "else:"]
                lines = [*unfit, *indented(lines)]
            yield accepts, lines
        elif step.decode is None:
            yield accepts, [self._put(step, "value")]
        else:
            yield accepts & step.keeps, [self._put(step, "value")]
            fault = f"faults.append(({path!r}, invalid({place!r}, error, value)))"
            lines = [
                "try:",
                TAB + self._put(step, f"{self._name('decode', step.decode)}(value)"),
                f"except ValueError{' as error' if must else ''}:",
                TAB + (fault if must else keep),
            ]
            yield accepts - step.keeps, lines

    def _is_one_of(self, classes: frozenset[type]) -> str:
        """Return the condition that the value has one of *classes*."""
        ordered = sorted(classes, key=lambda one: one.__name__)
        if len(ordered) > COMPARED:
            return f"type(value) in {self._name('classes', classes)}"
        names = [self._name(one.__name__, one) for one in ordered]
        kind = "type(value)" if len(names) == 1 else "(kind := type(value))"
        return " or kind is ".join([f"{kind} is {names[0]}", *names[1:]])

    def _put(self, step: CompiledRow, value: str) -> str:
        """Return the line that sets the variable of a row's field."""
        variable = _local(step.variable)
        if step.variable == step.group:
            return f"{variable} = {{**{variable}, {step.field!r}: {value}}}"
        return f"{variable} = {value}"

    # Making the structs of the variables.

    def joined_maps(self) -> Iterator[str]:
        """Yield the lines that add the free keys of the fields around the events."""
        for path in self._around:
            if path in self._maps:
                yield f"if {self._outer(path)}:"
                yield TAB + f"{_local(path)} = {{**{self._outer(path)}, **{_local(path)}}}"

    def made(self, known: Mapping[str, str]) -> Iterator[str]:
        """Yield the lines that make the struct, with *known* values of its own fields."""
        yield from self.joined_maps()
        if "extra" in self.fields:
            yield "if rest:"
            yield TAB + "new_extra = {**new_extra, **rest}"
        else:
            yield "new_extra = rest or NOTHING"
        for group in self._groups:
            members = self._members(group.path)
            if group.make is not None and members:
                made = self._call(group.make, {f: _local(p) for f, p in members.items()})
                made = f"({made},)" if group.indexed else made
                same = " and ".join(f"{_local(p)} is {self._default(p)}" for p in members.values())
                path = group.path.removesuffix("[0]")
                usual = _local(path) if path in self.fields else self._default(path)
                yield f"{_local(path)} = {usual} if {same} else {made}"
        held = {f: _local(p) for f, p in self._members("").items()}
        yield f"return {self._call(self._into, {**held, **known})}"

    def _call(self, struct: type[msgspec.Struct], values: Mapping[str, str]) -> str:
        """Return the call that makes a struct.

        Values are given by position where that is possible: the interpreter makes a dict of more
        than 15 keywords.
        """
        usual, said, late = defaults(struct), [], 0
        for field in struct.__match_args__:
            said.append(values.get(field) or self._named_default(usual[field]))
            late = len(said) if field in values else late
        by_name = [f"{f}={v}" for f, v in values.items() if f not in struct.__match_args__]
        return f"{self._name(struct.__name__, struct)}({', '.join([*said[:late], *by_name])})"

    def _members(self, group: str) -> dict[str, str]:
        """Return the variables' paths of the fields directly in *group*, by field."""
        split = (path.rpartition(".") for path in self._variables())
        return {field: f"{above}.{field}" if above else field
                for above, _, field in split if above == group}  # fmt: skip


def _local(path: str) -> str:
    """Return the variable of a field of the event."""
    return "new_" + path.replace("[0]", "_0").replace(".", "__")


def first_fault(payload: Any, faults: Iterable[tuple[Path, Rejected]]) -> Rejected:
    """Return the error that a reader of *payload*, key by key, would meet first.

    Args:
        payload: as it came.
        faults: errors, each with the path of the value that is wrong.
    """

    def place(fault: tuple[Path, Rejected]) -> list[int]:
        node, found = payload, []
        for key in fault[0]:
            found.append(list(node).index(key))
            node = node[key]
        return found

    return min(faults, key=place)[1]


def leftovers(
    here: Mapping[str, Any], keys: Collection[str], left: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the unmapped fields of an object, in its order. Null counts as missing.

    Args:
        here: the object.
        keys: keys that have rows.
        left: what is unmapped of the values of these keys.
    """
    if not left:
        return {key: here[key] for key in here if key not in keys and here[key] is not None}
    return {
        key: left.get(key, value)
        for key, value in here.items()
        if key in left or (key not in keys and value is not None)
    }


def _missing(place: str) -> Rejected:
    return Rejected(place, "required", Fault.MISSING)


def _no_object(place: str, value: Any) -> Rejected:
    return Rejected(place, f"expected object, got {json_name(value)}", Fault.TYPE, value)


def _invalid(place: str, error: ValueError, value: Any) -> Rejected:
    rejected = Rejected(place, str(error), Fault.VALUE, value)
    rejected.__cause__ = error
    return rejected
