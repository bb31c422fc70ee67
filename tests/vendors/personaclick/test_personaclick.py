"""PersonaClick passes the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar

import orjson

from gateway.event import Event, Names, Product, Properties, Traits
from gateway.http import Request, Response
from gateway.testing import (
    DeliverySuite,
    OutputSuite,
    SandboxSuite,
    VendorSuite,
    load_samples,
    request_of,
)
from plugins.personaclick.input import PersonaclickInput
from plugins.personaclick.output import PersonaclickOutput
from plugins.personaclick.sandbox import PersonaclickSandbox

SHOES = Product(product_id="42", name="Red shoes", price=59.9, quantity=2)
UNVOUCHED = (
    "personaclick needs the shop secret for a profile without a device id: set "
    "shop_secret, or send an anonymous id"
)
NO_ALIAS = (
    "personaclick has no alias call: it links a device to a person by a profile with "
    "both ids; send an identify with the anonymous id and the user id"
)
NO_PRODUCT = "personaclick needs a product id of 1 to 255 characters without a backslash: "
NOBODY = (
    "personaclick needs a person: the event has no anonymous, device or user id, no "
    "e-mail and no phone"
)


def destination(**settings: str) -> PersonaclickOutput:
    """Return a destination with *settings*."""
    config = {"url": "https://personaclick.example", "shop_id": "shop-key-out", **settings}
    return PersonaclickOutput(PersonaclickOutput.Config.model_validate(config))


def track(name: str, *products: Product) -> Event:
    """Return a track event of another vendor, with device and session."""
    about = Properties(products=products)
    return Event(type="track", name=name, anonymous_id="a1", session_id="s1", properties=about)


class TestPersonaclick(VendorSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    input = PersonaclickInput()
    output = PersonaclickOutput(
        PersonaclickOutput.Config.model_validate(
            {
                "url": "https://personaclick.example",
                "shop_id": "ffff0000ffff0000ffff0000ffff00",
                "shop_secret": "secret-of-the-other-shop",
            }
        )
    )

    wrong_settings: ClassVar = [
        ({"stream": stream}, r"stream: .* is not 1 to 16 letters and digits")
        for stream in ("", "my_app", "call centre", "x" * 17)
    ]
    declined = (
        (Event(type="alias", user_id="u1", previous_id="a1"), NO_ALIAS),
        (
            Event(type="group", user_id="u1", group_id="g1"),
            "personaclick has no groups",
        ),
        (
            Event(type="product", properties=Properties(products=(SHOES,))),
            "personaclick accepts products only as a feed or an import, not as events",
        ),
        (Event(type="track", name="Plan Chosen"), NOBODY),
        (Event(type="track", name="Product Viewed", anonymous_id=" "), NOBODY),
        (Event(type="identify", traits=Traits(first_name="Ada")), NOBODY),
        (track("Product Viewed"), f"{NO_PRODUCT}'Product Viewed' has none"),
        (
            track("Order Completed", Product(product_id="a\\b")),
            f"{NO_PRODUCT}'Order Completed' has none",
        ),
        (track(Names.CART_UPDATED), f"{NO_PRODUCT}'Cart Updated' has none"),
        (track("Products Searched"), "personaclick needs the search query: the event has none"),
        (
            track("Product List Viewed"),
            (
                "personaclick needs the id of the category: the event has neither list_id "
                "nor category"
            ),
        ),
        (track(" "), "personaclick needs an event name"),
    )

    def native(self, answer: Response) -> bool:
        """Return whether *answer* has its message twice, as in old and new documentation."""
        said = orjson.loads(answer.body)
        told = {"status": "error", "message": said["message"], "payload": said["payload"]}
        twice = said["payload"] == {"message": said["message"]}
        return answer.status in {400, 403, 413} and said == told and twice


class TestPersonaclickWithoutSecret(OutputSuite):
    """A destination without the shop's secret."""

    samples = TestPersonaclick.samples / "without-secret"
    output = destination()
    declined = ((Event(type="identify", user_id="u1"), UNVOUCHED),)


class TestPersonaclickDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestPersonaclick.samples
    input = TestPersonaclick.input
    output = TestPersonaclick.output


class TestPersonaclickSandbox(SandboxSuite):
    """See gateway/testing/sandbox_suite.py."""

    sandbox = PersonaclickSandbox()
    outputs: ClassVar = {
        "without secret": destination(),
        "with secret": destination(shop_secret="quiet", stream="gate"),  # noqa: S106 - made up
    }
    key = "shop-key-out"
    input = TestPersonaclick.input
    samples = TestPersonaclick.samples
    success = frozenset({200, 204})
    unauthorized = 403


def test_without_a_secret_only_profiles_without_a_device_are_declined() -> None:
    """Without a secret only profiles without a device id are declined."""
    for sample in load_samples(TestPersonaclick.samples).values():
        for event in TestPersonaclick.input.parse(request_of(sample)):
            sent = destination().render(event)
            allowed = event.type == "identify" and not event.anonymous_id
            assert allowed or isinstance(sent, Request)
