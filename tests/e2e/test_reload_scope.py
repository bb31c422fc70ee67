"""What a reload changes beside the destinations, one test each."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.config.changes import restart_required
from gateway.config.loader.load import load
from gateway.delivery import Team
from gateway.errors import SpoolError
from gateway.ingest.relay import UpstreamAddress
from gateway.plugin.registry import load_plugins
from gateway.reload import Reloader
from tests.e2e.configs import base_config, destination
from tests.e2e.running import PATIENCE, Running, running

SENT = {"authorization": "Bearer api_chrts_test"}
EVENT = {"uid": "u-1", "name": "opened", "properties": {"plan": "gold"}}


def setup(folder: Path, sandbox: str, more: str = "", source: str = "") -> str:
    """Return a configuration of one source and one destination, with *more* tables."""
    return (
        base_config(folder)
        + f'[sources.shop]\nvendor = "chrts"\nkeys = ["api_chrts_test"]\n{source}\n'
        f"{destination('chrts', sandbox)}{more}\n"
    )


ROUTE = '[[routes]]\nto = ["chrts"]\n'


def remembers(run: Running) -> bool:
    """Tell whether the gateway stores consent; mypy must not narrow it between two calls."""
    return run.gateway.consents.on


async def change(run: Running, text: str) -> list[Any]:
    """Reload with another configuration; return the log lines."""
    run.gateway.config.path.write_text(text)
    with capture_logs() as logs:
        await Reloader(run.gateway).reload_now()
    return logs


async def post(run: Running) -> None:
    """Send an event."""
    url = f"{run.url}/event/track"
    async with run.client.post(url, json=EVENT, headers=SENT) as answer:
        assert answer.status == 200, await answer.text()


async def test_a_reload_turns_the_consent_store_on_and_off(tmp_path: Path) -> None:
    """A reload with a retention turns the consent store on; one without turns it off."""
    async with running(tmp_path, lambda url: setup(tmp_path, url, ROUTE)) as run:
        assert not remembers(run)
        remember = '[consent]\nretention = "1h"\n'
        await change(run, setup(tmp_path, run.sandbox, remember + ROUTE))
        assert remembers(run)
        await change(run, setup(tmp_path, run.sandbox, ROUTE))
        assert not remembers(run)


async def test_a_reload_closes_unused_relay_connections(tmp_path: Path) -> None:
    """A reload closes connections to a relay address that no source names; others stay open."""

    def relayed(url: str, path: str) -> str:
        return setup(tmp_path, url, ROUTE, source=f'url = "{url}{path}"')

    async with running(tmp_path, lambda url: relayed(url, "/chrts")) as run:
        upstreams = run.gateway.upstreams
        old = upstreams.get(UpstreamAddress(f"{run.sandbox}/chrts", 30.0))
        with old.session() as session:
            await change(run, relayed(run.sandbox, "/chrts"))
        closed = [session.closed]
        await change(run, relayed(run.sandbox, "/other"))
        closed.append(session.closed)
        assert closed == [False, True]
        assert upstreams.get(UpstreamAddress(f"{run.sandbox}/chrts", 30.0)) is not old


async def test_a_reload_keeps_the_counters_of_routes(tmp_path: Path) -> None:
    """A reload does not reset the counters of failed conditions."""
    route = '[[routes]]\nname = "odd"\nto = ["chrts"]\nwhen = "event.properties.plan > 1"\n'
    async with running(tmp_path, lambda url: setup(tmp_path, url, route)) as run:
        await post(run)
        assert run.gateway.router.failures.counts["odd"] == 1
        await change(run, setup(tmp_path, run.sandbox, route + ROUTE))
        await post(run)
        assert run.gateway.router.failures.counts["odd"] == 2


async def test_a_reload_says_which_keys_need_a_restart(tmp_path: Path) -> None:
    """Each reload names the keys that differ from those at the start and need a restart."""

    async def named(text: str) -> set[str]:
        logs = await change(run, text)
        return {line["key"] for line in logs if line["event"] == "restart_required"}

    async with running(tmp_path, lambda url: setup(tmp_path, url, ROUTE)) as run:
        old = run.gateway.config.path.read_text()
        new = old.replace("[spool]", 'max_body = "2MB"\n[spool]\nmax_age = "3d"')
        new = new.replace('listen = "127.0.0.1:0"', 'listen = "127.0.0.1:9"')
        due = {"[server] listen", "[server] max_body", "[spool] max_age"}
        assert [await named(text) for text in (new, new, old)] == [due, due, set()]


async def test_a_listen_of_the_command_line_needs_no_restart(tmp_path: Path) -> None:
    """A changed `listen` that the command line replaces is not named."""
    path = tmp_path / "gateway.toml"
    path.write_text(setup(tmp_path, "http://127.0.0.1:9", ROUTE))
    started, listen = load(path, load_plugins(), listen="127.0.0.1:7"), "127.0.0.1:7"
    path.write_text(path.read_text().replace("127.0.0.1:0", "${NOT_SET}"))
    assert restart_required(started, load(path, load_plugins(), listen=listen)) == []


OLD = """
[[routes]]
name = "a"
to = ["chrts"]
[[routes]]
name = "b"
to = ["chrts"]
[consent]
retention = "1h"
[suppression]
file = "left.txt"
[alerts]
url = "http://127.0.0.1:9/SECRET-1"
[admin]
listen = "127.0.0.1:0"
proxy_secret = "SECRET-2-and-much-longer-than-that"
operators = { alice = "SECRET-3-and-much-longer-than-that" }
viewers = { bob = "SECRET-4-and-much-longer-than-that" }
[[tests]]
name = "it works"
from = "shop"
body = { uid = "u", name = "n" }
path = "/event/track"
expect = ["chrts"]
"""
NEW = """
[[routes]]
name = "b"
to = ["chrts"]
[[routes]]
name = "a"
to = ["chrts"]
names = ["opened"]
[[routes]]
name = "c"
to = ["chrts"]
[consent]
retention = "2h"
[suppression]
file = "left.txt"
[admin]
listen = "127.0.0.1:0"
token = "SECRET-5-and-much-longer-than-that"
[admin.operators]
alice = "SECRET-6-and-much-longer-than-that"
bob = "SECRET-4-and-much-longer-than-that"
"""


async def test_a_reload_names_all_that_it_changes(tmp_path: Path) -> None:
    """The log of a reload names what it adds, changes and removes in every table, and no value."""
    left = tmp_path / "left.txt"
    left.write_text("u-1\n")
    async with running(tmp_path, lambda url: setup(tmp_path, url, OLD)) as run:
        left.write_text("u-2\n")
        logs = await change(run, setup(tmp_path, run.sandbox, NEW, 'mount = "/shop"'))
    (line,) = (line for line in logs if line["event"] == "reloaded")
    assert line["added"] == ["routes.c", "admin.token", "admin.operators.bob"]
    assert line["changed"] == [
        "sources.shop", "routes.a", "consent.retention", "suppression", "admin.operators.alice",
        "routes (their order)",
    ]  # fmt: skip
    assert line["removed"] == [
        "tests.it works",
        "alerts",
        "admin.viewers.bob",
        "admin.proxy_secret",
    ]
    assert "SECRET" not in str(logs)


async def test_an_orphaned_backlog_is_logged_at_each_reload(tmp_path: Path) -> None:
    """Each reload logs the deliveries that are pending for a removed destination."""
    more = destination("growlytics", "http://127.0.0.1:9")
    both = '[[routes]]\nto = ["chrts", "growlytics"]\n'
    async with running(tmp_path, lambda url: setup(tmp_path, url, more + both)) as run:
        await post(run)
        for _ in range(2):
            logs = await change(run, setup(tmp_path, run.sandbox, ROUTE))
            (said,) = [line for line in logs if line["event"] == "orphaned_backlog"]
            assert said["destination"] == "growlytics"
            assert said["deliveries"] == 1
        logs = await change(run, setup(tmp_path, run.sandbox, more + both))
        assert not [line for line in logs if line["event"] == "orphaned_backlog"]


async def test_every_response_has_its_process_time(tmp_path: Path) -> None:
    """Each of Tracardi's responses has one ``x-process-time`` header, in seconds."""
    tracardi = '[sources.site]\nvendor = "tracardi"\nkeys = "any"\n'
    body = {
        "source": {"id": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"},
        "session": {"id": "s"}, "profile": {"id": "p"},
        "events": [{"type": "opened", "properties": {}}],
    }  # fmt: skip
    async with running(tmp_path, lambda url: setup(tmp_path, url, tracardi + ROUTE)) as run:
        async with run.client.post(f"{run.url}/track", json=body) as answer:
            assert answer.status == 200, await answer.text()
            (seconds,) = answer.headers.getall("x-process-time")
        assert 0 < float(seconds) < PATIENCE


async def test_a_failed_reload_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that a failed reload did not replace keeps running, until the next reload."""

    async def broken(_: object) -> None:
        raise RuntimeError("no upstreams today")

    async with running(tmp_path, lambda url: setup(tmp_path, url, ROUTE)) as run:
        text = setup(tmp_path, run.sandbox, ROUTE)
        changed = text.replace("api_chrts_sandbox", "api_chrts_other")
        with monkeypatch.context() as patch:
            patch.setattr(run.gateway.upstreams, "retain", broken)
            with pytest.raises(RuntimeError):
                await change(run, changed)
        await post(run)
        await run.watch.until(lambda watch: len(watch.settled) == 1)
        (line,) = [x for x in await change(run, changed) if x["event"] == "reloaded"]
        assert line["changed"] == ["destinations.chrts"]
        (line,) = [x for x in await change(run, changed) if x["event"] == "reloaded"]
        assert line["changed"] == []


async def test_a_destination_whose_team_cannot_be_made_keeps_its_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a new team cannot be made, the reload changes nothing, and events go on."""
    async with running(tmp_path, lambda url: setup(tmp_path, url, ROUTE)) as run:
        changed = setup(tmp_path, run.sandbox, ROUTE).replace("_sandbox", "_other")

        def broken(*_: object) -> Team:
            raise SpoolError("no team today")

        with monkeypatch.context() as patch:
            patch.setattr(run.gateway, "make_team", broken)
            with pytest.raises(SpoolError):
                await change(run, changed)
        await post(run)
        await run.watch.until(lambda watch: len(watch.settled) == 1)
        assert run.gateway.teams["chrts"].configured == run.gateway.config.destinations["chrts"]
