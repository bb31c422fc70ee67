"""What goes from one spool to another: the parts of a batch, and their bounds."""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.spool.values import Cause, ConsentRecord

MAX_BATCH_BYTES = 1024 * 1024
"""Bytes of requests at which a batch is full; the last one may exceed it."""
MAX_ENTRIES = 1000
"""Entries of a batch."""
MAX_LETTERS = 50
"""Dead letters of a batch."""
MAX_REMEMBERED = 2000
"""Message ids or users with consent of a batch."""
LATEST = 1e11
"""The latest time in Unix seconds, some 3,000 years from now."""

Time = Annotated[float, Meta(ge=0, le=LATEST)]
"""Unix seconds."""
_BASE64 = {"pattern": "^[A-Za-z0-9+/]{21}[AQgw]==$"}
Key = Annotated[bytes, Meta(min_length=16, max_length=16, extra_json_schema=_BASE64)]
Place = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class MovedEntry(msgspec.Struct, frozen=True):
    """A request with the deliveries of it that are pending."""

    number: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    """Its place in the old spool; a dead letter's may be negative, if its request is gone."""
    at: Time
    """Unix seconds at which it was accepted."""
    id: Annotated[str, Meta(pattern="^[!-~]{1,200}$")]
    meta: bytes
    """What the spool stores beside the body; see `gateway.spool.rows`."""
    body: bytes


class MovedLetter(msgspec.Struct, frozen=True):
    """A dead letter."""

    number: Place
    """Its id in the old spool."""
    entry: MovedEntry
    destination: str
    index: int
    """The number of the delivery within the request."""
    cause: Cause
    reason: str
    at: Time
    """Unix seconds at which it became a dead letter."""
    attempts: bytes
    """As the spool stores them."""
    rendered: bytes
    event_name: str
    user: str


class MovedConsent(msgspec.Struct, frozen=True):
    """The stored consent of a user."""

    user: Key
    until: Time
    """Unix seconds at which it is deleted."""
    records: dict[str, ConsentRecord]
    """By category."""


class MovedMessageId(msgspec.Struct, frozen=True):
    """The id of an event, remembered so that a duplicate is dropped."""

    key: Key
    until: Time
    """Unix seconds at which it is forgotten."""


class MovedBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a spool's content, for another spool. Sent again, it changes nothing."""

    origin: int
    """Names the old spool."""
    entries: Annotated[list[MovedEntry], Meta(max_length=MAX_ENTRIES)] = []
    """In the order of its log."""
    dead_letters: Annotated[list[MovedLetter], Meta(max_length=MAX_LETTERS)] = []
    message_ids: Annotated[list[MovedMessageId], Meta(max_length=MAX_REMEMBERED)] = []
    consents: Annotated[list[MovedConsent], Meta(max_length=MAX_REMEMBERED)] = []
