"""The emulated Growlytics REST API, as strict as its documents.

Sources: https://docs.growlytics.in/rest-apis/tracking-users-1 (customers, attributes and their
limits), https://docs.growlytics.in/rest-apis/tracking-events-1 (events), and
https://docs.growlytics.in/rest-apis/syncing-products for the 422, which is a Joi report. No 401
is documented: its body here is ``{"success": false, ...}``.

Not emulated: Growlytics ignores an attribute whose type differs from the first time. The sandbox
stores no attributes.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from gateway.plugin import Request, Response
from gateway.sandbox import (
    LIST,
    OBJECT,
    TEXT,
    BodyField,
    BodyProblem,
    JsonType,
    ProblemKind,
    Sandbox,
    SandboxResponse,
    json_body,
    json_response,
    status_text,
)

LONGEST_NAME: Final = 49
"""Names have fewer than 50 characters ("Terms & Considerations")."""
MOST_FOR_CUSTOMER: Final = 100
MOST_FOR_EVENT: Final = 50
STANDARD: Final = ("name", "email", "mobile")
"""Customer attributes that are not custom ones, by the document's example."""
RESERVED: Final = frozenset(
    {
        "grwnotification clicked",
        "grwnotification viewed",
        "grwnotification sent",
        "grwnotification bounced",
        "utm visited",
        "app launched",
        "app uninstalled",
    }
)
"""Names of Growlytics' own events, compared without case (its iOS SDK, GitHub growlytics)."""

TYPES: Final[Mapping[str, JsonType]] = {
    "string": JsonType.TEXT,
    "number": JsonType.NUMBER,
    "boolean": JsonType.BOOLEAN,
    "date": JsonType.TEXT,
}
DATE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


def customer(body: BodyField) -> None:
    """Check ``POST /rest-api/customer``: ``id`` and ``attributes``, at most 100 custom ones."""
    body.need("id", TEXT).filled()
    attributes = body.need("attributes", LIST)
    custom = [name for name in _attributes(attributes) if name not in STANDARD]
    if len(custom) > MOST_FOR_CUSTOMER:
        attributes.fail(ProblemKind.LENGTH, f"at most {MOST_FOR_CUSTOMER} custom attributes")


def event(body: BodyField) -> None:
    """Check ``POST /rest-api/event``: ``customerId``, ``name``, ``attributes``, at most 50."""
    body.need("customerId", TEXT).filled()
    name = body.need("name", TEXT).filled().sized(LONGEST_NAME)
    name.satisfies(lambda text: text.lower() not in RESERVED, "a name that is not Growlytics' own")
    attributes = body.need("attributes", LIST)
    _attributes(attributes)
    attributes.sized(MOST_FOR_EVENT)


def _attributes(attributes: BodyField) -> list[str]:
    """Check each ``{name, type, value}`` and return the names."""
    names = []
    for attribute in attributes.each(OBJECT):
        name = attribute.need("name", TEXT).filled().sized(LONGEST_NAME)
        if name:
            names.append(name.value)
        kind = attribute.need("type", TEXT).among(TYPES)
        if not kind:
            continue
        value = attribute.need("value", TYPES[kind.value])
        if kind.value == "date":
            value.satisfies(_is_date, "a date as YYYY-MM-DD HH:mm:ss")
    return names


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return DATE.fullmatch(text) is not None


ENDPOINTS: Final[Mapping[str, Callable[[BodyField], None]]] = {
    "/rest-api/customer": customer,
    "/rest-api/event": event,
}


class GrowlyticsSandbox(Sandbox):
    """Emulates the two calls of the REST API, with the key in ``x-growlytics-key``."""

    name: ClassVar[str] = "growlytics"
    docs: ClassVar[str] = "https://docs.growlytics.in/rest-apis/tracking-users-1"

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Judge one request; see ``Sandbox.respond``."""
        sent = request.headers.get("x-growlytics-key", "").strip()
        if not sent or key not in (None, sent):
            why = "wrong key in x-growlytics-key" if sent else "no x-growlytics-key header"
            return SandboxResponse(self.failure(401, request), why)
        unknown = self.unknown_call(request, ENDPOINTS)
        if unknown is not None:
            return unknown
        body = json_body(request)
        ENDPOINTS[request.path](body)
        if not body.problems:
            return SandboxResponse(json_response(200, {"success": True}))
        problem = body.problems[0]
        report = {"type": "ValidationError", "details": [_detail(problem)]}
        return SandboxResponse(json_response(422, report), problem.reason)

    def failure(self, status: int, request: Request) -> Response:
        """Return an error in the format of a success; no other format is documented."""
        del request
        return json_response(status, {"success": False, "message": status_text(status)})


JOI: Final[Mapping[ProblemKind, str]] = {
    ProblemKind.MISSING: "any.required",
    ProblemKind.BLANK: "any.empty",
    ProblemKind.CHOICE: "any.allowOnly",
}
"""Joi's names of problems that do not depend on the type."""
BASE: Final[Mapping[str, str]] = {
    JsonType.TEXT.value: "string.base",
    JsonType.NUMBER.value: "number.base",
    JsonType.BOOLEAN.value: "boolean.base",
    JsonType.LIST.value: "array.base",
    JsonType.OBJECT.value: "object.base",
}


def _detail(problem: BodyProblem) -> dict[str, Any]:
    """Return a problem as Joi reports it; Joi reports only the first."""
    label = str(problem.path[-1]) if problem.path else "value"
    scalar = isinstance(problem.value, str | int | float)
    return {
        "message": f'"{label}" {_message(problem)}',
        "path": list(problem.path),
        "type": _type(problem),
        "context": {
            **(
                {"value": problem.value}
                if scalar and problem.wrong is not ProblemKind.MALFORMED
                else {}
            ),
            "key": label,
            "label": label,
        },
    }


def _message(problem: BodyProblem) -> str:
    if problem.wrong is ProblemKind.MISSING:
        return "is required"
    if problem.wrong is ProblemKind.BLANK:
        return "is not allowed to be empty"
    if problem.wrong is ProblemKind.CHOICE:
        return f"must be one of [{', '.join(TYPES)}]"
    return f"must be {problem.rule}"


def _type(problem: BodyProblem) -> str:
    if problem.wrong is ProblemKind.LENGTH:
        return "array.max" if isinstance(problem.value, list) else "string.max"
    if problem.wrong is ProblemKind.TYPE:
        return BASE[problem.rule]
    return JOI.get(problem.wrong, "any.invalid")
