"""What PersonaClick's own clients send, there and back again."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.event import Event
from gateway.http import Request
from gateway.testing import load_samples, request_of
from gateway.testing.samples import EVENTS
from plugins.personaclick.input import PersonaclickInput
from plugins.personaclick.output import PersonaclickOutput
from plugins.personaclick.sandbox import PersonaclickSandbox

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
    """``full_cart`` counts if it is true, a number but 0, or a text that does not deny it."""
    body = {
        "shop_id": "s", "did": "d", "seance": "s1", "stream": "web", "event": "cart",
        "items": [{"id": "42"}], "full_cart": said,
    }  # fmt: skip
    request = Request(method="POST", url="/push", body=orjson.dumps(body))
    (event,) = PersonaclickInput().parse(request)
    assert event.name == name


def test_a_client_s_secret_reaches_nobody_else() -> None:
    """The secret that a server sends is a credential, so no event holds it."""
    body = orjson.dumps({"shop_id": "s", "shop_secret": "hush", "external_id": "u1", "event": "e"})
    for path in ("/push/custom", "/profile/set"):
        (event,) = PersonaclickInput().parse(Request(method="POST", url=path, body=body))
        assert "hush" not in repr(event)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_loses_nothing_on_the_way_back(sample: dict[str, Any]) -> None:
    """An event that came from PersonaClick goes back whole."""
    for event in PersonaclickInput().parse(request_of(sample)):
        assert PLAIN.losses(event) == []


def verdict_of_the_sandbox(request: Request) -> str | None:
    """Return why the emulated server refuses *request*; None if it takes it."""
    received = Request(
        method=request.method,
        url=request.url.removeprefix(URL),
        headers=request.headers,
        body=request.body,
    )
    return PersonaclickSandbox().respond(received, "shop").reason


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e.type}-{e.name}")
@pytest.mark.parametrize("output", [PLAIN, FULL], ids=["plain", "full"])
def test_the_emulated_server_takes_what_goes_out(event: Event, output: PersonaclickOutput) -> None:
    """Whatever is rendered is accepted by a server built from the vendor's documents."""
    request = output.render(event)
    if isinstance(request, Request):
        assert verdict_of_the_sandbox(request) is None


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_the_emulated_server_takes_what_goes_back(sample: dict[str, Any]) -> None:
    """What the input accepts goes back to PersonaClick in a form that it takes."""
    for event in PersonaclickInput().parse(request_of(sample)):
        request = PLAIN.render(event)
        if event.type != "identify" or event.anonymous_id:
            assert isinstance(request, Request)
            assert verdict_of_the_sandbox(request) is None
