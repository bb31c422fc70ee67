"""Segment passes the suites of the conformance kit."""

import base64
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from msgspec.structs import replace

from gateway.errors import Rejected
from gateway.event import Event, Names
from gateway.http import Request, Response
from gateway.mapping import NO_FIELD
from gateway.plugin.settings import Secret
from gateway.testing import DeliverySuite, SandboxSuite, VendorSuite
from gateway.testing.samples import GARBAGE
from plugins.segment.input import SegmentInput
from plugins.segment.output import SegmentOutput
from plugins.segment.pixel import GIF, PIXELS
from plugins.segment.sandbox import SegmentSandbox

NOBODY = (
    "segment needs a user: the event has no user, anonymous or device id, no e-mail and no phone"
)
HALF_A_CONSENT = "segment needs an anonymous id and at least one category for consent"
HALF_AN_ALIAS = "segment needs two ids for an alias: the user id or the previous id is missing"


def track(**fields: Any) -> Event:
    """Return an event of another vendor."""
    return Event(type="track", **{"name": "x", "user_id": "u1", "origin": "quartic", **fields})


CONSENT = track(name=Names.CONSENT_UPDATED, anonymous_id="a1", consent={"a": True})


class TestSegment(VendorSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    input = SegmentInput()
    output = SegmentOutput(
        SegmentOutput.Config(url="https://segment.example", write_key=Secret("key-out"))
    )
    unsaid = frozenset({"sent_at"})
    untold = frozenset(f"GET {path}" for path in PIXELS)
    declined = (
        (Event(type="product"), "segment has no call for products of a catalogue"),
        (track(user_id=" "), NOBODY),
        (track(name=" "), "segment needs an event name"),
        (replace(CONSENT, anonymous_id=None), HALF_A_CONSENT),
        (replace(CONSENT, consent={}), HALF_A_CONSENT),
        (track(name="Segment Consent Preference Updated", anonymous_id="a1"), HALF_A_CONSENT),
        (
            Event(type="group", user_id="u1", group_id=" "),
            "segment needs a group id for a group call",
        ),
        (Event(type="alias", user_id="u1"), HALF_AN_ALIAS),
        (Event(type="alias", previous_id="a1", anonymous_id="a"), HALF_AN_ALIAS),
    )

    def native(self, answer: Response) -> bool:
        """Return whether *answer* has Segment's format, with a message and a code."""
        said = orjson.loads(answer.body)
        code, message = said.pop("code"), said.pop("message")
        return answer.status in {400, 401} and said == {"success": False} and bool(code and message)

    def carrying(self, like: Request, body: Any) -> Request:
        """Return a call with *body*: a pixel has it in the query."""
        if like.path not in PIXELS:
            return super().carrying(like, body)
        return replace(
            like, url=f"{like.path}?data={base64.b64encode(orjson.dumps(body)).decode()}"
        )

    def test_its_tables_know_where_keys_stand(self, endpoint: str) -> None:
        """A write key at the top of a body or batch is the credential, and has a row."""
        method, url = endpoint.split()
        said = self.carrying(Request(method=method, url=url), {"writeKey": "key-in"})
        assert self.input.credential(said, self.input.decode(said)) == "key-in"
        rows = self.input.endpoints[endpoint].flat()
        assert "writeKey" in {
            path for row in rows if row.event == NO_FIELD for path in row.synonyms
        }

    @pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body[:8]))
    def test_refuses_garbage(self, body: bytes, endpoint: str) -> None:
        """Invalid bytes get a 4xx; a pixel always gets an image."""
        method, url = endpoint.split()
        if url not in PIXELS:
            super().test_refuses_garbage(body, endpoint)
            return
        request = Request(method=method, url=f"{url}?data={body.hex()}", body=body)
        with pytest.raises(Rejected) as caught:
            self.input.parse(request)
        answer = self.input.refuse(request, caught.value)
        assert (answer.status, answer.body) == (200, GIF)


class TestSegmentDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestSegment.samples
    input = TestSegment.input
    output = TestSegment.output


class TestSegmentSandbox(SandboxSuite):
    """See gateway/testing/sandbox_suite.py."""

    sandbox = SegmentSandbox()
    outputs: ClassVar = {"": TestSegment.output}
    key = "key-out"
    input = TestSegment.input
    samples = TestSegment.samples
