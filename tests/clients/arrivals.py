"""What becomes of the calls of the vendors' own clients: where each arrives, and as what.

A gateway runs on loopback with one source that takes them and every vendor behind it, all on the
sandbox; Segment stands there twice, as a destination that gets the requests as they came and as
one for which they are translated.
"""

import base64
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.verdict import Declined, Delivered
from tests.e2e.configs import VENDORS, base_config, destination, route, source
from tests.e2e.running import Running, running

KEY: Final = "the-clients-write-key"
CLIENTS: Final = Path(__file__).parent
TRANSLATED: Final = "translated"
"""The destination of Segment's that gets no request as it came."""
TRANSLATED_KEY: Final = "another-write-key"
DESTINATIONS: Final = (*VENDORS, TRANSLATED)

WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "identify": {
        "chrts": "/customer/identify", "growlytics": "/rest-api/customer",
        "personaclick": "/profile/set", "quartic": "/store/contact", "segment": "identify",
        "tracardi": "profile-update",
    },
    "Product Viewed": {
        "chrts": "Product Viewed", "growlytics": "Product Viewed", "personaclick": "view",
        "quartic": "eventProductView", "segment": "Product Viewed",
        "tracardi": "product-details-page-view",
    },
    "page": {
        "chrts": "Page Viewed", "growlytics": "Page Viewed", "personaclick": "page_viewed",
        "segment": "page", "tracardi": "page-view",
    },
    "screen": {
        "chrts": "Screen Viewed", "growlytics": "Screen Viewed", "personaclick": "screen_viewed",
        "segment": "screen", "tracardi": "screen-view",
    },
    "group": {
        "chrts": "Group Joined", "growlytics": "Group Joined", "segment": "group",
        "tracardi": "group-joined",
    },
    "alias": {"chrts": "/customer/alias", "segment": "alias"},
}  # fmt: skip
"""Each call's own word at each vendor, as the vendor's document has it; none where it has none, so
that the call is declined."""
CALLS: Final = tuple(WORDS)
"""What every library for backends can send."""
WORDS_OF_PAGES: Final[Mapping[str, Mapping[str, str]]] = {
    **WORDS,
    "Offer Chosen": {
        "chrts": "Offer Chosen", "growlytics": "Offer Chosen", "personaclick": "offer_chosen",
        "segment": "Offer Chosen", "tracardi": "offer-chosen",
    },
}  # fmt: skip
"""The same for pages, and for a name that is nobody's."""
NAMED_BY: Final = {
    "chrts": "name", "growlytics": "name", "personaclick": "event", "quartic": "eventType",
    "segment": "event", "tracardi": "type",
}  # fmt: skip
CARRIES: Final[Mapping[str, Collection[str]]] = {
    "identify": ["ada@shop.example"],
    "Product Viewed": ["sku-1"],
    "page": ["Home"],
    "screen": ["Home", "dark"],
    "group": ["g-1", "Initech"],
    "alias": ["ada-0", "ada-1"],
    "Offer Chosen": ["by"],
}
"""What of each call's own data arrives wherever the call does."""
WHO: Final = "ada"
"""What stands in every id and address of the person whom the clients send calls about."""


def gateway(folder: Path, more: str = "") -> AbstractAsyncContextManager[Running]:
    """Run a gateway that takes the clients' calls; *more* are lines of its source's table."""

    def config(sandbox: str) -> str:
        behind = "".join(destination(vendor, sandbox) for vendor in VENDORS)
        return (
            base_config(folder)
            + source("segment", KEY, name="clients", more=more)
            + behind
            + f'[destinations.{TRANSLATED}]\nvendor = "segment"\nurl = "{sandbox}/segment"\n'
            f'write_key = "{TRANSLATED_KEY}"\npassthrough = false\n' + route(*DESTINATIONS)
        )

    return running(folder, config)


async def arrived(
    run: Running, calls: Sequence[str], words: Mapping[str, Mapping[str, str]] = WORDS
) -> list[dict[str, Any]]:
    """Wait until *calls* are settled everywhere, judge them, and return the sandbox's journal.

    Every call is delivered, under the vendor's own word for it, with its data and about the same
    person, or is declined with a reason by a vendor that has no word; there are no others.
    """
    owed = Counter(calls)
    await run.watch.until(lambda w: len(w.settled) >= owed.total() * len(DESTINATIONS))
    for event, to, verdict in run.watch.settled:
        call = (event.name or "") if event.type == "track" else event.type
        assert call in words, event
        wanted = Delivered if _vendor(to) in words[call] else Declined
        assert isinstance(verdict, wanted), (call, to, verdict)
        assert isinstance(verdict, Delivered) or verdict.reason
    journal = await run.journal()
    seen: Counter[tuple[str, str]] = Counter()
    for entry in journal:
        assert entry["verdict"] == "accepted", entry
        calls_by_word = {words[call].get(entry["vendor"]): call for call in owed}
        for said in _said(entry):
            text = orjson.dumps(said).decode()
            assert WHO in text, entry
            call = calls_by_word[_word(entry, said)]
            assert [value for value in CARRIES[call] if f'"{value}"' not in text] == [], entry
            seen[_destination(entry), call] += 1
    assert seen == {
        (to, call): times
        for to in DESTINATIONS
        for call, times in owed.items()
        if _vendor(to) in words[call]
    }
    assert len(run.watch.settled) == owed.total() * len(DESTINATIONS)
    return journal


def _vendor(destination: str) -> str:
    return "segment" if destination == TRANSLATED else destination


def _destination(entry: dict[str, Any]) -> str:
    if entry["vendor"] != "segment":
        return str(entry["vendor"])
    packed = entry["headers"]["authorization"].removeprefix("Basic ")
    ours = base64.b64decode(packed).decode() == f"{TRANSLATED_KEY}:"
    return TRANSLATED if ours else "segment"


def _said(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the calls in one request: Tracardi's and Segment's may carry several."""
    body = entry["body"]
    found: list[dict[str, Any]] = body.get("events") or body.get("batch") or [body]
    return found


def _word(entry: dict[str, Any], said: dict[str, Any]) -> str:
    word = said.get(NAMED_BY[entry["vendor"]]) or said.get("type") or entry["path"]
    return str(word).removeprefix("/v1/")
