"""Find the plugins, and make an output with placeholder settings."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar, get_args

import pluggy
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

import plugins as builtin
from gateway.errors import PluginError
from gateway.plugin import hookspecs
from gateway.plugin.sandbox import Sandbox
from gateway.plugin.vendor import Input, Output


@dataclass(frozen=True, slots=True)
class PluginRegistry:
    """All vendors by name. No hook is called while an event is processed."""

    inputs: dict[str, type[Input]]
    outputs: dict[str, type[Output]]
    sandboxes: dict[str, type[Sandbox]]
    manager: pluggy.PluginManager

    @property
    def vendors(self) -> list[str]:
        """Return the names of all vendors, sorted."""
        return sorted({*self.inputs, *self.outputs, *self.sandboxes})

    @property
    def formats(self) -> list[str]:
        """Return the names of the vendors whose format is in their plugin, sorted."""
        halves = [*self.inputs.values(), *self.outputs.values()]
        configured = {half.name for half in halves if half.configured}
        return [name for name in self.vendors if name not in configured]

    def forwards(self, received: str, sent: str) -> bool:
        """Return whether a vendor's output can forward requests in the format of *received*."""
        return received == sent and sent in self.outputs and self.outputs[sent].forwards


def load_plugins(extra: Iterable[ModuleType] = ()) -> PluginRegistry:
    """Register ``plugins/*``, installed plugins, and further ones in *extra*.

    Raises:
        PluginError: two vendors have the same name, or a plugin has an unknown hook.
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
    return PluginRegistry(
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
            what = f"{vendor.__module__} and {other} have the same name {vendor.name!r}"
            raise PluginError(f"{what}; rename one of them")
        found[vendor.name] = vendor
    return dict(sorted(found.items()))


def _all(offers: Iterable[Iterable[type[V]]]) -> Iterator[type[V]]:
    for offer in offers:
        yield from offer


CREDENTIAL = "placeholder-credential"
"""Placeholder for missing secrets; it is redacted when a request is shown."""


def placeholder_output(output: type[Output], *, every: bool = False) -> Output:
    """Return an instance of *output* with placeholder settings.

    Args:
        output: the vendor's output class.
        every: whether to fill in optional secrets too.

    Raises:
        PluginError: a setting does not accept a placeholder.
    """
    settings: dict[str, Any] = {}
    for name, field in output.Config.model_fields.items():
        if _is_secret(field) and (every or field.is_required()):
            settings[field.alias or name] = CREDENTIAL
        elif field.is_required():
            settings[field.alias or name] = name
    if "url" in settings:
        settings["url"] = f"https://{output.name}.example"
    try:
        return output(output.Config.model_validate(settings))
    except ValidationError as error:
        names = ", ".join(str(found["loc"][0]) for found in error.errors() if found["loc"])
        raise PluginError(
            f"{output.name} accepts no placeholder for {names}; it can only be tried in the sandbox"
        ) from error


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)
