"""The head of a message: what means one connection only, what goes on, and in which words."""

from collections.abc import Collection

from multidict import CIMultiDict, MultiMapping

HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""RFC 9110, section 7.6.1; ``proxy-*`` are between the client and a proxy of its choice."""


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
            kept.add(name, text(value))
    return kept
