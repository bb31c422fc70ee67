"""CORS headers for pages of other origins; https://fetch.spec.whatwg.org/#http-cors-protocol.

A browser sends a preflight before a request that no form could send, and hides the response from
pages that may not read it. CORS does not protect the gateway from events: the key decides that.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from multidict import CIMultiDict

from gateway.http import Response

Origins = Literal["*"] | Collection[str]

MAX_AGE = "900"
"""Seconds that a browser may cache a preflight, as in RudderStack's server
(https://github.com/rudderlabs/rudder-server, gateway/handle_lifecycle.go)."""
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
"""Allowed on undocumented paths, so that a page can read the error for them."""
TRACING = frozenset({
    "b3", "baggage", "elastic-apm-traceparent", "newrelic", "request-context", "request-id",
    "sentry-trace", "traceparent", "tracestate", "uber-trace-id", "x-amzn-trace-id", "x-b3-flags",
    "x-b3-parentspanid", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid", "x-cloud-trace-context",
    "x-correlation-id", "x-datadog-origin", "x-datadog-parent-id", "x-datadog-sampling-priority",
    "x-datadog-tags", "x-datadog-trace-id", "x-request-id",
})  # fmt: skip
"""Request headers that tracing tools add to all requests of a page: W3C Trace Context and Baggage,
Sentry, Datadog, New Relic, Elastic, Zipkin's B3, Jaeger, AWS, Google Cloud, Application Insights.
If one is not allowed, the browser does not send the event."""
NOT_NAMED = (
    b"this origin is not allowed; add it to the origins of this source in the configuration\n"
)
PREFIX = "access-control-"


class Cors:
    """The CORS policy of one source.

    Args:
        origins: origins whose pages may send and read; ``"*"`` for all, without credentials.
        sent: request headers that these pages may send.
        exposed: response headers that they may read.
    """

    def __init__(self, origins: Origins, sent: Iterable[str], exposed: Iterable[str]) -> None:
        self._every = origins == "*"
        self._named = frozenset[str]() if origins == "*" else frozenset(origins)
        self._sent = ", ".join(sorted(sent))
        self._exposed = ", ".join(sorted(exposed))

    def preflight(self, asked: Mapping[str, str], methods: Collection[str]) -> Response | None:
        """Return the response to a preflight; None if it is not one, or no origin is allowed.

        Args:
            asked: the headers of an OPTIONS request.
            methods: the methods of its path; empty for an undocumented path.
        """
        origin = asked.get("origin")
        if not origin or "access-control-request-method" not in asked:
            return None
        if not self._every and not self._named:
            return None
        if not self._every and origin not in self._named:
            plain = {"content-type": "text/plain; charset=utf-8", "vary": "origin"}
            return Response(403, plain, NOT_NAMED)
        allowed = {
            f"{PREFIX}allow-methods": ", ".join(sorted(methods) or METHODS),
            f"{PREFIX}allow-headers": self._sent,
            f"{PREFIX}max-age": MAX_AGE,
        }
        return Response(204, {**self._allow(origin), **allowed})

    def with_headers(self, headers: Mapping[str, str], origin: str | None) -> CIMultiDict[str]:
        """Return response *headers* with those that let pages of *origin* read the response.

        The CORS headers of a vendor in a relayed response are removed.
        """
        marked = CIMultiDict(
            (name, value) for name, value in headers.items() if not name.lower().startswith(PREFIX)
        )
        if origin and (self._every or origin in self._named):
            marked.update(self._allow(origin))
            marked[f"{PREFIX}expose-headers"] = self._exposed
        if self._named:
            varies = [value for name, value in headers.items() if name.lower() == "vary"]
            marked["vary"] = ", ".join([*varies, "origin"])
        return marked

    def _allow(self, origin: str) -> dict[str, str]:
        if self._every:
            return {f"{PREFIX}allow-origin": "*"}
        return {
            f"{PREFIX}allow-origin": origin,
            f"{PREFIX}allow-credentials": "true",
            "vary": "origin",
        }
