"""What stories are made of: a request, the events it became, what each destination got."""

from typing import Any

import msgspec

from gateway.admin.linking import Field
from gateway.letter import Letter
from gateway.trace.interface import Change, Decided, Loss


class Payload(msgspec.Struct, frozen=True):
    """A request, taken apart."""

    method: str
    url: str
    headers: dict[str, str]
    body: str
    """As text; it may be its beginning only."""
    fields: list[Field]
    """What is in it, where it is JSON and whole."""


class Attempted(msgspec.Struct, frozen=True):
    """One try."""

    at: float
    outcome: str
    status: int | None
    seconds: float | None
    reason: str
    said: str


class DeliveryTold(msgspec.Struct, frozen=True):
    """An event on its way to one destination."""

    destination: str
    vendor: str
    route: str
    """The route whose steps it took; empty where it took none."""
    outcome: str
    """How it stands: as the last try, ``dead``, or ``waits``; ``ended`` where its end was not
    traced."""
    reason: str
    sent: Payload | None
    """What was sent last; null where nothing was."""
    losses: list[Loss]
    """What of the event, as the steps left it, did not arrive."""
    attempts: list[Attempted]
    changes: list[Change] = []
    """What the steps changed; in the playground the steps themselves say it."""
    more_changes: int = 0
    """How many fields they changed besides."""
    letter: Letter | None = None
    """Its dead letter; null where there is none, or none any more."""
    then: str = ""
    """What became of it since."""


class Changed(msgspec.Struct, frozen=True):
    """A field that a step changed."""

    path: str
    before: Any
    """Null where there was none."""
    after: Any
    """Null where there is none."""


class StepTold(msgspec.Struct, frozen=True):
    """A step of a route, as it was taken."""

    route: str
    word: str
    kept_back: str
    """Why it lets the event go no further; empty where it does not."""
    changes: list[Changed]


class EventTold(msgspec.Struct, frozen=True):
    """One event of the request."""

    event: str
    type: str
    name: str
    repeated: bool
    fields: list[Field]
    """The neutral event, without what the tracking plan left out; nothing where it cannot be made
    of what is kept."""
    decisions: list[Decided]
    deliveries: list[DeliveryTold]
    steps: list[StepTold] = []
    """In the playground; traces do not keep them."""
    planned: list[str] = []
    """What the source's tracking plan has against it; what it left out for that says so."""
    left_out: list[str] = []
    """Fields of what was received that went no further for that, such as ``items[1].price``."""


class Story(msgspec.Struct, frozen=True):
    """What became of one request."""

    request: str
    at: float | None
    """Unix seconds at which it came; null where that is not kept."""
    source: str
    vendor: str
    status: int | None
    """Of the answer; null where that is not kept."""
    refused: str
    """Why it was refused; empty where it was not."""
    received: Payload | None
    events: list[EventTold]
    more: int
    """Further events of the request, which are not told here."""
