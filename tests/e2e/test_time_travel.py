"""Replays of retained events, by a gateway of its own process."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson
import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from gateway.cli import main
from gateway.replay import runner
from tests.e2e.admin import TOKEN, administered
from tests.e2e.configs import ADMIN, base_config, destination, route, source
from tests.e2e.process import GatewayProcess, gateway_process
from tests.e2e.raw_http import Vendor, vendor
from tests.e2e.running import PATIENCE

CHANGES = {"x-gateway-admin": "1"}
CONSENT = (
    base_config(spool='retain = "1h"')
    + ADMIN
    + f'token = "{TOKEN}"\n'
    + source("segment", "site-key", name="site")
    + destination("chrts", name="crm")
    + destination("growlytics", name="mail")
    + route("crm")
    + '[consent]\nretention = "30d"\n'
)
ASKING = route("mail", name="ads", more='names = ["Nothing"]\nsteps = [{ consent = "ads" }]')
USERS = 7
EVENTS = 200
BATCH = 4


def config(folder: Path, old: Vendor, new: Vendor) -> Path:
    """Write a configuration that retains, with a route to the old vendor alone."""
    path = folder / "gateway.toml"
    path.write_text(
        base_config(folder, spool='retain = "1h"')
        + ADMIN
        + source("segment", "site-key", name="site")
        + "".join(
            f'[destinations.{name}]\nvendor = "segment"\nwrite_key = "{name}-key"\n'
            f'url = "{each.url}"\nretry_min = "20ms"\nretry_max = "50ms"\n'
            for name, each in (("old", old), ("new", new))
        )
        + route("old")
    )
    return path


def event(number: int) -> dict[str, Any]:
    """Return a track call; each third is a purchase."""
    name = "Bought" if number % 3 == 0 else "Seen"
    return {
        "type": "track", "userId": f"u-{number % USERS}", "event": name,
        "messageId": f"m-{number:04}",
    }  # fmt: skip


def received(each: Vendor) -> list[str]:
    """Return the message ids that a vendor got, in order."""
    return [name for got in each.got for name in re.findall(r'"(m-\d{4})"', got.body.decode())]


@asynccontextmanager
async def vendors() -> AsyncIterator[tuple[Vendor, Vendor, aiohttp.ClientSession]]:
    """Run two vendors, and a client."""
    async with vendor() as old, vendor() as new, aiohttp.ClientSession(headers=CHANGES) as client:
        yield old, new, client


class Operator:
    """Sends events and calls the admin API of a gateway."""

    def __init__(self, running: GatewayProcess, client: aiohttp.ClientSession) -> None:
        self._running, self._client = running, client

    async def send(self, *numbers: int) -> None:
        """Send events in one request, which must be accepted."""
        body = {"writeKey": "site-key", "batch": [event(number) for number in numbers]}
        async with self._client.post(f"{self._running.url}/v1/batch", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def post(self, path: str, status: int = 200, **body: Any) -> Any:
        """Call the admin API."""
        url = f"{self._running.admin}/{path}"
        async with self._client.post(url, json=body or None) as answer:
            text = await answer.read()
            assert answer.status == status, text
            return orjson.loads(text)

    async def replays(self) -> list[Any]:
        """Return all replays, the newest first."""
        async with self._client.get(f"{self._running.admin}/replays") as answer:
            found: list[Any] = (await answer.json())["replays"]
            return found

    async def done(self, **which: Any) -> dict[str, int]:
        """Run a replay to its end; return its counts."""
        since = len(self._running.lines)
        begun = await self.post("replays", **which)
        await self._running.after(since, "replay_done", lambda line: line["replay"] == begun["id"])
        return next(one["counts"] for one in await self.replays() if one["id"] == begun["id"])


async def export(path: Path, *options: str) -> list[Any]:
    """Return the lines that `gateway export` writes beside the running gateway."""
    command = ("export", "-c", str(path), *options)
    done = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert done.exit_code == 0, done.output
    return [orjson.loads(line) for line in done.stdout_bytes.splitlines()]


async def got(each: Vendor, count: int) -> list[str]:
    """Wait until a vendor got so many different events; return all, in order."""
    async with asyncio.timeout(PATIENCE):
        while len(set(found := received(each))) < count:  # noqa: ASYNC110 - a scripted vendor has no event
            await asyncio.sleep(0.01)
    return found


def in_order(found: list[str]) -> bool:
    """Return whether the events of each user first came in the order in which they were sent."""
    first = [int(name[2:]) for name in dict.fromkeys(found)]
    return all(
        mine == sorted(mine)
        for user in range(USERS)
        for mine in [[n for n in first if n % USERS == user]]
    )


async def test_a_replay_survives_kill_9(tmp_path: Path) -> None:
    """A replay that is killed goes on: nothing is lost, each user's order kept, no event repeated.

    Except those that were under way: they may arrive twice.
    """
    async with vendors() as (old, new, client):
        path = config(tmp_path, old, new)
        async with gateway_process(path) as running:
            operator = Operator(running, client)
            for start in range(0, EVENTS, BATCH):
                await operator.send(*range(start, start + BATCH))
            await got(old, EVENTS)
            await operator.post("replays", to="new", rate=200)
            await got(new, EVENTS // 8)
            running.kill()
            await running.ended()
        before = len(received(new))
        async with gateway_process(path) as running:
            await running.saw("replay_done")
            operator = Operator(running, client)
            (job,) = await operator.replays()
            assert job["state"] == "done"
            assert job["counts"] == {
                "requests": EVENTS // BATCH, "queued": EVENTS, "repeated": 0, "unreadable": 0,
            }  # fmt: skip
            found = received(new)
            assert set(found) == {f"m-{n:04}" for n in range(EVENTS)}
            assert in_order(found)
            twice = {name for name, times in Counter(found).items() if times > 1}
            assert twice <= set(found[:before])
            neutral = await export(path, "--name", "Bought")
            assert [one["event"]["message_id"] for one in neutral] == [
                f"m-{n:04}" for n in range(0, EVENTS, 3)
            ]
            requests = await export(path, "--as-received", "--since", "1h")
            assert sum(len(orjson.loads(one["body"])["batch"]) for one in requests) == EVENTS
            # What `old` had taken, and what was not recorded before the kill, comes once more.
            live = Counter(received(old))
            assert set(live) == {f"m-{n:04}" for n in range(EVENTS)}
            assert max(live.values()) <= 2


async def test_a_replay_takes_what_it_is_asked_for(tmp_path: Path) -> None:
    """Filters, conditions, routes and dry runs choose; nothing goes twice unless asked.

    A destination gets nothing that it got when it arrived, nor twice what replays gave it.
    """
    async with (
        vendors() as (old, new, client),
        gateway_process(config(tmp_path, old, new)) as running,
    ):
        operator = Operator(running, client)
        await operator.send(*range(12))
        await got(old, 12)
        counts = await operator.done(to="new", name="Bought", dry_run=True)
        assert (counts["queued"], received(new)) == (4, [])
        when = 'event.user_id == "u-0" || event.user_id == "u-1"'
        assert (await operator.done(to="new", when=when))["queued"] == 4
        counts = await operator.done(to="new", name="Bought")
        assert (counts["queued"], counts["repeated"]) == (3, 1)
        counts = await operator.done(to="new")
        assert (counts["queued"], counts["repeated"]) == (5, 7)
        assert sorted(await got(new, 12)) == [f"m-{n:04}" for n in range(12)]
        assert (await operator.done(to="old"))["queued"] == 0
        assert (await operator.done(to="new", through_routes=True))["requests"] == 1
        assert (await operator.done(to="old", through_routes=True, again=True))["queued"] == 12
        assert (await operator.done(to="new", source="site", since=4e9))["requests"] == 0
        assert sorted(Counter(await got(old, 12)).values()) == [2] * 12
        assert len(received(new)) == 12
        problem = await operator.post("replays", 400, to="new", when="event.nothing == 1")
        assert "when" in problem["detail"]
        problem = await operator.post("replays", 400, to="new", since=9, until=8)
        assert (problem["field"], problem["detail"]) == ("until", "until must be later than since")
        problem = await operator.post("replays/99/cancel", 404)
        assert "GET /api/v1/replays lists" in problem["detail"]
        for verb in ("pause", "cancel"):
            problem = await operator.post(f"replays/1/{verb}", 409)
            assert problem["detail"] == f"replay 1 to new is done already; nothing to {verb}"
        finished = await operate(running, "replays", "cancel", "1")
        assert finished.exit_code == 1
        assert "replay 1 to new is done already; nothing to cancel" in finished.output
        begun = await operate(running, "replay", "--to", "new")
        assert begun.output.endswith(" to new is running; see `gateway replays list`\n")


async def test_a_replay_can_be_paused_and_cancelled(tmp_path: Path) -> None:
    """A paused replay gives nothing more; resumed it goes on, and cancelled it ends."""
    async with (
        vendors() as (old, new, client),
        gateway_process(config(tmp_path, old, new)) as running,
    ):
        operator = Operator(running, client)
        for number in range(60):
            await operator.send(number)
        await got(old, 60)
        job = await operator.post("replays", to="new", rate=100)
        await got(new, 5)
        paused = await operator.post(f"replays/{job['id']}/pause")
        queued = paused["counts"]["queued"]
        await got(new, queued)
        assert (paused["state"], len(received(new))) == ("paused", queued)
        resumed = await operator.post(f"replays/{job['id']}/resume")
        assert resumed["state"] == "running"
        await got(new, queued + 5)
        cancelled = await operator.post(f"replays/{job['id']}/cancel")
        assert await got(new, cancelled["counts"]["queued"])
        assert cancelled["state"] == "cancelled"
        again = await operator.post(f"replays/{job['id']}/resume", 409)
        assert again["detail"] == "replay 1 to new is cancelled already; nothing to resume"
        counts = await operator.done(to="new")
        assert counts["queued"] + counts["repeated"] == 60
        assert sorted(received(new)) == [f"m-{n:04}" for n in range(60)]
        assert in_order(received(new))


def archive_config(folder: Path, old: Vendor, new: Vendor) -> Path:
    """Write the configuration with a source whose events go to the new vendor."""
    (folder / "left.txt").write_text("u-left\n")
    path = config(folder, old, new)
    path.write_text(
        path.read_text().replace('to = ["old"]', 'to = ["old"]\nfrom = ["site"]')
        + '[suppression]\nfile = "left.txt"\n'
        + source("segment", "archive-key", name="archive")
        + route("new", more='from = ["archive"]')
    )
    return path


async def operate(running: GatewayProcess, *command: str, text: bytes = b"") -> Result:
    """Run a command beside the running gateway, with *text* as its input."""
    listen = running.admin.removeprefix("http://").removesuffix("/api/v1")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "operator.toml"
        path.write_text(f'[admin]\nlisten = "{listen}"\n')
        words = (*command, "-c", str(path))
        return await asyncio.to_thread(CliRunner().invoke, main, words, input=text)


def messages(each: Vendor) -> dict[str, Any]:
    """Return the time of each message that a vendor got, by message id."""
    batches = [orjson.loads(one.body) for one in each.got]
    return {
        one["messageId"]: one["timestamp"]
        for batch in batches
        for one in batch.get("batch", [batch])
    }


async def test_an_import_takes_each_line_once(tmp_path: Path) -> None:
    """What was exported goes through a source once, with its ids and times; bad lines are named.

    Nothing is stored by a dry run, by a repeated import, or of people on the suppression list.
    """
    async with vendors() as (old, new, client):
        path = archive_config(tmp_path, old, new)
        async with gateway_process(path) as running:
            operator = Operator(running, client)
            for start in range(0, 40, 4):
                await operator.send(*range(start, start + 4))
            await got(old, 40)
            lines = [orjson.dumps(one) for one in await export(path, "--as-received")]
            left = orjson.loads(lines[0])
            body = {
                "writeKey": "archive-key",
                "batch": [event(41) | {"userId": "u-left"}, event(42)],
            }
            left |= {"request": f"{int(left['request'], 16) + 16:024x}", "body": orjson.dumps(body)}
            left["body"] = left["body"].decode()
            file = tmp_path / "past.ndjson"
            neutral = orjson.dumps((await export(path))[0])
            vendor = orjson.dumps(orjson.loads(lines[0]) | {"vendor": "growlytics"})
            deep = orjson.dumps(orjson.loads(lines[0]) | {"body": '{"batch": 1}'})
            bad = [neutral, b"{", vendor, deep]
            file.write_bytes(b"\n".join([*lines, orjson.dumps(left), *bad]) + b"\n")
            dry = await operate(running, "import", str(file), "--source", "archive", "--dry-run")
            assert "would import 11 requests with 41 events" in dry.output, dry.output
            assert received(new) == []

            done = await operate(running, "import", str(file), "--source", "archive")
            assert done.exit_code == 1
            assert "imported 11 requests with 41 events" in done.stdout, done.output
            assert "left out 1 event of people on the suppression list" in done.stdout
            assert "skipped 4 lines" in done.stdout
            assert f"{file}:12: a neutral event" in done.stderr
            assert [f"{file}:{number}: " in done.stderr for number in range(11, 17)] == [
                False, True, True, True, True, False,
            ]  # fmt: skip
            found = await got(new, 41)
            assert sorted(found) == [f"m-{n:04}" for n in (*range(40), 42)]
            assert messages(new).items() >= messages(old).items()

            text = b"\n".join(lines)
            again = await operate(
                running, "import", "-", "--source", "archive", "--from-line", "3", text=text
            )
            assert again.exit_code == 0, again.output
            assert "imported 0 requests with 0 events" in again.stdout
            assert "left out 32 events that the gateway had already" in again.stdout
            unknown = await operate(running, "import", "-", "--source", "archve", text=text)
            assert "did you mean" in unknown.output.lower(), unknown.output
            own = await operate(running, "import", "-", "--json", text=lines[0])
            assert orjson.loads(own.stdout)["counts"]["events"] == 4
            assert sorted(await got(old, 40))[:8:2] == [f"m-{n:04}" for n in range(4)]
            assert len(received(new)) == 41
            async with client.get(f"{running.admin}/audit") as answer:
                actions = (await answer.json())["entries"]
            detail = "11 requests with 41 events through archive, 2 refused"
            assert detail in {
                one["detail"] for one in actions if one["action"] == "import_requests"
            }


async def test_a_replay_respects_who_refuses(tmp_path: Path) -> None:
    """Consent is asked again where routes ask for it, and a list loaded meanwhile counts.

    A dry run is none of the replays of the audit log.
    """
    async with vendors() as (old, new, client):
        path = config(tmp_path, old, new)
        text = path.read_text()
        asking = text + route("new", name="ads", more='steps = [{ consent = "ads" }]')
        path.write_text(asking)
        async with gateway_process(path) as running:
            operator = Operator(running, client)
            for number in range(14):
                await operator.send(number)
            await got(old, 14)
            refused = await operator.post("replays", 409, to="new")
            assert refused["detail"].startswith("routes to new ask for consent; replay with --thr")
            assert (await operator.done(to="new", through_routes=True, dry_run=True))["queued"] == 0
            path.write_text(text)
            await operator.post("config/reload")
            await operator.post("destinations/new/pause")
            job = await operator.post("replays", to="new")
            again = await operator.post("replays", 409, to="new")
            assert again["detail"].startswith(f"replay {job['id']} to 'new' is not finished")
            (tmp_path / "left.txt").write_text("u-6\n")
            path.write_text(text + '[suppression]\nfile = "left.txt"\n')
            await operator.post("config/reload")
            await operator.post("destinations/new/resume")
            await running.saw("replay_done", 2)
            assert sorted(received(new)) == [f"m-{n:04}" for n in range(14) if n % USERS != 6]
            async with client.get(f"{running.admin}/audit") as answer:
                entries = (await answer.json())["entries"]
            details = [one["detail"] for one in entries if one["action"] == "begin_replay"]
            assert [each for each in details if each] == ["replay 2", "dry run 1"]


async def test_a_running_replay_follows_reloads(tmp_path: Path) -> None:
    """Wider routes count for all that is not given yet; it pauses if it cannot deliver any more.

    That is when routes ask for consent, or the destination is removed.
    """
    async with vendors() as (old, new, client):
        path = config(tmp_path, old, new)
        text = path.read_text()
        async with gateway_process(path) as running:
            operator = Operator(running, client)

            async def reload(more: str) -> None:
                path.write_text(text + route("new", name="ads", more=more))
                await operator.post("config/reload")

            for number in range(14):
                await operator.send(number)
            await got(old, 14)
            await reload('names = ["Bought"]')
            await operator.post("destinations/new/pause")
            await operator.post("replays", to="new", through_routes=True)
            await operator.done(to="old", dry_run=True, again=True)  # the other has read its page
            await reload('names = ["*"]')
            await operator.post("destinations/new/resume")
            await running.saw("replay_done", 2)
            assert set(received(new)) == {f"m-{n:04}" for n in range(14)}

            await operator.post("destinations/new/pause")
            await operator.post("replays", to="new", again=True)
            await reload('steps = [{ consent = "ads" }]')
            await operator.post("destinations/new/resume")
            await running.saw("replay_paused")
            paused = (await operator.replays())[0]
            assert paused["state"] == "paused"
            assert "ask for consent" in paused["reason"]
            assert len(received(new)) == 14

            await operator.post(f"replays/{paused['id']}/cancel")
            path.write_text(text)
            await operator.post("config/reload")
            await operator.post("destinations/new/pause")
            job = await operator.post("replays", to="new", again=True)
            start, end = text.index("[destinations.new]"), text.index("[[routes]]")
            path.write_text(text[:start] + text[end:])
            await operator.post("config/reload")
            await running.saw("replay_paused", 2)
            gone = (await operator.replays())[0]
            reason = "there is no destination new; configure it again, or cancel the replay"
            assert (gone["state"], gone["reason"]) == ("paused", reason)
            refused = await operator.post(f"replays/{job['id']}/resume", 409)
            assert refused["detail"] == reason
            path.write_text(text)
            await operator.post("config/reload")
            await operator.post(f"replays/{job['id']}/resume")
            await operator.post("destinations/new/resume")
            await got(new, 14)


@pytest.mark.parametrize(("during", "given"), [("retained", 0), ("replay_entry", 2)])
async def test_a_reload_while_a_replay_reads_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str, given: int
) -> None:
    """Routes that ask for consent pause a replay whenever they come: between pages, or groups."""
    monkeypatch.setattr(runner, "PAGE", 6)
    monkeypatch.setattr(runner, "GROUP", 2)
    async with administered(tmp_path, CONSENT) as admin:
        run, gateway = admin.running, admin.running.gateway
        for number in range(1, 13):
            body = event(number) | {
                "writeKey": "site-key",
                "event": "Bought" if number > 6 else "Seen",
            }
            async with run.client.post(f"{run.url}/v1/track", json=body) as answer:
                assert answer.status == 200
        await run.watch.until(lambda watch: len(watch.settled) == 12)
        real, calls = getattr(gateway.spool, during), 0

        async def reload_at_second(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            number = calls
            found = await real(*args)
            if number == 2:
                path = gateway.config.path
                path.write_text(path.read_text() + ASKING)
                await admin.context.reloading.reload_now()
            return found

        monkeypatch.setattr(gateway.spool, during, reload_at_second)
        with capture_logs() as lines:
            await admin.post("/replays", {"to": "mail", "name": "Bought"})
            (task,) = [one for one in asyncio.all_tasks() if one.get_name() == "replay/1"]
            await asyncio.wait_for(task, PATIENCE)
        assert [one["reason"] for one in lines if one["event"] == "replay_paused"]
        (job,) = (await admin.get("/replays"))["replays"]
        assert (job["state"], job["counts"]["queued"]) == ("paused", given)
        await run.watch.until(lambda watch: len(watch.settled) == 12 + given)
