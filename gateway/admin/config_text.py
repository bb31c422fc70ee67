"""The text of configuration files for display: with its lines, without credentials."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from pydantic import BaseModel, SecretStr

from gateway.admin.config_mask import SecretKeys, masked
from gateway.config.models import TABLES, keys_of
from gateway.plugin.registry import PluginRegistry
from gateway.redact import Redactor

_PLACE = re.compile(r"(?P<path>.+?):(?P<line>[0-9]+): (?P<what>.*)", re.DOTALL)
_SOMEWHERE = frozenset({"url", "headers"})
"""Keys that are secret in some tables only."""
_NESTED = frozenset({"key"})
"""Secret keys within steps: that of ``hash``."""


class ConfigFile(msgspec.Struct, frozen=True):
    """A configuration file."""

    path: str
    lines: list[str]
    """Without credentials."""


class ConfigFinding(msgspec.Struct, frozen=True):
    """A problem or a warning of a file."""

    text: str
    path: str
    """Empty if it belongs to no file."""
    line: int | None
    """Counted from 1; null if it belongs to no line."""


class ConfigChange(msgspec.Struct, frozen=True):
    """A setting that differs between the running configuration and the file."""

    path: str
    """Such as ``destinations.crm.rate``."""
    running: Any
    """Null if it is not there."""
    file: Any
    """Null if it is not there."""


def secret_keys(registry: PluginRegistry) -> SecretKeys:
    """Return the keys of all tables and vendors that hold credentials."""
    models: dict[str, list[type[BaseModel]]] = {name: [one] for name, one in TABLES.items()}
    models["destinations"] += [output.Config for output in registry.outputs.values()]
    secret: dict[str, frozenset[str]] = {}
    known: dict[str, frozenset[str]] = {}
    for name, some in models.items():
        keys = {key: field for model in some for key, field in keys_of(model).items()}
        secret[name] = frozenset(key for key, one in keys.items() if _holds_secret(one.annotation))
        known[name] = frozenset(keys)
    everywhere = _NESTED | frozenset(key for keys in secret.values() for key in keys) - _SOMEWHERE
    plain = {name: keys - everywhere - secret[name] for name, keys in known.items()}
    return SecretKeys(everywhere, secret, plain)


def _holds_secret(annotation: Any) -> bool:
    """Return whether a value of a key may have a credential in it, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_secret(one.annotation) for one in annotation.model_fields.values())
    parts = get_args(annotation)
    return annotation is SecretStr or any(map(_holds_secret, parts))


def read_files(paths: Iterable[Path], redactor: Redactor, keys: SecretKeys) -> list[ConfigFile]:
    """Return the TOML files among *paths*, without credentials; unreadable ones are left out."""
    found = []
    for path in paths:
        if path.suffix == ".toml":
            try:
                text = path.read_text()
            except (OSError, UnicodeDecodeError):
                continue
            found.append(ConfigFile(str(path), masked(text, keys, redactor).splitlines()))
    return found


def placed(text: str, paths: Iterable[Path]) -> ConfigFinding:
    """Return a problem, as ``FILE:LINE: …``, apart from its place."""
    found = _PLACE.fullmatch(text)
    if found and found["path"] in {str(path) for path in paths}:
        return ConfigFinding(found["what"], found["path"], int(found["line"]))
    return ConfigFinding(text, "", None)


def changes(running: Any, file: Any, above: str = "") -> Iterator[ConfigChange]:
    """Yield the differences of two configurations, as the API shows them."""
    if isinstance(running, dict) and isinstance(file, dict):
        for key in [*running, *(key for key in file if key not in running)]:
            yield from changes(running.get(key), file.get(key), f"{above}.{key}" if above else key)
    elif running != file:
        yield ConfigChange(above, running, file)
