"""Everything the gateway raises on purpose, and who is told.

* GatewayError
  - ConfigError           start-up: names the file, the table and the key
  - PluginError           start-up: names the plugin
    + MappingError        a translation table disagrees with its types
  - Rejected              an input refuses a request: the sender gets the vendor's own 4xx
  - Unrenderable          an output cannot write an event it should: dead letter
  - TransportError        no answer came from a destination: retried
  - SpoolError            the spool cannot take or give events: the sender is told "try later"
  - TraceError            traces cannot be read: whoever looks at them is told
"""

from enum import StrEnum

TRY_AGAIN = 5
"""Seconds after which a sender should try again when nothing better is known."""


class GatewayError(Exception):
    """Base of every error that the gateway raises on purpose."""


class ConfigError(GatewayError):
    """The configuration is unusable; every problem found is listed.

    Attributes:
        problems: one sentence each, ``file: [table] key: what is wrong; what to do``.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PluginError(GatewayError):
    """A plugin is unusable; the gateway refuses to start."""


class MappingError(PluginError):
    """A row of a translation table names a field that does not exist, or of another type."""


class Fault(StrEnum):
    """What is wrong with a request, as far as vendors answer differently."""

    MALFORMED = "malformed"
    """The body is no JSON at all, cannot be inflated, or is not UTF-8."""
    MISSING = "missing"
    """A required field is absent or null."""
    TYPE = "type"
    """A field has another JSON type than the vendor takes."""
    VALUE = "value"
    """A field has the right type and an impossible value."""
    UNAUTHENTICATED = "unauthenticated"
    """No credential came along."""
    FORBIDDEN = "forbidden"
    """The credential is not one that this source accepts."""
    TOO_LARGE = "too_large"
    """The body exceeds the size cap, as sent or inflated."""
    NOT_FOUND = "not_found"
    """The vendor has no such endpoint, or the gateway does not translate it."""
    METHOD = "method"
    """The endpoint exists under another method."""
    UNSUPPORTED = "unsupported"
    """The vendor has the endpoint and the gateway does not serve it."""
    UNAVAILABLE = "unavailable"
    """The gateway cannot take the event now; the sender should try later."""


class Rejected(GatewayError):
    """A request cannot become events.

    Attributes:
        path: dotted path in the payload, ``$`` for the whole of it, ``events.0.type`` within.
        reason: what is wrong, for a person.
        fault: the kind of problem; the input chooses status and body by it.
        value: the offending value where there is one (a vendor may echo it).
    """

    def __init__(
        self, path: str, reason: str, fault: Fault = Fault.VALUE, value: object = None
    ) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.fault = fault
        self.value = value

    def below(self, place: str) -> "Rejected":
        """Return the same complaint, seen from one level up."""
        path = place if self.path == "$" else f"{place}.{self.path}"
        return Rejected(path, self.reason, self.fault, self.value)


class Unrenderable(GatewayError):
    """An event lacks something that this vendor insists on."""


class TransportError(GatewayError):
    """A request got no answer.

    Attributes:
        cause: ``connect``, ``timeout``, ``reset`` or ``protocol``.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class SpoolError(GatewayError):
    """The spool cannot take or give events right now."""


class TraceError(GatewayError):
    """What was traced cannot be read."""
