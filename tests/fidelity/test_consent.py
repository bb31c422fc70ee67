"""Consent and its withdrawal reach every vendor that has a place for them."""

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
    """A change of consent has a neutral event name and each category as a boolean."""
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
def test_a_profile_has_withdrawn_consent(source: str, path: str, body: Any) -> None:
    """The consent of a profile is among its attributes, granted or not."""
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
    """A category with the name of a field is sent beside the field, under another name."""
    event = Event(
        type="identify", user_id="u1", traits=Traits(email="a@b.co", phone="+4", name="Ada",
        first_name="A"), consent={taken: False}, origin="segment",
    )  # fmt: skip
    for _, body in (sent(event, "chrts"), sent(event, "growlytics")):
        said = body["attributes"] if isinstance(body["attributes"], dict) else attributes(body)
        assert said[f"consent_{taken}"] is False
        assert said["email"] == "a@b.co"
    assert sent(event, "personaclick")[1]["email"] == "a@b.co"


def test_a_quartic_agreement_is_consent_to_email() -> None:
    """The agreement in a Quartic profile is consent to e-mail, and not the address."""
    body = {"userId": "u1", "cookie": "c1", "email": "a@b.co", "agreement": False}
    _, chrts = translated("quartic", "/store/collectprofile", body, "chrts")
    assert chrts["attributes"] == {"email": "a@b.co", "consent_email": False}


# Quartic


def profile(consent: dict[str, bool], **traits: Any) -> Event:
    """Return the profile of a user with a known cookie."""
    return Event(
        type="identify", user_id="u1", anonymous_id="a1", traits=Traits(**traits),
        consent=consent, origin="segment",
    )  # fmt: skip


def test_unknown_consent_sends_no_quartic_profile() -> None:
    """Without known e-mail consent no Quartic profile is sent, since it would record a refusal."""
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
def test_a_quartic_profile_is_followed_by_a_contact(given: bool) -> None:  # noqa: FBT001 - a category's value
    """A Quartic profile is followed by a contact with the tags and agreements."""
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
    """A change of consent with an e-mail address is sent to Quartic as a contact's agreements."""
    event = Event(
        type="track", name=Names.CONSENT_UPDATED, anonymous_id="c1",
        traits=Traits(email="a@b.co", first_name="Ada"), consent={"ads": False},
    )  # fmt: skip
    assert sent(event, "quartic") == (
        "/store/contact",
        {"cookie": "c1", "email": "a@b.co", "agreements": [{"t": "ads", "c": "ads", "s": False}]},
    )


def test_quartics_own_profile_is_sent_back_unchanged() -> None:
    """A profile from Quartic without an agreement is sent back unchanged."""
    body = {"userId": "u1", "cookie": "c1", "email": "a@b.co"}
    (event,) = read("quartic", "/store/collectprofile", body)
    assert sent(event, "quartic") == ("/store/collectprofile", body)
    assert event.consent == {}
