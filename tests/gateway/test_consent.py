"""The consent store: users, categories and retention."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import ConsentConfig
from gateway.event import Event
from gateway.routing import consent
from gateway.routing.consent import ConsentMemory
from gateway.spool.consent import CATEGORIES
from gateway.spool.sqlite.spool import SqliteSpool

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = 86400.0


def event(day: float = 0, **fields: Any) -> Event:
    """Return an event that arrives so many days after the first."""
    return Event(type="track", received_at=AT + timedelta(days=day), **fields)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    """Return an open spool."""
    spool = SqliteSpool(tmp_path)
    await spool.open()
    yield spool
    await spool.close()


class Hears:
    """A consent store that gets one event at a time."""

    def __init__(self, spool: SqliteSpool, **config: Any) -> None:
        self.consents = ConsentMemory(spool, ConsentConfig(**({"retention": 30 * DAY} | config)))

    async def __call__(self, told: Event, source: str = "shop") -> dict[str, bool]:
        """Return the recorded consent of the event's user after the event."""
        found = await self.consents.update(source, [told], asked=True)
        return dict(found.get(0, {}))


async def test_the_latest_value_of_each_category_counts(spool: SqliteSpool) -> None:
    """The latest value of each category holds, and other categories stay unchanged."""
    hear = Hears(spool)
    await hear(event(0, user_id="u", consent={"ads": True, "mail": True}))
    assert await hear(event(1, user_id="u", consent={"ads": False})) == {"ads": False, "mail": True}
    assert await hear(event(2, user_id="u")) == {"ads": False, "mail": True}
    assert await hear(event(2, user_id="other")) == {}
    assert await hear(event(2)) == {}


async def test_a_users_categories_are_bounded(spool: SqliteSpool) -> None:
    """Only a user's newest categories are kept, in memory and on disk."""
    hear = Hears(spool)
    for day in range(3):
        told = {f"c{day}-{n}": True for n in range(CATEGORIES)}
        known = await hear(event(day, user_id="u", consent=told | {"x" * 1000: True}))
        assert len(known) == CATEGORIES
    again = await Hears(spool)(event(3, user_id="u", consent={"ads": True}))
    assert len(again) == CATEGORIES
    assert again["ads"]
    assert again["c2-99"]


async def test_consent_survives_a_restart(spool: SqliteSpool) -> None:
    """Recorded consent survives a restart."""
    await Hears(spool)(event(0, user_id="u", consent={"ads": True}))
    again = Hears(spool)
    assert await again(event(1, user_id="u", consent={"mail": True})) == {"ads": True, "mail": True}


async def test_users_are_known_by_both_their_ids(spool: SqliteSpool) -> None:
    """Consent from before a login holds after it; a withdrawal under either id holds for both."""
    hear = Hears(spool)
    await hear(event(0, anonymous_id="a", consent={"ads": True}))
    assert await hear(event(1, anonymous_id="a", user_id="u")) == {"ads": True}
    await hear(event(2, user_id="u", consent={"ads": False}))
    assert await hear(event(3, anonymous_id="a", user_id="u")) == {"ads": False}
    await hear(event(4, session_id="s", consent={"ads": True}))
    assert await hear(event(5, session_id="s")) == {"ads": True}


async def test_a_category_expires_after_its_last_change(spool: SqliteSpool) -> None:
    """Each category expires after its own last change, in memory too."""
    hear = Hears(spool)
    await hear(event(0, user_id="u", consent={"ads": True}))
    await hear(event(20, user_id="u", consent={"mail": True}))
    assert await hear(event(29, user_id="u")) == {"ads": True, "mail": True}
    assert await hear(event(31, user_id="u")) == {"mail": True}


async def test_sources_share_consent_only_if_configured(spool: SqliteSpool) -> None:
    """Sources share recorded consent only if the configuration says so."""
    apart, shared = Hears(spool), Hears(spool, across_sources=True)
    for hear, expected in ((apart, {}), (shared, {"ads": True})):
        await hear(event(0, user_id="u", consent={"ads": True}), "shop")
        assert await hear(event(1, user_id="u"), "other") == expected


async def test_older_users_are_read_from_the_spool(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds only the last users; older ones are read from the spool."""
    monkeypatch.setattr(consent, "NEAR", 5)
    hear = Hears(spool)
    for number in range(20):
        await hear(event(0, user_id=f"u{number}", consent={"ads": True}))
    assert len(hear.consents._near) == 5
    assert await hear(event(1, user_id="u0")) == {"ads": True}


async def test_a_batch_may_have_more_users_than_memory_holds(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch with more users than memory holds gets the consent of all of them."""
    monkeypatch.setattr(consent, "NEAR", 5)
    memory = Hears(spool).consents
    batch = [event(0, user_id=f"u{n}", consent={"ads": True}) for n in range(20)]
    expected = {n: {"ads": True} for n in range(20)}
    assert await memory.update("shop", batch, asked=True) == expected
    silent = [event(1, user_id=f"u{n}") for n in range(20)]
    assert await memory.update("shop", silent, asked=True) == expected


async def test_consent_is_not_looked_up_unless_a_route_asks(spool: SqliteSpool) -> None:
    """Consent is recorded, but not looked up, if no route asks for it."""
    hear = Hears(spool)
    told = [event(0, user_id="u", consent={"ads": True})]
    assert await hear.consents.update("shop", told, asked=False) == {}
    assert await hear(event(1, user_id="u")) == {"ads": True}
    assert not ConsentMemory(spool, ConsentConfig()).on
