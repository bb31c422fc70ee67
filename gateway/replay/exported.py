"""A request as a line of JSON, as ``gateway export --as-received`` writes it."""

import base64
import string
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.errors import Rejected
from gateway.event import EPOCH, as_json
from gateway.http import ClientInfo, Request
from gateway.spool import Entry

AHEAD = timedelta(minutes=1)
"""How far the clock of another gateway may be ahead."""
_ID_LENGTH = 24
_HEX = frozenset(string.hexdigits.lower())


class ExportedClient(msgspec.Struct, frozen=True, omit_defaults=True):
    """The device that sent a request."""

    ip: str = ""
    id: str = ""
    """The id in its first-party cookie."""


class ExportedRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request as it was received, without the path of its source's mount."""

    source: str
    vendor: str
    """The vendor whose format it is in."""
    request: str
    """Its id; the ids of its events derive from it."""
    received_at: str
    """ISO 8601, with a time zone."""
    method: str
    url: str
    headers: dict[str, str] = {}
    body: str | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET
    """The body, if it is not UTF-8 text."""
    client: ExportedClient | UnsetType = UNSET

    def to_request(self) -> Request:
        """Return it as a request that the gateway received.

        Raises:
            Rejected: it has a value that no request of a gateway has.
        """
        if len(self.request) != _ID_LENGTH or not _HEX.issuperset(self.request):
            raise Rejected("request", f"not an id of {_ID_LENGTH} hexadecimal digits")
        if not self.url.isprintable():
            raise Rejected("url", "has control characters")
        for name, value in self.headers.items():
            if not value.replace("\t", " ").isprintable():
                raise Rejected(f"headers.{name}", "has control characters")
        client = self.client
        return Request(
            method=self.method,
            url=self.url,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self._body(),
            id=self.request,
            received_at=self._time(),
            client=None if client is UNSET else ClientInfo(client.ip, client.id),
        )

    def _body(self) -> bytes:
        if self.body is not UNSET:
            return self.body.encode()
        if self.body_base64 is UNSET:
            return b""
        try:
            return base64.b64decode(self.body_base64, validate=True)
        except ValueError as error:
            raise Rejected("body_base64", "not base64") from error

    def _time(self) -> datetime:
        try:
            at = datetime.fromisoformat(self.received_at)
            if at.tzinfo is not None and EPOCH <= at <= datetime.now(UTC) + AHEAD:
                return at.astimezone(UTC)
        except ValueError:
            pass
        reason = "not an ISO 8601 time with a time zone, between 1970 and now"
        raise Rejected("received_at", reason)


def exported(entry: Entry) -> dict[str, Any]:
    """Return the line of a stored request, as plain JSON values."""
    request, client = entry.request, entry.request.client
    text: str | UnsetType = UNSET
    packed: str | UnsetType = UNSET
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        packed = base64.b64encode(request.body).decode()
    line = ExportedRequest(
        entry.source,
        entry.vendor,
        entry.id,
        as_json(request.received_at),
        request.method,
        request.url,
        dict(request.headers),
        text,
        packed,
        UNSET if client is None else ExportedClient(client.ip, client.id),
    )
    found: dict[str, Any] = msgspec.to_builtins(line)
    return found
