"""The gateway's own responses to Quartic's two reads."""

from datetime import UTC, datetime

import orjson
import pytest

from gateway.errors import Fault, Rejected
from gateway.http import Request
from plugins.quartic.input import QuarticInput

READS = QuarticInput()
MADE = "58a19f08ce6b6000" * 2
ARRIVAL = datetime(2017, 2, 13, 12, 3, 37, tzinfo=UTC)


def test_a_recommendation_is_empty() -> None:
    """A recommendation has the documented format and no products, and needs no key."""
    request = Request(method="GET", url="/store/recommendation?customer=c", received_at=ARRIVAL)
    answer = READS.static_response(request, MADE)
    assert answer is not None
    assert (answer.status, orjson.loads(answer.body)) == (
        200,
        {
            "status": "OK", "timestamp": 1486987417, "qrId": "ad_58a19f08ce6b6",
            "duplicatesCount": 0, "data": [],
        },
    )  # fmt: skip


def test_no_contact_is_found() -> None:
    """A contact read responds 404 in the envelope of errors."""
    request = Request(
        method="GET", url="/store/contact", headers={"x-api-key": "k"}, received_at=ARRIVAL
    )
    answer = READS.static_response(request, MADE)
    assert answer is not None
    assert (answer.status, orjson.loads(answer.body)) == (
        404,
        {
            "status": "ERROR", "timestamp": 1486987417,
            "data": {"error_code": "http.status.404", "error_message": "no such contact"},
        },
    )  # fmt: skip


def test_a_contact_needs_a_key() -> None:
    """A contact read needs `x-api-key`, as documented."""
    with pytest.raises(Rejected) as caught:
        READS.static_response(Request(method="GET", url="/store/contact"), MADE)
    assert caught.value.fault is Fault.UNAUTHENTICATED
