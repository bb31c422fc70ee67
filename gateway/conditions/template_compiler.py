"""Compile a template to a function that builds its value from an event.

The structure of an expression (fields, literals, tables, lists, ``map``, ``filter``, ``? :``)
becomes Python code, so that a value stays exactly as it came, and an event costs what a vendor's
table does. So do joined lists, loops that only ask (``exists``, ``all``), and sums, products and
comparisons of texts and of numbers. What else computes (other operators, most functions) is
evaluated by the CEL library.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from gateway.conditions.analysis import ExpressionAnalysis
from gateway.conditions.direct import direct_operation
from gateway.conditions.export import exporter
from gateway.conditions.expression import Computation
from gateway.conditions.field_uses import FieldUse, fields_of, struct_fields
from gateway.conditions.functions import COALESCE, OWN_FUNCTIONS
from gateway.conditions.node_shapes import (
    LENIENT,
    chooses,
    has_plain_keys,
    is_coalesce,
    is_compiled,
    is_own,
    joins_lists,
    root_name,
)
from gateway.conditions.syntax import CelNode
from gateway.conditions.template_runtime import (
    ALL_MEMBERS,
    MOST_MEMBERS,
    QUANTIFIERS,
    applied,
    as_table,
    check_length,
    checked,
    copied,
    decide,
    item,
    join_lists,
    member,
    members_of,
)
from gateway.conditions.types import WHOLE
from gateway.conditions.variables import PREFIX, FieldReference, value_of
from gateway.event import Event
from gateway.event_fields import EventField, find_field, make_reader
from gateway.mapping.codecs import ISO8601
from gateway.mapping.generated import define

Analyses = Mapping[str, ExpressionAnalysis]
"""The analyses of a template's expressions, by their texts without the mark."""


def is_expression(raw: Any) -> bool:
    """Return whether a value of the configuration is an expression."""
    return isinstance(raw, str) and raw.startswith("=") and not raw.startswith("==")


def expressions(raw: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of each expression in a value of the configuration."""
    return ((where, text[1:]) for where, text in texts(raw, path) if is_expression(text))


def texts(raw: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of each text in a value of the configuration."""
    if isinstance(raw, str):
        yield path, raw
    elif isinstance(raw, dict):
        for key, one in raw.items():
            yield from texts(one, f"{path}.{key}".lstrip("."))
    elif isinstance(raw, list):
        for number, one in enumerate(raw, start=1):
            yield from texts(one, f"{path} item {number}".lstrip())


def literal(raw: Any) -> Any:
    """Return a value of the configuration without expressions, with ``=`` for ``==``."""
    if isinstance(raw, str):
        return raw[1:] if raw.startswith("==") else raw
    if isinstance(raw, dict):
        return {key: literal(one) for key, one in raw.items()}
    return [literal(one) for one in raw] if isinstance(raw, list) else raw


class _Reference(NamedTuple):
    """A variable of the generated function with a value of the event, not yet for a payload."""

    name: str
    path: str
    """Its path in the event."""
    exact: bool = True
    """Whether it is all that is at this path."""
    struct: type | None = None
    many: bool = False
    """Whether it is a list of *struct*."""
    kinds: frozenset[type] = frozenset()
    """Classes of a plain value; empty if they are not known."""


class _Scope(NamedTuple):
    """The expression that is being compiled, and the variables of its comprehensions."""

    text: str
    analysis: ExpressionAnalysis
    bound: Mapping[str, _Reference]
    looping: bool = False
    """Whether it is within a comprehension."""
    choosing: bool = False
    """Whether it is one of the values of a choice that the library takes."""

    def use_at(self, node: CelNode) -> FieldReference | None:
        """Return the use of a field that *node* is."""
        place = (node.start, node.end)
        return next((use for use in self.analysis.uses if (use.start, use.end) == place), None)


class TemplateCompiler:
    """Compiles one template.

    Args:
        analyses: of its expressions; none has a problem.
        arguments: the names that its expressions use, in the order in which the values are passed.

    Attributes:
        uses: the fields that it has used so far.
    """

    def __init__(self, analyses: Analyses, arguments: Sequence[str] = ("event",)) -> None:
        self._arguments = arguments
        self.uses: list[FieldUse] = []
        self._analyses = analyses
        self._lines: list[str] = []
        self._depth = 1
        self._numbers = itertools.count(1)
        self._names: dict[str, Any] = {
            "_iso": ISO8601.encode, "_member": member, "_item": item,
            "_members": members_of, "_as_table": as_table, "_copied": copied,
        }  # fmt: skip

    def function(self, raw: Any) -> Callable[..., Any]:
        """Return the function that builds the value of *raw* from the arguments."""
        result = self._value(raw, "")
        head = f"def build({', '.join(self._arguments)}):"
        lines = [head, *self._lines, f"    return {result}"]
        built: Callable[..., Any] = define("build", lines, self._names, "template")
        return built

    def _emit(self, line: str) -> None:
        self._lines.append("    " * self._depth + line)

    def _assign(self, code: str) -> str:
        name = f"v{next(self._numbers)}"
        self._emit(f"{name} = {code}")
        return name

    def _keep(self, value: Any) -> str:
        """Return the name of a value from outside."""
        name = f"k{next(self._numbers)}"
        self._names[name] = value
        return name

    def _value(self, raw: Any, path: str) -> str:
        """Return the variable with the value of a part of the configuration."""
        if is_expression(raw):
            text = raw[1:]
            analysis = self._analyses[text]
            if analysis.node is None:
                raise ValueError(f"{text} is no expression")
            named = {one: _Reference(one, "", exact=False) for one in analysis.names.others}
            return self._node(analysis.node, _Scope(text, analysis, named), path)
        if not any(expressions(raw)):
            return self._keep(literal(raw))
        if isinstance(raw, dict):
            pairs = dict(raw)
            whole = pairs.pop(ALL_MEMBERS) if is_expression(raw.get(ALL_MEMBERS)) else None
            return self._table(
                (
                    (key, partial(self._value, one, f"{path}.{key}".lstrip(".")))
                    for key, one in pairs.items()
                ),
                None if whole is None else self._value(whole, path),
            )
        return self._items(partial(self._value, one, f"{path}[]") for one in raw)

    def _table(
        self, pairs: Iterable[tuple[str, Callable[[], str]]], whole: str | None = None
    ) -> str:
        """Return the variable with a table: the members of *whole*, then the *pairs*."""
        table = self._assign("{}" if whole is None else f"_copied({whole})")
        for key, make in pairs:
            value = make()
            if value[0] == "k":
                self._emit(f"{table}[{key!r}] = {value}")
            else:
                self._emit(f"if {value} is not None: {table}[{key!r}] = {value}")
        return table

    def _items(self, makes: Iterable[Callable[[], str]]) -> str:
        items = self._assign("[]")
        for make in makes:
            value = make()
            self._emit(f"if {value} is not None: {items}.append({value})")
        return items

    def _node(self, node: CelNode, scope: _Scope, path: str) -> str:
        """Return the variable with the value of a part of an expression."""
        reference = self._reference(node, scope)
        if reference is not None:
            return self._exported(reference, path)
        parts = node.parts
        match node.kind:
            case "literal":
                return self._keep(value_of(node))
            case "list":
                return self._items(partial(self._node, one, scope, f"{path}[]") for one in parts)
            case "map" if has_plain_keys(node):
                pairs = zip(map(value_of, parts[::2]), parts[1::2], strict=True)
                return self._table(
                    (key, partial(self._node, one, scope, f"{path}.{key}".lstrip(".")))
                    for key, one in pairs
                )
            case "operator" if node.name == "?:":
                return self._choice(node, scope, path, self._node)
        if node.macro:
            made = self._loop if node.name in {"map", "filter"} else self._quantified
            return made(node, scope, path)
        if joins_lists(node):
            return self._joined(node, scope, path)
        if is_coalesce(node):
            return self._coalesced(node, scope, path, self._node)
        if node.kind == "call" and node.name == "has":
            return self._argument(node, scope, None)
        before = len(self.uses)
        made = self._own if is_own(node) else self._computed
        value = made(node, scope, path)
        needs = tuple(dict.fromkeys(_needed(node, scope)))
        self.uses[before:] = [use._replace(needs=needs) for use in self.uses[before:]]
        return value

    def _joined(self, node: CelNode, scope: _Scope, path: str) -> str:
        """Compile ``LIST + LIST``, whose members stay as they came."""
        values = [self._node(part, scope, path) for part in node.parts]
        joined = applied(join_lists, scope.text[node.start : node.end])
        return self._assign(f"{self._keep(joined)}({', '.join(values)})")

    def _coalesced(
        self, node: CelNode, scope: _Scope, path: str | None, make: Callable[..., str]
    ) -> str:
        """Compile ``coalesce(VALUE, …)``, whose values *make* compiles."""
        result = self._assign("None")
        for part in node.parts:
            self._emit(f"if {result} is None:")
            self._depth += 1
            self._emit(f"{result} = {make(part, scope, path)}")
            self._depth -= 1
        return result

    def _choice(
        self, node: CelNode, scope: _Scope, path: str | None, make: Callable[..., str]
    ) -> str:
        """Compile ``CONDITION ? VALUE : VALUE``, whose values *make* compiles."""
        condition, *choices = node.parts
        decided = self._decided(condition, scope)
        result = self._assign("None")
        for outcome, chosen in zip(("True", "False"), choices, strict=True):
            if chosen.kind == "literal" and chosen.name == "null":
                continue
            self._emit(f"if {decided} is {outcome}:")
            self._depth += 1
            self._emit(f"{result} = {make(chosen, scope, path)}")
            self._depth -= 1
        return result

    def _decided(self, node: CelNode, scope: _Scope) -> str:
        """Return the variable with the result of a condition, which is not in the payload."""
        if (node.kind == "call" and node.name == "has") or is_compiled(node):
            return self._argument(node, scope, None)
        return self._computed(node, scope, None)

    def _loop(self, node: CelNode, scope: _Scope, path: str) -> str:
        """Compile ``LIST.map(x, VALUE)``, ``LIST.map(x, CONDITION, VALUE)``, ``LIST.filter(…)``."""
        over, name, *rest = node.parts
        members = self._list(over, scope)
        result = self._assign(f"None if {members.name} is None else []")
        held, inner = self._each(node, members, name.name, scope)
        if node.name == "filter" or len(rest) == 2:  # noqa: PLR2004 - a condition and a value
            decided = self._decided(rest[0], inner)
            self._emit(f"if {decided} is not True: continue")
        if node.name == "map":
            value = self._node(rest[-1], inner, f"{path}[]")
        else:
            value = self._exported(held, f"{path}[]")
        self._emit(f"if {value} is not None: {result}.append({value})")
        self._depth -= 1
        return result

    def _each(
        self, node: CelNode, members: _Reference, name: str, scope: _Scope
    ) -> tuple[_Reference, _Scope]:
        """Begin a loop over *members*; return one of them, and the scope that has it as *name*."""
        if scope.looping or any(part.macro for one in node.parts[2:] for part in one.walk()):
            said = scope.text[node.start : node.end]
            most = MOST_MEMBERS[2] if scope.looping else MOST_MEMBERS[1]
            self._emit(f"{self._keep(partial(check_length, said, most))}({members.name})")
        one = f"v{next(self._numbers)}"
        self._emit(f"for {one} in {members.name} or ():")
        self._depth += 1
        held = members._replace(
            name=one, many=False, path=f"{members.path}[]" if members.path else "",
            kinds=frozenset(),
        )  # fmt: skip
        return held, scope._replace(bound={**scope.bound, name: held}, looping=True)

    def _quantified(self, node: CelNode, scope: _Scope, path: str | None) -> str:
        """Compile ``LIST.exists(x, CONDITION)``, ``all`` and ``exists_one``.

        As in CEL, a member for which the condition has no value matters only if no other decides.
        """
        over, name, condition = node.parts
        members = self._list(over, scope)
        if path is not None and members.path:
            self.uses.append(FieldUse(path, members.path, exact=False))
        found = self._assign("[]")
        _, inner = self._each(node, members, name.name, scope)
        decided = self._decided(condition, inner)
        self._emit(f"{found}.append({decided})")
        if node.name != "exists_one":
            self._emit(f"if {decided} is {node.name == 'exists'}: break")
        self._depth -= 1
        said = scope.text[node.start : node.end]
        verdict = self._keep(partial(decide, said, QUANTIFIERS[node.name]))
        return self._assign(f"None if {members.name} is None else {verdict}({found})")

    def _list(self, node: CelNode, scope: _Scope) -> _Reference:
        """Return the members that a comprehension runs over."""
        reference = self._reference(node, scope)
        if reference is not None and reference.many:
            return reference
        if reference is not None:
            name = self._assign(f"_members({reference.name})")
            return reference._replace(name=name, exact=False)
        if node.macro and node.name == "filter":
            return self._filtered(node, scope)
        return _Reference(self._node(node, scope, ""), "", exact=False)

    def _filtered(self, node: CelNode, scope: _Scope) -> _Reference:
        """Return the members of a list for which a condition holds, as they are in the event."""
        over, name, condition = node.parts
        members = self._list(over, scope)
        result = self._assign(f"None if {members.name} is None else []")
        held, inner = self._each(node, members, name.name, scope)
        decided = self._decided(condition, inner)
        self._emit(f"if {decided} is True: {result}.append({held.name})")
        self._depth -= 1
        return members._replace(name=result)

    def _reference(self, node: CelNode, scope: _Scope) -> _Reference | None:
        """Return the value of the event that *node* is; None if it is anything else."""
        use = scope.use_at(node)
        if use is not None:
            return None if use.has else self._field(use.field)
        if node.kind == "name":
            return scope.bound.get(node.name)
        if node.kind not in {"member", "index"}:
            return None
        key: Any = node.name if node.kind == "member" else None
        if node.kind == "index" and node.parts[1].kind == "literal":
            key = value_of(node.parts[1])
        inner = None if key is None else self._reference(node.parts[0], scope)
        if inner is None:
            return None
        if isinstance(key, int):
            name = self._assign(f"_item({inner.name}, {key})")
            return inner._replace(name=name, path=f"{inner.path}[{key}]", many=False)
        return self._member_of(inner, str(key))

    def _member_of(self, inner: _Reference, key: str) -> _Reference:
        if inner.struct is None or inner.many:
            name = self._assign(f"_member({inner.name}, {key!r})")
            return _Reference(name, inner.path, exact=False)
        there = "" if inner.path.endswith("[]") else f"None if {inner.name} is None else "
        if key in struct_fields(inner.struct) and key != "extra":
            return _Reference(self._assign(f"{there}{inner.name}.{key}"), f"{inner.path}.{key}")
        name = self._assign(f"{there}{inner.name}.extra.get({key!r})")
        return _Reference(name, f"{inner.path}.extra.{key}")

    def _field(self, field: EventField) -> _Reference:
        if not field.names:
            return _Reference("event", "", struct=Event)
        names, free = field.names, field.free
        typed, own = names[: len(names) - free], names[len(names) - free :]
        if not free:
            code = f"event.{field.path}"
            many = field.struct is not None and list in field.classes
            name = self._assign(f"{code} or None" if many else code)
            return _Reference(name, field.path, struct=field.struct, many=many, kinds=field.classes)
        struct = find_field(typed).struct
        if struct is not None and free == 1:
            name = self._assign(f"event.{'.'.join(typed)}.extra.get({own[0]!r})")
        else:
            name = self._assign(f"{self._keep(make_reader(field))}(event)")
        keyed = struct is not None or typed[-1] in {"extra", "consent"}
        path = (*typed, *(("extra",) if struct else ()), *(own[:1] if keyed else ()))
        return _Reference(name, ".".join(path), exact=keyed and free == 1)

    def _exported(self, reference: _Reference, path: str) -> str:
        """Return the variable with the value of *reference* for a payload, and note its use."""
        name = reference.name
        if reference.struct is not None:
            self.uses += _leaves(reference, path)
            export = self._keep(exporter(reference.struct))
            if reference.many:
                return self._assign(f"{name} and [{export}(one) for one in {name}]")
            return self._assign(f"None if {name} is None else {export}({name}) or None")
        if reference.path:
            self.uses.append(FieldUse(path, reference.path, reference.exact))
        if datetime in reference.kinds:
            return self._assign(f"None if {name} is None else _iso({name})")
        return self._assign(f"_as_table({name})") if reference.kinds == {dict} else name

    def _computed(
        self, node: CelNode, scope: _Scope, path: str | None, *, sent: bool = True
    ) -> str:
        """Return the variable with what the library computes for *node*.

        Args:
            node: a part of the expression.
            scope: the expression.
            path: where the result is in the payload; None if it is not in it.
            sent: whether the result is for a payload; otherwise something is computed from it.
        """
        places = list(self._variables(node, scope))
        known: dict[str, str] = {}
        text, at = "", node.start
        for start, end, _ in places:
            name = known.setdefault(scope.text[start:end], f"{PREFIX}{len(known)}")
            text, at = f"{text}{scope.text[at:start]} {name} ", end
        text += scope.text[at : node.end]
        arguments = {scope.text[start:end]: part for start, end, part in places}
        values = [self._argument(part, scope, path) for part in arguments.values()]
        lenient = any(part.name in LENIENT for part in node.walk())
        whole = frozenset(
            known[said] for said, part in arguments.items()
            if chooses(part) or (is_own(part) and OWN_FUNCTIONS[part.name].form.gives == WHOLE)
        )  # fmt: skip
        computation = Computation(text, list(known.values()), whole, strict=not lenient, sent=sent)
        said = scope.text[node.start : node.end]
        if not places:
            found = computation()
            if found.error:
                raise ValueError(f"{said}: {found.error}")
            return self._keep(found.value)
        computed = f"{self._keep(checked(computation, said))}({', '.join(values)})"
        spans = ((start, end) for start, end, _ in places)
        by_text = dict(zip(arguments, values, strict=True))
        quick = direct_operation(node, {span: by_text[scope.text[slice(*span)]] for span in spans})
        code = quick.code(computed) if quick and quick.variables else computed
        if node.name == "+" and node.kind == "operator":
            one, other = (by_text.get(scope.text[p.start : p.end]) for p in node.parts)
            if one and other:  # the numbers of lists stay as they came
                code = f"[*{one}, *{other}] if type({one}) is type({other}) is list else {code}"
        return self._assign(code)

    def _variables(self, node: CelNode, scope: _Scope) -> Iterator[tuple[int, int, CelNode]]:
        """Yield the parts of *node* that are values of the event, with where they stand."""
        has = node.kind == "call" and node.name == "has"
        rooted = root_name(node.parts[0] if has else node) in scope.bound
        if scope.use_at(node) is not None or rooted or is_compiled(node):
            yield node.start, node.end, node
        else:
            for part in node.parts:
                yield from self._variables(part, scope)

    def _own(self, node: CelNode, scope: _Scope, path: str | None) -> str:
        """Compile a call of one of the gateway's own functions."""
        function = OWN_FUNCTIONS[node.name]
        make = self._structure if function.exported else self._operand
        values = [make(part, scope, path) for part in node.parts]
        said = scope.text[node.start : node.end]
        return self._assign(f"{self._keep(applied(function.compute, said))}({', '.join(values)})")

    def _operand(self, node: CelNode, scope: _Scope, path: str | None) -> str:
        """Return the variable with an argument of an own function."""
        if node.kind == "literal":
            return self._keep(value_of(node))
        if node.kind == "operator" and node.name == "?:":
            return self._choice(node, scope, path, self._operand)
        if is_coalesce(node):
            return self._coalesced(node, scope, path, self._operand)
        if node.kind in {"list", "map"} or node.macro or joins_lists(node):
            return self._structure(node, scope, path)
        return self._argument(node, scope, path)

    def _chosen(self, node: CelNode, scope: _Scope, path: str | None) -> str:
        """Return the variable with an operand of the library that needs no library itself.

        A choice may have literals, whose whole numbers stay such, beside numbers of the event,
        which are doubles.
        """
        if node.kind == "literal" or not (chooses(node) or scope.choosing):
            return self._operand(node, scope, path)
        inner = scope._replace(choosing=True)
        if node.kind == "operator" and node.name == "?:":
            return self._choice(node, inner, path, self._chosen)
        if is_coalesce(node):
            return self._coalesced(node, inner, path, self._chosen)
        name = self._operand(node, scope._replace(choosing=False), path)
        if is_own(node):
            return name
        return self._assign(f"float({name}) if type({name}) is int else {name}")

    def _structure(self, node: CelNode, scope: _Scope, path: str | None) -> str:
        """Return the variable with what would be sent of *node*, for a computation."""
        before = len(self.uses)
        value = self._node(node, scope, path or "")
        computed = [use._replace(wire=path or "", exact=False) for use in self.uses[before:]]
        self.uses[before:] = [] if path is None else computed
        return value

    def _argument(self, node: CelNode, scope: _Scope, path: str | None) -> str:
        use = scope.use_at(node)
        if node.kind == "call" and node.name == "has":
            field = self._field(use.field) if use else self._reference(node.parts[0], scope)
            name = "None" if field is None else field.name
            return self._assign(f"{name} is not None")
        if is_own(node):
            return self._own(node, scope, path)
        if is_compiled(node):
            return self._chosen(node, scope, path)
        reference = self._reference(node, scope)
        if reference is None:
            return self._computed(node, scope, path, sent=False)
        if path is not None and reference.path:
            self.uses.append(FieldUse(path, reference.path, exact=False))
        return reference.name


def _needed(node: CelNode, scope: _Scope) -> Iterator[tuple[str, ...]]:
    """Yield the names of the fields without any of which *node* has no value."""
    use = scope.use_at(node)
    if use is not None:
        if not use.has and use.field.names:
            yield use.field.names
    elif node.macro:
        yield from _needed(node.parts[0], scope)
    elif node.kind not in {"list", "map"} and node.name not in LENIENT | {COALESCE}:
        for part in node.parts:
            yield from _needed(part, scope)


def _leaves(reference: _Reference, wire: str) -> Iterator[FieldUse]:
    """Yield every field of a struct that is in the payload as a whole."""
    mark = "[]" if reference.many else ""
    yield from fields_of(reference.struct, f"{wire}{mark}", f"{reference.path}{mark}")
