"""CORS: preflights, response headers, and origins that are not allowed."""

import pytest
from multidict import CIMultiDict

from gateway.ingest.cors import TRACING, Cors, Origins
from gateway.ingest.sources import Source
from plugins.chrts.input import ChrtsInput
from plugins.growlytics.input import GrowlyticsInput
from plugins.personaclick.input import PersonaclickInput
from plugins.quartic.input import QuarticInput
from plugins.tracardi.input import TracardiInput

SHOP = "https://shop.example"
ASKS = {"origin": SHOP, "access-control-request-method": "POST"}


def cors(origins: Origins) -> Cors:
    """Return the CORS rules of a source with *origins*."""
    return Cors(origins, {"content-type", "authorization"}, {"x-gateway-request-id"})


def test_a_preflight_from_a_named_origin() -> None:
    """An allowed origin may send the vendor's headers and credentials, for a limited time."""
    leave = cors([SHOP]).preflight(ASKS, {"POST"})
    assert leave is not None
    assert (leave.status, leave.body) == (204, b"")
    assert leave.headers == {
        "access-control-allow-origin": SHOP,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": "900",
        "vary": "origin",
    }


def test_a_preflight_where_every_origin_may() -> None:
    """With ``"*"`` the response allows ``*``, and never credentials."""
    leave = cors("*").preflight(ASKS, {"POST", "GET"})
    assert leave is not None
    assert leave.headers["access-control-allow-origin"] == "*"
    assert leave.headers["access-control-allow-methods"] == "GET, POST"
    assert "access-control-allow-credentials" not in leave.headers


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://shop.example", "https://shop.example:8443", "null",
     "https://shop.example.evil.example", "https://SHOP.example"],
)  # fmt: skip
def test_a_preflight_from_another_origin(origin: str) -> None:
    """An origin that differs in one letter is refused with 403 and no CORS header."""
    leave = cors([SHOP]).preflight({**ASKS, "origin": origin}, {"POST"})
    assert leave is not None
    assert leave.status == 403
    assert not any(name.startswith("access-control") for name in leave.headers)
    assert origin.encode() not in leave.body


def test_requested_headers_are_not_reflected() -> None:
    """Requested headers and methods do not change the allowed ones."""
    asks = {
        **ASKS,
        "access-control-request-headers": "x-evil",
        "access-control-request-method": "X",
    }
    leave = cors("*").preflight(asks, ())
    assert leave is not None
    assert "x-evil" not in str(leave.headers)
    assert leave.headers["access-control-allow-methods"] == "DELETE, GET, PATCH, POST, PUT"


@pytest.mark.parametrize(
    "headers", [{}, {"origin": SHOP}, {"access-control-request-method": "GET"}]
)
def test_other_options_are_no_preflights(headers: dict[str, str]) -> None:
    """OPTIONS without an origin or a requested method is not a preflight."""
    assert cors("*").preflight(headers, {"POST"}) is None


def test_a_source_without_origins_knows_no_preflights() -> None:
    """A source with no allowed origin sends no CORS headers."""
    closed = cors(())
    assert closed.preflight(ASKS, {"POST"}) is None
    assert closed.with_headers({"content-type": "x"}, SHOP) == {"content-type": "x"}


def test_responses_have_cors_headers() -> None:
    """A response names the allowed origin and exposed headers, and varies by origin."""
    named, every = cors([SHOP]), cors("*")
    assert named.with_headers({"content-type": "x"}, SHOP) == {
        "content-type": "x",
        "access-control-allow-origin": SHOP,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-gateway-request-id",
        "vary": "origin",
    }
    assert named.with_headers({}, "https://evil.example") == {"vary": "origin"}
    assert named.with_headers({"vary": "accept"}, None) == {"vary": "accept, origin"}
    twice = CIMultiDict([("Vary", "accept"), ("vary", "accept-encoding")])
    assert named.with_headers(twice, None).getall("vary") == ["accept, accept-encoding, origin"]
    assert every.with_headers({}, "null") == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "x-gateway-request-id",
    }
    assert every.with_headers({}, None) == {}


def test_cors_headers_of_a_relayed_response_are_removed() -> None:
    """CORS headers of a relayed response are removed."""
    vendors = {"access-control-allow-origin": "*", "access-control-allow-credentials": "true"}
    assert cors([SHOP]).with_headers(vendors, "https://evil.example") == {"vary": "origin"}


@pytest.mark.parametrize(
    ("source", "headers"),
    [
        (Source("t", TracardiInput(), None), "content-type, x-context, x-timestamp"),
        (Source("p", PersonaclickInput(), None), "content-type"),
    ],
)
def test_vendors_with_browser_clients_allow_any_origin(source: Source, headers: str) -> None:
    """A vendor with browser clients allows any origin, unless the source lists origins."""
    leave = source.cors.preflight(ASKS, {"POST"})
    assert leave is not None
    assert leave.headers["access-control-allow-origin"] == "*"
    allowed = leave.headers["access-control-allow-headers"].split(", ")
    assert [name for name in allowed if name not in TRACING] == headers.split(", ")
    reads = type(source.input)()
    assert Source("x", reads, None, origins=()).cors.preflight(ASKS, {"POST"}) is None


@pytest.mark.parametrize(
    ("source", "key"),
    [
        (ChrtsInput, "authorization"),
        (GrowlyticsInput, "x-growlytics-key"),
        (QuarticInput, "x-api-key"),
    ],
)
def test_vendors_without_browser_clients_allow_no_origin(
    source: type[ChrtsInput | GrowlyticsInput | QuarticInput], key: str
) -> None:
    """Other vendors allow no origin by default; with origins, their key header is allowed."""
    assert Source("x", source(), None).cors.preflight(ASKS, {"POST"}) is None
    leave = Source("x", source(), None, origins=[SHOP]).cors.preflight(ASKS, {"POST"})
    assert leave is not None
    assert key in leave.headers["access-control-allow-headers"].split(", ")


def test_the_vendors_own_headers_are_exposed() -> None:
    """Scripts may read the request id, Retry-After and the vendor's own headers."""
    marked = Source("t", TracardiInput(), None).cors.with_headers({}, SHOP)
    exposed = marked["access-control-expose-headers"]
    assert exposed == "retry-after, x-gateway-request-id, x-process-time"
