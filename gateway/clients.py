"""The person's device behind a request: who it is, and what its events learn from that.

Segment fills ``context.ip`` for client libraries only, and leaves one that the sender names
(https://segment.com/docs/connections/spec/common/#context-fields-automatically-collected).
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec.structs import replace

from gateway.event import Event
from gateway.exchange import Client, Request
from gateway.forwarded import Proxies

if TYPE_CHECKING:
    from aiohttp import web

Kind = Literal["auto", "user", "server"]
"""Whose requests are a source's: people's devices', backends', or to be told one by one."""

YEAR = 365 * 24 * 3600
_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}", re.ASCII)
"""What a cookie must hold to be taken for an id; other values are replaced by a new one."""


class Cookie(NamedTuple):
    """A first-party cookie that holds an id."""

    name: str
    domain: str = ""
    """The domain whose hosts share it; empty for the gateway's own host alone."""
    max_age: float = YEAR
    """Seconds for which a browser keeps it after the last request."""

    def header(self, value: str, *, secure: bool) -> str:
        """Return the ``set-cookie`` header (RFC 6265, section 4.1)."""
        parts = [f"{self.name}={value}", "Path=/", f"Max-Age={round(self.max_age)}"]
        if self.domain:
            parts.append(f"Domain={self.domain}")
        if secure or self.name.startswith("__"):
            parts.append("Secure")
        return "; ".join([*parts, "HttpOnly", "SameSite=Lax"])


class Met(NamedTuple):
    """Who sent a request, and what its answer tells that device."""

    client: Client | None
    set_cookie: str = ""
    """A header; empty for none."""


NOBODY = Met(None)


class Clients:
    """Tells who is behind the requests of one source.

    Args:
        kind: whose requests they are.
        proxies: those whose word is taken for an address.
        cookie: holds an id for people whom a request does not name; None for none.
    """

    def __init__(
        self, kind: Kind = "auto", proxies: Proxies | None = None, cookie: Cookie | None = None
    ) -> None:
        self._kind = kind
        self._proxies = proxies or Proxies()
        self._cookie = cookie

    def address(self, http: "web.BaseRequest") -> str:
        """Return the address of whoever sent *http*, person or backend."""
        remote = http.remote or ""
        return self._proxies.caller(remote, http.headers).ip or remote

    def meet(self, http: "web.BaseRequest") -> Met:
        """Return who sent *http*."""
        if self._kind == "server" or (self._kind == "auto" and not from_page(http.headers)):
            return NOBODY
        caller = self._proxies.caller(http.remote or "", http.headers)
        cookie = self._cookie
        if cookie is None:
            return Met(Client(caller.ip))
        known = http.cookies.get(cookie.name, "")
        one = known if _ID.fullmatch(known) else str(uuid.uuid4())
        return Met(Client(caller.ip, one), cookie.header(one, secure=caller.secure))


def from_page(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser sent these *headers* for a page.

    Browsers name the origin with every POST, and say how the two sites relate
    (https://fetch.spec.whatwg.org/#origin-header,
    https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header). Node's ``fetch`` sends
    ``sec-fetch-mode`` too, so that one does not count; it sent ``origin: client`` for a while
    (https://github.com/nodejs/undici/pull/3235).
    """
    origin = headers.get("origin")
    if origin is None:
        return "sec-fetch-site" in headers
    return "://" in origin or origin == "null"


def introduced(events: list[Event], request: Request) -> list[Event]:
    """Return *events* of *request* with what they do not say of their sender themselves.

    That is the address and the user agent, and the id in the cookie for one that names neither a
    user nor an anonymous id. It depends on the stored request alone, so that it is the same after
    a restart and in a replay.
    """
    client = request.client
    if client is None:
        return events
    agent = request.headers.get("user-agent")
    return [_introduced(event, client, agent) for event in events]


def _introduced(event: Event, client: Client, agent: str | None) -> Event:
    if event.type == "product":
        return event
    said = event.context
    context = replace(
        said,
        ip=said.ip if said.ip is not None else client.ip or None,
        user_agent=said.user_agent if said.user_agent is not None else agent,
    )
    nameless = client.id and _blank(event.user_id) and _blank(event.anonymous_id)
    return replace(
        event, context=context, anonymous_id=client.id if nameless else event.anonymous_id
    )


def _blank(text: str | None) -> bool:
    return text is None or not text.strip()


def without_idle_id(request: Request, events: Sequence[Event]) -> Request:
    """Return *request* without the cookie's id where none of its *events* goes by it."""
    client = request.client
    if client is None or not client.id or any(e.anonymous_id == client.id for e in events):
        return request
    return replace(request, client=replace(client, id=""))
