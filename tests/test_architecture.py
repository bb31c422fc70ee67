"""Rules on imports, names and sizes of modules."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from gateway import mapping
from gateway.plugin.registry import load_plugins
from tests.mutation.targets import modules

ROOT = Path(__file__).parent.parent
ROOMS = """
__main__
cli
server          testing
admin
reload
app
observability
trace
explain         replay          shadow          sandbox
ingest          delivery
losses          routing
spools
spool/sqlite    spool/jetstream    testing/spool
spool
config/loader
config
tracking
plugin
conditions
mapping
ground
"""
"""A room imports only what stands below it, as docs/architecture.md draws it."""

GROUND = """
person
redact verdict http_client event_fields event_diff
http json_text suggestions
event errors sqlite log_limit sighup empty_modules __init__
"""
"""The order of the ground's modules."""

PURE = frozenset({
    "base64", "collections", "contextlib", "dataclasses", "datetime", "functools", "gateway",
    "hashlib", "hmac", "json", "math", "msgspec", "orjson", "plugins", "pydantic", "re", "string",
    "typing", "urllib", "uuid",
})  # fmt: skip
IMPURE_NAMES = frozenset({"now", "utcnow", "today", "uuid1", "uuid4", "getenv", "environ", "open"})
PUBLIC = frozenset({"gateway.plugin", "gateway.plugin.spec", "gateway.sandbox"})
VENDORS = ("plugins/*/*.py", "tests/example_plugins/*/*/*.py")
LONGEST_FUNCTION = 60
VAGUE = frozenset({"utils", "util", "helpers", "base", "manager", "handler", "processor", "common"})


def _modules(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    return tuple(_written_imports(path))


def _written_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def _imported(path: Path) -> tuple[str, ...]:
    """Return the modules of the gateway that a module imports, wherever the import stands."""
    return tuple(_imported_modules(path))


def _imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gateway":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if _file_of(inner) else str(node.module)


@cache
def _file_of(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    found = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in found if path.exists()), None)


def _room(path: Path) -> str:
    """Return the room of a module, by the longest name of a room that its path begins with."""
    inner = str(path.relative_to(ROOT / "gateway").with_suffix(""))
    if inner in GROUND.split():
        return "ground"
    rooms = [room for room in ROOMS.split() if inner == room or inner.startswith(f"{room}/")]
    assert rooms, f"{inner} stands in no room"
    return max(rooms, key=len)


def _steps(drawing: str) -> dict[str, int]:
    """Return the level of each name, the lowest first."""
    lines = reversed(drawing.strip().splitlines())
    return {name: step for step, line in enumerate(lines) for name in line.split()}


@pytest.mark.parametrize("path", _modules("gateway/**/*.py"), ids=_name)
def test_a_room_imports_only_what_stands_below_it(path: Path) -> None:
    """A room imports only lower rooms, under TYPE_CHECKING and inside functions too."""
    steps, ground, room = _steps(ROOMS), _steps(GROUND), _room(path)
    for module in _imported(path):
        other = _file_of(module)
        assert other is not None, module
        if _room(other) != room:
            assert steps[_room(other)] < steps[room], f"{room} may not import {module}"
        elif room == "ground":
            below = ground[other.stem] if other.parent.name == "gateway" else 0
            assert below < ground[path.stem], f"{path.stem} may not import {module}"


@pytest.mark.parametrize("path", _modules("gateway/**/*.py"), ids=_name)
def test_a_module_does_not_import_its_own_room(path: Path) -> None:
    """A module does not import from its own room's ``__init__``."""
    own = "gateway." + _room(path).replace("/", ".")
    if path.name != "__init__.py" and "ground" not in own:
        assert own not in set(_imported(path))


def test_there_are_no_import_cycles() -> None:
    """There are no import cycles."""
    graph = {path: {_file_of(m) for m in _imported(path)} for path in _modules("gateway/**/*.py")}
    while leaves := [path for path, needs in graph.items() if not needs & graph.keys()]:
        for path in leaves:
            del graph[path]
    assert not graph, sorted(map(_name, graph))


def test_the_drawing_is_the_order() -> None:
    """docs/architecture.md draws the rooms in the order that this test checks."""
    page = (ROOT / "docs/architecture.md").read_text()
    drawn = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert any(_steps(ROOMS) == _steps(drawing) for drawing in drawn)
    assert any(_steps(GROUND) == _steps(drawing) for drawing in drawn)


def test_no_class_name_occurs_twice() -> None:
    """No public class name occurs twice."""
    found: dict[str, Path] = {}
    for path in _modules("gateway/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                other = found.setdefault(node.name, path)
                assert other == path, f"{node.name} is in {_name(other)} and {_name(path)}"


@pytest.mark.parametrize("path", _modules(*VENDORS), ids=_name)
def test_vendors_translate_and_do_nothing_else(path: Path) -> None:
    """A vendor imports no socket, no event loop, no gateway internals and no other vendor."""
    vendor = path.parent.name
    for name in _imports(path):
        assert name.split(".")[0] in PURE, name
        assert not name.startswith("plugins.") or name.split(".")[1] == vendor, name
        assert name.split(".")[0] != "gateway" or name in PUBLIC, f"{name} is internal"


@pytest.mark.parametrize("path", _modules("tests/example_plugins/*/test_*.py"), ids=_name)
def test_examples_are_tested_with_the_kit_alone(path: Path) -> None:
    """An example's tests import only the public modules and the kit."""
    inner = {name for name in _imports(path) if name.split(".")[0] == "gateway"}
    assert inner <= PUBLIC | {"gateway.testing"}


@pytest.mark.parametrize("path", _modules(*VENDORS), ids=_name)
def test_vendors_have_no_clock_and_no_chance(path: Path) -> None:
    """A vendor reads no clock, no environment and no file, and draws no random number."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in IMPURE_NAMES, f"{path.name}:{node.lineno}: {node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in IMPURE_NAMES, f"{path.name}:{node.lineno}: {node.func.id}"


@pytest.mark.parametrize(
    "path", _modules("plugins/*/sandbox.py", "tests/example_plugins/*/*/sandbox.py"), ids=_name
)
def test_a_sandbox_shares_nothing_with_the_tables(path: Path) -> None:
    """A sandbox imports neither its vendor's tables nor the mapping."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            assert not str(node.module).startswith(("plugins.", "gateway.plugin.spec"))
            assert node.module != "gateway.plugin" or not names & {*mapping.__all__}, names


@pytest.mark.parametrize("path", _modules("gateway/**/*.py"), ids=_name)
def test_the_gateway_knows_no_vendor(path: Path) -> None:
    """Only gateway/plugin/registry.py imports plugins, to list them."""
    if path.name != "registry.py":
        assert not any(name.split(".")[0] == "plugins" for name in _imports(path))


@pytest.mark.parametrize("path", _modules("gateway/**/*.py", "plugins/**/*.py"), ids=_name)
def test_functions_are_short_and_names_say_something(path: Path) -> None:
    """No function exceeds the line limit, and no module has a vague name."""
    text = path.read_text()
    assert path.stem not in VAGUE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name}: {length} lines"


def test_every_vendor_has_samples_a_suite_and_a_page() -> None:
    """Every vendor has samples, a suite, a page and, if it has a server, a sandbox."""
    for vendor in load_plugins().vendors:
        assert list((ROOT / "tests/vendors" / vendor).glob("*.json")), vendor
        assert (ROOT / f"tests/vendors/{vendor}/test_{vendor}.py").exists(), vendor
        assert (ROOT / f"docs/vendors/{vendor}.md").exists(), vendor
        assert vendor == "file" or (ROOT / f"plugins/{vendor}/sandbox.py").exists(), vendor


@pytest.mark.parametrize("path", _modules("tests/**/test_*.py"), ids=_name)
def test_every_test_states_its_rule(path: Path) -> None:
    """Every test has a docstring that states its rule."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            assert ast.get_docstring(node), node.name


def test_the_tests_that_must_notice_mutants_exist() -> None:
    """`make mutate-core` names only existing modules and tests."""
    assert modules(ROOT)
