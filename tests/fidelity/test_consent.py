"""Consent, and above all its withdrawal, reaches every vendor that has any place for it."""

from typing import Any

import pytest

from gateway.event import Event, Names, Traits
from gateway.verdict import Declined
from tests.fidelity.translation import (
    OUTPUTS,
    attributes,
    configured,
    read,
    sent,
    translated,
    types,
)

FLAGS = {"marketing": False, "general": True}
SOURCE = {"source": {"id": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"}}
TOLD_BY_TRACARDI = {
    **SOURCE,
    "session": {"id": "s1"},
    "profile": {"id": "p1"},
    "events": [{"type": "consent-granted", "properties": FLAGS}],
}
TOLD_BY_SEGMENT = {
    "type": "track",
    "anonymousId": "p1",
    "event": "Segment Consent Preference Updated",
    "context": {"consent": {"categoryPreferences": FLAGS}},
}
CHANGES = [("tracardi", "/track", TOLD_BY_TRACARDI), ("segment", "/v1/track", TOLD_BY_SEGMENT)]
CONTACT = {
    "cookie": "c1",
    "email": "a@b.co",
    "agreements": [
        {"t": "newsletter", "c": "txt", "s": False},
        {"t": "terms", "c": "txt", "s": True},
    ],
}
IDENTIFIED = {
    "type": "identify",
    "anonymousId": "c1",
    "context": {"consent": {"categoryPreferences": {"newsletter": False, "terms": True}}},
    "traits": {"email": "a@b.co"},
}
PROFILES = [("quartic", "/store/contact", CONTACT), ("segment", "/v1/identify", IDENTIFIED)]
GIVEN = {"newsletter": False, "terms": True}


@pytest.mark.parametrize(("source", "path", "body"), CHANGES)
def test_a_change_of_consent_says_which_categories(source: str, path: str, body: Any) -> None:
    """Its flags are booleans under their own names, and its name has no vendor's in it."""
    _, chrts = translated(source, path, body, "chrts")
    assert chrts["name"] == "Consent Preference Updated"
    assert FLAGS.items() <= chrts["properties"].items()
    _, growlytics = translated(source, path, body, "growlytics")
    assert growlytics["name"] == "Consent Preference Updated"
    assert FLAGS.items() <= attributes(growlytics).items()
    assert types(growlytics)["marketing"] == "boolean"
    endpoint, personaclick = translated(source, path, body, "personaclick")
    assert endpoint == "/push/custom"
    assert personaclick["event"] == "consent_preference_updated"
    assert FLAGS.items() <= personaclick.items()
    _, tracardi = translated(source, path, body, "tracardi")
    assert tracardi["events"][0]["type"].startswith("consent-")
    assert tracardi["events"][0]["properties"] == FLAGS
    _, segment = translated(source, path, body, "segment")
    assert segment["event"] == "Segment Consent Preference Updated"
    assert segment["context"]["consent"]["categoryPreferences"] == FLAGS


@pytest.mark.parametrize(("source", "path", "body"), PROFILES)
def test_a_profile_says_what_was_withdrawn(source: str, path: str, body: Any) -> None:
    """The consent of a profile stands among its attributes, true or false."""
    _, chrts = translated(source, path, body, "chrts")
    assert GIVEN.items() <= chrts["attributes"].items()
    _, growlytics = translated(source, path, body, "growlytics")
    assert GIVEN.items() <= attributes(growlytics).items()
    assert types(growlytics)["newsletter"] == "boolean"
    _, personaclick = translated(source, path, body, "personaclick")
    assert GIVEN.items() <= personaclick.items()
    _, tracardi = translated(source, path, body, "tracardi")
    update, consent = tracardi["events"]
    assert update["type"] == "profile-update"
    assert (consent["type"], consent["properties"]) == ("consent-update", GIVEN)
    assert consent["id"] != update["id"]
    _, segment = translated(source, path, body, "segment")
    assert segment["context"]["consent"]["categoryPreferences"] == GIVEN


@pytest.mark.parametrize("taken", ["email", "phone", "firstName", "name"])
def test_a_category_never_takes_the_place_of_a_field(taken: str) -> None:
    """A category that is called like a field stands beside it, under a name of its own."""
    event = Event(
        type="identify", user_id="u1", traits=Traits(email="a@b.co", phone="+4", name="Ada",
        first_name="A"), consent={taken: False}, origin="segment",
    )  # fmt: skip
    for _, body in (sent(event, "chrts"), sent(event, "growlytics")):
        said = body["attributes"] if isinstance(body["attributes"], dict) else attributes(body)
        assert said[f"consent_{taken}"] is False
        assert said["email"] == "a@b.co"
    assert sent(event, "personaclick")[1]["email"] == "a@b.co"


def test_the_agreement_of_a_quartic_profile_is_no_address() -> None:
    """A profile's agreement to e-mails is not mistaken for the e-mail address."""
    body = {"userId": "u1", "cookie": "c1", "email": "a@b.co", "agreement": False}
    _, chrts = translated("quartic", "/store/collectprofile", body, "chrts")
    assert chrts["attributes"] == {"email": "a@b.co", "consent_email": False}


# Quartic


def profile(consent: dict[str, bool], **traits: Any) -> Event:
    """Return a profile of a user whose cookie is known."""
    return Event(
        type="identify", user_id="u1", anonymous_id="a1", traits=Traits(**traits),
        consent=consent, origin="segment",
    )  # fmt: skip


def test_what_is_unknown_is_no_refusal_at_quartic() -> None:
    """Where nothing is known of e-mails, no profile is sent that would forbid them."""
    texts = {"newsletter": "I want it"}
    quartic = configured("quartic", agreements=texts)
    path, body = sent(profile({"newsletter": True}, email="a@b.co", first_name="Ada"), quartic)
    assert path == "/store/contact"
    assert body == {
        "cookie": "a1",
        "email": "a@b.co",
        "agreements": [{"t": "newsletter", "c": "I want it", "s": True}],
        "tags": [{"n": "firstname", "v": "Ada"}],
    }
    declined = quartic.render(profile({}))
    assert isinstance(declined, Declined)
    assert "as a refusal" in declined.reason


@pytest.mark.parametrize("given", [True, False])
def test_what_is_known_goes_to_quartic_whole(given: bool) -> None:  # noqa: FBT001 - a category's value
    """A profile with its agreement is followed by a contact with the tags and agreements."""
    request = OUTPUTS["quartic"].render(
        profile({"email": given, "ads": False}, email="a@b.co", first_name="Ada")
    )
    assert not isinstance(request, Declined)
    assert request.url.endswith("/store/collectprofile")
    assert (b'"agreement":true' in request.body) is given
    (further,) = request.also
    assert further.url.endswith("/store/contact")
    assert b'{"t":"ads","c":"ads","s":false}' in further.body
    assert b'"firstname"' in further.body


def test_a_withdrawal_reaches_quartic_as_an_event_too() -> None:
    """A change of consent of a known address is a contact with nothing but the agreements."""
    event = Event(
        type="track", name=Names.CONSENT_UPDATED, anonymous_id="c1",
        traits=Traits(email="a@b.co", first_name="Ada"), consent={"ads": False},
    )  # fmt: skip
    assert sent(event, "quartic") == (
        "/store/contact",
        {"cookie": "c1", "email": "a@b.co", "agreements": [{"t": "ads", "c": "ads", "s": False}]},
    )


def test_quartics_own_profile_goes_back_as_it_came() -> None:
    """A profile that Quartic's own client sent without an agreement says what it said."""
    body = {"userId": "u1", "cookie": "c1", "email": "a@b.co"}
    (event,) = read("quartic", "/store/collectprofile", body)
    assert sent(event, "quartic") == ("/store/collectprofile", body)
    assert event.consent == {}
