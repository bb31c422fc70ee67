"""Each row of docs/verdicts.md."""

from datetime import UTC, datetime
from email.utils import format_datetime

import orjson
import pytest

from gateway.http import Response
from gateway.plugin.vendor import Output
from gateway.verdict import Delivered, Refused, RetryLater, Verdict, retry_after, wait_of
from tests.gateway.test_unreadable_answers import OUTPUTS

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
BY_NAME: dict[str, Output] = {output.name: output for output in OUTPUTS}


def verdict(vendor: str, said: object, status: int = 200) -> Verdict:
    """Return the verdict of *vendor* on a body."""
    return BY_NAME[vendor].verdict(Response(status, {}, orjson.dumps(said)), NOW)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.name)
def test_a_redirect_is_retried(status: int, output: Output) -> None:
    """A redirect is retried, and the reason says to change the destination's url."""
    location = "https://user:pw@new.example/v2/track?key=hidden#part"
    judged = output.verdict(Response(status, {"location": location}), NOW)
    assert judged == RetryLater(
        f"HTTP {status}: redirected to https://new.example/v2/track; change the url of this "
        f"destination",
        cause="moved",
    )


@pytest.mark.parametrize("location", [None, "", "http://[broken"])
def test_a_redirect_to_nowhere(location: str | None) -> None:
    """A redirect without a valid location is retried, too."""
    headers = {} if location is None else {"location": location}
    judged = BY_NAME["chrts"].verdict(Response(308, headers), NOW)
    assert isinstance(judged, RetryLater)
    assert "without a new address" in judged.reason


@pytest.mark.parametrize("status", [300, 304, 305, 306])
def test_no_other_3xx_is_a_move(status: int) -> None:
    """Other 3xx statuses are refusals."""
    assert isinstance(BY_NAME["segment"].verdict(Response(status), NOW), Refused)


@pytest.mark.parametrize(
    ("vendor", "said"),
    [("chrts", {"status": False, "message": "no"}), ("chrts", {"success": False}),
     ("chrts", {"status": False, "code": 400, "message": "Customer UID is required"}),
     ("chrts", {"status": False, "code": 200}), ("chrts", {"status": False, "code": "429"}),
     ("growlytics", {"success": False, "error": "quota exceeded"}),
     ("growlytics", {"success": False, "code": 422}),
     ("personaclick", {"status": "error", "message": "shop is blocked"}),
     ("personaclick", {"status": "error", "payload": {"message": "Device ID is not valid"}}),
     ("personaclick", {"success": False}), ("personaclick", {"status": False, "code": 400}),
     ("tracardi", {"profile": {"id": None}, "errors": ["could not save event"]}),
     ("quartic", {"status": "ERROR", "data": {"error_code": "http.status.405"}})],
)  # fmt: skip
def test_a_failure_in_a_success_is_refused(vendor: str, said: object) -> None:
    """A 200 whose body reports a failure is refused, with the vendor's words."""
    judged = verdict(vendor, said)
    assert isinstance(judged, Refused)
    assert judged.reason.startswith("HTTP 200, ")
    assert orjson.dumps(said).decode()[:100] in judged.reason


@pytest.mark.parametrize(
    ("vendor", "said", "cause"),
    [("chrts", {"status": False, "code": 429}, "limit"),
     ("chrts", {"status": False, "code": 503}, "server"),
     ("chrts", {"status": False, "code": 401}, "credential"),
     ("growlytics", {"success": False, "code": 500}, "server"),
     ("personaclick", {"status": "error", "code": 429}, "limit"),
     ("quartic", {"status": "ERROR"}, "server"),
     ("quartic", {"status": "ERROR", "data": {"error_code": "http.status.401"}}, "credential")],
)  # fmt: skip
def test_a_failure_that_names_its_status_is_judged_by_that(
    vendor: str, said: object, cause: str
) -> None:
    """A 200 whose body reports a temporary status is retried, with that status's cause."""
    judged = verdict(vendor, said)
    assert isinstance(judged, RetryLater)
    assert judged.cause == cause


@pytest.mark.parametrize("vendor", BY_NAME)
@pytest.mark.parametrize(
    "said",
    [{}, [], None, "false", {"status": True}, {"success": True}, {"status": "success"},
     {"status": "OK"}, {"errors": []}, {"status": 0}, {"success": None}, {"success": "false"},
     {"payload": {"success": False}}, [{"success": False}]],
)  # fmt: skip
def test_anything_else_in_a_2xx_is_delivered(vendor: str, said: object) -> None:
    """A 2xx is delivered unless its body has the documented failure."""
    assert verdict(vendor, said) == Delivered()


@pytest.mark.parametrize("vendor", ["segment"])
def test_a_vendor_that_is_judged_by_its_status_alone(vendor: str) -> None:
    """Segment's verdict on a 2xx ignores the body, as its libraries do."""
    assert verdict(vendor, {"success": False}) == Delivered()


@pytest.mark.parametrize("said", [b"", b"<html>", b'{"success": fal', b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.name)
def test_a_body_that_cannot_be_read_leaves_the_word_to_the_status(
    said: bytes, output: Output
) -> None:
    """A 200 with an unreadable body is delivered."""
    assert output.verdict(Response(200, {}, said), NOW) == Delivered()


@pytest.mark.parametrize(
    ("asked", "wait"),
    [("7", 7), (" 7 ", 7), ("0", 0), ("007", 7), ("1.5", 1.5), ("2.", 2), ("2000", 2000),
     ("31536000", 31536000), ("9" * 400, 366 * 86400), ("-5", None), ("+5", None), ("", None),
     ("\u00b2", None), ("\u0663", None), ("1e3", None), ("0x10", None), ("inf", None),
     ("nan", None), ("5, 7", None), ("soon", None), ("5 s", None),
     (format_datetime(datetime(2026, 11, 30, 12, 0, 9, tzinfo=UTC), usegmt=True), 9),
     ("Mon, 30 Nov 2026 14:00:09 +0200", 9), ("Mon, 30 Nov 2026 12:00:09 -0000", 9),
     ("Mon, 30 Nov 2026 12:00:09", 9), ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 366 * 86400),
     ("Mon, 30 Nov 2026 12:00:09 +99999999999999999999", None),
     ("Mon, 99 Nov 2026 12:00:09 GMT", None), ("Mon, 30 Nov 99999 12:00:09 GMT", None)],
)  # fmt: skip
def test_retry_after(asked: str, wait: float | None) -> None:
    """Retry-After is a number or a date up to a maximum; other values are ignored."""
    assert retry_after({"retry-after": asked}, NOW) == wait


@pytest.mark.parametrize(
    ("asked", "wait"),
    [("9", 9), (str(int(NOW.timestamp()) + 30), 30), (str(int(NOW.timestamp()) - 30), 0),
     ("9" * 400, 366 * 86400), ("\u00b2", None), ("", None)],
)  # fmt: skip
def test_a_limits_reset(asked: str, wait: float | None) -> None:
    """`x-ratelimit-reset` is a number of seconds from now, or a Unix time."""
    assert wait_of(asked, NOW) == wait
    judged = BY_NAME["segment"].verdict(Response(429, {"x-ratelimit-reset": asked}), NOW)
    assert isinstance(judged, RetryLater)
    assert judged.after == wait
