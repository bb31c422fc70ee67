"""Resolve references: ``${NAME}`` to the environment, ``file:`` to files with secrets."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from gateway.config.loader.report import ConfigReport
from gateway.plugin.config_table import nested_model

FILE = "file:"
PUBLIC_KEYS = frozenset(
    {
        ("server", "listen"), ("server", "trusted_proxies"), ("admin", "listen"),
        ("admin", "hosts"), ("spool", "path"), ("spool", "url"), ("spool", "monitor"),
        ("trace", "path"),
    }
)  # fmt: skip
"""Tables and keys of addresses and paths: messages may show what variables put there."""

_REFERENCE = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|(?P<broken>\$\{)"
)


class ReferenceResolver:
    """Replaces references by their values.

    Args:
        environ: the environment variables.
        report: gets the problems, and the values that must be redacted.
        stand_ins: use placeholders instead of reporting what is missing, for commands that send
            nothing: ``value-of-NAME`` for a variable that is not set, and ``content-of-NAME`` for a
            secret file that cannot be read; a URL where one is needed.
    """

    def __init__(
        self, environ: Mapping[str, str], report: ConfigReport, *, stand_ins: bool = False
    ) -> None:
        self.environ = environ
        self.stand_ins = stand_ins
        self._report = report
        self.missing: list[str] = []
        """What was replaced by placeholders: names of variables, and paths of secret files."""

    def expanded(self, value: Any, table: str, key: str) -> Any:
        """Return *value* with every ``${NAME}`` and ``${NAME:-default}`` replaced.

        As in a shell, an empty variable counts as unset if there is a default. ``$${`` is an
        escaped ``${``.
        """
        if isinstance(value, str):
            shown = (table, key) in PUBLIC_KEYS
            return _REFERENCE.sub(
                lambda found: self._variable(found, table, key, shown=shown), value
            )
        if isinstance(value, list):
            return [self.expanded(item, table, key) for item in value]
        if isinstance(value, dict):
            return {
                name: self.expanded(below, table, f"{key}.{name}") for name, below in value.items()
            }
        return value

    def table(self, raw: Mapping[str, Any], table: str) -> dict[str, Any]:
        """Return a table with its references replaced."""
        return {key: self.expanded(value, table, key) for key, value in raw.items()}

    def _variable(self, found: re.Match[str], table: str, key: str, *, shown: bool) -> str:
        """Return the value of a reference; messages redact it unless it may be *shown*."""
        if found["escaped"]:
            return "${"
        if found["broken"]:
            what = (
                "has an invalid reference; write ${NAME}, ${NAME:-default}, or $${ for a plain ${"
            )
            self._report.problem(table, key, what, only=True)
            return found[0]
        name, default = found["name"], found["default"]
        value = self.environ.get(name)
        if default is not None and not value:
            if "${" in default:
                what = f"the default of {name} contains a reference, which is not resolved"
                self._report.problem(table, key, f"{what}; write plain text", only=True)
            return default
        if value is None and self.stand_ins:
            self.missing.append(name)
            self._report.stood_in(table, key, name)
            return _placeholder(f"value-of-{name}", "" if found.start() else f"{table}.{key}")
        if value is None:
            what = f"the environment variable {name} is not set; set it, or write a default: "
            self._report.problem(table, key, f"{what}${{{name}:-...}}", only=True)
            return found[0]
        if not (shown or _is_path(found, value)):
            self._report.hide(value)
        return value

    def secret(self, value: Any, table: str, key: str) -> Any:
        """Return a credential, or a table of them; read it from its file if it is ``file:PATH``.

        White space at both ends of the file is removed.
        """
        if isinstance(value, dict):
            return {name: self.secret(one, table, f"{key}.{name}") for name, one in value.items()}
        if not isinstance(value, str):
            return value
        if value.startswith(FILE):
            path = value.removeprefix(FILE)
            try:
                value = Path(path).read_text("utf-8-sig").strip()
            except (OSError, ValueError) as error:
                if self.stand_ins:
                    self.missing.append(path)
                    return _placeholder(f"content-of-{Path(path).name}", f"{table}.{key}")
                reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
                what = f"cannot read the secret in {path}: {reason}; correct the path or the file"
                self._report.problem(table, key, what, only=True)
                return FILE
        self._report.hide(value)
        one_line = value.splitlines() in ([], [value])
        if not one_line and "headers" not in key:  # headers have a check of their own
            what = "the credential has several lines, or a line break at its end; "
            what += "keep the one that is the credential"
            self._report.problem(table, key, what, only=True)
        if not value.strip() and key != "proxy":  # an empty one stands for none
            what = "the credential is empty; set it, or remove the key if it is optional"
            self._report.problem(table, key, what, only=True)
        return value

    def secrets(self, settings: dict[str, Any], model: type[BaseModel], table: str) -> None:
        """Resolve the credentials in the *settings* of a destination, in place."""
        for name, field in model.model_fields.items():
            key = field.alias or name
            if key not in settings:
                continue
            if is_secret(field.annotation):
                settings[key] = self.secret(settings[key], table, key)
            elif (inner := nested_model(field.annotation)) is not None:
                settings[key] = self._within(settings[key], inner, f"{table}.{key}")

    def _within(self, value: Any, model: type[BaseModel], table: str) -> Any:
        """Return a nested table, or a list of them, with its credentials resolved."""
        if isinstance(value, list):
            return [
                self._within(one, model, f"{table}.{number}")
                for number, one in enumerate(value, start=1)
            ]
        if isinstance(value, dict):
            value = dict(value)
            self.secrets(value, model, table)
        return value


def _is_path(found: re.Match[str], value: str) -> bool:
    """Return whether a variable in a ``file:`` is a path, not the credential of the file."""
    before_slash = found.string.startswith("/", found.end())
    return found.string.startswith(FILE) and (before_slash or value.startswith("/"))


_SCHEMES = {"spool.url": "tls", "spool.monitor": "http", "url": "https", "proxy": "http"}
"""Keys that hold URLs, in one table or in all, with the scheme of a placeholder."""


def _placeholder(text: str, place: str) -> str:
    """Return what stands for a missing *text* in *place*: a table and a key with a dot between."""
    scheme = _SCHEMES.get(place) or _SCHEMES.get(place.rpartition(".")[2])
    return f"{scheme}://{text}.example" if scheme else text


def is_secret(annotation: Any) -> bool:
    """Return whether a field with this annotation holds a credential."""
    return annotation is SecretStr or any(is_secret(part) for part in get_args(annotation))
