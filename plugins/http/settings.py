"""The settings of a destination with ``vendor = "http"``."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from gateway.plugin import (
    ConfigTable,
    EventCondition,
    NamedExpression,
    Settings,
    Size,
    Template,
    header_name_problem,
)
from plugins.http.credentials import AuthTable

MIB = 1024 * 1024


RESPONSE: Mapping[str, type] = {"status": int, "headers": dict, "body": object}
"""What expressions over the response of a vendor use."""


class ResponseCondition(NamedExpression):
    """A condition over the response of a vendor."""

    names = RESPONSE


class ResponseText(NamedExpression):
    """A value of a response that tells people what is wrong."""

    names = RESPONSE
    gives = object


class RefusedItems(NamedExpression):
    """The positions of the items that a vendor refuses while it takes the others."""

    names = RESPONSE
    gives = list

    def __init__(self, text: str) -> None:
        super().__init__(text)
        good = self.compute(GOOD)
        if self.looks_through and good.value is None and not good.error:
            what = "has no value for a response without errors, which then makes dead letters"
            cure = "write has(body.errors) ? body.errors.map(…) : []"
            self.doubts = (*self.doubts, f"{what}; {cure}")

    def positions(self, values: Mapping[str, Any], count: int) -> list[int]:
        """Return the positions of refused items, from 0.

        Args:
            values: of `names`.
            count: how many items the request has.

        Raises:
            ValueError: it cannot be told which items are refused.
        """
        found = self.compute(values)
        if found.error:
            raise ValueError(f"{self.text!r}: {found.error}")
        if found.value is None:
            if self.looks_through:  # one of several errors may lack its position
                raise ValueError(f"{self.text!r}: a value that it needs is missing")
            return []
        if not isinstance(found.value, list | tuple):
            raise ValueError(f"{self.text!r} gives no list")  # noqa: TRY004 - as for other answers
        for one in found.value:
            whole = type(one) is int or (type(one) is float and one.is_integer())
            if not whole or not 0 <= one < count:
                last = f"; the last one is {count - 1}" if whole else ""
                raise ValueError(f"{self.text!r} gives {one!r}, which is no position{last}")
        return [int(one) for one in found.value]


GOOD: Mapping[str, Any] = {"status": 200, "headers": {}, "body": {}}
"""A response without errors."""


class HttpRequest(ConfigTable):
    """One way to send an event."""

    when: EventCondition | None = None
    """The events that are sent in this way, as a condition over `event`. Default: all."""
    method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = "POST"
    """The method."""
    path: Template = Template("")
    """The path after the `url`: a text such as `"/v1/track"`, or a list of segments, such as
    `["users", "=event.user_id"]`, which are encoded."""
    query: Template | None = None
    """The query: a table. A list becomes a repeated name."""
    headers: Template | None = None
    """Headers of this request: a table. Those of the destination are added."""
    body: Template | None = None
    """The body: usually a table. None by default."""
    encoding: Literal["json", "form", "ndjson"] = "json"
    """How the body is written: as JSON, as a form, or as one line of JSON for each event."""
    batch_path: str = ""
    """Where the body has its list of events, such as `"events"`, if the destination has a
    `batch_size`. Not needed if the body itself is a list, or is `ndjson`."""

    @field_validator("path")
    @classmethod
    def _is_path(cls, path: Template) -> Template:
        raw = path.raw
        if isinstance(raw, str):
            if not path.constant:
                raise ValueError('must be a list of segments, such as ["users", "=event.user_id"]')
            if raw and not re.fullmatch(r"/[^?#\s]*", raw):
                raise ValueError('must begin with "/", and have no query: write that under query')
            if not {".", ".."}.isdisjoint(raw.split("/")):
                raise ValueError('has "." or "..", which servers take out; write the path itself')
        elif not isinstance(raw, list) or not raw:
            raise ValueError('must be a text such as "/v1/track", or a list of segments')
        elif not all(isinstance(one, str | int) for one in raw):
            raise ValueError("must be a list of texts")
        return path

    @field_validator("query", "headers")
    @classmethod
    def _is_table(cls, found: Template | None) -> Template | None:
        if found is not None and not isinstance(found.raw, dict):
            raise ValueError('must be a table, such as { id = "=event.user_id" }')
        if found is not None:
            _check_flat(found)
        return found

    @field_validator("headers")
    @classmethod
    def _has_names(cls, found: Template | None) -> Template | None:
        for name in found.raw if found else ():
            if wrong := header_name_problem(name, 'x-tenant = "..."'):
                raise ValueError(wrong)
        return found

    @model_validator(mode="after")
    def _fits(self) -> "HttpRequest":
        table = self.body is None or isinstance(self.body.raw, dict)
        if self.encoding == "form" and (self.body is None or not table):
            raise ValueError('has encoding = "form", which needs a body that is a table')
        if self.encoding == "form" and self.body is not None:
            _check_flat(self.body, 'in its body, which encoding = "form" cannot write')
        if self.encoding != "json" and self.batch_path:
            raise ValueError(f'has a batch_path, which encoding = "{self.encoding}" does not use')
        if self.batch_path and not self._has_list():
            raise ValueError(f"has no list in its body at batch_path = {self.batch_path!r}")
        return self

    def _has_list(self) -> bool:
        """Return whether the body has, or may have, a list at `batch_path`."""
        inner: Any = {} if self.body is None else self.body.raw
        for name in self.batch_path.split("."):
            if isinstance(inner, str) or (isinstance(inner, dict) and "*" in inner):
                return True  # an expression makes the table
            inner = inner.get(name) if isinstance(inner, dict) else None
        return isinstance(inner, list | str)

    @property
    def has_tables(self) -> bool:
        """Return whether the body is a table or a list of tables, so that keys can be added."""
        raw = {} if self.body is None else self.body.raw
        return all(isinstance(one, dict) for one in (raw if isinstance(raw, list) else [raw]))

    @property
    def batches(self) -> bool:
        """Return whether one request can have several events."""
        listed = self.body is not None and isinstance(self.body.raw, list)
        return self.encoding == "ndjson" or bool(self.batch_path) or listed


def _check_flat(table: Template, where: str = "here") -> None:
    for key in table.nested_keys():
        what = f"has a table, or a list of tables, at {key!r} {where}"
        raise ValueError(f"{what}: name single fields, or write json(...)")


def _plain_webhook() -> tuple[HttpRequest, ...]:
    return (HttpRequest.model_validate({"body": "=event"}),)


class HttpSettings(Settings):
    """``[destinations.*]`` with ``vendor = "http"``."""

    url: str
    """Scheme and host of the API; a prefix of all paths may follow."""
    auth: AuthTable = AuthTable()
    """Credentials."""
    requests: tuple[HttpRequest, ...] = Field(default_factory=_plain_webhook)
    """The requests. An event is sent by the first whose `when` holds; without one it is declined.
    Default: one `POST` of the whole event as JSON."""
    batch_size: int = Field(default=1, ge=1, le=1000)
    """The most events of one user that one request may have, and the most members of its list;
    one event with more goes alone."""
    batch_bytes: Size = Field(default=MIB, gt=0)
    """The largest body of a request with several events."""
    delivered: ResponseCondition | None = None
    """When a response means success: a condition over `status`, `headers` (with lower-case names)
    and `body`. Default: a status from 200 to 299."""
    retry: ResponseCondition | None = None
    """When an event is sent again later. Default: 408, 425, 429, 5xx, 401, 403 and redirects; see
    [verdicts](verdicts.md)."""
    refused: ResponseCondition | None = None
    """When an event becomes a dead letter. Default: any other response."""
    refused_items: RefusedItems | None = None
    """Which items of the request a response refuses that else means success: a list of their
    positions, from 0, such as `"=body.invalid_indices"`. Their events become dead letters, the
    others are delivered, and nothing is sent again."""
    reason: ResponseText | None = None
    """What a response says is wrong, such as `"=body.error.message"`, for dead letters and traces.
    Default: the beginning of its body."""

    @field_validator("requests")
    @classmethod
    def _some(cls, found: tuple[HttpRequest, ...]) -> tuple[HttpRequest, ...]:
        if not found:
            raise ValueError("is empty; remove it, to send each event as a whole")
        return found

    @model_validator(mode="after")
    def _fits(self) -> "HttpSettings":
        if self.batch_size > 1 and not any(one.batches for one in self.requests):
            what = "has a batch_size, but no request can have several events: set batch_path, "
            raise ValueError(f'{what}make the body a list, or set encoding = "ndjson"')
        for number, one in enumerate(self.requests, start=1):
            if self.auth.body and not one.has_tables:
                what = "auth.body needs a body that is a table, or a list of tables, in requests"
                raise ValueError(f"{what} {number}")
        return self

    def remarks(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield near misses in expressions, and requests that no event can reach."""
        for number, request in enumerate(self.requests):
            for key in type(request).model_fields:
                found: Any = getattr(request, key)
                for doubt in getattr(found, "doubts", ()):
                    yield ("requests", number, key), doubt
            if request.when is None and number + 1 < len(self.requests):
                what = "takes every event, so that later requests get none; add when, or move it"
                yield ("requests", number, "when"), f"is missing: the request {what}"
        for key in ("delivered", "retry", "refused", "refused_items", "reason"):
            for doubt in getattr(getattr(self, key), "doubts", ()):
                yield (key,), doubt
