"""The head of a message: what means one connection only, what goes on, and in which words."""

import re
from collections.abc import Collection

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict, MultiMapping

HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""RFC 9110, section 7.6.1; ``proxy-*`` are between the client and a proxy of its choice."""


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]+")
"""What no header and no reason phrase may hold (RFC 9110, section 5.5). aiohttp takes it from
servers and refuses to send it on."""
FINAL = 200
"""The least status of an answer (RFC 9110, section 15)."""


def check_final(status: int) -> None:
    """Pass the *status* of an answer; 101 goes over to another protocol, and nobody asked for that.

    Raises:
        ValueError: it is none.
    """
    if status < FINAL:
        raise ValueError(f"status {status} is no answer")


def text(value: str) -> str:
    """Return a header's *value* as text that can be stored and sent.

    Bytes that are no UTF-8 come in as lone surrogates; they are read as ISO 8859-1, which is what
    such senders mean (RFC 9110, section 5.5).
    """
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def end_to_end(headers: MultiMapping[str], without: Collection[str] = ()) -> CIMultiDict[str]:
    """Return *headers*, repeated ones included, but for those of the connection.

    Control characters in a value become spaces.

    Args:
        headers: as received.
        without: lower-case names of further ones to leave out.
    """
    named = ",".join(headers.getall("connection", ())).lower()
    dropped = {name.strip() for name in named.split(",")} if named else set[str]()
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        low = name.lower()
        if low not in HOP_BY_HOP and low not in without and low not in dropped:
            kept.add(name, _CONTROL.sub(" ", text(value)))
    return kept


def reason(said: str | None) -> str | None:
    """Return a reason phrase as it can be sent on: control characters become spaces."""
    return None if said is None else _CONTROL.sub(" ", text(said)).strip()


async def harden(_: web.Request, answer: web.StreamResponse) -> None:
    """Let no browser guess what an answer is, and tell nobody which versions run here."""
    answer.headers.setdefault("x-content-type-options", "nosniff")
    if answer.headers.get("server") == SERVER_SOFTWARE:
        del answer.headers["server"]
