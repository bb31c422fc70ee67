"""Past a bound the sender gets the vendor's own "try later", never a lie."""

import asyncio
from pathlib import Path

import orjson
import pytest

from gateway.exchange import Delivered, Refused
from gateway.spool import Letters
from tests.e2e.configs import SETTINGS, VENDORS, destination, everything
from tests.e2e.running import PATIENCE, Running, running
from tests.e2e.test_refusals import CREDENTIALS, VALID, says_no

MOST = 3


def bounded(folder: Path, sandbox: str, full: str) -> str:
    """Return a configuration of all sources and one destination that nobody answers for."""
    head, _, _ = everything(folder, sandbox).partition("[destinations.")
    more = f'max_backlog = {MOST}\nfull = "{full}"\nretry_min = "20ms"\nretry_max = "50ms"'
    return f'{head}{destination("chrts", sandbox, more)}[[routes]]\nto = ["chrts"]\n'


async def send(run: Running, vendor: str, user: int) -> tuple[int, str | None, bytes]:
    """Post the vendor's valid request; return status, retry-after and body."""
    path, valid = VALID[vendor]
    body = orjson.dumps(valid).replace(b'"u"', f'"u{user}"'.encode())
    headers = {"content-type": "application/json", **CREDENTIALS[vendor]}
    async with run.client.post(run.url + path, data=body, headers=headers) as answer:
        return answer.status, answer.headers.get("retry-after"), await answer.read()


async def until_full(run: Running, vendor: str) -> tuple[int, str | None, bytes]:
    """Send until the gateway takes no more; return that answer."""
    async with asyncio.timeout(PATIENCE):
        for number in range(1000):
            status, after, said = await send(run, vendor, number)
            if status >= 300:
                assert number >= MOST
                return status, after, said
    raise AssertionError("the bound does not hold")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_full_backlog_refuses_as_the_vendor_would(tmp_path: Path, vendor: str) -> None:
    """Past ``max_backlog`` a sender is told to try later, in its own dialect, and when."""
    async with running(tmp_path, lambda url: bounded(tmp_path, url, "refuse")) as run:
        await run.fault(vendor="chrts", status=503, count=1_000_000)
        status, after, said = await until_full(run, vendor)
        assert status in {429, 500, 503}, said
        assert after is not None
        assert int(after) >= 1
        assert says_no(vendor, said)


async def test_space_given_back_is_used_again(tmp_path: Path) -> None:
    """Once the destination takes events, senders are accepted again and nothing is lost."""
    async with running(tmp_path, lambda url: bounded(tmp_path, url, "refuse")) as run:
        await run.fault(vendor="chrts", status=503, count=1_000_000)
        await until_full(run, "chrts")
        accepted = run.gateway.spool.position()
        await run.fault(vendor="chrts", status=503, count=0)
        await run.watch.until(lambda w: len(w.settled) == accepted)
        async with asyncio.timeout(PATIENCE):
            while (await send(run, "chrts", 1))[0] != 200:
                await asyncio.wait_for(asyncio.shield(run.gateway.spool.depths()), PATIENCE)


async def test_the_oldest_gives_way_where_that_is_asked_for(tmp_path: Path) -> None:
    """With ``full = "dead"`` senders go on, and the oldest deliveries become dead letters."""
    async with running(tmp_path, lambda url: bounded(tmp_path, url, "dead")) as run:
        await run.fault(vendor="chrts", status=503, count=1_000_000)
        for number in range(40):
            assert (await send(run, "chrts", number))[0] == 200
        async with asyncio.timeout(PATIENCE):
            while True:
                dead = await run.gateway.spool.dead_letters(Letters(cause="overflow"))
                if dead:
                    break
        depth = (await run.gateway.spool.depths())["chrts"]
        assert depth.backlog + depth.retrying + depth.parked + depth.dead >= 40
        assert dead[0].entry.request.body
        assert SETTINGS["chrts"].split('"')[1].encode() not in dead[0].rendered


async def test_what_is_too_old_for_a_destination_is_given_up(tmp_path: Path) -> None:
    """Past a destination's ``max_age`` its events become dead letters; later ones still go."""

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
            while not (dead := await run.gateway.spool.dead_letters(Letters(cause="expired"))):
                await run.gateway.spool.depths()
    assert "max_age" in dead[0].reason
    assert dead[0].attempts[0].status == 503
