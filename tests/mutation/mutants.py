"""Make mutants of Python source: each is one change in one function."""

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

Change = Callable[[], None]
"""Changes the syntax tree in place."""

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
FLIPPED = (ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.Is, ast.IsNot)
"""Comparisons whose replacement is their negation."""
RECKONED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
}  # fmt: skip
EXTREMES = {"max": "min", "min": "max", "any": "all", "all": "any"}
QUIET = ("log.debug", "log.info", "log.exception")
"""Calls that are not dropped, since log lines are no promise."""
SHOWN = 60
"""Characters of source that a mutant's name quotes."""


class Mutant(NamedTuple):
    """One change in one module."""

    path: str
    """The module, relative to the root of the tree."""
    line: int
    name: str
    """Module, function and change; it does not depend on line numbers."""
    number: int
    """Its position among the module's mutants."""


class Site(NamedTuple):
    """A place in a syntax tree, and the change to make there."""

    line: int
    function: str
    what: str
    change: Change


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    seen: Counter[str] = Counter()
    for number, site in enumerate(sites(ast.parse(source))):
        what = f"{path} {site.function}: {site.what}"
        seen[what] += 1
        name = what if seen[what] == 1 else f"{what} ({seen[what]})"
        yield Mutant(path, site.line, name, number)


def mutated(mutant: Mutant, source: str) -> str:
    """Return a module's *source* with the mutant's change."""
    tree = ast.parse(source)
    list(sites(tree))[mutant.number].change()
    return ast.unparse(ast.fix_missing_locations(tree))


def sites(tree: ast.Module) -> Iterator[Site]:
    """Yield the places in *tree* that can be changed; changes act on *tree* itself."""
    yield from _within(tree, "")


def _within(node: ast.AST, above: str) -> Iterator[Site]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            if not _is_protocol(child):
                yield from _within(child, f"{above}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _of_function(child, f"{above}{child.name}")
            yield from _within(child, f"{above}{child.name}.")


def _is_protocol(found: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in found.bases)


def _of_function(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[Site]:
    making = function.name == "__init__"
    for block in _blocks(function):
        for place, statement in enumerate(block):
            if _droppable(statement, making=making):
                change = _replacing(block, place, ast.Pass())
                yield Site(statement.lineno, name, f"drop {_told(statement)}", change)
            yield from _jumps(block, place, name)
    for node in _inside(function):
        yield from _conditions(node, name)
        yield from _values(node, name)


def _blocks(function: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield every list of statements in *function*, without those of inner functions."""
    for node in [function, *_inside(function)]:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and not isinstance(node, ast.Lambda):
                yield block


def _inside(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body, without annotations, defaults and inner functions."""
    pending: list[ast.AST] = list(getattr(function, "body", []))
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        yield node
        if isinstance(node, ast.AnnAssign):
            pending += [] if node.value is None else [node.value]
        else:
            pending += list(ast.iter_child_nodes(node))


def _droppable(statement: ast.stmt, *, making: bool) -> bool:
    if isinstance(statement, ast.Expr):
        value = statement.value.value if isinstance(statement.value, ast.Await) else statement.value
        return isinstance(value, ast.Call) and not ast.unparse(value.func).startswith(QUIET)
    if isinstance(statement, ast.Assign):
        stored = (ast.Attribute, ast.Subscript)
        return not making and isinstance(statement.targets[0], stored)
    if isinstance(statement, ast.Raise):
        return not ast.unparse(statement).startswith("raise RuntimeError")
    return isinstance(statement, ast.AugAssign | ast.Delete)


def _jumps(block: list[ast.stmt], place: int, name: str) -> Iterator[Site]:
    statement = block[place]
    for here, there in ((ast.Break, ast.Continue), (ast.Continue, ast.Break)):
        if isinstance(statement, here):
            what = f"{here.__name__.lower()} becomes {there.__name__.lower()}"
            yield Site(statement.lineno, name, what, _replacing(block, place, there()))


def _replacing(block: list[ast.stmt], place: int, by: ast.stmt) -> Change:
    def change() -> None:
        block[place] = by

    return change


def _setting(node: ast.AST, field: str, value: object) -> Change:
    def change() -> None:
        setattr(node, field, value)

    return change


def _conditions(node: ast.AST, name: str) -> Iterator[Site]:
    """Yield changes of conditions and exception handlers."""
    line = getattr(node, "lineno", 0)
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) if not _flips(test):
            negated = ast.UnaryOp(ast.Not(), test)
            yield Site(line, name, f"negate {_told(test)}", _setting(node, "test", negated))
        case ast.While(test=test) if not (isinstance(test, ast.Constant) or _flips(test)):
            negated = ast.UnaryOp(ast.Not(), test)
            yield Site(line, name, f"negate {_told(test)}", _setting(node, "test", negated))
        case ast.comprehension(ifs=[_, *_] as ifs):
            what = f"take all, not only {_told(ifs[0])}"
            yield Site(ifs[0].lineno, name, what, _setting(node, "ifs", []))
        case ast.BoolOp(values=values):
            for place, left in enumerate(values):
                rest = [value for other, value in enumerate(values) if other != place]
                change = _setting(node, "values", rest)
                yield Site(line, name, f"drop {_told(left)} from {_told(node)}", change)
        case ast.Compare(ops=[operator, *_]) if type(operator) in COMPARED:
            swapped = copy.copy(node)
            swapped.ops = [COMPARED[type(operator)](), *node.ops[1:]]
            change = _setting(node, "ops", swapped.ops)
            yield Site(line, name, f"{_told(node)} becomes {_told(swapped)}", change)
        case ast.ExceptHandler(type=caught):
            what = f"raise again what is caught: {_told(caught) if caught else 'everything'}"
            yield Site(line, name, what, _setting(node, "body", [ast.Raise()]))


def _values(node: ast.AST, name: str) -> Iterator[Site]:
    """Yield changes of arithmetic, constants and aggregate calls."""
    line = getattr(node, "lineno", 0)
    match node:
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in RECKONED:
            swapped = copy.copy(node)
            swapped.op = RECKONED[type(operator)]()
            change = _setting(node, "op", swapped.op)
            yield Site(line, name, f"{_told(node)} becomes {_told(swapped)}", change)
        case ast.Constant(value=bool() as value):
            change = _setting(node, "value", not value)
            yield Site(line, name, f"{value} becomes {not value}", change)
        case ast.Constant(value=int() as value):
            change = _setting(node, "value", value + 1)
            yield Site(line, name, f"{value} becomes {value + 1}", change)
        case ast.Call(func=ast.Name(id=called)) if called in EXTREMES:
            change = _setting(node.func, "id", EXTREMES[called])
            yield Site(line, name, f"{_told(node)} becomes {EXTREMES[called]}", change)


def _flips(test: ast.expr) -> bool:
    """Return whether changing the comparison in *test* already negates it."""
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], FLIPPED)


def _told(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
