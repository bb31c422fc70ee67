"""The settings of a source with ``vendor = "http"``."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from gateway.plugin import (
    ConfigTable,
    Duration,
    EventTable,
    Template,
    header_name_problem,
    header_value_problem,
)
from plugins.http.credentials import HeaderName, SignedText

INCOMING = {"payload": object, "headers": dict, "query": dict}
"""What expressions know of a request: its body, its headers by lower-case names, its query."""


class Incoming(Template):
    """A value made of a request."""

    names = INCOMING


class IncomingEvent(EventTable):
    """The fields of an event, made of a request, and of one ``item`` of it."""

    names = {**INCOMING, "item": object}  # noqa: RUF012 - nobody changes it


class IncomingCondition(Incoming):
    """A condition over a request."""

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str):
            raise ValueError("must be a condition in quotes")  # noqa: TRY004 - pydantic reports a ValueError
        super().__init__(f"={text}")

    def check(self, problems: list[str], doubts: list[str]) -> None:  # noqa: ARG002 - it has no doubts of its own
        """Add that it is not true or false."""
        if not problems and not self.is_condition():
            problems.append("must be true or false")


class IncomingList(Incoming):
    """A list in a request: one expression."""

    def check(self, problems: list[str], doubts: list[str]) -> None:  # noqa: ARG002 - it has no doubts of its own
        """Add that it is no expression."""
        if not isinstance(self.raw, str) or not self.raw.startswith("="):
            problems.append('must be an expression that gives a list, such as "=payload.events"')


class SignatureCheck(ConfigTable):
    """How the sender signs its requests (HMAC, RFC 2104). The secrets are the source's `keys`."""

    header: HeaderName = Field(min_length=1)
    """The header with the signature, such as `"stripe-signature"`."""
    part: str = ""
    """The name of the signature if the header has several parts, or a word before it: `"v1"` in
    `t=1,v1=abc`, `"sha256"` in `sha256=abc`. Default: the whole header."""
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    """The hash function."""
    encoding: Literal["hex", "base64"] = "hex"
    """How the signature is written."""
    payload: SignedText = SignedText("body")
    """What is signed: an expression over `timestamp`, `body`, `method` and `path` (with its query),
    such as `"=timestamp + '.' + body"`."""
    timestamp_part: str = ""
    """The name of the time among the parts of the header, such as `"t"`."""
    timestamp_header: HeaderName = ""
    """The header with the time, if it has one of its own."""
    tolerance: Duration = Field(default=300.0, gt=0)
    """How far the time may be from the arrival. It has no effect without a time."""


class VerifyTable(ConfigTable):
    """How a request proves who sends it: one of these. What it proves with is in `keys`."""

    bearer: bool = False
    """A token in the `authorization` header: `Bearer …`."""
    basic: bool = False
    """User and password in the `authorization` header; `keys` have them as `user:password`."""
    header: HeaderName = ""
    """A header with a token, such as `"x-api-key"`."""
    query: str = ""
    """A name in the query with a token, such as `"token"`."""
    hmac: SignatureCheck | None = None
    """A signature."""

    @model_validator(mode="after")
    def _one(self) -> "VerifyTable":
        if sum(map(bool, (self.bearer, self.basic, self.header, self.query, self.hmac))) != 1:
            raise ValueError("needs exactly one of bearer, basic, header, query and hmac")
        return self


class IncomingAnswer(ConfigTable):
    """The response to an accepted request."""

    status: int = Field(default=200, ge=200, le=299)
    """The status."""
    headers: Mapping[str, str] = Field(default={})
    """Headers, such as `{ content-type = "text/plain" }`."""
    body: Incoming | None = None
    """The body: text, or a table that is sent as JSON. Values may be expressions."""

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, table: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in table.items():
            if wrong := header_name_problem(name, 'x-answer = "..."'):
                raise ValueError(wrong)
            if wrong := header_value_problem(value):
                raise ValueError(f"{name}: {wrong}")
        return table


class IncomingRequest(ConfigTable):
    """Requests of one kind, and the events that they become."""

    path: str = Field(pattern=r"^/[^?#\s]*$")
    """The path, such as `"/webhooks/stripe"`."""
    method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = "POST"
    """The method."""
    when: IncomingCondition | None = None
    """The requests that are meant, as a condition over `payload`, `headers` and `query`.
    Default: all."""
    verify: VerifyTable | None = None
    """How these requests prove who sends them. Default: the source's `verify`."""
    each: IncomingList | None = None
    """A list of which each `item` becomes an event, such as `"=payload.events"`. Default: the
    request becomes one event."""
    event: IncomingEvent | None = None
    """The event: a table with fields of the neutral event, whose values are expressions over
    `payload`, `headers`, `query` and `item`. `type` is `track` if it is left out. Default: the
    request is accepted, and becomes no event."""
    answer: IncomingAnswer | None = None
    """The response. Default: the source's `answer`."""

    @property
    def endpoint(self) -> str:
        """Return the method and the path."""
        return f"{self.method} {self.path}"


class HttpSourceSettings(ConfigTable):
    """``[sources.*]`` with ``vendor = "http"``."""

    requests: tuple[IncomingRequest, ...]
    """The requests. The first one with the method, the path and a `when` that holds counts."""
    verify: VerifyTable | None = None
    """How requests prove who sends them. Without it `keys` must be `"any"`."""
    answer: IncomingAnswer = IncomingAnswer()
    """The response to accepted requests."""
    unmatched: Literal["accept", "refuse"] = "accept"
    """What to do with a request whose path is known, but for which no `when` holds: accept it, as
    senders of webhooks expect (`"accept"`), or answer 422 (`"refuse"`). It becomes no event."""

    @field_validator("requests")
    @classmethod
    def _some(cls, found: tuple[IncomingRequest, ...]) -> tuple[IncomingRequest, ...]:
        if not found:
            raise ValueError("is empty; add [[sources.NAME.requests]]")
        first: dict[str, IncomingRequest] = {}
        for number, one in enumerate(found, start=1):
            if first.setdefault(one.endpoint, one).verify != one.verify:
                what = f"requests {number} needs the same verify as the earlier one"
                raise ValueError(f"{what} with {one.endpoint}: it is checked before `when`")
        return found

    def remarks(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield near misses in expressions, and requests that can never count."""
        whole: set[str] = set()
        for number, request in enumerate(self.requests):
            for key in ("when", "each", "event"):
                found: Any = getattr(request, key)
                for doubt in getattr(found, "doubts", ()):
                    yield ("requests", number, key), doubt
            if request.endpoint in whole:
                what = f"never counts: an earlier request takes every {request.endpoint}"
                yield ("requests", number, "path"), f"{what}; move it up"
            if request.when is None:
                whole.add(request.endpoint)

    def used_headers(self) -> frozenset[str]:
        """Return the lower-case names of the headers that expressions use."""
        values = [
            part
            for request in self.requests
            for part in (request.when, request.each, request.event)
            if part is not None
        ]
        text = " ".join(analysis.text for part in values for analysis in part.analyses)
        return frozenset(name.lower() for name in re.findall(r"headers\[\s*[\"']([^\"']+)", text))
