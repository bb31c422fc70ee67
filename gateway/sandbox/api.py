"""The sandbox's own endpoints: journal, planned faults and page."""

from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from gateway.sandbox import page
from gateway.sandbox.faults import BadFaultError, FaultPlan, UnknownVendorError
from gateway.sandbox.journal import Journal

HEARTBEAT: Final = 15.0
"""Seconds without entries after which a comment is sent, so that a dead connection is noticed."""
_STREAM: Final = {"content-type": "text/event-stream", "cache-control": "no-store"}


class SandboxApi:
    """Serves ``/_sandbox/``, and the page at ``/``."""

    def __init__(self, journal: Journal, faults: FaultPlan, vendors: list[str]) -> None:
        self._journal = journal
        self._faults = faults
        self._vendors = vendors

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            web.get("/", self.show),
            web.get("/_sandbox/requests", self.requests),
            web.delete("/_sandbox/requests", self.forget),
            web.get("/_sandbox/events", self.follow, allow_head=False),
            web.get("/_sandbox/faults", self.faults),
            web.post("/_sandbox/faults", self.plan),
            web.delete("/_sandbox/faults", self.unplan),
        ]

    async def show(self, http: web.Request) -> web.Response:
        """Return the page; only one vendor's requests with ``?vendor=``."""
        vendor = self._vendor(http)
        body = page.render(self._journal, self._vendors, vendor)
        return web.Response(
            body=body, content_type="text/html", charset="utf-8", headers=page.HEADERS
        )

    async def requests(self, http: web.Request) -> web.Response:
        """Return the journal in order of arrival; ``?vendor=`` and ``?after=`` filter it."""
        entries = self._journal.after(_number(http.query.get("after", "0")), self._vendor(http))
        entries.sort(key=lambda entry: entry.arrival)
        return _json([entry.as_json() for entry in entries])

    async def forget(self, http: web.Request) -> web.Response:
        """Clear the journal."""
        del http
        self._journal.clear()
        return web.Response(status=204)

    async def faults(self, http: web.Request) -> web.Response:
        """Return the planned faults."""
        del http
        return _json(self._faults.listed())

    async def plan(self, http: web.Request) -> web.Response:
        """Plan a fault and return all planned faults."""
        try:
            self._faults.plan(await http.read())
        except BadFaultError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        except UnknownVendorError as error:
            raise web.HTTPNotFound(text=str(error)) from None
        return _json(self._faults.listed())

    async def unplan(self, http: web.Request) -> web.Response:
        """Remove all planned faults."""
        del http
        self._faults.clear()
        return web.Response(status=204)

    async def follow(self, http: web.Request) -> web.StreamResponse:
        """Stream new entries as server-sent events until the reader disconnects.

        The ``id`` of each is its number, so a reader that reconnects misses none. With ``?as=page``
        the entries are rows of the page instead of JSON, followed by ``counts``; ``cleared`` comes
        first if the journal was cleared.
        """
        vendor = self._vendor(http)
        since = http.headers.get("last-event-id") or http.query.get("after")
        at = self._journal.last if since is None else _number(since)
        render = self._for_page if http.query.get("as") == "page" else self._as_json
        cleared = self._journal.cleared
        stream = web.StreamResponse(headers=_STREAM)
        await stream.prepare(http)
        try:
            while not self._journal.closed:
                data = render(at, vendor, cleared)
                at, cleared = self._journal.last, self._journal.cleared
                await stream.write(data or b": nothing new\n\n")
                if (at, cleared) == (self._journal.last, self._journal.cleared):
                    await self._journal.changed(HEARTBEAT)
        except ConnectionError:
            pass
        return stream

    def _as_json(self, at: int, vendor: str | None, _cleared: int) -> bytes:
        # A sender's JSON may have carriage returns between its tokens.
        return b"".join(
            _event(entry.index, orjson.dumps(entry.as_json()).replace(b"\r", b" "))
            for entry in self._journal.after(at, vendor)
        )

    def _for_page(self, at: int, vendor: str | None, cleared: int) -> bytes:
        start = b"event: cleared\ndata:\n\n" if cleared != self._journal.cleared else b""
        rows = b"".join(
            _event(entry.index, page.row(entry).encode().replace(b"\r", b"&#13;"))
            for entry in self._journal.after(at, vendor)[-page.NEWEST :]
        )
        counts = orjson.dumps(page.counts(self._journal, self._vendors))
        return start + rows + b"event: counts\ndata: " + counts + b"\n\n"

    async def no_such_vendor(self, http: web.Request) -> web.Response:
        """Respond 404 to a path that does not start with a vendor's name."""
        name = http.path.split("/")[1]
        raise web.HTTPNotFound(text=str(UnknownVendorError(name, self._vendors)))

    async def close(self, app: web.Application) -> None:
        """End the streams so that the server can stop."""
        del app
        self._journal.close()

    def _vendor(self, http: web.Request) -> str | None:
        vendor = http.query.get("vendor") or None
        if vendor is not None and vendor not in self._vendors:
            raise web.HTTPNotFound(text=str(UnknownVendorError(vendor, self._vendors)))
        return vendor


def _json(payload: Any) -> web.Response:
    body = orjson.dumps(payload, default=msgspec.to_builtins)
    return web.Response(body=body, content_type="application/json")


def _event(index: int, text: bytes) -> bytes:
    """Return a server-sent event (WHATWG HTML, 9.2); ``text`` has no carriage return."""
    lines = b"".join(b"data: %s\n" % line for line in text.split(b"\n"))
    return b"id: %d\n%s\n" % (index, lines)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise web.HTTPBadRequest(text="after: expected the index of an entry, such as 12")
    return int(text)
