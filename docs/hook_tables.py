# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The reference of the hooks, made of their docstrings."""

import inspect
import re

from pluggy import PluginManager

from gateway.plugin import hookspecs


def hooks() -> str:
    """Return a section for each hook: its name with its arguments, and its docstring."""
    manager = PluginManager("gateway")
    manager.add_hookspecs(hookspecs)
    names = [name for name in vars(hookspecs) if name in vars(manager.hook) and name[0] != "_"]
    return "\n\n".join(map(_section, names))


def _section(name: str) -> str:
    hook = getattr(hookspecs, name)
    arguments = ", ".join(inspect.signature(hook).parameters)
    text, _, listed = (inspect.getdoc(hook) or "").partition("\nArgs:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    lines = [f"- `{word}`: {' '.join(meaning.split())}" for word, meaning in found]
    body = text.strip().replace("``", "`")
    return "\n\n".join(filter(None, (f"## {name}({arguments})", body, "\n".join(lines))))
