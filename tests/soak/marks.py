"""Marks that identify events in every vendor's format, and configurations for them."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from tests.e2e.configs import SETTINGS

DESTINATIONS = ("chrts", "growlytics", "personaclick", "tracardi")
SOURCES = """
[sources.shop]
vendor = "chrts"
keys = "any"
[sources.site]
vendor = "tracardi"
keys = "any"
[sources.crowd]
vendor = "segment"
keys = "any"
"""
KEY = "api_chrts_client"
ALIAS_EVERY = 7
"""Every so many events a user sends an alias, which only chrts can express."""
TOGETHER = 3
"""Events per request of users who send Tracardi's format."""
_FOUND = re.compile(rb"m-(\d+)-(\d+)-m")


class EventMark(NamedTuple):
    """One event: number *number* of user *user*."""

    user: int
    number: int

    @property
    def text(self) -> str:
        """Return the mark as payloads contain it."""
        return f"m-{self.user}-{self.number}-m"

    @property
    def declined_by(self) -> frozenset[str]:
        """Return the destinations that decline the event (an alias)."""
        if batches(self.user) or self.number % ALIAS_EVERY:
            return frozenset()
        return frozenset(DESTINATIONS) - {"chrts"}


def marks_in(body: bytes) -> list[EventMark]:
    """Return the distinct marks in a request's body, in order."""
    found = (EventMark(int(user), int(number)) for user, number in _FOUND.findall(body))
    return list(dict.fromkeys(found))


def batches(user: int) -> bool:
    """Tell whether this user sends several events per request."""
    return user % 4 == TOGETHER


def request(
    user: int, number: int, padding: str = "", together: int = TOGETHER
) -> tuple[bytes, list[EventMark]]:
    """Return the user's request from event *number* on, and the events in it.

    Users who send several events per request send *together* of them.
    """
    if batches(user):
        marks = [EventMark(user, number + n) for n in range(together)]
        body: object = {
            "source": {"id": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"},
            "session": {"id": f"session-{user}"},
            "profile": {"id": f"user-{user}"},
            "events": [{"type": "counted", "properties": {"mark": m.text}} for m in marks],
        }
        return _http("/track", orjson.dumps(body)), marks
    mark = EventMark(user, number)
    who = {"uid": f"user-{user}"}
    if mark.declined_by:
        alias = {"uid": mark.text, "knownUid": who["uid"]}  # knownUid is the customer
        return _http("/customer/alias", orjson.dumps(alias)), [mark]
    properties = {"mark": mark.text, "padding": padding}
    track = {**who, "name": "counted", "properties": properties}
    return _http("/event/track", orjson.dumps(track)), [mark]


def crowd_request(marks: Iterable[EventMark]) -> bytes:
    """Return one request with these events, each of its own user."""
    batch = [
        {
            "type": "track",
            "event": "counted",
            "userId": f"user-{mark.user}",
            "properties": {"mark": mark.text},
        }
        for mark in marks
    ]
    return _http("/v1/batch", orjson.dumps({"batch": batch, "writeKey": KEY}))


def _http(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def config(
    folder: str, ports: dict[str, int], more: str = "", *, server: str = "", spool: str = ""
) -> str:
    """Return a configuration that sends everything to the vendors at *ports* on loopback.

    Args:
        folder: the spool's folder.
        ports: by destination.
        more: lines for every destination's table.
        server: lines for `[server]`.
        spool: lines for `[spool]`.
    """
    tables = {name: destination(name, port, more) for name, port in ports.items()}
    return configured(folder, tables, ports, server=server, spool=spool)


def destination(name: str, port: int, more: str) -> str:
    """Return the table of the destination *name*, with *more* lines.

    The name is the vendor's, with a hyphen and a suffix where a vendor has several destinations.
    """
    vendor = name.partition("-")[0]
    return (
        f'[destinations.{name}]\nvendor = "{vendor}"\nurl = "http://127.0.0.1:{port}"\n'
        f"{SETTINGS[vendor]}\n{more}\n"
    )


def configured(
    folder: str, tables: Mapping[str, str], to: Iterable[str], *, server: str = "", spool: str = ""
) -> str:
    """Return a configuration with destinations' *tables* and a route *to* some of them."""
    names = ", ".join(f'"{name}"' for name in to)
    return (
        f'[server]\nlisten = "127.0.0.1:0"\n{server}\n[spool]\npath = "{folder}"\n{spool}\n'
        f"{SOURCES}{''.join(tables.values())}[[routes]]\nto = [{names}]\n"
    )
