"""The configuration that is in effect, as its file would say it, without credentials."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.config import Config
from gateway.config.models import TABLES, keys_of
from gateway.config.quantities import Kind, Written, shown
from gateway.redact import HIDDEN, without_password


def plain(value: Any, kind: Kind | None = None) -> Any:
    """Return a part of the configuration as the file would say it, without credentials."""
    if kind is not None and isinstance(value, int | float):
        return shown(value, kind)
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, BaseModel):
        return _table(value)
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, str):
        return without_password(value) if "://" in value else value
    return value if isinstance(value, bool | int | float | None) else str(value)


def tables(config: Config) -> dict[str, Any]:
    """Return the tables of *config*, as the file has them."""
    found = {name: getattr(config, name) for name in TABLES}
    return {name: plain(table) for name, table in found.items() if table is not None}


def _table(table: BaseModel) -> dict[str, Any]:
    names = type(table).model_fields
    keyed = zip(names, keys_of(type(table)).items(), strict=True)
    held = {key: plain(getattr(table, name), kind_of(field)) for name, (key, field) in keyed}
    settings = held.pop("settings", {})
    return {**held, **settings}


def kind_of(field: FieldInfo) -> Kind | None:
    """Return what kind of quantity a field holds; None for no quantity."""
    within = (mark for part in get_args(field.annotation) for mark in get_args(part))
    marks = (mark for mark in (*field.metadata, *within) if isinstance(mark, Written))
    return next((mark.kind for mark in marks), None)
