"""In an alias, the key names decide which id is the customer's."""

from typing import Any

import pytest

from tests.fidelity.translation import read, refused, sent, translated

ALIAS = "/customer/alias"


@pytest.mark.parametrize(
    "body",
    [
        {"knownUid": "customer", "uid": "visitor"},
        {"knownUid": "customer", "userId": "visitor"},
        {"userId": "customer", "previousId": "visitor"},
        {"uid": "customer", "previousId": "visitor"},
        {"userId": "customer", "anonymousId": "visitor"},
        {"uid": "customer", "previousId": "visitor", "anonymousId": "another"},
    ],
)
def test_known_uid_is_the_customer(body: dict[str, Any]) -> None:
    """``knownUid`` is the customer; with Segment's old ids it is ``uid`` or ``userId``."""
    _, said = translated("chrts", ALIAS, body, "segment")
    assert (said["userId"], said["previousId"]) == ("customer", "visitor")


@pytest.mark.parametrize("words", [{"previousId": "v"}, {"anonymousId": "v"}])
def test_an_alias_goes_back_to_chrts_in_its_own_words(words: dict[str, str]) -> None:
    """An alias in Segment's format is sent back to chrts unchanged."""
    _, said = translated("chrts", ALIAS, {"uid": "u", **words}, "chrts")
    assert said == {"uid": "u", **words}


def test_an_alias_of_another_vendor_has_the_documented_form() -> None:
    """The customer is sent to chrts as ``knownUid``, and the previous id as ``uid``."""
    body = {"type": "alias", "userId": "customer", "previousId": "visitor"}
    assert translated("segment", "/v1/alias", body, "chrts") == (
        ALIAS,
        {"knownUid": "customer", "uid": "visitor"},
    )
    (event,) = read("segment", "/v1/alias", body)
    assert sent(event, "segment")[1]["previousId"] == "visitor"


@pytest.mark.parametrize(
    "body", [{}, {"uid": "u"}, {"knownUid": "k"}, {"knownUid": " ", "uid": "u"},
             {"uid": " ", "previousId": "p"}, {"userId": "u", "previousId": ""}]
)  # fmt: skip
def test_an_alias_of_one_id_is_refused(body: dict[str, Any]) -> None:
    """An alias needs both ids, whatever their key names."""
    assert refused("chrts", ALIAS, body) == 400
