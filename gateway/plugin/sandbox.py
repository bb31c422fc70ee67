"""The contract between the sandbox's engine and each vendor's own rules."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
import orjson

from gateway.http import Request, Response


class SandboxResponse(msgspec.Struct, frozen=True):
    """What the emulated vendor says, and what the sandbox's own reader should know.

    ``reason`` is None when the request was accepted; otherwise it says why it was refused,
    which may be more than the vendor itself gives away. It never contains a credential.
    """

    response: Response
    reason: str | None = None


class Sandbox(ABC):
    """One vendor's servers, emulated: values in, values out, no clock and no socket."""

    name: ClassVar[str]
    """The first segment of every path, and the vendor's name in the journal."""
    docs: ClassVar[str]
    """Where the rules come from: the address of the vendor's own document."""

    @abstractmethod
    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Judge one request.

        ``request.url`` is the vendor's own path, query included (``/track?profile_less=true``),
        and ``request.received_at`` is the time. ``key`` is the one credential to accept; None
        accepts any that is not empty.
        """

    def unknown_call(self, request: Request, paths: Collection[str]) -> SandboxResponse | None:
        """Return a 404 outside *paths*, and a 405 for another method than POST; else None."""
        if request.path not in paths:
            return SandboxResponse(self.failure(404, request), "no such path")
        if request.method != "POST":
            return SandboxResponse(self.failure(405, request), "only POST is documented")
        return None

    def failure(self, status: int, request: Request) -> Response:
        """Return an error of the vendor's servers themselves, with the given HTTP status.

        The engine asks for it when a fault was planned and when a body cannot be read. This
        one is for vendors without an error shape of their own.
        """
        del request
        text = {"content-type": "text/plain; charset=utf-8"}
        return Response(status, text, status_text(status).encode())


def json_response(status: int, payload: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``payload`` as a JSON answer."""
    return Response(
        status, {"content-type": "application/json", **(headers or {})}, orjson.dumps(payload)
    )


def status_text(status: int) -> str:
    """Return the phrase that RFC 9110 gives a status, ``Error`` for one it does not know."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
