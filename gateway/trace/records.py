"""What is kept of one request: values without credentials.

Later fields have defaults, so that what an older gateway wrote is read.
"""

from typing import Literal

import msgspec

from gateway.tracking.violations import Path

Outcome = Literal[
    "accepted", "repeated", "refused", "delivered", "declined", "shadowed", "later", "dead"
]
"""What happened: an event was accepted, or came before (``repeated``); a request was refused; a
delivery arrived, was declined (the vendor's format has no word for it), was only looked at by a
shadow, is tried again later, or became a dead letter."""
FAILED = frozenset({"refused", "later", "dead"})
"""Outcomes that mean that something went wrong."""


class Message(msgspec.Struct, frozen=True):
    """A request, as received or as sent, without credentials."""

    method: str
    url: str
    headers: dict[str, str]
    """Those that the gateway keeps, where it was received."""
    body: str
    size: int
    """Bytes of the whole body."""
    cut: bool = False
    """``body`` is the beginning of it only."""


class Received(msgspec.Struct, frozen=True):
    """A request of a source, and what its sender was told."""

    request: str
    """The gateway's id of it, which its sender was told in ``x-gateway-request-id``."""
    at: float
    """Unix seconds."""
    source: str
    vendor: str
    message: Message
    events: int
    """How many events were in it."""
    credential: str = ""
    """The name of the credential that came along, such as ``keys[0]``; empty where it is not
    known."""
    status: int | None = None
    """Of the answer; None where it was not kept, and the request was accepted."""
    seconds: float | None = None
    """Until the answer was ready."""
    fault: str = ""
    """Why it was refused, as a word (`gateway.errors.Fault`); empty where it was accepted."""
    reason: str = ""
    """Why it was refused, as a sentence."""


class Decided(msgspec.Struct, frozen=True):
    """What one route said of an event; see `gateway.routing.router.Decision`."""

    route: str
    destinations: tuple[str, ...]
    taken: bool
    reason: str
    part: str = ""
    error: str = ""
    kept_back: str = ""
    gives: tuple[str, ...] = ()


class Parsed(msgspec.Struct, frozen=True):
    """An event of a request."""

    event: str
    """Its id: the request's, a dash and its number."""
    request: str
    at: float
    """Unix seconds at which the request came."""
    source: str
    type: str
    name: str
    """Its neutral name; its type where it has none."""
    message_id: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    repeated: bool = False
    """It came before, within the source's ``dedup``, and goes nowhere."""
    decisions: tuple[Decided, ...] = ()
    """What every route said, in the order of the configuration."""
    planned: tuple[str, ...] = ()
    """What the source's tracking plan has against it: what it lets through, and what it left out,
    which says so."""
    left_out: tuple[Path, ...] = ()
    """The paths that the plan left out, each as it is after those before it. What no table maps
    went with them."""


class Loss(msgspec.Struct, frozen=True):
    """A field that the event has and the destination's format cannot say."""

    path: str
    how: str
    """``lost`` or ``coerced``."""
    why: str = ""
    """The reason, and what to write to have it sent, where it is known."""


How = Literal["set", "changed", "gone"]


class Change(msgspec.Struct, frozen=True):
    """A field that the steps of a route changed."""

    path: str
    """Such as ``properties.products[].price``."""
    how: How


class Tried(msgspec.Struct, frozen=True):
    """One try of a delivery, or its end without one."""

    event: str
    request: str
    at: float
    """Unix seconds."""
    source: str
    destination: str
    vendor: str
    name: str
    outcome: Outcome
    reason: str = ""
    route: str = ""
    """The route whose steps it took; empty where it took none."""
    number: int = 0
    """Which try it was, from 1; 0 where nothing was sent."""
    status: int | None = None
    """Of the answer; None where none came."""
    seconds: float | None = None
    """Until the whole answer was there; None where nothing was sent."""
    said: str = ""
    """The start of the answer, or the error, of a try that did not arrive."""
    sent: Message | None = None
    losses: tuple[Loss, ...] = ()
    """What of the event, as the steps left it, did not arrive."""
    user_id: str = ""
    anonymous_id: str = ""
    changes: tuple[Change, ...] = ()
    """What the steps changed."""
    more_changes: int = 0
    """How many fields they changed besides."""
    way: int = 0
    """How many deliveries of the event the destination gets before this one, by other routes."""

    @property
    def failed(self) -> bool:
        """Tell whether it did not arrive."""
        return self.outcome in FAILED


class Trace(msgspec.Struct, frozen=True):
    """What became of one request, as far as it is kept."""

    request: str
    received: Received | None
    """None where that part is too old to be kept still."""
    events: tuple[Parsed, ...]
    tries: tuple[Tried, ...]
    """In the order in which they happened."""
