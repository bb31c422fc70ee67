"""The events of the benchmark, as Segment's clients send them.

A shop's order has about 1 KB, three products, a page and a campaign; the smallest event has a name
and a user. Users are many, so that few deliveries wait for an earlier one of the same user.
"""

import base64
from collections.abc import Iterator
from typing import Any

import orjson

from tests.bench.load import http

USERS = 20_000
KEY = "bench"
HEADERS = {
    "authorization": f"Basic {base64.b64encode(f'{KEY}:'.encode()).decode()}",
    "content-type": "application/json",
}


def order(number: int) -> dict[str, Any]:
    """Return one order, of user *number* modulo `USERS`."""
    products = [
        {
            "product_id": f"p-{number % 997 + place}", "sku": f"SKU-{place}-{number % 97:03}",
            "name": "Running shoe, grey", "brand": "Meridian", "category": "Shoes",
            "price": 59.9 + place, "quantity": place + 1,
        }
        for place in range(3)
    ]  # fmt: skip
    return {
        "type": "track",
        "event": "Order Completed",
        "messageId": f"m-{number:012}",
        "userId": f"user-{number % USERS:05}",
        "anonymousId": f"0b1c3d5e-{number % USERS:012}",
        "timestamp": f"2026-03-28T10:15:{number % 60:02}.{number % 997:03}Z",
        "context": {
            "ip": "203.0.113.7",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari",
            "locale": "en-GB",
            "page": {
                "url": "https://shop.example/checkout/thanks", "path": "/checkout/thanks",
                "title": "Thank you", "referrer": "https://shop.example/checkout",
            },
            "campaign": {"name": "spring", "source": "newsletter", "medium": "email"},
        },
        "properties": {
            "order_id": f"o-{number}", "total": 184.7, "revenue": 160.0, "shipping": 4.9,
            "tax": 19.8, "currency": "EUR", "coupon": "SPRING", "products": products,
        },
    }  # fmt: skip


def smallest(number: int) -> dict[str, Any]:
    """Return the smallest event, of user *number* modulo `USERS`."""
    return {"type": "track", "event": "Signed Up", "userId": f"user-{number % USERS:05}"}


def singles(count: int, make: Any = order) -> Iterator[bytes]:
    """Yield *count* requests of one event each."""
    for number in range(count):
        yield http("/v1/track", orjson.dumps(make(number)), HEADERS)


def batches(count: int, size: int) -> Iterator[bytes]:
    """Yield *count* requests of *size* orders each."""
    for number in range(count):
        body = {"batch": [order(number * size + place) for place in range(size)]}
        yield http("/v1/batch", orjson.dumps(body), HEADERS)
