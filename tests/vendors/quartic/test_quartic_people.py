"""How people are sent to Quartic: profiles, contacts, tags and agreements."""

import orjson
from msgspec.structs import replace

from gateway.event import Event, Traits
from gateway.http import Request
from tests.vendors.quartic.rendering import AT, identify, losses, output, sent


def test_sends_a_profile() -> None:
    """A user with a known cookie is sent as a profile, and as a contact for the other fields."""
    event = identify(
        user_id="u1",
        anonymous_id="a1",
        traits=Traits(email="ada@shop.example", first_name="Ada"),
        consent={"email": False, "newsletter": True},
    )
    assert sent(event) == (
        "/store/collectprofile",
        {"userId": "u1", "cookie": "a1", "email": "ada@shop.example", "agreement": False},
    )
    made = output().render(event)
    assert isinstance(made, Request)
    (further,) = made.also
    assert further.url == "https://quartic.example/store/contact"
    assert orjson.loads(further.body) == {
        "cookie": "a1",
        "email": "ada@shop.example",
        "agreements": [{"t": "email", "c": "email", "s": False}],
        "tags": [{"n": "firstname", "v": "Ada"}],
    }
    assert losses(event) == {"consent.newsletter": "lost"}


def test_sends_a_contact() -> None:
    """Any other user with an e-mail address is sent as a contact, with the account's tags."""
    traits = Traits(
        email="ada@shop.example",
        first_name="Ada",
        age=33.0,
        gender="female",
        extra={"city": "London", "plan": "pro"},
    )
    event = identify(user_id="u1", traits=traits)
    assert sent(event) == (
        "/store/contact",
        {
            "email": "ada@shop.example",
            "tags": [
                {"n": "firstname", "v": "Ada"},
                {"n": "age", "v": "33"},
                {"n": "city", "v": "London"},
            ],
        },
    )
    assert losses(event) == {
        "user_id": "lost", "traits.gender": "lost", "traits.extra.plan": "lost"
    }  # fmt: skip
    assert sent(event, tags=())[1] == {"email": "ada@shop.example"}


def test_sends_tags_as_text() -> None:
    """Tags are text: numbers, booleans and times are converted, other types are lost."""
    extra = {
        "n": 3, "x": 1.5, "vip": True, "since": AT, "nested": {"a": 1}, "none": None,
        "firstname": "Eve", "": "blank",
    }  # fmt: skip
    event = identify(traits=Traits(email="ada@shop.example", first_name="Ada", extra=extra))
    found = sent(event, tags=("firstname", *extra))[1]["tags"]
    assert {tag["n"]: tag["v"] for tag in found} == {
        "firstname": "Ada", "n": "3", "x": "1.5", "vip": "true", "since": "2024-03-28T10:15:30Z",
    }  # fmt: skip
    assert len(found) == 5
    assert losses(event, tags=("firstname", *extra)) == {
        "traits.extra.n": "coerced",
        "traits.extra.x": "coerced",
        "traits.extra.vip": "coerced",
        "traits.extra.since": "coerced",
        "traits.extra.nested": "lost",
        "traits.extra.none": "lost",
        "traits.extra.firstname": "lost",
        "traits.extra.": "lost",
    }


def test_sends_consents_with_their_texts() -> None:
    """A granted consent is sent only with its category's text; a withdrawal is always sent."""
    event = identify(
        traits=Traits(email="ada@shop.example"), consent={"newsletter": True, "ads": False}
    )
    texts = {"newsletter": "I want the newsletter", "term": "I agree"}
    assert sent(event, agreements=texts)[1]["agreements"] == [
        {"t": "newsletter", "c": "I want the newsletter", "s": True},
        {"t": "ads", "c": "ads", "s": False},
    ]
    assert losses(event, agreements=texts) == {}
    assert sent(event)[1]["agreements"] == [{"t": "ads", "c": "ads", "s": False}]
    assert losses(event) == {"consent.newsletter": "lost"}


def test_sends_texts_that_came_from_quartic_before_those_of_the_configuration() -> None:
    """An agreement's text from Quartic is kept, whatever the configuration has."""
    event = Event(
        type="identify",
        traits=Traits(email="ada@shop.example"),
        consent={"term": True, "ads": False},
        extra={"agreements[].c": {"term": "Old text"}},
        origin="quartic",
    )
    texts = {"term": "New text", "ads": "Show me ads"}
    assert sent(event, agreements=texts)[1]["agreements"] == [
        {"t": "term", "c": "Old text", "s": True},
        {"t": "ads", "c": "Show me ads", "s": False},
    ]
    assert output(agreements=texts).losses(event) == []
    assert losses(event) == {}
    elsewhere = replace(event, origin="segment")
    assert losses(elsewhere)["extra.agreements[].c"] == "lost"
