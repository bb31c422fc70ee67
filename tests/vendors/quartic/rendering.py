"""Events of other vendors, rendered by Quartic's output."""

from datetime import UTC, datetime
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.event import Event, Product, Properties
from gateway.http import Request
from gateway.plugin.settings import Secret
from plugins.quartic.output import QuarticOutput
from plugins.quartic.sandbox import QuarticSandbox

AT = datetime(2024, 3, 28, 10, 15, 30, tzinfo=UTC)
SECONDS = 1711620930
SHOES = Product(product_id="42", price=59.9, quantity=1)
SOCKS = Product(product_id="43", price=4, quantity=2)


def output(**settings: Any) -> QuarticOutput:
    """Return a destination with *settings*."""
    given = {"api_key": Secret("key-out"), "customer": "account_out", **settings}
    return QuarticOutput(QuarticOutput.Config(**{"url": "https://quartic.example/", **given}))


def request(event: Event, **settings: Any) -> Request:
    """Return the request that delivers *event*, after the strict sandbox accepted it."""
    sent = output(**settings).render(event)
    assert isinstance(sent, Request), sent
    path = sent.url.removeprefix("https://quartic.example")
    answer = QuarticSandbox().respond(replace(sent, url=path, received_at=AT), "key-out")
    assert answer.reason is None
    assert answer.response.status == 200
    return replace(sent, url=path)


def sent(event: Event, **settings: Any) -> tuple[str, Any]:
    """Return the path and the body that deliver *event*."""
    made = request(event, **settings)
    return made.url, orjson.loads(made.body)


def track(name: str, *products: Product, **properties: Any) -> Event:
    """Return an event of another vendor."""
    about = Properties(products=products, **properties)
    return Event(
        type="track", name=name, timestamp=AT, user_id="u1", properties=about, origin="chrts"
    )


def identify(**fields: Any) -> Event:
    """Return an identify of another vendor."""
    return Event(type="identify", origin="tracardi", **fields)


def losses(event: Event, **settings: Any) -> dict[str, str]:
    """Return the lost and coerced fields of *event*, by path."""
    found = output(**settings).losses(event)
    assert len({loss.path for loss in found}) == len(found)
    return {loss.path: loss.how for loss in found}
