"""Requests of PersonaClick's clients that are sent back to PersonaClick."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.http import Request
from gateway.testing import load_samples, request_of
from plugins.personaclick.input import PersonaclickInput
from plugins.personaclick.output import PersonaclickOutput

URL = "https://personaclick.example"
PLAIN, FULL = (
    PersonaclickOutput(
        PersonaclickOutput.Config.model_validate({"url": URL, "shop_id": "shop", **more})
    )
    for more in ({}, {"shop_secret": "quiet", "stream": "gate"})
)
SAMPLES = load_samples(Path(__file__).parent)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (True, "Cart Updated"), (1, "Cart Updated"), ("true", "Cart Updated"),
        ("1", "Cart Updated"), ("yes", "Cart Updated"),
        (False, "Product Added"), (0, "Product Added"), (None, "Product Added"),
        ("", "Product Added"), ("0", "Product Added"), ("FALSE", "Product Added"),
    ],
)  # fmt: skip
def test_any_true_word_makes_it_the_whole_cart(said: object, name: str) -> None:
    """``full_cart`` holds if it is true, a non-zero number, or a text that is not negative."""
    body = {
        "shop_id": "s", "did": "d", "seance": "s1", "stream": "web", "event": "cart",
        "items": [{"id": "42"}], "full_cart": said,
    }  # fmt: skip
    request = Request(method="POST", url="/push", body=orjson.dumps(body))
    (event,) = PersonaclickInput().parse(request)
    assert event.name == name


def test_a_clients_secret_is_not_in_the_event() -> None:
    """The secret that a server sends is a credential, and is not in the event."""
    body = orjson.dumps({"shop_id": "s", "shop_secret": "hush", "external_id": "u1", "event": "e"})
    for path in ("/push/custom", "/profile/set"):
        (event,) = PersonaclickInput().parse(Request(method="POST", url=path, body=body))
        assert "hush" not in repr(event)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_loses_nothing_of_its_own_format(sample: dict[str, Any]) -> None:
    """An event from PersonaClick loses nothing when it is sent back."""
    for event in PersonaclickInput().parse(request_of(sample)):
        assert PLAIN.losses(event) == []
