"""Quartic passes the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar, NotRequired, TypedDict

import orjson
from msgspec.structs import replace

from gateway.event import Event, Names, Product, Properties, Traits
from gateway.http import Response
from gateway.plugin.settings import Secret
from gateway.testing import DeliverySuite, SandboxSuite, VendorSuite
from plugins.quartic.input import QuarticInput
from plugins.quartic.output import QuarticOutput
from plugins.quartic.sandbox import QuarticSandbox
from plugins.quartic.wire import Agreement, Tag
from tests.vendors.quartic.rendering import SHOES, identify, track

KINDS = (
    "quartic accepts only product views, clicks on its own recommendations, orders, "
    "profiles and products"
)
NO_ALIAS = (
    "quartic has no alias call: it links a cookie to a user by a profile with both "
    "ids; send an identify with the anonymous id and the user id"
)
NO_CONSENT = (
    "quartic needs an e-mail address for consent, or a user id, an anonymous id and "
    "the category email: the event has neither"
)
NO_CLICK = "quartic needs the tracking string of its recommendation for a click"
NO_PERSON = (
    "quartic needs a user id and an anonymous id for a profile, or an e-mail address "
    "for a contact: the event has neither"
)


class Contact(TypedDict):
    """The body of ``POST /store/contact`` with its lists as sent."""

    email: str
    cookie: NotRequired[str]
    agreements: NotRequired[list[Agreement]]
    tags: NotRequired[list[Tag]]


class TestQuartic(VendorSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    wires: ClassVar = {"POST /store/contact": Contact}
    input = QuarticInput()
    output = QuarticOutput(
        QuarticOutput.Config(
            url="https://quartic.example", api_key=Secret("key-out"), customer="account_out"
        )
    )
    declined = (
        (track("Product Added", SHOES), f"{KINDS}, not 'Product Added'"),
        (Event(type="page", name="Home"), f"{KINDS}, not a page call"),
        (Event(type="group", group_id="g1"), f"{KINDS}, not a group call"),
        (Event(type="alias", user_id="u1", previous_id="a1"), NO_ALIAS),
        (track(Names.CONSENT_UPDATED), NO_CONSENT),
        (track("Product Viewed"), "quartic needs a product: the event has none"),
        (
            track("Product Viewed", Product(sku="S")),
            "quartic needs a product id: the product has none",
        ),
        (
            track("Product Viewed", Product(product_id="a b")),
            "quartic accepts only letters, digits, - and _ in product ids, not 'a b'",
        ),
        (track("Product Clicked", SHOES), NO_CLICK),
        (
            track("Product Clicked", SHOES, extra={"tracking_string": " "}),
            NO_CLICK,
        ),
        (
            track("Order Completed", SHOES),
            "quartic needs an order id: the order has none",
        ),
        (
            track("Order Completed", order_id="o1"),
            "quartic needs the products of an order: the order has none",
        ),
        (
            track("Order Completed", Product(product_id="44"), order_id="o1"),
            "quartic needs the price of every product in an order: '44' has none",
        ),
        (
            track("Order Completed", replace(SHOES, product_id="4/2"), order_id="o1"),
            "quartic accepts only letters, digits, - and _ in product ids, not '4/2'",
        ),
        (identify(user_id="u1", traits=Traits(phone="+44")), NO_PERSON),
        (identify(user_id="u1", traits=Traits(email="nobody")), NO_PERSON),
        (Event(type="product"), "quartic needs a product: the event has none"),
        (
            Event(type="product", properties=Properties(products=(Product(name="x"),))),
            "quartic needs a product id: the product has none",
        ),
    )
    wrong_settings: ClassVar = [
        ({"url": "https://restapi.quartic.pl/store/"}, "remove /store at the end"),
        ({"customer": " "}, "customer: is blank"),
        ({"agreements": {"newsletter": ""}}, "'newsletter' needs the text"),
    ]

    def native(self, answer: Response) -> bool:
        """Return whether *answer* has the envelope of Quartic's errors."""
        said = orjson.loads(answer.body)
        data = said.pop("data")
        coded = data.pop("error_code") == f"http.status.{answer.status}"
        stamped = type(said.pop("timestamp")) is int
        told = said == {"status": "ERROR"} and data.keys() == {"error_message"}
        return answer.status in {401, 405, 413} and coded and stamped and told


class TestQuarticDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestQuartic.samples
    input = TestQuartic.input
    output = TestQuartic.output


class TestQuarticSandbox(SandboxSuite):
    """See gateway/testing/sandbox_suite.py."""

    sandbox = QuarticSandbox()
    outputs: ClassVar = {"": TestQuartic.output}
    key = "key-out"
    input = TestQuartic.input
    samples = TestQuartic.samples
    wrong_body = 405
