"""The text of configuration files for display: with its lines, without credentials."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
from pydantic import BaseModel, SecretStr

from gateway.config.models import TABLES, keys_of
from gateway.plugin.registry import PluginRegistry
from gateway.redact import HIDDEN, Redactor

_HEADER = re.compile(r"\s*\[\[?([^\]]*)\]")
_NAME = re.compile(r"[\w-]+")
_KEY = re.compile(r"\s*#?\s*[\"']?([\w-]+)[\"']?\s*[.=]")
_STRING = re.compile(r""" "(?:\\.|[^"\\])*(?:"|$) | '[^']*(?:'|$) """, re.VERBOSE)
_TRIPLE = re.compile(r""""{3}|\'{3}""")
_REFERENCE = re.compile(r"""["'](?:\$\{\w+\}|file:[^"']*)["']""")
"""A value that names a credential, and is none."""
_USERINFO = re.compile(r"""://[^/@\s"']+@""")
_QUERY = re.compile(r"""(://[^\s"'?]+\?)[^\s"']+""")
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


def secret_keys(registry: PluginRegistry) -> Mapping[str, frozenset[str]]:
    """Return the keys that hold credentials, by the first name of their tables."""
    outputs = [output.Config for output in registry.outputs.values()]
    models = {name: [model] for name, model in TABLES.items()}
    models["destinations"] += outputs
    return {name: frozenset(_secret(some)) for name, some in models.items()}


def _secret(models: Iterable[type[BaseModel]]) -> Iterator[str]:
    for model in models:
        for key, field in keys_of(model).items():
            if _holds_secret(field.annotation):
                yield key


def _holds_secret(annotation: Any) -> bool:
    """Return whether a value of a key may have a credential in it, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_secret(one.annotation) for one in annotation.model_fields.values())
    parts = get_args(annotation)
    return annotation is SecretStr or any(map(_holds_secret, parts))


def read_files(
    paths: Iterable[Path], redactor: Redactor, keys: Mapping[str, frozenset[str]]
) -> list[ConfigFile]:
    """Return the TOML files among *paths*, without credentials; unreadable ones are left out."""
    found = []
    for path in paths:
        if path.suffix == ".toml":
            try:
                text = path.read_text()
            except (OSError, UnicodeDecodeError):
                continue
            found.append(ConfigFile(str(path), shown_lines(text, redactor, keys)))
    return found


def shown_lines(text: str, redactor: Redactor, keys: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the lines of a file without credentials.

    Known credentials are hidden wherever they are. Values of secret keys are hidden even if the
    file is not in effect, or is invalid.

    Args:
        text: the file.
        redactor: hides the credentials that are known.
        keys: the secret keys, by the first name of their tables.
    """
    everywhere = _NESTED | frozenset(key for some in keys.values() for key in some) - _SOMEWHERE
    inline = re.compile(
        rf"""\b({"|".join(everywhere)})\b["']?\s*=\s*({_STRING.pattern}|\[[^\]]*\]?)""", re.VERBOSE
    )
    lines, secret, within, mask = [], everywhere, False, _Mask()
    plain = _QUERY.sub(rf"\1{HIDDEN}", _USERINFO.sub(f"://{HIDDEN}@", text))
    for line in plain.splitlines():
        if not mask.is_open:
            if header := _HEADER.match(line):
                table, *inner = _NAME.findall(header[1]) or [""]
                secret = keys.get(table, frozenset()) | everywhere
                within = not secret.isdisjoint(inner)
            key = _KEY.match(line)
            if header or not (key and (within or key[1] in secret)):
                hidden = inline.sub(lambda found: f"{found[1]} = {_hidden(found[2])}", line)
                lines.append(redactor.text(hidden))
                continue
        lines.append(redactor.text(mask.line(line)))
    return lines


class _Mask:
    """Hides the strings of one value, which may go over several lines."""

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""

    @property
    def is_open(self) -> bool:
        """Return whether the value goes on in the next line."""
        return bool(self._depth or self._quote)

    def line(self, text: str) -> str:
        """Return a line of the value with its strings hidden."""
        if self._quote:
            _, close, rest = text.partition(self._quote)
            if not close:
                return HIDDEN
            self._quote = ""
            return f"{HIDDEN}{close}{self.line(rest)}"
        if opening := _TRIPLE.search(text):
            before = self._single(text[: opening.start()])
            self._quote = opening[0]
            return f"{before}{opening[0]}{self.line(text[opening.end() :])}"
        return self._single(text)

    def _single(self, text: str) -> str:
        bare, comment, _ = _STRING.sub("", text).partition("#")
        opened = sum(bare.count(one) for one in "[{") - sum(bare.count(one) for one in "]}")
        self._depth = max(0, self._depth + opened)
        hidden = _hidden(text)
        return f"{hidden.rpartition('#')[0]}# {HIDDEN}" if comment and bare.strip() else hidden


def _hidden(text: str) -> str:
    """Return *text* with all strings in it hidden."""
    return _STRING.sub(lambda found: _hide(found[0]), text)


def _hide(string: str) -> str:
    """Return a string of TOML, hidden unless it only names a credential."""
    return string if _REFERENCE.fullmatch(string) else f'"{HIDDEN}"'


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
