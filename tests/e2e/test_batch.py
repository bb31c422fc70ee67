"""Vendors that take several events per request get batches where that keeps order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.verdict import Delivered, Refused
from tests.e2e.configs import SETTINGS, base_config, destination, route, source
from tests.e2e.running import PATIENCE, Running, running, serving

HEADERS = {"authorization": "Bearer any"}


class Vendor:
    """A server like Tracardi's that holds its first response, and refuses bad events."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.accepted: list[str] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def track(self, request: web.Request) -> web.Response:
        """Refuse a request with a bad event; accept any other."""
        payload = await request.json()
        types = [event["type"] for event in payload["events"]]
        self.requests.append(types)
        self.begun.set()
        await self.go.wait()
        if any(kind.startswith("bad") for kind in types):
            return web.json_response({"detail": "no such event"}, status=422)
        self.accepted += types
        return web.json_response({"profile": {"id": "p"}})


@asynccontextmanager
async def tracardi(folder: Path) -> AsyncIterator[tuple[Running, Vendor]]:
    """Run a gateway that sends chrts' events to such a vendor."""
    vendor = Vendor()
    app = web.Application()
    app.router.add_post("/track", vendor.track)

    async with serving(app) as url:

        def config(_: str) -> str:
            return (
                base_config(folder)
                + source("chrts", name="shop")
                + f'[destinations.cdp]\nvendor = "tracardi"\nurl = "{url}"\n'
                + SETTINGS["tracardi"]
                + "\n"
                + route("cdp")
            )

        async with running(folder, config) as run:
            yield run, vendor
            vendor.go.set()


async def send(run: Running, name: str, user: str = "u") -> None:
    """Post one event."""
    body: dict[str, Any] = {"uid": user, "name": name}
    async with run.client.post(f"{run.url}/event/track", json=body, headers=HEADERS) as answer:
        assert answer.status == 200


async def send_behind(run: Running, vendor: Vendor, names: list[str]) -> None:
    """Post the first event, and the others while its delivery is in flight."""
    await send(run, names[0])
    async with asyncio.timeout(PATIENCE):
        await vendor.begun.wait()
    for name in names[1:]:
        await send(run, name)
    vendor.go.set()
    await run.watch.until(lambda w: len(w.settled) == len(names))


@pytest.mark.usefixtures("each_spool")
async def test_events_of_one_user_go_together(tmp_path: Path) -> None:
    """Events of one user that wait behind a delivery go in one request, in order."""
    names = [f"event-{number}" for number in range(12)]
    async with tracardi(tmp_path) as (run, vendor):
        await send_behind(run, vendor, names)
        assert vendor.requests == [names[:1], names[1:]]
        assert vendor.accepted == names


async def test_segment_gets_calls_and_batches(tmp_path: Path) -> None:
    """Events that wait for Segment go in one batch, in order, each with its own message id."""

    def config(sandbox: str) -> str:
        return (
            base_config(tmp_path)
            + source("chrts", name="shop")
            + f'{destination("segment", sandbox)}[[routes]]\nto = ["segment"]\n'
        )

    names = [f"event-{number}" for number in range(12)]
    async with running(tmp_path, config) as run:
        await run.fault(vendor="segment", delay=1, count=1)
        for name in names:
            await send(run, name)
        await run.watch.until(lambda w: len(w.settled) == len(names))
        first, *others = await run.journal("segment")
    assert first["path"] == "/v1/track"
    assert {entry["path"] for entry in others} == {"/v1/batch"}
    assert {entry["verdict"] for entry in [first, *others]} == {"accepted"}
    calls = [first["body"], *(call for entry in others for call in entry["body"]["batch"])]
    assert [call["event"] for call in calls] == names
    assert len({call["messageId"] for call in calls}) == len(names)


@pytest.mark.usefixtures("each_spool")
async def test_a_refused_batch_costs_only_the_bad_event(tmp_path: Path) -> None:
    """A refused batch is split: each event gets its own verdict, and the order holds."""
    names = ["first", "one", "bad-two", "three", "four"]
    async with tracardi(tmp_path) as (run, vendor):
        await send_behind(run, vendor, names)
        assert vendor.accepted == ["first", "one", "three", "four"]
        verdicts = {event.name: verdict for event, _, verdict in run.watch.settled}
        assert isinstance(verdicts["bad-two"], Refused)
        assert all(isinstance(verdicts[name], Delivered) for name in vendor.accepted)
        assert [event.name for event, _, _ in run.watch.settled] == names
        depth = (await run.gateway.spool.depths())["cdp"]
        assert depth.retrying == depth.parked == 0
