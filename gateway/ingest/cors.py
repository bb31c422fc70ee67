"""What browsers are told about pages of other origins; https://fetch.spec.whatwg.org/#http-cors-protocol.

A browser asks before it sends what no form could send, and hides answers from pages that may not
read them. None of this keeps an event out: who may send is decided by its credential.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from multidict import CIMultiDict

from gateway.http import Response

Origins = Literal["*"] | Collection[str]

MAX_AGE = "900"
"""Seconds for which a browser may remember a preflight, as RudderStack's server has it
(https://github.com/rudderlabs/rudder-server, gateway/handle_lifecycle.go)."""
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
"""Allowed on paths that no vendor documents, so that a page can read that there is no such one."""
TRACING = frozenset({
    "b3", "baggage", "elastic-apm-traceparent", "newrelic", "request-context", "request-id",
    "sentry-trace", "traceparent", "tracestate", "uber-trace-id", "x-amzn-trace-id", "x-b3-flags",
    "x-b3-parentspanid", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid", "x-cloud-trace-context",
    "x-correlation-id", "x-datadog-origin", "x-datadog-parent-id", "x-datadog-sampling-priority",
    "x-datadog-tags", "x-datadog-trace-id", "x-request-id",
})  # fmt: skip
"""Request headers with which tracing tools mark whatever a page sends: W3C Trace Context and
Baggage, Sentry, Datadog, New Relic, Elastic, Zipkin's B3, Jaeger, AWS, Google Cloud, Application
Insights. A browser drops the event of a page whose tool adds one that is not allowed."""
NOT_NAMED = (
    b"this origin is not among those that the gateway's configuration names for this source\n"
)
PREFIX = "access-control-"


class Cors:
    """What one source tells browsers.

    Args:
        origins: whose pages may send and read; ``"*"`` for every one, without credentials.
        sent: the names of the request headers that those pages may send.
        exposed: the names of the response headers that they may read.
    """

    def __init__(self, origins: Origins, sent: Iterable[str], exposed: Iterable[str]) -> None:
        self._every = origins == "*"
        self._named = frozenset[str]() if origins == "*" else frozenset(origins)
        self._sent = ", ".join(sorted(sent))
        self._exposed = ", ".join(sorted(exposed))

    def preflight(self, asked: Mapping[str, str], methods: Collection[str]) -> Response | None:
        """Return the answer to a preflight; None where *asked* is none, or no origin is let in.

        Args:
            asked: the headers of an OPTIONS request.
            methods: those of its path; none for a path that nobody documents.
        """
        origin = asked.get("origin")
        if not origin or "access-control-request-method" not in asked:
            return None
        if not self._every and not self._named:
            return None
        if not self._every and origin not in self._named:
            plain = {"content-type": "text/plain; charset=utf-8", "vary": "origin"}
            return Response(403, plain, NOT_NAMED)
        leave = {
            f"{PREFIX}allow-methods": ", ".join(sorted(methods) or METHODS),
            f"{PREFIX}allow-headers": self._sent,
            f"{PREFIX}max-age": MAX_AGE,
        }
        return Response(204, {**self._allow(origin), **leave})

    def with_headers(self, headers: Mapping[str, str], origin: str | None) -> CIMultiDict[str]:
        """Return *headers* of an answer with those that let the pages of *origin* read it.

        What a vendor said to browsers in an answer that is passed on is not theirs to say here.
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
