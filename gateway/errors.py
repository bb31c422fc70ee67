"""All exceptions of the gateway, and what each of them leads to.

* GatewayError
  - ConfigError           start-up fails; names the file, the table and the key
  - PluginError           start-up fails; names the plugin
    + MappingError        a translation table does not match its types
  - Rejected              an input rejects a request: the sender gets a 4xx in the vendor's format
    + Unavailable         the gateway cannot accept it now: the sender should try again later
  - Unrenderable          an output cannot write an event: dead letter
  - TransportError        a destination sent no response: retried
  - SpoolError            the spool cannot read or write: the sender should try again later
  - TraceError            traces cannot be read: the admin API and the command line say so
  - UnknownName           somebody asks for a name that does not exist: exit status 2, 400 or 404
"""

from enum import StrEnum

TRY_AGAIN = 5
"""Default wait in seconds before a sender should try again."""


class GatewayError(Exception):
    """Base class of all exceptions of the gateway."""


class ConfigError(GatewayError):
    """The configuration is invalid; every problem found is listed.

    Attributes:
        problems: one sentence each: ``file: [table] key: problem; remedy``.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PluginError(GatewayError):
    """A plugin is invalid; the gateway does not start."""


class MappingError(PluginError):
    """A row of a translation table names an unknown field, or one of another type."""


class Fault(StrEnum):
    """Kinds of invalid requests that vendors answer differently."""

    MALFORMED = "malformed"
    """The body is not JSON, not UTF-8, or cannot be decompressed."""
    MISSING = "missing"
    """A required field is missing or null."""
    TYPE = "type"
    """A field has a JSON type that the vendor does not accept."""
    VALUE = "value"
    """A field has the right type, but an invalid value."""
    UNAUTHENTICATED = "unauthenticated"
    """The request has no key."""
    FORBIDDEN = "forbidden"
    """This source does not accept the key of the request."""
    TOO_LARGE = "too_large"
    """The body exceeds the size limit, before or after decompression."""
    NOT_FOUND = "not_found"
    """The vendor has no such endpoint, or the gateway does not translate it."""
    METHOD = "method"
    """The endpoint has another method."""
    UNSUPPORTED = "unsupported"
    """The vendor has the endpoint, but the gateway does not serve it."""
    UNAVAILABLE = "unavailable"
    """The gateway cannot accept the event now; the sender should try again later."""


class RefusalCause(StrEnum):
    """Why a request is refused, as ``cdp_gateway_requests_refused_total`` counts it."""

    NO_HTTP = "no_http"
    """The client sent no valid HTTP."""
    HEADER_TIMEOUT = "header_timeout"
    """The request line and headers were sent too slowly (``header_timeout``)."""
    HEAD_TOO_LARGE = "head_too_large"
    """The request line and headers exceed ``max_headers``."""
    BODY_TIMEOUT = "body_timeout"
    """The body was sent too slowly (``body_timeout``)."""
    BODY_TOO_LARGE = "body_too_large"
    """The body exceeds ``max_body``, before or after decompression."""
    CONNECTION_LIMIT = "connection_limit"
    """``max_connections`` or the limit of one client is reached."""
    MEMORY = "memory"
    """Unanswered requests exceed ``max_bodies``."""
    NOT_FOUND = "not_found"
    """No source has the path, or the vendor has no such endpoint."""
    METHOD = "method"
    """The endpoint has another method."""
    UNSUPPORTED = "unsupported"
    """The gateway does not serve the endpoint."""
    SUPPRESSED = "suppressed"
    """All its events are about people on the suppression list."""
    UNAUTHENTICATED = "unauthenticated"
    """The request has no key."""
    FORBIDDEN = "forbidden"
    """The source does not accept the key."""
    MALFORMED = "malformed"
    """The body cannot be parsed, or is incomplete."""
    INVALID = "invalid"
    """A field is missing or has a wrong value."""
    NOT_ACCEPTING = "not_accepting"
    """The gateway is starting or stopping."""
    SPOOL_FULL = "spool_full"
    """The spool or the backlog of a destination is full."""
    SPOOL_FAILED = "spool_failed"
    """The spool cannot be written."""
    RELAY_FULL = "relay_full"
    """Too many parallel calls to the vendor."""
    RELAY_FAILED = "relay_failed"
    """The vendor sent no response to a relayed call."""
    INTERNAL = "internal"
    """A bug in the gateway or in a plugin."""


_CAUSES = {
    Fault.MALFORMED: RefusalCause.MALFORMED,
    Fault.MISSING: RefusalCause.INVALID,
    Fault.TYPE: RefusalCause.INVALID,
    Fault.VALUE: RefusalCause.INVALID,
    Fault.UNAUTHENTICATED: RefusalCause.UNAUTHENTICATED,
    Fault.FORBIDDEN: RefusalCause.FORBIDDEN,
    Fault.TOO_LARGE: RefusalCause.BODY_TOO_LARGE,
    Fault.NOT_FOUND: RefusalCause.NOT_FOUND,
    Fault.METHOD: RefusalCause.METHOD,
    Fault.UNSUPPORTED: RefusalCause.UNSUPPORTED,
    Fault.UNAVAILABLE: RefusalCause.NOT_ACCEPTING,
}
"""The default cause of each fault."""


class Rejected(GatewayError):
    """A request is invalid and yields no events.

    Its text begins with the path, unless that is the whole payload.

    Attributes:
        path: dotted path in the payload such as ``events.0.type``; ``$`` for the whole payload.
        reason: the problem, for people.
        fault: the kind of problem; it decides status and body of the response.
        value: the invalid value, if any; some vendors repeat it in the response.
        cause: why it is refused, for the metric; it follows from the fault by default.
    """

    def __init__(
        self,
        path: str,
        reason: str,
        fault: Fault = Fault.VALUE,
        value: object = None,
        cause: RefusalCause | None = None,
    ) -> None:
        super().__init__(reason if path == "$" else f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.fault = fault
        self.value = value
        self.cause = cause or _CAUSES[fault]

    def below(self, place: str) -> "Rejected":
        """Return the same error with *place* put before its path."""
        path = place if self.path == "$" else f"{place}.{self.path}"
        return Rejected(path, self.reason, self.fault, self.value)


class Unavailable(Rejected):
    """The gateway cannot accept a request now; the sender should try again later.

    Args:
        reason: the problem, for people.
        cause: for the metric.
        after: seconds after which the sender should try again.
    """

    def __init__(self, reason: str, cause: RefusalCause, after: int = TRY_AGAIN) -> None:
        super().__init__("$", reason, Fault.UNAVAILABLE, after, cause)


class Unrenderable(GatewayError):
    """An event lacks a field that the vendor requires."""


class TransportError(GatewayError):
    """A request got no response.

    Attributes:
        cause: ``connect``, ``timeout``, ``reset``, ``protocol``, or ``credential`` without a token.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class UploadFailed(GatewayError):
    """A file is not in its bucket yet.

    Attributes:
        cause: ``credential``, ``bucket`` if there is none of that name, or ``server``.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class SpoolError(GatewayError):
    """The spool cannot read or write now."""


class TraceError(GatewayError):
    """Traces cannot be read."""


class UnknownName(GatewayError):
    """A command or a call names something that does not exist."""
