"""A source of neutral events, so that an output can be tried with every kind of them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from msgspec.structs import replace

from gateway.errors import Rejected
from gateway.event import Event
from gateway.exchange import Request, Response
from gateway.mapping import CONSUMED, Mapped, Row, Table
from gateway.plugin import Input, json_response
from gateway.testing.events import EVENTS

PATH = "/neutral"


class Numbered(TypedDict):
    """The body: which of the kit's events."""

    number: int


ENDPOINTS: Mapping[str, Mapped] = {
    f"POST {PATH}": Table(Numbered, [Row("number", CONSUMED, required=True)])
}


class NeutralInput(Input):
    """Takes the number of one of the kit's `EVENTS`, and reads that event."""

    name = "neutral"
    docs = "https://segment.com/docs/connections/spec/"
    endpoints = ENDPOINTS
    example = Request(method="POST", url=PATH, body=b'{"number": 0}')

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - anybody may send
        """Return a credential that is always there."""
        return "anybody"

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the event of the number in *payload*."""
        (read,) = super().read(request, payload)
        event = EVENTS[payload["number"]]
        return [replace(event, id=read.id, received_at=read.received_at, origin=self.name)]

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - it is always the same
        """Answer that it is taken."""
        return json_response(200, {})

    def refuse(self, request: Request, error: Rejected) -> Response:  # noqa: ARG002 - it depends on the error alone
        """Answer what is wrong."""
        return json_response(400, {"error": str(error)})
