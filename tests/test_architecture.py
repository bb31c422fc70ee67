"""Rules about who may import whom and how things look, kept by a test rather than by memory."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.plugins import load

ROOT = Path(__file__).parent.parent
PURE = frozenset({
    "base64", "collections", "dataclasses", "datetime", "functools", "gateway", "hashlib", "hmac",
    "json", "math", "msgspec", "orjson", "plugins", "re", "string", "typing", "urllib", "uuid",
})  # fmt: skip
IMPURE_NAMES = frozenset({"now", "utcnow", "today", "uuid1", "uuid4", "getenv", "environ", "open"})
PUBLIC = frozenset({
    "gateway", "gateway.commerce", "gateway.errors", "gateway.event", "gateway.exchange",
    "gateway.forwarding", "gateway.included", "gateway.json_text", "gateway.mapping",
    "gateway.naming", "gateway.plugin", "gateway.sandbox", "gateway.spec",
    "gateway.spec_spellings",
})  # fmt: skip
LONGEST_FUNCTION = 60
VAGUE = frozenset({"utils", "util", "helpers", "base", "manager", "handler", "processor", "common"})


def _modules(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", _modules("plugins/*/*.py"), ids=_name)
def test_vendors_translate_and_do_nothing_else(path: Path) -> None:
    """A vendor imports no socket, no event loop, no gateway internals and no other vendor."""
    vendor = path.parent.name
    for name in _imports(path):
        assert name.split(".")[0] in PURE, name
        assert not name.startswith("plugins.") or name.split(".")[1] == vendor, name
        assert name.split(".")[0] != "gateway" or name in PUBLIC, f"{name} is internal"


@pytest.mark.parametrize("path", _modules("plugins/*/*.py"), ids=_name)
def test_vendors_have_no_clock_and_no_chance(path: Path) -> None:
    """A vendor reads no clock, no environment and no file, and draws no random number."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in IMPURE_NAMES, f"{path.name}:{node.lineno}: {node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in IMPURE_NAMES, f"{path.name}:{node.lineno}: {node.func.id}"


@pytest.mark.parametrize("path", _modules("plugins/*/sandbox.py"), ids=_name)
def test_a_sandbox_shares_nothing_with_the_tables(path: Path) -> None:
    """One mistake cannot hide in a vendor's tables and in its emulated server alike."""
    for name in _imports(path):
        assert not name.startswith(("plugins.", "gateway.mapping", "gateway.spec")), name


@pytest.mark.parametrize("path", _modules("gateway/**/*.py"), ids=_name)
def test_the_gateway_knows_no_vendor(path: Path) -> None:
    """Only gateway/plugins.py looks into plugins/, and only to list it."""
    if path.name != "plugins.py":
        assert not any(name.split(".")[0] == "plugins" for name in _imports(path))


@pytest.mark.parametrize("path", _modules("gateway/**/*.py", "plugins/**/*.py"), ids=_name)
def test_functions_are_short_and_names_say_something(path: Path) -> None:
    """No function is longer than a screen, and no module has a name that says nothing."""
    text = path.read_text()
    assert path.stem not in VAGUE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name}: {length} lines"


def test_every_vendor_has_samples_a_suite_and_a_page() -> None:
    """A vendor is a folder of code, a folder of samples and a page of documentation."""
    for vendor in load().vendors:
        assert list((ROOT / "tests/vendors" / vendor).glob("*.json")), vendor
        assert (ROOT / f"tests/vendors/{vendor}/test_{vendor}.py").exists(), vendor
        assert (ROOT / f"docs/vendors/{vendor}.md").exists(), vendor
        assert (ROOT / f"plugins/{vendor}/sandbox.py").exists(), vendor


@pytest.mark.parametrize("path", _modules("tests/**/test_*.py"), ids=_name)
def test_every_test_states_its_rule(path: Path) -> None:
    """The docstring of a test is the rule that it checks."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            assert ast.get_docstring(node), node.name
