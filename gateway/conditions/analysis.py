"""Analyse an expression before its first use: types, fields, mistakes, cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, get_type_hints

import cel

from gateway.conditions import types
from gateway.conditions.functions import COALESCE, OWN_FUNCTIONS
from gateway.conditions.syntax import MACROS, CelNode, CelSyntaxError, parse, place
from gateway.conditions.types import ANY, FLAG, FUNCTIONS, LIST, MAP, NUMBERS, TEXT, WHOLE, Types
from gateway.conditions.variables import FieldReference, reference_path, value_of
from gateway.event import Event
from gateway.event_fields import (
    CLOSE,
    EACH,
    FREE,
    EventField,
    UnknownField,
    bare,
    classes,
    find_field,
)
from gateway.suggestions import did_you_mean

DEEPEST = 2
"""Most levels of nested comprehensions; each level multiplies the work."""
WIDEST = {0: 200, 1: 200, 2: 30}
"""Most members of a list, by levels of nested comprehensions."""


SOURCE = EventField(("source",), frozenset({str}))
"""The name of the source, which is not a field of the event."""
WHOLE_EVENT = EventField((), frozenset({dict}), Event)
"""The event itself."""


class KnownNames(NamedTuple):
    """The names that an expression may use."""

    event: bool
    """Whether ``event`` is the neutral event."""
    others: Mapping[str, Types]
    """Further names, each with the types of its value."""

    @property
    def every(self) -> frozenset[str]:
        """Return all of the names."""
        return frozenset({*self.others, *(("event",) if self.event else ())})


OF_ROUTES = KnownNames(event=True, others={"source": TEXT})
"""The names that conditions of routes use."""
OF_EVENTS = KnownNames(event=True, others={})
"""The names where nothing is known but the event."""

Span = tuple[int, int]
"""Where a node starts and ends."""


class Diagnostic(NamedTuple):
    """A problem or warning at a position of an expression."""

    at: int
    what: str


class _Bound(NamedTuple):
    """The type of a variable of a comprehension."""

    kinds: Types
    struct: type | None


_Scope = Mapping[str, _Bound]


class TypeInference:
    """Infers the types of an expression, from its leaves up.

    Args:
        text: the expression.
        names: the names that it may use.

    Attributes:
        problems: errors, because of which it cannot be used.
        doubts: warnings about probable mistakes.
        uses: the fields that it uses.
        depth: levels of nested comprehensions.
        members: used members of the structs in lists; None for all members.
    """

    gives_value = False
    """Whether the result is a value, for which the gateway has functions of its own."""

    def __init__(self, text: str, names: KnownNames) -> None:
        self.text = text
        self.names = names
        self.whole: Collection[Span] = ()
        """Where a part of the event may be used as a whole, such as ``event.properties``."""
        self.used: set[str] = set()
        """The names that it uses, ``event`` left out."""
        self.problems: list[Diagnostic] = []
        self.doubts: list[Diagnostic] = []
        self.uses: list[FieldReference] = []
        self.depth = 0
        self.members: frozenset[str] | None = frozenset()

    def wrong(self, at: int, what: str) -> None:
        """Add a problem."""
        self.problems.append(Diagnostic(at, what))

    def kinds_of(self, node: CelNode, scope: _Scope, depth: int) -> Types:
        """Return the types of *node*; empty after a problem, so that it is reported only once."""
        use = self._use(node, scope)
        if use is not None:
            return use
        if node.kind in {"name", "index"} and self._struct(node, scope):
            self.members = None  # the whole struct is compared or listed
        match node.kind:
            case "literal":
                return self._literal(node)
            case "name":
                return self._name(node, scope)
            case "member":
                return self._member(node, scope, depth)
            case "operator":
                return self._operator(node, self._operands(node, scope, depth))
            case "index":
                return self._index(node, scope, depth)
            case "call":
                return self._call(node, scope, depth)
        found = [self.kinds_of(part, scope, depth) for part in node.parts]
        if len(found) > WIDEST[DEEPEST] * (2 if node.kind == "map" else 1) and depth:
            self.wrong(node.start, f"has more than {WIDEST[DEEPEST]} members in a comprehension")
        return LIST if node.kind == "list" else MAP

    def _operands(self, node: CelNode, scope: _Scope, depth: int) -> list[Types]:
        """Return the types of the operands; ``? null :`` in a value stands for no value."""
        chooses = self.gives_value and node.name == "?:"
        return [
            types.NOTHING
            if chooses and number and part.kind == "literal" and part.name == "null"
            else self.kinds_of(part, scope, depth)
            for number, part in enumerate(node.parts)
        ]

    def _literal(self, node: CelNode) -> Types:
        if node.name == "null":
            self.wrong(node.start, "null never occurs; use has(...) to test for a missing value")
            return frozenset()
        value = value_of(node)
        if value is None:
            self.wrong(node.start, f"{node.name} is not a valid CEL value")
            return frozenset()
        found = types.OF_CLASS.get(type(value))
        if found is None or (node.name[-1] in "uU" and node.name[0].isdigit()):
            self.wrong(node.start, f"{node.name} has a type that no field has")
            return frozenset()
        return found

    def _name(self, node: CelNode, scope: _Scope) -> Types:
        if node.name in scope:
            return scope[node.name].kinds
        if node.name in self.names.others:
            self.used.add(node.name)
            if node.name == "source":
                self.uses.append(FieldReference(node.start, node.end, SOURCE))
            return self.names.others[node.name]
        if self.names.event and node.name in Event.__struct_fields__:
            meant = f"did you mean event.{node.name}?"
        else:
            meant = did_you_mean(node.name, {*self.names.every, *scope})
        self.wrong(node.start, f"unknown name {node.name}; {meant}")
        return frozenset()

    def _use(self, node: CelNode, scope: _Scope, *, has: bool = False) -> Types | None:
        """Return the types of a field of the event; None if *node* is not a field."""
        chain = reference_path(node)
        if chain is None or not self.names.event or "event" in scope:
            return None
        names = tuple(part.name for part in chain)
        if not names and (node.start, node.end) in self.whole and not has:
            self.uses.append(FieldReference(node.start, node.end, WHOLE_EVENT))
            return MAP
        try:
            field = find_field(names) if names else None
        except UnknownField as error:
            wrong = chain[error.position]
            what = str(error).replace("field ", "field event.").replace("mean ", "mean event.")
            if EACH in what:
                what = f"event.{what.partition(';')[0]}; use .exists(x, x.NAME == ...)"
            self.wrong(wrong.end - len(wrong.name) if wrong.kind == "member" else wrong.start, what)
            return frozenset()
        part = field is not None and field.struct is not None and list not in field.classes
        if field is None or (part and (has or (node.start, node.end) not in self.whole)):
            what = f"{'.'.join(('event', *names))} is not a single field; name a field in it"
            self.wrong(node.start, f"{what}, such as event.properties.total")
            return frozenset()
        if field.hint:
            self.doubts.append(
                Diagnostic(node.start, f"{field.hint.replace('mean ', 'mean event.')}")
            )
        self.uses.append(FieldReference(node.start, node.end, field, has))
        return FLAG if has else types.of_classes(field.classes)

    def _member(self, node: CelNode, scope: _Scope, depth: int) -> Types:
        (inner,) = node.parts
        members = self.members
        found = self.kinds_of(inner, scope, depth)
        if found and not found & MAP:
            self.wrong(node.end - len(node.name), f"{types.describe_types(found)} has no members")
            return frozenset()
        struct = self._struct(inner, scope)
        if struct and members is not None:
            self.members = members | {node.name}
        hints = get_type_hints(struct) if struct else {}
        if node.name in hints and node.name != "extra":
            return types.of_classes(
                float if c is int else list if c is tuple else c
                for c in classes(bare(hints[node.name]))
            )
        if struct in FREE:
            close = did_you_mean(node.name, hints, CLOSE, only=True)
            if close:
                self.doubts.append(Diagnostic(node.end - len(node.name), close))
        return ANY

    def _is_list(self, node: CelNode) -> bool:
        return self._struct(node, {}) is not None and node.kind != "index"

    def _struct(self, node: CelNode, scope: _Scope) -> type | None:
        """Return the struct that *node* holds, alone or in a list."""
        if node.kind == "name":
            return scope[node.name].struct if node.name in scope else None
        if node.kind == "index" or (node.macro and node.name == "filter"):
            return self._struct(node.parts[0], scope)
        chain = reference_path(node)
        try:
            return find_field([part.name for part in chain]).struct if chain else None
        except UnknownField:
            return None

    def _index(self, node: CelNode, scope: _Scope, depth: int) -> Types:
        operands = [self.kinds_of(part, scope, depth) for part in node.parts]
        found = self._operator(node, operands)
        if not found:
            return found
        return MAP if self._struct(node.parts[0], scope) and LIST & operands[0] else ANY

    def _operator(self, node: CelNode, operands: list[Types]) -> Types:
        if node.kind == "operator" and any(self._is_list(part) for part in node.parts):
            self.members = None
        if not all(operands):
            return FLAG if node.name in _LOGIC else frozenset()
        sign = node.name or "[]"
        if sign in _LOGIC | {"?:"}:
            for part, found in zip(node.parts, operands, strict=True):
                if not found & FLAG and (sign != "?:" or part is node.parts[0]):
                    self.wrong(part.start, f"is {types.describe_types(found)}, not true or false")
            return (operands[1] | operands[2]) - types.NOTHING if sign == "?:" else FLAG
        if sign in {"==", "!="}:
            one, other = (found | NUMBERS if found & NUMBERS else found for found in operands)
            if not one & other:
                left, right = map(types.describe_types, operands)
                self.wrong(node.start, f"{left} never equals {right}")
            return FLAG
        given = types.operator_type(sign, tuple(operands))
        if not given or _fails_on_decimals(sign, operands):
            self.wrong(node.start, self._refusal(sign, operands))
        return given

    def _refusal(self, sign: str, operands: list[Types]) -> str:
        said = types.describe_types(*operands)
        doubles = tuple(found | NUMBERS if found == WHOLE else found for found in operands)
        if types.operator_type(sign, doubles):
            hint = "numbers of an event are decimals: write 2.0, not 2"
            return f"{sign} cannot be used with {said}; {hint}"
        return f"{sign} cannot be used with {said}"

    def _call(self, node: CelNode, scope: _Scope, depth: int) -> Types:
        if node.name == "has" and not node.method:
            return self._has(node, scope, depth)
        if node.macro:
            return self._comprehension(node, scope, depth)
        if node.name == COALESCE and self.gives_value and not node.method:
            return self._coalesce(node, scope, depth)
        own = OWN_FUNCTIONS.get(node.name) if self.gives_value else None
        known = own.form if own else FUNCTIONS.get(node.name)
        if node.name == "size" and node.method:
            node = replace(node, method=False)
        arguments = len(node.parts) - node.method
        if known is None:
            self._unknown_function(node)
            return frozenset()
        if known.arguments != arguments or known.method != node.method:
            self.wrong(node.start, f"must have the form {known.written(node.name)}")
            return frozenset()
        operands = tuple(self.kinds_of(part, scope, depth) for part in node.parts)
        if node.name == "matches" and node.parts[1].kind != "literal":
            self.wrong(node.parts[1].start, "the pattern must be a text in quotes")
        elif all(operands) and not (
            all(given & taken for given, taken in zip(operands, own.takes, strict=True))
            if own
            else types.takes(node.name, operands)
        ):
            what = f"{node.name} cannot be used with {types.describe_types(*operands)}"
            cure = self._cure(node.name, operands)
            self.wrong(node.start, f"{what}; {cure}" if cure else what)
        elif own is None:
            self._try(node)
        return known.gives

    def _coalesce(self, node: CelNode, scope: _Scope, depth: int) -> Types:
        if not node.parts:
            self.wrong(node.start, "must have the form coalesce(VALUE, VALUE, ...)")
        found = [self.kinds_of(part, scope, depth) for part in node.parts]
        return frozenset[str]().union(*found) if all(found) else frozenset()

    def _unknown_function(self, node: CelNode) -> None:
        more = (*OWN_FUNCTIONS, COALESCE) if self.gives_value else ()
        names = {*FUNCTIONS, *more, *MACROS, "has"}
        close = did_you_mean(node.name, names, only=True)
        hint = f"{close} Known: " if close else "known: "
        at = node.parts[0].end + 1 if node.method else node.start
        self.wrong(at, f"there is no function {node.name}; {hint}{', '.join(sorted(names))}")

    def _cure(self, name: str, operands: Sequence[Types]) -> str:
        """Return what a function takes, or what to write instead; empty if its name says it."""
        if name != "string":
            return ""
        if not self.gives_value:
            return "it takes text, a number, a time or a duration"
        if operands[0] & (LIST | MAP):
            return "write json(...)"
        return "it takes text, a number, true or false, a time or a duration"

    def _try(self, node: CelNode) -> None:
        """Evaluate a call with literal arguments, to find a bad pattern or time now."""
        text = self.text[node.start : node.end]
        last = node.parts[-1]
        if node.name == "matches":
            text = f'"".matches({self.text[last.start : last.end]})'
        elif not all(part.kind == "literal" for part in node.parts):
            return
        try:
            cel.evaluate(text)
        except Exception as error:  # noqa: BLE001 - any error would occur for every event
            lines = str(error).splitlines()
            self.wrong(last.start, next((x for x in lines if x.startswith("error: ")), lines[0]))

    def _has(self, node: CelNode, scope: _Scope, depth: int) -> Types:
        if len(node.parts) != 1 or node.parts[0].kind not in {"member", "index"}:
            self.wrong(node.start, "must have the form has(event.FIELD)")
            return FLAG
        use = self._use(node.parts[0], scope, has=True)
        if use is None:
            self.kinds_of(node.parts[0], scope, depth)
        elif use:  # the whole call is replaced, not only the field in it
            self.uses[-1] = self.uses[-1]._replace(start=node.start, end=node.end)
        return FLAG

    def _comprehension(self, node: CelNode, scope: _Scope, depth: int) -> Types:
        over, *inner = node.parts
        wanted = {2, 3} if node.name == "map" else {2}
        if len(inner) not in wanted or inner[0].kind != "name":
            result = "VALUE" if node.name == "map" else "CONDITION"
            self.wrong(node.start, f"must have the form LIST.{node.name}(x, {result})")
            return frozenset()
        self.depth = max(self.depth, depth + 1)
        if depth + 1 > DEEPEST:
            what = f"comprehensions are nested more than {DEEPEST} deep; split the route"
            self.wrong(node.start, what)
            return frozenset()
        name = inner[0].name
        if name in {*self.names.every, *scope} or name.startswith("__"):
            self.wrong(inner[0].start, f"{name} is reserved; use another name")
            return frozenset()
        found = self.kinds_of(over, scope, depth)
        if found and not found & (LIST | MAP):
            self.wrong(over.start, f"{types.describe_types(found)} has no members")
        elif over.kind in {"operator", "call"} and not over.macro:
            what = "a comprehension needs a field or a literal list"
            if over.name == "?:":
                what += f"; write has(x) ? x.{node.name}(...) : []"
            self.wrong(over.start, what)
        member = TEXT if found == MAP else ANY | NUMBERS | types.TIME | types.SPAN
        bound = {
            **scope,
            name: _Bound(MAP if self._struct(over, scope) else member, self._struct(over, scope)),
        }
        results = [self.kinds_of(part, bound, depth + 1) for part in inner[1:]]
        if node.name != "map" and results[0] and not results[0] & FLAG:
            self.wrong(inner[1].start, f"is {types.describe_types(results[0])}, not true or false")
        return LIST if node.name in {"map", "filter"} else FLAG


_LOGIC = frozenset({"&&", "||", "!"})


LONGEST = 2000
"""Most characters of an expression."""


class ExpressionAnalysis(TypeInference):
    """The analysis of an expression; if it cannot be used, only its problems are valid.

    Args:
        text: the expression.
        names: the names that it may use.

    Attributes:
        node: its root node; None if it is not valid CEL.
        kinds: the types of its result; empty after a problem.
    """

    def __init__(self, text: str, names: KnownNames = OF_EVENTS) -> None:
        super().__init__(text, names)
        self.node: CelNode | None = None
        self.kinds: Types = frozenset()
        if len(text) > LONGEST:
            self.wrong(LONGEST, f"is longer than {LONGEST} characters; {self.remedy}")
            return
        try:
            self.node = parse(text)
        except CelSyntaxError as error:
            self.wrong(error.at, str(error))
            return
        self.conclude(self.node)
        if not self.problems:
            try:
                cel.compile(text)
            except ValueError as error:
                self.wrong(0, str(error).partition("\n")[0])

    too_long = f"lists of more than {WIDEST[DEEPEST]} members"
    """For what an expression with nested comprehensions fails."""
    remedy = "shorten it"
    """What to do about an expression that is too long."""

    def conclude(self, node: CelNode) -> None:
        """Add what is wrong or doubtful about the whole expression."""
        self.kinds = self.kinds_of(node, {}, 0)
        if self.depth == DEEPEST:
            what = f"nested comprehensions are slow, so the expression fails for {self.too_long}"
            self.doubts.append(Diagnostic(node.start, what))

    @property
    def widest(self) -> int:
        """Return the most members that a list may have."""
        return WIDEST[min(self.depth, DEEPEST)]


class ConditionAnalysis(ExpressionAnalysis):
    """The analysis of a condition, which is true or false."""

    remedy = "split the route"

    def __init__(self, text: str, names: KnownNames = OF_ROUTES) -> None:
        super().__init__(text, names)

    def conclude(self, node: CelNode) -> None:
        """Add that it is no condition, or that it depends on nothing."""
        super().conclude(node)
        if self.kinds and not self.kinds & FLAG and not self.problems:
            what = f"is {types.describe_types(self.kinds)}; a condition must be true or false"
            self.wrong(node.start, what)
        if not (self.uses or self.used or self.problems):
            about = "field of the event" if self.names.event else "name"
            self.doubts.append(Diagnostic(node.start, f"uses no {about}"))


def placed(text: str, remark: Diagnostic) -> str:
    """Return a problem or warning with its position in *text*."""
    return f"{place(text, remark.at)}: {remark.what}"


def _fails_on_decimals(sign: str, operands: list[Types]) -> bool:
    """Return whether a whole number stands beside what may be whole, or a decimal of an event."""
    if WHOLE not in operands or not any(
        found > WHOLE and found & types.NUMBER for found in operands
    ):
        return False
    return not types.operator_type(
        sign, tuple(found if found == WHOLE else types.NUMBER for found in operands)
    )
