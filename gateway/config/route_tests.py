"""What the configuration file may say of tests: a request, and what each destination gets of it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, JsonValue

from gateway.config.types import ConfigTable

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
"""When requests of tests arrive unless they say otherwise."""
PLACES: dict[str, JsonValue] = {"anyOf": [
    {"type": "array", "items": {"type": "string"}},
    {"type": "object", "additionalProperties": {"anyOf": [
        {"$ref": "#/definitions/expected"},
        {"type": "array", "items": {"$ref": "#/definitions/expected"}},
    ]}},
]}  # fmt: skip
"""How ``expect`` may be written, as JSON Schema."""
MOMENT: dict[str, JsonValue] = {"type": "string"}


def _moment(value: object) -> object:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("is no time; write 2025-06-01T12:00:00Z") from error
    if not isinstance(value, datetime):
        raise ValueError("is no time; write 2025-06-01T12:00:00Z")  # noqa: TRY004 - pydantic turns a ValueError into a finding
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _granted(value: object) -> object:
    if isinstance(value, list):
        return dict.fromkeys(value, True)
    return value


class ExpectedRequestConfig(ConfigTable):
    """A request that a destination must get; what is left out may be anything."""

    method: str = ""
    """Its method."""
    path: str = ""
    """How its URL ends, the query left out."""
    headers: Mapping[str, str] = {}
    """Headers that it must have; credentials are `***`."""
    body: Any = None
    """What its body must say: a table, or JSON as text. Lists must be whole; tables may hold
    more."""
    exact: bool = False
    """The body must say nothing else."""
    absent: tuple[str, ...] = ()
    """What its body must not have, as dotted paths: `["properties.email"]`."""
    must_not_contain: tuple[str, ...] = ()
    """Texts that must stand nowhere in it, such as an address that a step hashes."""


Expected = dict[str, tuple[ExpectedRequestConfig, ...]]


class RouteTestConfig(ConfigTable):
    """A test of the routes: one request, and what each destination gets of it."""

    name: str = Field(min_length=1)
    """What should be so, in words."""
    source: str = Field(default="", alias="from")
    """The source through which it comes; its credential is not asked for then. Where this is left
    out it is the only source, or the one that `path`, host and credential lead to."""
    path: str = ""
    """Where it is posted, such as `"/push"` or `"GET /pixel?id=1"`; needed where several endpoints
    of the vendor would take the body."""
    headers: Mapping[str, str] = {}
    """Its headers. JSON is labelled as JSON anyway."""
    body: Any = None
    """Its body in the vendor's format: a table, or text that is sent as it stands."""
    file: Path | None = None
    """A file with the body, from this file on."""
    at: Annotated[datetime, BeforeValidator(_moment)] = Field(
        default=NOON, json_schema_extra=MOMENT
    )
    """When it arrives."""
    ip: str = ""
    """The address of the person's device behind it; a backend's request has none."""
    consented: Annotated[Mapping[str, bool], BeforeValidator(_granted)] = Field(
        default={},
        json_schema_extra={"anyOf": [
            {"type": "array", "items": {"type": "string"}},
            {"type": "object", "additionalProperties": {"type": "boolean"}},
        ]},
    )  # fmt: skip
    """What is remembered of the user's consent (`[consent]`): categories, or a table of them."""
    expect: Expected | None = Field(default=None, json_schema_extra=PLACES)
    """Who gets it: destinations, or a table of them with what the request to each must be. A
    destination that is not named here must get nothing."""
    withheld: Mapping[str, str] = {}
    """Destinations that must get nothing, with some words of the reason."""
    rejected: str | None = None
    """The request must be refused; some words of the reason."""


class RouteTest(NamedTuple):
    """A test, and where it stands."""

    config: RouteTestConfig
    place: str
    """File and line."""
    folder: Path
    """From which paths count."""
