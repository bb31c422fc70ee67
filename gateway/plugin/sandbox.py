"""The interface between the sandbox's engine and the emulated vendors."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
import orjson

from gateway.http import Request, Response


class SandboxResponse(msgspec.Struct, frozen=True):
    """The response of an emulated vendor, and the reason for people.

    ``reason`` is None if the request was accepted. Otherwise it says why it was refused, which
    may be more than the vendor says. It never contains a credential.
    """

    response: Response
    reason: str | None = None


class Sandbox(ABC):
    """One vendor's server, emulated: values in, values out, without a clock or a socket."""

    name: ClassVar[str]
    """The first segment of every path, and the vendor's name in the journal."""
    docs: ClassVar[str]
    """The URL of the vendor's document that the rules come from."""

    @abstractmethod
    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Return the response to one request.

        Args:
            request: its ``url`` is the vendor's own path with the query, such as
                ``/track?profile_less=true``; ``received_at`` is the time, UTC.
            key: the one credential to accept; None accepts any that is not empty.
        """

    def unknown_call(self, request: Request, paths: Collection[str]) -> SandboxResponse | None:
        """Return a 404 outside *paths*, and a 405 for another method than POST; else None."""
        if request.path not in paths:
            return SandboxResponse(self.failure(404, request), "no such path")
        if request.method != "POST":
            return SandboxResponse(self.failure(405, request), "only POST is documented")
        return None

    def failure(self, status: int, request: Request) -> Response:
        """Return an error of the vendor's server with an HTTP status from 300 to 599.

        It is called for a planned fault, and for a body that cannot be read. By default the body
        is the phrase of the status, as plain text.
        """
        del request
        text = {"content-type": "text/plain; charset=utf-8"}
        return Response(status, text, status_text(status).encode())


def json_response(status: int, payload: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with ``payload`` as JSON; further headers have lower-case names."""
    return Response(
        status, {"content-type": "application/json", **(headers or {})}, orjson.dumps(payload)
    )


def status_text(status: int) -> str:
    """Return the reason phrase of a status in RFC 9110; ``Error`` for an unknown status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
