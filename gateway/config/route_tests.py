"""Models of tests in the configuration: a request, and the requests that destinations must get."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, JsonValue

from gateway.config.types import FilePath, Flag, client_address
from gateway.plugin.config_table import ConfigTable

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
"""The arrival time of a test's request, unless the test sets ``at``."""
PLACES: dict[str, JsonValue] = {"anyOf": [
    {"type": "array", "items": {"type": "string"}},
    {"type": "object", "additionalProperties": {"anyOf": [
        {"$ref": "#/definitions/expected"},
        {"type": "array", "items": {"$ref": "#/definitions/expected"}},
    ]}},
]}  # fmt: skip
"""The forms of ``expect`` in JSON Schema."""
MOMENT: dict[str, JsonValue] = {"type": "string"}


def _moment(value: object) -> object:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("is not a time; write 2025-06-01T12:00:00Z") from error
    if not isinstance(value, datetime):
        raise ValueError("is not a time; write 2025-06-01T12:00:00Z")  # noqa: TRY004 - pydantic turns a ValueError into a finding
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _granted(value: object) -> object:
    if isinstance(value, list):
        if not all(isinstance(category, str) for category in value):
            raise ValueError('must be a list of categories; write ["advertising"]')
        return dict.fromkeys(value, True)
    return value


class ExpectedRequestConfig(ConfigTable):
    """A request that a destination must get. Keys that are left out match anything."""

    method: str = ""
    """The method."""
    path: str = ""
    """The end of the URL, without the query."""
    headers: Mapping[str, str] = {}
    """Headers that the request must have. Credentials are written `***`, with or without what
    stands before them: `Bearer ***`."""
    body: Any = None
    """What the body must contain: a table, or JSON as text. Tables may have more keys; lists must
    be equal."""
    exact: Flag = False
    """The body must not contain anything else."""
    absent: tuple[str, ...] = ()
    """Fields that the body must not have, as dotted paths: `["properties.email"]`."""
    must_not_contain: tuple[str, ...] = ()
    """Texts that must not occur in the request, such as an e-mail address that a step hashes."""


Expected = dict[str, tuple[ExpectedRequestConfig, ...]]


class RouteTestConfig(ConfigTable):
    """A test of the routes: one request, and the requests that destinations must get."""

    name: str = Field(min_length=1)
    """A sentence that says what the test checks."""
    source: str = Field(default="", alias="from")
    """The source that gets the request; its key is not checked then. Default: the only source, or
    the one that matches `path`, host and key. With only one source the key may be missing."""
    path: str = ""
    """The path of the request, such as `"/push"` or `"GET /pixel?id=1"`. Required if several
    endpoints of the vendor accept the body."""
    headers: Mapping[str, str] = {}
    """The headers. A JSON body gets its content type automatically."""
    body: Any = None
    """The body in the vendor's format: a table, or text that is sent unchanged."""
    file: FilePath = None
    """A file with the body; the path is relative to this file."""
    at: Annotated[datetime, BeforeValidator(_moment)] = Field(
        default=NOON, json_schema_extra=MOMENT
    )
    """When the request arrives."""
    ip: Annotated[str, BeforeValidator(client_address)] = ""
    """The IP address of the user's device. Default: none, as for a server's request."""
    consented: Annotated[Mapping[str, bool], BeforeValidator(_granted)] = Field(
        default={},
        json_schema_extra={"anyOf": [
            {"type": "array", "items": {"type": "string"}},
            {"type": "object", "additionalProperties": {"type": "boolean"}},
        ]},
    )  # fmt: skip
    """The user's stored consent (`[consent]`): categories, or a table of categories with `true` or
    `false`."""
    expect: Expected | None = Field(default=None, json_schema_extra=PLACES)
    """The destinations that must get the event: a list, or a table with the request that each must
    get. Other destinations must get nothing."""
    withheld: Mapping[str, str] = {}
    """Destinations that must get nothing, each with a part of the reason."""
    rejected: str | None = None
    """The request must be rejected; a part of the reason."""


class RouteTest(NamedTuple):
    """A test, and where it is written."""

    config: RouteTestConfig
    place: str
    """File and line."""
    folder: Path
    """The folder that the test's paths are relative to."""
