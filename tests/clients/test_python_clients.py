"""The vendors' libraries for Python, unmodified, against a gateway on loopback."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rudderstack.analytics.client
import rudderstack.analytics.request
import segment.analytics.client
import segment.analytics.request

from tests.clients.arrivals import CALLS, KEY, arrived, gateway

CLIENTS = {
    "segment": segment.analytics.client.Client,
    "rudderstack": rudderstack.analytics.client.Client,
}
AGAIN = 1
"""How often they may try again: as often as shows that they do, so that a failure is soon told."""
SUCCESS = "data uploaded successfully"
"""What both libraries log."""


@pytest.fixture(autouse=True)
def answers() -> Iterator[list[Any]]:
    """Note what the libraries' sessions are answered, and close them in the end."""
    sessions = [segment.analytics.request._session, rudderstack.analytics.request._session]
    noted: list[Any] = []
    for session in sessions:
        session.hooks["response"] = [lambda answer, **_: noted.append(answer)]
    yield noted
    for session in sessions:
        session.hooks["response"] = []
        session.close()


def call(client: Any) -> None:
    """Make every call that *client* has."""
    client.identify("ada-1", {"email": "ada@shop.example", "firstName": "Ada"})
    product = {"product_id": "sku-1", "name": "Mat", "price": 14.5, "currency": "EUR"}
    client.track("ada-1", "Product Viewed", product)
    client.page("ada-1", "Shop", "Home", {"url": "https://shop.example/"})
    client.screen("ada-1", "Shop", "Home", {"theme": "dark"})
    client.group("ada-1", "g-1", {"name": "Initech"})
    client.alias("ada-0", "ada-1")


def call_and_send(client: Any) -> None:
    """Make every call that *client* has, and wait until it has sent them."""
    call(client)
    client.flush()
    client.join()


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("library", CLIENTS)
async def test_a_backend_in_python_changes_the_host_and_nothing_else(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    answers: list[Any],
    library: str,
    *,
    gzip: bool,
) -> None:
    """Each call of each library is reported as sent, and arrives everywhere or is declined."""
    caplog.set_level(logging.DEBUG, library)
    failed: list[object] = []
    async with gateway(tmp_path) as run:
        client = CLIENTS[library](
            KEY,
            host=run.url,
            gzip=gzip,
            max_retries=AGAIN,
            on_error=lambda *why: failed.append(why),
        )
        await asyncio.to_thread(call_and_send, client)
        journal = await arrived(run, CALLS)
    assert not failed
    assert caplog.messages.count(SUCCESS) == len(answers) > 0
    assert {answer.status_code for answer in answers} == {200}
    packed = {answer.request.headers.get("content-encoding") for answer in answers}
    assert packed == {"gzip" if gzip else None}
    (view,) = [entry["body"] for entry in journal if entry["path"] == "/store/track/event"]
    assert (view["productId"], view["userId"]) == ("sku-1", "ada-1")


@pytest.mark.parametrize("library", CLIENTS)
async def test_a_script_in_python_that_waits_for_each_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, library: str
) -> None:
    """In ``sync_mode`` each call returns after its answer, and raises if that is no success."""
    caplog.set_level(logging.DEBUG, library)
    async with gateway(tmp_path) as run:
        await asyncio.to_thread(call, CLIENTS[library](KEY, host=run.url, sync_mode=True))
        await arrived(run, CALLS)
    assert caplog.messages.count(SUCCESS) == len(CALLS)


@pytest.mark.parametrize("library", CLIENTS)
async def test_a_library_with_the_wrong_key_learns_it_at_once(
    tmp_path: Path, answers: list[Any], library: str
) -> None:
    """A refusal is told as one, with Segment's code and without further tries."""
    failed: list[tuple[Any, Any]] = []
    async with gateway(tmp_path) as run:
        client = CLIENTS[library](
            "wrong",
            host=run.url,
            max_retries=AGAIN,
            on_error=lambda *why: failed.append(why),
        )
        await asyncio.to_thread(call_and_send, client)
        assert not await run.journal()
    assert {(error.status, error.code) for error, _ in failed} == {(401, "project_not_found")}
    assert sum(len(batch) for _, batch in failed) == len(CALLS)
    assert len(answers) == len(failed)
