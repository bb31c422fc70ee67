"""References in a configuration: ``${NAME}`` to the environment, ``file:`` to secrets in files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from gateway.config.loader.report import ConfigReport

FILE = "file:"

_REFERENCE = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
    r"|(?P<broken>\$\{)"
)


class ReferenceResolver:
    """Replaces references by what they stand for.

    Args:
        environ: the environment variables.
        report: takes what cannot be replaced, and learns what must not be shown.
        stand_ins: let ``value-of-NAME`` stand for a variable that is not set, an address where it
            begins a URL, and ``content-of-NAME`` for a secret's file that cannot be read; for
            commands that send nothing.
    """

    def __init__(
        self, environ: Mapping[str, str], report: ConfigReport, *, stand_ins: bool = False
    ) -> None:
        self._environ = environ
        self._report = report
        self._stand_ins = stand_ins
        self.missing: list[str] = []
        """What stands in for something: names of variables, and files of secrets."""

    def expanded(self, value: Any, table: str, key: str) -> Any:
        """Return *value* with every ``${NAME}`` and ``${NAME:-default}`` in it replaced.

        A variable that is set to nothing counts as unset where there is a default, as it does
        in a shell. ``$${`` stands for a plain ``${``.
        """
        if isinstance(value, str):
            return _REFERENCE.sub(lambda found: self._variable(found, table, key), value)
        if isinstance(value, list):
            return [self.expanded(item, table, key) for item in value]
        if isinstance(value, dict):
            return {name: self.expanded(below, table, key) for name, below in value.items()}
        return value

    def table(self, raw: Mapping[str, Any], table: str) -> dict[str, Any]:
        """Return a table of the file with the references in it replaced."""
        return {key: self.expanded(value, table, key) for key, value in raw.items()}

    def _variable(self, found: re.Match[str], table: str, key: str) -> str:
        if found["escaped"]:
            return "${"
        if found["broken"]:
            what = "a ${ starts no reference; write ${NAME} or ${NAME:-default}, or $${ for itself"
            self._report.problem(table, key, what, only=True)
            return found[0]
        name, default = found["name"], found["default"]
        value = self._environ.get(name)
        if default is not None and not value:
            if "${" in default:
                what = f"the default of {name} holds a reference itself, which is not followed"
                self._report.problem(table, key, f"{what}; write plain text", only=True)
            return default
        if value is None and self._stand_ins:
            self.missing.append(name)
            self._report.stood_in(table, key, name)
            standing = f"value-of-{name}"
            return f"https://{standing}.example" if key == "url" and not found.start() else standing
        if value is None:
            what = f"the environment variable {name} is not set; set it, or write a default: "
            self._report.problem(table, key, f"{what}${{{name}:-...}}", only=True)
            return found[0]
        self._report.hide(value)
        return value

    def secret(self, value: Any, table: str, key: str) -> Any:
        """Return a credential, or a table of them, read from its file where it is ``file:PATH``.

        The file's white space at both ends is not part of it.
        """
        if isinstance(value, dict):
            return {name: self.secret(one, table, f"{key}.{name}") for name, one in value.items()}
        if not isinstance(value, str):
            return value
        if value.startswith(FILE):
            path = Path(value.removeprefix(FILE))
            try:
                value = path.read_text("utf-8-sig").strip()
            except (OSError, ValueError) as error:
                if self._stand_ins:
                    self.missing.append(str(path))
                    return f"content-of-{path.name}"
                reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
                what = f"cannot read the secret in {path}: {reason}; mend the path or the file"
                self._report.problem(table, key, what, only=True)
                return FILE
        self._report.hide(value)
        if not value.strip():
            what = "the credential is empty; give it a value, or leave it out if it is optional"
            self._report.problem(table, key, what, only=True)
        return value

    def secrets(self, settings: dict[str, Any], model: type[BaseModel], table: str) -> None:
        """Replace the credentials among the *settings* of a destination, in place."""
        for name, field in model.model_fields.items():
            key = field.alias or name
            if key in settings and is_secret(field.annotation):
                settings[key] = self.secret(settings[key], table, key)


def is_secret(annotation: Any) -> bool:
    """Tell whether a field with this annotation holds a credential."""
    return annotation is SecretStr or any(is_secret(part) for part in get_args(annotation))
