"""The recipes of docs/cookbook.md do what the page says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config.loader.load import load as load_config
from gateway.event import Context, Event, Properties, Traits
from gateway.plugin.registry import load_plugins
from gateway.routing.router import Router
from tests.docs.pages import ROOT
from tests.docs.snippet_config import environment, written

RECIPES = dict(
    re.findall(
        r"^## ([^\n]+)\n.*?^```toml\n(.*?)^```$",
        (ROOT / "docs/cookbook.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
)
ORDER = Event(type="track", name="Order Completed", user_id="u1", id="r-0")
VIEWED = Event(type="track", name="Product Viewed", user_id="u1", id="r-0")
PAGE = Event(type="page", user_id="u1", id="r-0")
LARGE = Event(
    type="track", name="Order Completed", id="r-0", properties=Properties(total=500, currency="EUR")
)


def by(email: str | None = None, agent: str | None = None) -> Event:
    """Return an event of a person with an e-mail address, a user agent, or neither."""
    context = Context(user_agent=agent)
    return Event(type="page", id="r-0", traits=Traits(email=email), context=context)


GOES = [
    ("Send the same events to two vendors", VIEWED, ["crm", "analytics"]),
    ("Only purchases", ORDER, ["finance"]),
    ("Only purchases", VIEWED, []),
    ("Only large orders", LARGE, ["sales"]),
    ("Only large orders", ORDER, []),
    ("Only large orders", Event(type="identify", id="r-0"), ["crm", "sales"]),
    ("Leave out colleagues and bots", by(), ["analytics"]),
    ("Leave out colleagues and bots", by("ada@example.com"), ["analytics"]),
    ("Leave out colleagues and bots", by("bob@shop.example"), []),
    ("Leave out colleagues and bots", by(agent="Mozilla/5.0"), ["analytics"]),
    ("Leave out colleagues and bots", by(agent="Examplebot/1.0"), []),
    ("Send only with consent", ORDER, []),
    (
        "Send only with consent",
        Event(type="page", id="r-0", consent={"advertising": True}),
        ["ads"],
    ),
    ("Send hashes instead of personal data", ORDER, ["ads"]),
    ("Remove the location", PAGE, ["analytics"]),
    ("A tenth of the page views", VIEWED, ["analytics"]),
    ("A tenth of the page views", Event(type="page", user_id="u7", id="r-0"), []),
    ("Rename events and values", ORDER, ["warehouse"]),
    ("Move from one vendor to another", ORDER, ["old-crm"]),
    ("Archive everything else", ORDER, ["crm"]),
    ("Archive everything else", PAGE, ["archive"]),
]


def router(recipe: str, folder: Path) -> Router:
    """Return a router with the routes of a recipe."""
    path = written(RECIPES[recipe], folder)
    return Router(load_config(path, load_plugins(), environment(RECIPES[recipe])).routes)


@pytest.mark.parametrize(("recipe", "event", "to"), GOES)
def test_events_go_where_the_recipe_says(
    recipe: str, event: Event, to: list[str], tmp_path: Path
) -> None:
    """Each recipe sends its events to the destinations that the page names."""
    assert [lead.destination for lead in router(recipe, tmp_path).route("shop", event)] == to


def test_every_recipe_is_tested() -> None:
    """Each recipe of the page has an event in this module."""
    assert {recipe for recipe, _, _ in GOES} == set(RECIPES)


PERSON = Event(
    type="track",
    name="Order Completed",
    id="r-0",
    user_id="u1",
    traits=Traits(email=" Ada@Example.com", birthday="1990-01-02"),
    properties=Properties(total=5, coupon="MAY", extra={"country": "DE"}),
    context=Context(ip="192.0.2.77", user_agent="Mozilla/5.0"),
)
CHANGES: list[tuple[str, str, Callable[[Event], object], object]] = [
    (
        "Send hashes instead of personal data",
        "conversions without plain addresses",
        lambda event: (event.traits, event.properties),
        (
            Traits(email="b5fc85e55755f9e0d030a10ab4429b6b2944855f9a0d60077fe832becbc41d72"),
            Properties(total=5),
        ),
    ),
    (
        "Remove the location",
        "analytics, less personal",
        lambda event: (event.context, event.traits.birthday),
        (Context(ip="192.0.2.0"), None),
    ),
    (
        "Rename events and values",
        "to the data warehouse",
        lambda event: (event.name, event.properties.extra, event.properties.currency),
        ("purchase", {"country": "Germany"}, "EUR"),
    ),
]


@pytest.mark.parametrize(("recipe", "route", "seen", "expected"), CHANGES)
def test_steps_do_what_the_recipe_says(
    recipe: str, route: str, seen: Callable[[Event], object], expected: object, tmp_path: Path
) -> None:
    """A recipe's steps change an event as the page says."""
    steps = router(recipe, tmp_path).steps(route)
    assert steps is not None
    assert seen(steps.apply(PERSON)) == expected
