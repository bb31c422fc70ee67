"""Past a limit the sender gets the vendor's own "try later"."""

import asyncio
import re
from pathlib import Path

import orjson
import pytest

from gateway.admin import AdminContext
from gateway.admin import make_app as make_admin
from gateway.reload import Reloader
from gateway.spool import DeadLetterFilter
from gateway.verdict import Delivered, Refused
from tests.e2e.configs import SETTINGS, VENDORS, destination, everything
from tests.e2e.running import PATIENCE, Running, running, serving
from tests.e2e.test_refusals import CREDENTIALS, VALID, says_no

MOST = 3
DROPPED = re.compile(
    r'cdp_gateway_deliveries_total\{destination="growlytics",outcome="dropped"\} (\d+)\.0'
)


def bounded(folder: Path, sandbox: str, full: str) -> str:
    """Return a configuration of all sources and one destination with a small backlog."""
    head, _, _ = everything(folder, sandbox).partition("[destinations.")
    more = f'max_backlog = {MOST}\non_full = "{full}"\nretry_min = "20ms"\nretry_max = "50ms"'
    return f'{head}{destination("chrts", sandbox, more)}[[routes]]\nto = ["chrts"]\n'


async def send(run: Running, vendor: str, user: int) -> tuple[int, str | None, bytes]:
    """Post the vendor's valid request; return status, retry-after and body."""
    path, valid = VALID[vendor]
    body = orjson.dumps(valid).replace(b'"u"', f'"u{user}"'.encode())
    headers = {"content-type": "application/json", **CREDENTIALS[vendor]}
    async with run.client.post(run.url + path, data=body, headers=headers) as answer:
        return answer.status, answer.headers.get("retry-after"), await answer.read()


async def until_full(run: Running, vendor: str) -> tuple[int, str | None, bytes]:
    """Send until the gateway refuses; return that response."""
    async with asyncio.timeout(PATIENCE):
        for number in range(1000):
            status, after, said = await send(run, vendor, number)
            if status >= 300:
                assert number >= MOST
                return status, after, said
    raise AssertionError("the bound does not hold")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_full_backlog_refuses_as_the_vendor_would(tmp_path: Path, vendor: str) -> None:
    """Past ``max_backlog`` a sender gets a refusal in the vendor's words, with a Retry-After."""
    async with running(tmp_path, lambda url: bounded(tmp_path, url, "refuse")) as run:
        await run.fault(vendor="chrts", status=503, count=1_000_000)
        status, after, said = await until_full(run, vendor)
        assert status in {429, 500, 503}, said
        assert after is not None
        assert int(after) >= 1
        assert says_no(vendor, said)


async def test_freed_space_is_used_again(tmp_path: Path) -> None:
    """Once the destination accepts events, senders are accepted again and no event is lost."""
    async with running(tmp_path, lambda url: bounded(tmp_path, url, "refuse")) as run:
        await run.fault(vendor="chrts", status=503, count=1_000_000)
        await until_full(run, "chrts")
        accepted = run.gateway.spool.shards[0].position()
        await run.fault(vendor="chrts", status=503, count=0)
        await run.watch.until(lambda w: len(w.settled) == accepted)
        async with asyncio.timeout(PATIENCE):
            while (await send(run, "chrts", 1))[0] != 200:
                await asyncio.wait_for(asyncio.shield(run.gateway.spool.depths()), PATIENCE)


async def test_a_full_backlog_dead_letters_the_oldest(tmp_path: Path) -> None:
    """With ``on_full = "dead_letter"`` senders are accepted, and the oldest become dead letters."""
    async with running(tmp_path, lambda url: bounded(tmp_path, url, "dead_letter")) as run:
        await run.fault(vendor="chrts", status=503, count=1_000_000)
        for number in range(40):
            assert (await send(run, "chrts", number))[0] == 200
        async with asyncio.timeout(PATIENCE):
            while True:
                dead = await run.gateway.spool.dead_letters(DeadLetterFilter(cause="overflow"))
                if dead:
                    break
        depth = (await run.gateway.spool.depths())["chrts"]
        assert depth.backlog + depth.retrying + depth.parked + depth.dead_letters >= 40
        assert dead[0].entry.request.body
        assert SETTINGS["chrts"].split('"')[1].encode() not in dead[0].rendered


async def test_events_past_max_age_become_dead_letters(tmp_path: Path) -> None:
    """An event older than a destination's ``max_age`` becomes a dead letter; later ones arrive."""

    def config(sandbox: str) -> str:
        head, _, _ = everything(tmp_path, sandbox).partition("[destinations.")
        more = 'max_age = "300ms"\nretry_min = "400ms"\nretry_max = "800ms"'
        return f'{head}{destination("chrts", sandbox, more)}[[routes]]\nto = ["chrts"]\n'

    async with running(tmp_path, config) as run:
        await run.fault(vendor="chrts", status=503, count=1, delay=0.4)
        assert (await send(run, "chrts", 1))[0] == 200
        await run.watch.until(lambda w: len(w.settled) == 1)
        assert (await send(run, "chrts", 1))[0] == 200
        await run.watch.until(lambda w: len(w.settled) == 2)
        assert isinstance(run.watch.settled[0][2], Refused)
        assert isinstance(run.watch.settled[1][2], Delivered)
        async with asyncio.timeout(PATIENCE):
            while not (
                dead := await run.gateway.spool.dead_letters(DeadLetterFilter(cause="expired"))
            ):
                await run.gateway.spool.depths()
    assert "max_age" in dead[0].reason
    assert dead[0].attempts[0].status == 503


def shared(folder: Path, sandbox: str, more: str = "") -> str:
    """Return a configuration of a small spool that two destinations share."""
    head = everything(folder, sandbox).partition("[destinations.")[0]
    head = head.replace("[spool]\n", '[spool]\nmax_bytes = "1MB"\n')
    brisk = f'retry_min = "20ms"\nretry_max = "50ms"\n{more}'
    both = destination("chrts", sandbox, brisk) + destination("growlytics", sandbox, brisk)
    return (
        f'{head}[admin]\nlisten = "127.0.0.1:0"\n{both}[[routes]]\nto = ["chrts", "growlytics"]\n'
    )


async def post(run: Running, number: int) -> int:
    """Post an event of about 10 kB; return the status."""
    body = {"uid": f"u{number}", "name": "E", "properties": {"pad": "x" * 10_000}}
    headers = {"authorization": "Bearer api_chrts_test"}
    url = f"{run.url}/event/track"
    async with run.client.post(url, json=body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def ready(run: Running) -> tuple[int, str]:
    """Return the status and text of ``/readyz``."""
    async with run.client.get(f"{run.url}/readyz") as answer:
        return answer.status, await answer.text()


async def becomes_ready(run: Running) -> None:
    """Wait, without posting, until the gateway is ready."""
    async with asyncio.timeout(PATIENCE):
        while (await ready(run))[0] != 200:  # noqa: ASYNC110 - it is polled, as a balancer does
            await asyncio.sleep(0.05)


async def at_most_pending(run: Running, destination: str, most: int) -> None:
    """Wait until the spool has at most *most* pending deliveries of a destination."""
    async with asyncio.timeout(PATIENCE):
        while (await run.gateway.spool.depths())[destination].backlog > most:
            pass


def arrived(run: Running, vendor: str) -> int:
    """Return the number of events delivered to a destination."""
    return sum(isinstance(v, Delivered) and to == vendor for _, to, v in run.watch.settled)


@pytest.mark.parametrize("full", ["refuse", "dead_letter"])
async def test_a_dead_destination_leaves_room_for_the_others(tmp_path: Path, full: str) -> None:
    """A dead destination does not fill the spool for others; what it loses is counted and shown."""
    more = f'on_full = "{full}"'
    async with running(tmp_path, lambda url: shared(tmp_path, url, more)) as run:
        await run.fault(vendor="growlytics", status=503, count=1_000_000)
        refused = False
        for number in range(200):
            assert await post(run, number) == 200, await ready(run)
            refused = refused or "growlytics" in run.gateway.refusing()
            await at_most_pending(run, "chrts", 5)
        await run.watch.until(lambda _: arrived(run, "chrts") == 200)
        assert await run.gateway.spool.size() <= 1_000_000
        status, said = await ready(run)
        given_up = run.gateway.spool.given_up()["growlytics"]
        assert status == 200
        assert refused == (full == "refuse")
        # Freed space may allow one more event, so every page must match what an append would do.
        refusing = run.gateway.refusing().get("growlytics", "")
        assert ("'growlytics' has" in said) == bool(refusing)
        assert "destination 'growlytics' is stopped" in said
        assert given_up.dropped > 50
        context = AdminContext(run.gateway, Reloader(run.gateway))
        async with serving(make_admin(context)) as admin:
            async with run.client.get(f"{admin}/api/v1/destinations/growlytics") as answer:
                shown = await answer.json()
            assert shown["refuses_reason"] == refusing
            assert shown["dead_lettered"] >= given_up.dead
            async with run.client.get(f"{admin}/metrics") as answer:
                page = await answer.text()
            (counted,) = DROPPED.findall(page)
            later = run.gateway.spool.given_up()["growlytics"]  # more may be dropped meanwhile
            assert given_up.dropped <= shown["dropped"] <= int(counted) <= later.dropped
            flag = "1.0" if refusing else "0.0"
            assert f'cdp_gateway_destination_full{{destination="growlytics"}} {flag}' in page
            async with run.client.get(f"{admin}/api/v1/overview") as answer:
                health = (await answer.json())["health"]
            (dead,) = (one for one in health["destinations"] if one["name"] == "growlytics")
            assert (dead["state"], dead["full"]) == ("stopped", refusing)
        await run.fault(vendor="growlytics", status=503, count=0)
        await becomes_ready(run)
        depths = await run.gateway.spool.depths()
        owed = 200 - given_up.dropped - depths["growlytics"].dead_letters
        await run.watch.until(lambda _: arrived(run, "growlytics") >= owed)


async def test_readiness_changes_without_a_post(tmp_path: Path) -> None:
    """When every destination is at its limit, events are refused, and readiness has the reason."""
    async with running(tmp_path, lambda url: shared(tmp_path, url)) as run:
        for vendor in ("chrts", "growlytics"):
            await run.fault(vendor=vendor, status=503, count=1_000_000)
        async with asyncio.timeout(PATIENCE):
            number = 0
            while (await ready(run))[0] == 200:
                assert await post(run, number) == 200
                number += 1
        assert number > 20
        status, said = await ready(run)
        assert status == 503
        assert "max_bytes" in said
        assert await post(run, number) == 503
        for vendor in ("chrts", "growlytics"):
            await run.fault(vendor=vendor, status=503, count=0)
        await becomes_ready(run)
        for vendor in ("chrts", "growlytics"):  # one may have reached its limit before the other
            given_up = run.gateway.spool.given_up().get(vendor)
            owed = number - (given_up.dropped if given_up else 0)
            await run.watch.until(lambda _: arrived(run, vendor) == owed)  # noqa: B023 - at once


async def test_readiness_considers_max_backlog(tmp_path: Path) -> None:
    """At ``max_backlog`` of the only destination events are refused, and readiness says why."""
    async with running(tmp_path, lambda url: bounded(tmp_path, url, "refuse")) as run:
        await run.fault(vendor="chrts", status=503, count=1_000_000)
        await until_full(run, "chrts")
        status, said = await ready(run)
        assert status == 503
        assert "max_backlog" in said
        await run.fault(vendor="chrts", status=503, count=0)
        await becomes_ready(run)


async def test_expired_deliveries_count_as_dead_letters(tmp_path: Path) -> None:
    """Deliveries that expire in the spool count as dead letters in the admin API and metrics."""

    def config(sandbox: str) -> str:
        return shared(tmp_path, sandbox).replace("[spool]\n", '[spool]\nmax_age = "200ms"\n')

    async with running(tmp_path, config) as run:
        await run.fault(vendor="growlytics", status=503, count=1_000_000)
        for number in range(5):
            assert await post(run, number) == 200
        spool = run.gateway.spool
        async with asyncio.timeout(PATIENCE):
            while (await spool.depths())["growlytics"].dead_letters < 5:  # noqa: ASYNC110 - by the clock
                await asyncio.sleep(0.05)
        context = AdminContext(run.gateway, Reloader(run.gateway))
        async with serving(make_admin(context)) as admin:
            async with run.client.get(f"{admin}/api/v1/destinations/growlytics") as answer:
                assert (await answer.json())["dead_lettered"] == 5
            async with run.client.get(f"{admin}/metrics") as answer:
                labels = 'destination="growlytics",outcome="dead_letter"'
                line = f"cdp_gateway_deliveries_total{{{labels}}} 5.0"
                assert line in await answer.text()
