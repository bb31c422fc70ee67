"""PersonaClick holds to the contract."""

from pathlib import Path

import orjson

from gateway.http import Response
from gateway.testing import DeliverySuite, VendorSuite
from plugins.personaclick.input import PersonaclickInput
from plugins.personaclick.output import PersonaclickOutput


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

    def native(self, answer: Response) -> bool:
        """Tell whether *answer* has its message twice, as old and new pages have it."""
        said = orjson.loads(answer.body)
        told = {"status": "error", "message": said["message"], "payload": said["payload"]}
        twice = said["payload"] == {"message": said["message"]}
        return answer.status in {400, 403, 413} and said == told and twice


class TestPersonaclickDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestPersonaclick.samples
    input = TestPersonaclick.input
    output = TestPersonaclick.output
