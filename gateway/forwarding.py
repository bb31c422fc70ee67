"""What goes on with a request that is forwarded as it came."""

from collections.abc import Mapping

from gateway.exchange import TRACE_CONTEXT, Request


def carried(request: Request, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with which *request* goes on: those stored with it, and *ours*.

    Ours hold where both have one, but for the label of the body: that is the client's. JSON is
    labelled as JSON all the same: pages label it as text so that their browser asks for no leave,
    and a vendor may go by the label. The caller's trace stays behind: it is no vendor's business.
    """
    own = {name: said for name, said in request.headers.items() if name not in TRACE_CONTEXT}
    headers = {**own, **ours}
    label = request.headers.get("content-type")
    if label is not None and ("json" in label.lower() or not _looks_like_json(request.body)):
        headers["content-type"] = label
    return headers


def _looks_like_json(body: bytes) -> bool:
    return body[:64].lstrip()[:1] in {b"{", b"["}
