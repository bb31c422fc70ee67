"""PersonaClick holds to the contract."""

from pathlib import Path

from gateway.testing import DeliverySuite, VendorSuite
from plugins.personaclick.input import PersonaclickInput
from plugins.personaclick.output import PersonaclickOutput


class TestPersonaclick(VendorSuite):
    """See gateway/testing/vendor.py."""

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


class TestPersonaclickDelivery(DeliverySuite):
    """See gateway/testing/delivery.py."""

    samples = TestPersonaclick.samples
    input = TestPersonaclick.input
    output = TestPersonaclick.output
