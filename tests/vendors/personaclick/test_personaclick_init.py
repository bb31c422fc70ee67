"""The gateway's own response to `GET /init`: ids for the visitor, in the vendor's format."""

import re

import orjson
import pytest

from gateway.errors import Rejected
from gateway.http import Request
from plugins.personaclick.input import PersonaclickInput

READS = PersonaclickInput()
MADE = "0123456789abcdef" * 2
ID = re.compile(r"[0-9A-Za-z]{10}")


def init(query: str, cookie: str = "") -> tuple[dict[str, str], str | None]:
    """Return the ids and the cookie of the response."""
    request = Request(method="GET", url=f"/init?{query}", headers={"cookie": cookie})
    answer = READS.static_response(request, MADE)
    assert answer is not None
    assert answer.status == 200
    return orjson.loads(answer.body), answer.headers.get("set-cookie")


def test_a_new_visitor_gets_ids_of_its_own() -> None:
    """New device and session ids have the documented format, and differ."""
    ids, cookie = init("shop_id=x&stream=ios")
    assert ids.keys() == {"did", "seance"}
    assert ID.fullmatch(ids["did"])
    assert ID.fullmatch(ids["seance"])
    assert cookie == f"did={ids['did']}; Path=/; Max-Age=31536000; SameSite=Lax"
    again = READS.static_response(Request(method="GET", url="/init?shop_id=x"), "f" * 32)
    assert again is not None
    assert orjson.loads(again.body) != ids


@pytest.mark.parametrize(
    ("query", "cookie", "did", "seance"),
    [
        ("shop_id=x&did=mine&seance=now", "", "mine", "now"),
        ("shop_id=x&did=mine&sid=now", "did=other", "mine", "now"),
        ("shop_id=x&did=&sid=now", "a=b; did=mine", "mine", "now"),
        ("shop_id=x&seance=a&sid=b", "did=mine", "mine", "a"),
    ],
)
def test_a_known_visitor_keeps_its_ids(query: str, cookie: str, did: str, seance: str) -> None:
    """An id in the query overrides the cookie; a session is `seance` or `sid`."""
    assert init(query, cookie)[0] == {"did": did, "seance": seance}


def test_odd_ids_are_kept_out_of_the_cookie() -> None:
    """A device id that is invalid in a cookie is returned, but no cookie is set."""
    ids, cookie = init("shop_id=x&did=a%3B%20b%0D%0Ac")
    assert (ids["did"], cookie) == ("a; b\r\nc", None)
    ids, cookie = init("shop_id=x", 'did="a b"')
    assert ID.fullmatch(ids["did"])


def test_a_shop_is_needed() -> None:
    """A request without `shop_id` gets the documented 403."""
    with pytest.raises(Rejected) as caught:
        READS.static_response(Request(method="GET", url="/init"), MADE)
    assert READS.refuse(Request(method="GET", url="/init"), caught.value).status == 403


def test_other_reads_have_no_answer() -> None:
    """The gateway gives no response of its own to profiles, searches and carts."""
    for path in ("/profile", "/search", "/products/cart"):
        assert READS.static_response(Request(method="GET", url=f"{path}?shop_id=x"), MADE) is None
