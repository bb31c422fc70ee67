"""Every name that a plugin imports has its own docstring."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import gateway.plugin
import gateway.plugin.spec
import gateway.sandbox
from gateway.plugin import Input, OutgoingCall, Output, Settings, Vendor, hookspecs
from gateway.sandbox import Sandbox

PUBLIC = (gateway.plugin, gateway.plugin.spec, gateway.sandbox)
CLASSES = (Vendor, Input, Output, OutgoingCall, Settings, Sandbox)
"""The classes that a plugin derives from or makes instances of."""


def names(module: ModuleType) -> list[str]:
    """Return the public names of *module*: its ``__all__``, or what it defines itself."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    found = [name for node in tree.body for name in _defined(node)]
    return sorted(name for name in found if not name.startswith("_"))


def documented(module: ModuleType, name: str) -> str:
    """Return the docstring at the definition of *name* in *module*; empty if there is none."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in {a.asname or a.name for a in node.names}:
            return documented(importlib.import_module(str(node.module)), name)
    return _docs(tree).get(name, "")


def _docs(tree: ast.Module | ast.ClassDef) -> dict[str, str]:
    """Return the docstrings of what a module or a class defines."""
    found: dict[str, str] = {}
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        for name in _defined(node):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[name] = ast.get_docstring(node) or ""
            elif isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[name] = str(after.value.value)
            else:
                found[name] = ""
    return found


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module in PUBLIC for name in names(module)]
)
def test_each_name_has_a_docstring_of_its_own(module: ModuleType, name: str) -> None:
    """Every name that a plugin imports has a docstring that is not inherited."""
    assert documented(module, name).strip(), f"{module.__name__}.{name}"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_attribute_has_a_docstring(kind: type) -> None:
    """Each attribute and method of the plugin base classes has a docstring."""
    tree = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(tree, ast.ClassDef)
    missing = [name for name, text in _docs(tree).items() if not name.startswith("_") and not text]
    assert [name for name in missing if name != "model_config"] == []


def test_each_hook_has_a_docstring() -> None:
    """Each hook has a docstring."""
    hooks = [name for name in names(hookspecs) if name.startswith(("register", "event", "deliv"))]
    assert len(hooks) == 5
    assert all(documented(hookspecs, name) for name in hooks)
