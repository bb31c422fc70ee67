"""Unusual requests of real clients, which no document shows, are accepted and reach all vendors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.verdict import Declined, Delivered
from tests.e2e.configs import VENDORS, everything
from tests.e2e.running import Running, running
from tests.e2e.test_refusals import CREDENTIALS, VALID

KEYS = {"personaclick": "0d42fd8b713d0752776ca589cc0056"}
BIG = 18446744073709551617
"""A whole number that needs 65 bits; as a double it becomes 18446744073709551616."""


def attributes(**values: Any) -> list[dict[str, Any]]:
    """Return attributes in Growlytics' format."""
    kinds = {str: "string", bool: "boolean"}
    return [
        {"name": name, "type": kinds.get(type(value), "number"), "value": value}
        for name, value in values.items()
    ]


def searched(vendor: str, query: str) -> tuple[str, dict[str, Any]]:
    """Return a path and a body with the free text *query*."""
    match vendor:
        case "chrts":
            return "/event/track", {"uid": "u1", "name": "looked", "properties": {"q": query}}
        case "growlytics":
            listed = attributes(q=query)
            return "/rest-api/event", {"customerId": "u1", "name": "looked", "attributes": listed}
        case "personaclick":
            who = {"shop_id": KEYS["personaclick"], "did": "d1", "seance": "s1", "stream": "web"}
            return "/push", {**who, "event": "search", "search_query": query}
        case "quartic":
            return "/store/contact", {
                "cookie": "c1", "email": "a@shop.example", "tags": [{"n": "q", "v": query}],
            }  # fmt: skip
        case "segment":
            calls = [
                {"type": "track", "userId": f"u{n}", "event": name, "properties": {"q": text}}
                for n, (name, text) in enumerate([("A", "a"), ("B", query), ("C", "c")])
            ]
            return "/v1/batch", {"writeKey": "k", "batch": calls}
        case _:
            return "/track", {
                "source": {"id": "any"}, "session": {"id": "s1"},
                "events": [
                    {"type": "first", "properties": {"q": "a"}},
                    {"type": "search", "properties": {"query": query}},
                ],
            }  # fmt: skip


async def post(run: Running, vendor: str, path: str, body: bytes, **headers: str) -> int:
    """Post *body* as the vendor's client does; return the status."""
    sent = {"content-type": "application/json", **CREDENTIALS[vendor], **headers}
    async with run.client.post(run.url + path, data=body, headers=sent) as answer:
        await answer.read()
        return answer.status


def settled(events: int) -> Callable[[Any], bool]:
    """Return a condition: *events* events are settled at every vendor."""
    return lambda watch: len(watch.settled) >= events * len(VENDORS)


LONE = {
    "escape": b"shoes \\ud83d",
    "escapes the wrong way round": b"shoes \\ude00\\ud83d",
    "CESU-8": b"shoes \xed\xa0\xbd",
    "no UTF-8": b"shoes \xff",
    "cut UTF-8": b"shoes \xe2\x82",
}
"""Texts with a part that is no valid character."""


@pytest.mark.parametrize("more", ["", "passthrough = false"], ids=["forwarded", "rendered"])
@pytest.mark.parametrize("lone", LONE.values(), ids=LONE)
async def test_invalid_characters_are_replaced(tmp_path: Path, lone: bytes, more: str) -> None:
    """A lone surrogate, or bytes that are not UTF-8, arrive as U+FFFD at every vendor."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox, more)) as run:
        owed = 0
        for vendor in VENDORS:
            path, body = searched(vendor, "@")
            sent = orjson.dumps(body).replace(b'"@"', b'"%b"' % lone)
            assert await post(run, vendor, path, sent) == 200, vendor
            owed += {"segment": 3, "tracardi": 2}.get(vendor, 1)
        await run.watch.until(settled(owed))
        journal = await run.journal()
    bad = [one for one in run.watch.settled if not isinstance(one[2], Delivered | Declined)]
    assert not bad, bad[0]
    for vendor in VENDORS:
        said = [str(one["body"]) for one in journal if one["vendor"] == vendor]
        assert any("shoes \ufffd" in body for body in said), vendor
    texts = [event.properties for event in run.watch.accepted]
    assert len(texts) == owed


@pytest.mark.parametrize("more", ["", "passthrough = false"], ids=["forwarded", "rendered"])
async def test_invalid_characters_in_keys_are_replaced(tmp_path: Path, more: str) -> None:
    """A lone surrogate in a key arrives as U+FFFD, and the other keys are kept."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox, more)) as run:
        for vendor, path, body in (
            ("chrts", "/event/track", b'{"uid":"u1","name":"n","properties":{"k\\ud83d":1}}'),
            (
                "segment",
                "/v1/track",
                b'{"writeKey":"k","userId":"u1","event":"n","properties":{"k\\ud83d":1}}',
            ),
        ):
            assert await post(run, vendor, path, body) == 200
        await run.watch.until(settled(2))
        journal = await run.journal("chrts")
    assert {"k\ufffd": 1} in [one["body"]["properties"] for one in journal]
    assert all("k\ufffd" in event.properties.extra for event in run.watch.accepted)


async def test_invalid_characters_in_forms_and_queries_are_replaced(tmp_path: Path) -> None:
    """Invalid characters in a form, a query or a pixel are replaced as in JSON."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox)) as run:
        form = (
            f"shop_id={KEYS['personaclick']}&did=d&seance=s&stream=web&event=search&search_query="
        )
        label = {"content-type": "application/x-www-form-urlencoded"}
        for text in (b"%ED%A0%BD", b"%FF", b"\xff"):
            sent = form.encode() + b"shoes+" + text
            assert await post(run, "personaclick", "/push", sent, **label) == 200
        url = "/v1/pixel/track?writeKey=k&userId=u&event=n&properties.q=shoes+%ED%A0%BD"
        async with run.client.get(run.url + url) as answer:
            assert answer.status == 200
        await run.watch.until(settled(4))
    known = [event.properties for event in run.watch.accepted]
    said = {properties.query or properties.extra.get("q") for properties in known}
    assert said == {"shoes \ufffd"}
    assert all(isinstance(one[2], Delivered | Declined) for one in run.watch.settled)


def numbered(vendor: str, number: str) -> tuple[str, str]:
    """Return a path and a body with *number* unquoted, as an id and as a free value."""
    match vendor:
        case "chrts":
            return "/event/track", (
                '{"uid":"u%s","name":"n","properties":{"order_id":%s,"ref":%s,"list":[{"deep":%s}]}}'
                % ((number,) * 4)
            )
        case "growlytics":
            attribute = '{"name":"%s","type":"number","value":%s}'
            listed = ",".join(attribute % (name, number) for name in ("order_id", "ref"))
            return (
                "/rest-api/event",
                f'{{"customerId":"u{number}","name":"n","attributes":[{listed}]}}',
            )
        case "personaclick":
            return "/push", (
                '{"external_id":%s,"seance":"s","stream":"web","event":"purchase","items":[{"id":%s}],'
                '"order_id":%s,"custom":{"ref":%s},' % ((number,) * 4)
            ) + f'"shop_id":"{KEYS["personaclick"]}"}}'
        case "quartic":
            return "/store/data/product", f'{{"id":{number},"custom1":"{number}"}}'
        case "segment":
            return "/v1/batch", (
                '{"writeKey":"k","batch":[{"type":"track","userId":%s,"event":"n","messageId":%s,'
                '"properties":{"order_id":%s,"ref":%s},"context":{"groupId":%s}}]}'
                % ((number,) * 5)
            )
        case _:
            return "/track", (
                '{"source":{"id":"any"},"session":{"id":"s%s"},"events":[{"type":"n","context":'
                '{"user_id":%s},"properties":{"order_id":%s,"ref":%s}}]}' % ((number,) * 4)
            )


NUMBERS = ["18446744073709551617", "-9223372036854775809", "9" * 36, "12345678901234567.25"]


WHOLE_IDS = {("quartic", False), ("personaclick", False)}
"""Vendors whose documents allow only whole numbers as ids."""


@pytest.mark.parametrize("more", ["", "passthrough = false"], ids=["forwarded", "rendered"])
@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:24])
async def test_long_numbers_keep_every_digit(tmp_path: Path, number: str, more: str) -> None:
    """A number with more digits than a double holds keeps all, as an id and as a free value."""
    condition = (
        "event.properties.ref > 5.0 || event.properties.ref < 5.0"
        " || event.type == 'product' || event.name == 'Order Completed'"
    )
    async with running(
        tmp_path,
        lambda sandbox: everything(tmp_path, sandbox, more) + f'when = "{condition}"\n',
    ) as run:
        owed = 0
        for vendor in VENDORS:
            if (vendor, number.isdigit()) in WHOLE_IDS:
                continue
            path, body = numbered(vendor, number)
            assert await post(run, vendor, path, body.encode()) == 200, vendor
            owed += 1
        await run.watch.until(settled(owed))
        async with run.client.get(f"{run.sandbox}/_sandbox/requests") as answer:
            journal = json.loads(await answer.text(), parse_float=str)
    bad = [one for one in run.watch.settled if not isinstance(one[2], Delivered | Declined)]
    assert not bad, bad[0]
    users = {event.user_id for event in run.watch.accepted if event.origin == "segment"}
    assert users == {number}
    for entry in journal:
        assert number in str(entry["body"]), entry
        assert "e+" not in str(entry["body"]), entry


ODD: list[Any] = [None, 7, "odd", [], [{"product_id": "9", "id": "9"}], True, {}]
"""Invalid members of a list of products."""


def ordered(vendor: str, odd: list[Any]) -> tuple[str, dict[str, Any]]:
    """Return a path and an order with *odd* members before product 1."""
    match vendor:
        case "chrts":
            properties = {"order_id": "o1", "products": [*odd, {"product_id": "1"}]}
            return "/event/track", {
                "uid": "u1", "name": "Order Completed", "properties": properties,
            }  # fmt: skip
        case "growlytics":
            products = orjson.dumps([*odd, {"product_id": "1"}]).decode()
            listed = attributes(order_id="o1", products=products)
            return "/rest-api/event", {
                "customerId": "u1", "name": "Order Completed", "attributes": listed,
            }  # fmt: skip
        case "personaclick":
            who = {"shop_id": KEYS["personaclick"], "did": "d1", "seance": "s1", "stream": "web"}
            return "/push", {**who, "event": "purchase", "items": [*odd, {"id": "1"}]}
        case "quartic":
            product = {"productId": "1", "price": 5.0, "quantity": 1}
            return "/store/track/event", {
                "customer": "c", "eventType": "eventTransaction", "timestamp": 1482840417,
                "cookie": "k", "transactionId": "o1",
                "basket": [*(one for one in odd if one != {}), product],
            }  # fmt: skip
        case "segment":
            properties = {"order_id": "o1", "products": [*odd, {"product_id": "1"}]}
            return "/v1/track", {
                "writeKey": "k", "userId": "u1", "event": "Order Completed",
                "properties": properties,
            }  # fmt: skip
        case _:
            event = {"type": "order-completed", "properties": {"products": [*odd, {"id": "1"}]}}
            return "/track", {
                "source": {"id": "any"}, "session": {"id": "s1"}, "events": [event],
            }  # fmt: skip


@pytest.mark.parametrize("more", ["", "passthrough = false"], ids=["forwarded", "rendered"])
async def test_invalid_products_are_left_out(tmp_path: Path, more: str) -> None:
    """A null, text, number or list among the products is left out; the other products arrive."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox, more)) as run:
        for vendor in VENDORS:
            path, body = ordered(vendor, ODD)
            assert await post(run, vendor, path, orjson.dumps(body)) == 200, vendor
        await run.watch.until(settled(len(VENDORS)))
    bad = [one for one in run.watch.settled if not isinstance(one[2], Delivered | Declined)]
    assert not bad, bad[0]
    for event in run.watch.accepted:
        products = event.properties.products
        assert products[-1].product_id == "1", event
        assert "9" not in {product.product_id for product in products}, event
    at_personaclick = [verdict for _, to, verdict in run.watch.settled if to == "personaclick"]
    assert all(isinstance(verdict, Delivered) for verdict in at_personaclick)


@pytest.mark.parametrize("event", [{}, {"event": None}, {"event": " "}, {"event": 7}], ids=str)
async def test_a_track_without_a_name_is_declined(tmp_path: Path, event: dict[str, Any]) -> None:
    """Segment accepts a track call without a name; other vendors' destinations decline it."""
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox)) as run:
        body = orjson.dumps({"writeKey": "k", "type": "track", "userId": "u1", **event})
        routed = orjson.dumps({"writeKey": "k", "batch": [orjson.loads(body)]})
        assert await post(run, "segment", "/v1/track", body) == 200
        assert await post(run, "segment", "/v1/batch", routed) == 200
        await run.watch.until(settled(2))
        journal = await run.journal()
    declined = [one for one in run.watch.settled if isinstance(one[2], Declined)]
    assert {to for _, to, _ in declined} >= {*VENDORS} - {"segment"}
    assert {entry["vendor"] for entry in journal} <= {"segment"}, "only as it came"


async def test_the_first_commerce_spec_reaches_every_vendor(tmp_path: Path) -> None:
    """Names, keys and amounts of the first commerce spec become each vendor's own."""
    products = [{"id": "p1", "Price": "$19", "quantity": 1}, None]
    properties = {"orderId": "o1", "Total": "1 299,00", "products": products}
    viewed = {"productID": "p1", "Price": 5}
    async with running(tmp_path, lambda s: everything(tmp_path, s, "passthrough = false")) as run:
        for name, held in (("Completed Order", properties), ("viewed_product", viewed)):
            body = {"writeKey": "k", "userId": "u1", "event": name, "properties": held}
            assert await post(run, "segment", "/v1/track", orjson.dumps(body)) == 200
        await run.watch.until(settled(2))
        journal = await run.journal()
    assert all(isinstance(verdict, Delivered) for _, _, verdict in run.watch.settled)
    said = {
        vendor: str([e["body"] for e in journal if e["vendor"] == vendor]) for vendor in VENDORS
    }
    assert "'event': 'purchase'" in said["personaclick"]
    assert "'event': 'view'" in said["personaclick"]
    assert "eventTransaction" in said["quartic"]
    assert "eventProductView" in said["quartic"]
    assert "order-" in said["tracardi"]
    for vendor in ("chrts", "growlytics"):
        assert "'Order Completed'" in said[vendor]
        assert "1299" in said[vendor]
    assert "'Completed Order'" in said["segment"]
    assert "'orderId': 'o1'" in said["segment"]


@pytest.mark.parametrize("more", ["", "passthrough = false"], ids=["forwarded", "rendered"])
async def test_a_large_context_of_a_batch_is_delivered(tmp_path: Path, more: str) -> None:
    """Small calls of a batch are delivered with the large context that they share."""
    calls = [{"type": "track", "userId": f"u{n}", "event": f"e{n}"} for n in range(2)]
    body = {"writeKey": "k", "batch": calls, "context": {"blob": "y" * 35_000}}
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox, more)) as run:
        assert await post(run, "segment", "/v1/batch", orjson.dumps(body)) == 200
        await run.watch.until(settled(2))
        journal = await run.journal("segment")
    bad = [one for one in run.watch.settled if not isinstance(one[2], Delivered | Declined)]
    assert not bad, bad[0]
    batches = [entry["body"] for entry in journal]
    arrived = {call["event"]: one["context"] for one in batches for call in one["batch"]}
    assert arrived == dict.fromkeys(("e0", "e1"), body["context"])


async def test_a_multipart_body_is_refused_in_plain_words(tmp_path: Path) -> None:
    """A multipart body is refused with a hint what to send, and no text of a library."""
    sent = b'--x\r\ncontent-disposition: form-data; name="event"\r\n\r\nview\r\n--x--\r\n'
    label = "multipart/form-data; boundary=x"
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox)) as run:
        for vendor in VENDORS:
            headers = {"content-type": label, **CREDENTIALS[vendor]}
            url = run.url + VALID[vendor][0]
            async with run.client.post(url, data=sent, headers=headers) as answer:
                said = await answer.text()
                assert 400 <= answer.status < 500, said
            if vendor != "tracardi":
                assert "multipart/form-data" in said or vendor == "growlytics", said
            assert "digit" not in said
            assert "char 0" not in said


ENDLESS = {
    "chrts": ('{"uid":"u","name":"Order Completed","total":1e400,"free":1e400}', 200),
    "growlytics": (
        '{"customerId":"u","name":"n","attributes":[{"name":"total","type":"number","value":1e400}]}',
        200,
    ),
    "personaclick": (
        (
            '{"shop_id":"x","external_id":"u","stream":"web","event":"purchase",'
            '"items":[{"id":1e400,"price":1e400,"amount":1e400}]}'
        ),
        200,
    ),
    "quartic": (
        (
            '{"customer":"c","eventType":"eventTransaction","timestamp":1482840417,"cookie":"c",'
            '"transactionId":"1","basket":[{"productId":"1","price":1e400,"quantity":1}]}'
        ),
        405,
    ),
    "segment": (
        (
            '{"writeKey":"k","userId":1e400,"event":"Viewed Product",'
            '"properties":{"id":1e400,"price":1e400,"quantity":1e400,"position":1e400,"free":1e400}}'
        ),
        200,
    ),
    "tracardi": (
        '{"source":{"id":"x"},"session":{"id":"s"},"events":[{"type":"a","time":{"create":1e400}}]}',
        422,
    ),
}
"""Bodies with a number that overflows a double, and the status of each vendor's source."""


async def test_a_number_that_overflows_a_double_is_no_amount(tmp_path: Path) -> None:
    """A number that overflows a double becomes a free value, or its request is refused."""
    async with running(tmp_path, lambda s: everything(tmp_path, s, "passthrough = false")) as run:
        for vendor in VENDORS:
            body, status = ENDLESS[vendor]
            assert await post(run, vendor, VALID[vendor][0], body.encode()) == status, vendor
        await run.watch.until(settled(4))
    bad = [one for one in run.watch.settled if not isinstance(one[2], Delivered | Declined)]
    assert not bad, bad[0]
