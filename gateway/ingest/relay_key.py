"""Replace a client's key by the gateway's own key in relayed requests.

A client's public key, as in web pages, is replaced by the gateway's public key. Keys that only
servers know (`Output.more_secret`) are sent only if the client proves that it knows such a secret.
Both are sent only to the endpoints that the source lists.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

from msgspec.structs import replace
from multidict import CIMultiDict

from gateway.errors import Fault, Rejected
from gateway.http import Request
from gateway.ingest.response_masking import Masking
from gateway.json_text import query_fields
from gateway.plugin.client_credentials import client_secrets, second_credentials
from gateway.plugin.endpoints import EndpointSet
from gateway.plugin.vendor import Input, Output
from gateway.redact import find_secrets

PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$'()*+,=@:-]+)+/?")
"""A path that all servers read the same way: no escapes, no parameters, no empty segments."""
OVERRIDES = frozenset({
    "x-http-method", "x-http-method-override", "x-method-override", "x-original-url",
    "x-original-uri", "x-rewrite-url",
})  # fmt: skip
"""Headers with which some servers replace the method or path of the request line."""
METHOD_FIELD = "_method"
"""Field of a query or form with which some frameworks replace the method."""
UNREADABLE = frozenset({"accept-encoding", "if-range", "range"})
"""Headers that could make the response compressed or partial, so that a key is not found in it."""


class RelayKeyExchange:
    """Puts the keys of a destination into relayed requests of a source.

    Args:
        output: the output of the destination.
        reads: the vendor's input.
        serves: the allowed endpoints, such as ``"GET /search"``; a path may have ``{values}``.
        secrets: the second keys that the source accepts.
    """

    def __init__(
        self, output: Output, reads: Input, serves: Iterable[str], secrets: Collection[str] = ()
    ) -> None:
        held = output.config
        less: dict[str, Any] = dict.fromkeys(output.more_secret)
        self._reads = reads
        self._full = output
        self._plain = type(output)(held.model_copy(update=less))
        self._ours = find_secrets(held)
        self._serves = EndpointSet(serves)
        self._accepted = frozenset(secrets) | _values(output)

    def check(self, request: Request) -> bool:
        """Return whether *request* is for an allowed endpoint."""
        method = "GET" if request.method == "HEAD" else request.method
        overridden = OVERRIDES & {name.lower() for name in request.headers}
        fields = {name for name, _ in query_fields(request.query)}
        plain = PLAIN_PATH.fullmatch(request.path) and METHOD_FIELD not in fields
        return bool(plain) and not overridden and f"{method} {request.path}" in self._serves

    def lend(self, request: Request) -> Request:
        """Return *request* with the gateway's own key; its ``headers`` replace the client's.

        Raises:
            Rejected: its second key is not accepted, or it has several and they are ambiguous.
        """
        found = list(second_credentials(request, self._reads))
        if not all(one in self._accepted for one in found):
            raise Rejected("$", "unknown key", Fault.FORBIDDEN)
        output = self._full if found else self._plain
        with_key = output.with_credential(request)
        return replace(with_key, headers={**with_key.headers, "accept-encoding": "identity"})

    def masking(self, request: Request) -> Masking:
        """Return the masking of the gateway's own keys in the response to *request*."""
        return Masking(self._ours, client_secrets(request, self._reads))


def without_unreadable(headers: CIMultiDict[str]) -> None:
    """Remove the `UNREADABLE` headers."""
    for name in UNREADABLE:
        headers.popall(name, None)


def _values(output: Output) -> frozenset[str]:
    """Return the destination's own second keys; a client that sends one already knows it."""
    found = (getattr(output.config, name) for name in output.more_secret)
    return frozenset(one.get_secret_value() for one in found if one is not None)
