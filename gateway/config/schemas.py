"""How the configuration writes JSON Schemas."""

from typing import Annotated, Any

from pydantic import BeforeValidator

Schema = dict[str, Any] | bool | str
"""A JSON Schema as TOML has it, or the path of a file that holds one."""


def _schemas(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError('must be a table; write schemas = { "Order Completed" = "order.json" }')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    for name, schema in value.items():
        if not isinstance(schema, str | bool | dict) or schema == "":
            raise ValueError(f"of {name!r} must be a JSON Schema, or the path of a file with one")
    return value


Schemas = Annotated[dict[str, Schema], BeforeValidator(_schemas)]
"""Names of events, or patterns, to their schemas."""
