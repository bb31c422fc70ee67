"""Our credential in place of a client's, in what is relayed, where the client may have it.

Nobody gets a credential for one that is less secret than it. A key that stands in pages is
exchanged for our key; what only servers know (`Output.more_secret`) goes out for those alone who
prove that they know such a secret. Either goes to the endpoints that the source names, no further.
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
"""A path that every server reads alike: nothing escaped, no parameters, no empty segment."""
OVERRIDES = frozenset({
    "x-http-method", "x-http-method-override", "x-method-override", "x-original-url",
    "x-original-uri", "x-rewrite-url",
})  # fmt: skip
"""Headers in which some servers look for another method or path than the request line has."""
METHOD_FIELD = "_method"
"""The field of a query or a form in which some frameworks look for another method."""
UNREADABLE = frozenset({"accept-encoding", "if-range", "range"})
"""Headers that ask for an answer, or a part of one, in which a credential could not be found."""


class Lender:
    """Lends the credential of a destination to the calls of a source.

    Args:
        output: the destination's.
        reads: the vendor's input.
        serves: the endpoints that it is lent to, as ``"GET /search"``; a path may hold
            ``{values}``.
        secrets: the second credentials that the source accepts.
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
        """Tell whether *request* goes to an endpoint that the credential is lent to."""
        method = "GET" if request.method == "HEAD" else request.method
        overridden = OVERRIDES & {name.lower() for name in request.headers}
        fields = {name for name, _ in query_fields(request.query)}
        plain = PLAIN_PATH.fullmatch(request.path) and METHOD_FIELD not in fields
        return bool(plain) and not overridden and f"{method} {request.path}" in self._serves

    def lend(self, request: Request) -> Request:
        """Return *request* with our credential in it.

        The ``headers`` are those that take the place of the client's own.

        Raises:
            Rejected: it has a second credential that is not accepted, or has it where nobody
                can tell which one holds.
        """
        found = list(second_credentials(request, self._reads))
        if not all(one in self._accepted for one in found):
            raise Rejected("$", "the credential is not known here", Fault.FORBIDDEN)
        output = self._full if found else self._plain
        lent = output.with_credential(request)
        return replace(lent, headers={**lent.headers, "accept-encoding": "identity"})

    def masking(self, request: Request) -> Masking:
        """Return what keeps our credential out of the answer to a client's *request*."""
        return Masking(self._ours, client_secrets(request, self._reads))


def without_unreadable(headers: CIMultiDict[str]) -> None:
    """Take out of *headers* what would keep credentials in an answer from being found."""
    for name in UNREADABLE:
        headers.popall(name, None)


def _values(output: Output) -> frozenset[str]:
    """Return the destination's own second credentials: whoever sends one knows it anyway."""
    found = (getattr(output.config, name) for name in output.more_secret)
    return frozenset(one.get_secret_value() for one in found if one is not None)
