"""Recognising a person by their ids."""

import base64
import hashlib
from urllib.parse import quote

import pytest

from gateway.event import Context, Device, Event, Traits
from gateway.person import Person, parse_suppressions

ANNA = Person(["u-anna", " Anna@Shop.example "])
TRACK = {"type": "track", "id": "r-0"}


@pytest.mark.parametrize(
    "event",
    [
        Event(type="track", user_id="u-anna"),
        Event(type="track", anonymous_id="u-anna"),
        Event(type="alias", user_id="other", previous_id="u-anna"),
        Event(type="track", context=Context(device=Device(id="u-anna"))),
        Event(type="track", session_id="u-anna"),
        Event(type="identify", user_id="u7", traits=Traits(email="ANNA@shop.EXAMPLE")),
    ],
)
def test_every_id_of_an_event_names_its_person(event: Event) -> None:
    """Each id of an event names its person; e-mail addresses in any case."""
    assert ANNA.is_named_by(event)


@pytest.mark.parametrize("user", ["U-ANNA", "u-anna2", "bert", None])
def test_other_ids_name_somebody_else(user: str | None) -> None:
    """An id counts as a whole, and in its own case unless it is an e-mail address."""
    assert not ANNA.is_named_by(Event(type="track", user_id=user))


@pytest.mark.parametrize(
    "text",
    [
        '{"uid": "u-anna"}',
        '{"email": "ANNA@SHOP.example"}',
        "/pixel?email=" + quote("anna@shop.example", safe=""),
        "data=" + base64.b64encode(b'{"email": "anna@shop.example"}').decode(),
        '{"email": "anna\\u0040shop.example"}'.replace("\\u0040", "@"),
    ],
)
def test_an_id_is_found_in_any_spelling(text: str) -> None:
    """An id in a text is found plain, quoted, and within base64."""
    assert ANNA.may_be_in(text.encode())


def test_a_part_of_another_word_is_not_an_id() -> None:
    """A plain id that is a part of a longer word does not count."""
    assert not ANNA.may_be_in(b'{"uid": "u-anna2", "x": "xu-anna"}')


def test_short_ids_are_uncertain() -> None:
    """A short id may stand in a text by chance; a long one does not."""
    person = Person(["42", "a-long-user-id"])
    assert person.may_be_in(b'{"price": 42}')
    assert not person.is_in(b'{"price": 42}')
    assert person.is_in(b'{"user": "a-long-user-id"}')


def test_a_list_is_parsed() -> None:
    """A list has ids, e-mail addresses and hashes; comments and blank lines are left out."""
    digest = hashlib.sha256(b"carl@shop.example").hexdigest()
    listed = parse_suppressions(
        f"# left\n\n u-anna \nBert@Shop.example\nSHA256: {digest.upper()}\n"
    )
    assert listed.ids == {"u-anna", "bert@shop.example"}
    assert listed.hashes == {digest}
    assert listed.names(Event(type="track", user_id="u-anna"))
    assert listed.names(Event(type="track", traits=Traits(email="BERT@shop.example")))
    assert listed.names(Event(type="track", user_id="CARL@shop.example"))
    assert not listed.names(Event(type="track", user_id="dora"))


@pytest.mark.parametrize("line", ["sha256:abc", "sha256:", "sha256:" + "g" * 64])
def test_a_wrong_hash_is_named_by_its_line(line: str) -> None:
    """A wrong hash is an error with the number of its line, and nothing of the list."""
    with pytest.raises(ValueError, match=r"^line 2 is not sha256: and 64 hexadecimal") as error:
        parse_suppressions(f"u-anna\n{line}\n")
    assert "u-anna" not in str(error.value)


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("jörg@shop.example", '{"email": "JÖRG@Shop.example"}'),
        ("bea@shop.example", '{"email": "bea\\u0040shop.example"}'),
        ("o'brien@shop.example", '{"email": "o\\u0027Brien@shop.example"}'),
        ("jörg@shop.example", '{"email": "J\\u00D6RG@shop.example"}'),
        ("jörg@shop.example", "/track?email=J%C3%96RG%40shop.example"),
    ],
)
def test_any_spelling_of_an_address_is_found(identifier: str, text: str) -> None:
    """An address is found in any case, and whatever of it a sender escapes."""
    assert Person([identifier]).is_in(text.encode())
    assert not Person(["somebody@shop.example"]).is_in(text.encode())
