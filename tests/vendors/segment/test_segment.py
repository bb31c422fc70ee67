"""Segment holds to the contract."""

from pathlib import Path

import pytest

from gateway.errors import Rejected
from gateway.exchange import Request
from gateway.plugin import Secret
from gateway.testing import VendorSuite
from gateway.testing.vendor import GARBAGE
from plugins.segment.input import SegmentInput
from plugins.segment.output import SegmentOutput
from plugins.segment.pixel import GIF, PIXELS


class TestSegment(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = Path(__file__).parent
    input = SegmentInput()
    output = SegmentOutput(
        SegmentOutput.Config(url="https://segment.example", write_key=Secret("key-out"))
    )
    unsaid = frozenset({"sent_at"})

    @pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body[:8]))
    def test_refuses_garbage(self, body: bytes, endpoint: str) -> None:
        """Bad bytes are refused with a 4xx; a pixel has none, and is an image whatever comes."""
        method, url = endpoint.split()
        if url not in PIXELS:
            super().test_refuses_garbage(body, endpoint)
            return
        request = Request(method=method, url=f"{url}?data={body.hex()}", body=body)
        with pytest.raises(Rejected) as caught:
            self.input.parse(request)
        answer = self.input.refuse(request, caught.value)
        assert (answer.status, answer.body) == (200, GIF)
