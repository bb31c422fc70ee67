"""Find plugins once, at start-up, and turn hooks into plain objects."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import pluggy

import plugins as builtin
from gateway import hookspecs
from gateway.errors import PluginError
from gateway.plugin import Input, Output
from gateway.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Registry:
    """Every known vendor by name; nothing on an event's path calls a hook."""

    inputs: dict[str, type[Input]]
    outputs: dict[str, type[Output]]
    sandboxes: dict[str, type[Sandbox]]
    manager: pluggy.PluginManager

    @property
    def vendors(self) -> list[str]:
        """Return the names of all vendors, sorted."""
        return sorted({*self.inputs, *self.outputs, *self.sandboxes})


def load(extra: Iterable[ModuleType] = ()) -> Registry:
    """Register ``plugins/*``, installed plugins, then those of *extra* that are not among them.

    Raises:
        PluginError: two plugins share a name, or one has a hook that does not exist.
    """
    manager = pluggy.PluginManager("gateway")
    manager.add_hookspecs(hookspecs)
    for found in pkgutil.iter_modules(builtin.__path__, "plugins."):
        manager.register(importlib.import_module(found.name), found.name)
    manager.load_setuptools_entrypoints("gateway")
    for module in extra:
        if not manager.is_registered(module):
            manager.register(module)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{error}; docs/hooks.md lists the hooks") from error
    return Registry(
        _by_name(manager.hook.register_inputs()),
        _by_name(manager.hook.register_outputs()),
        _by_name(manager.hook.register_sandboxes()),
        manager,
    )


V = TypeVar("V", bound=Any)


def _by_name(offers: Iterable[Iterable[type[V]]]) -> dict[str, type[V]]:
    found: dict[str, type[V]] = {}
    for vendor in _all(offers):
        if vendor.name in found:
            other = found[vendor.name].__module__
            raise PluginError(f"{vendor.__module__} and {other} are both called {vendor.name!r}")
        found[vendor.name] = vendor
    return dict(sorted(found.items()))


def _all(offers: Iterable[Iterable[type[V]]]) -> Iterator[type[V]]:
    for offer in offers:
        yield from offer
