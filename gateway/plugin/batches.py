"""Combine several events into one request: `merge_lists`."""

from typing import Final

import msgspec

from gateway.http import Request

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def merge_lists(
    request: Request, further: Request, path: str, *, max_bytes: int | None = None
) -> Request | None:
    """Return *request* with the list of *further* appended to its own; for `Output.merge`.

    Method, URL, headers and the rest of the body must be equal. Members are copied byte by byte.

    Args:
        request: a request with a JSON body, as from `Output.request`.
        further: the request of the user's next event.
        path: dotted path of the list in both bodies, such as ``"events"``; empty if the body is it.
        max_bytes: largest body that the vendor accepts; None for no limit.

    Returns:
        The merged request. None if they cannot be merged: they differ in more than the list, there
        is no list at *path*, the body would exceed *max_bytes*, or one of them has further requests
        (`Request.also`).
    """
    if (request.method, request.url) != (further.method, further.url):
        return None
    if request.headers != further.headers or request.also or further.also:
        return None
    try:
        body = _merged(request.body, further.body, path.split(".") if path else [])
    except msgspec.DecodeError:
        return None
    if body is None or (max_bytes is not None and len(body) > max_bytes):
        return None
    return msgspec.structs.replace(request, body=body)


def _merged(ours: bytes, theirs: bytes, path: list[str]) -> bytes | None:
    """Return *ours* with the list of *theirs* appended; None if they cannot be merged."""
    if not path:
        return _appended(ours.strip(), theirs.strip())
    members, others = _OBJECT.decode(ours), _OBJECT.decode(theirs)
    key, *below = path
    if key not in members or members.keys() != others.keys():
        return None
    if any(bytes(members[k]) != bytes(others[k]) for k in members if k != key):
        return None
    inner = _merged(bytes(members[key]), bytes(others[key]), below)
    if inner is None:
        return None
    return msgspec.json.encode({**members, key: msgspec.Raw(inner)})


def _appended(ours: bytes, theirs: bytes) -> bytes | None:
    if not (ours.startswith(b"[") and theirs.startswith(b"[")):
        return None
    inner = [part for part in (ours[1:-1].strip(), theirs[1:-1].strip()) if part]
    return b"[%b]" % b",".join(inner)
