"""Shadow destinations over real sockets: events are compared and not sent, until the switch."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.loader.load import load
from gateway.errors import SpoolError
from gateway.shadow.store import ShadowStore
from gateway.shadow.tally import Count, Key
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.testing import load_samples
from gateway.testing.spool.contract import eventually
from tests.e2e.configs import SETTINGS, destination
from tests.e2e.running import PATIENCE, Running, running

CLOSED_PORT = 9
"""The discard port, which is closed."""
SAMPLES = load_samples(Path(__file__).parents[1] / "vendors/personaclick")
VIEW, ORDER = SAMPLES["view"], SAMPLES["purchase"]
SPOOL = "spool"


def config(folder: Path, new: str) -> Callable[[str], str]:
    """Return a function that makes a configuration: PersonaClick beside *new*, a table."""

    def made(sandbox: str) -> str:
        return (
            f'[server]\nlisten = "127.0.0.1:0"\n[spool]\npath = "{folder / SPOOL}"\n'
            f'[sources.shop]\nvendor = "personaclick"\nkeys = "any"\n'
            f"{destination('personaclick', sandbox)}"
            f"[destinations.new]\n{new.format(sandbox=sandbox)}\n"
            '[[routes]]\nto = ["personaclick", "new"]\n'
        )

    return made


LOOKS_ON = 'vendor = "chrts"\nurl = "{sandbox}/chrts"\nshadow = true'
TRIES = f'vendor = "chrts"\nurl = "{{sandbox}}/chrts"\nshadow = "send"\n{SETTINGS["chrts"]}'
DELIVERS = f'vendor = "chrts"\nurl = "{{sandbox}}/chrts"\n{SETTINGS["chrts"]}'


async def post(run: Running, sample: Mapping[str, Any]) -> None:
    """Send a sample of PersonaClick's client."""
    raw = sample["request"]
    headers = {"content-type": "application/json", **raw.get("headers", {})}
    async with run.client.request(
        raw["method"], run.url + raw["url"], data=orjson.dumps(raw["body"]), headers=headers
    ) as answer:
        assert answer.status == sample["answer"]["status"], await answer.text()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until *holds* returns true; it reads state that signals no change."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.005)


async def seen(run: Running, number: int) -> dict[Key, Count]:
    """Return what the shadow has recorded after *number* events."""
    await until(lambda: run.gateway.teams["new"].counts.shadowed >= number)
    await run.gateway.shadows.flush()
    return run.gateway.shadows.file.read("new")


def answers(counts: Mapping[Key, Count]) -> dict[str, int]:
    """Return the test account's responses, counted by kind."""
    return {key.how: count.number for key, count in counts.items() if key.what == "answer"}


def shadow_report(folder: Path, *args: str) -> dict[str, Any]:
    """Return the report on the shadow as JSON."""
    path = str(folder / "gateway.toml")
    found = CliRunner().invoke(main, ["shadow", "report", "--config", path, "--json", *args])
    assert found.exit_code == 0, found.output
    (report,) = orjson.loads(found.stdout)
    return dict(report)


async def test_a_shop_compares_before_it_switches(tmp_path: Path) -> None:
    """A shadow gets nothing and the report shows its losses; after the switch it gets events."""
    async with running(tmp_path, config(tmp_path, LOOKS_ON)) as run:
        for sample in (VIEW, VIEW, ORDER):
            await post(run, sample)
        await run.watch.until(lambda w: len(w.settled) == 3)
        await seen(run, 3)
        assert {where for _, where, _ in run.watch.settled} == {"personaclick"}
        assert {entry["vendor"] for entry in await run.journal()} == {"personaclick"}

        report = shadow_report(tmp_path)
        assert (report["seen"], report["arriving"], report["safe"]) == (3, 3, False)
        lost = {line["field"]: line for line in report["fields"] if line["kind"] == "lost"}
        assert lost["session_id"]["sent_as"] == "seance"
        assert lost["session_id"]["number"] == 3
        accepted = [word for field in lost for word in ("--accept", field)]
        assert shadow_report(tmp_path, *accepted)["safe"] is True

        path = tmp_path / "gateway.toml"
        path.write_text(config(tmp_path, DELIVERS)(run.sandbox))
        await run.gateway.apply(load(path, run.gateway.registry))
        await post(run, ORDER)
        await run.watch.until(lambda w: len(w.settled) == 5)
        (got,) = await run.journal("chrts")
        assert got["verdict"] == "accepted"
        assert got["body"]["name"] == "Order Completed"
        assert shadow_report(tmp_path)["seen"] == 3


async def test_a_shadow_counts_only_as_shadowed(tmp_path: Path) -> None:
    """A shadow has no deliveries, dead letters or backlog, and leaves nothing pending."""
    declines = 'vendor = "quartic"\nurl = "{sandbox}/quartic"\nshadow = true'
    async with running(tmp_path, config(tmp_path, declines)) as run:
        for sample in (VIEW, SAMPLES["cart"], SAMPLES["search"]):
            await post(run, sample)
        counts = await seen(run, 3)
        state = run.gateway.teams["new"].status()
        assert (state.delivered, state.declined, state.dead, state.retried) == (0, 0, 0, 0)
        assert (state.shadowed, state.circuit) == (3, "closed")
        ways = sorted((key.what, key.event) for key in counts if not key.field)
        assert ways == [
            ("declined", "Product Added"),
            ("declined", "Products Searched"),
            ("goes", "Product Viewed"),
        ]
    with DeadLetterStore(tmp_path / SPOOL) as box:
        assert box.dead_letters() == []
    async with running(tmp_path, config(tmp_path, declines)) as run:
        assert (await run.gateway.spool.depths())["new"].backlog == 0


async def test_a_test_account_is_compared(tmp_path: Path) -> None:
    """A test account's responses are counted separately, beside the real deliveries' outcomes."""
    async with running(tmp_path, config(tmp_path, TRIES)) as run:
        await post(run, VIEW)
        await run.watch.until(lambda w: len(w.settled) == 1)
        await seen(run, 1)
        await run.fault(vendor="chrts", status=422, count=1)
        await post(run, ORDER)
        await run.watch.until(lambda w: len(w.settled) == 2)
        counts = await seen(run, 2)
        assert answers(counts) == {"accepted": 1, "refused": 1}
        assert {where for _, where, _ in run.watch.settled} == {"personaclick"}
        assert len(await run.journal("chrts")) == 2
    report = shadow_report(tmp_path)
    beside = {
        (line["outcome"], line["test_account"]): line["number"] for line in report["comparisons"]
    }
    assert beside == {("delivered", "accepted"): 1, ("delivered", "refused"): 1}
    assert "the test account refused 1" in report["verdict"]
    with DeadLetterStore(tmp_path / SPOOL) as box:
        assert box.dead_letters() == []


async def test_a_dead_test_account_delays_nothing(tmp_path: Path) -> None:
    """An unreachable test account refuses no sender and has no backlog; all events are compared."""
    dead = (
        f'vendor = "chrts"\nurl = "http://127.0.0.1:{CLOSED_PORT}"\nshadow = "send"\n'
        f"max_backlog = 5\n{SETTINGS['chrts']}"
    )
    async with running(tmp_path, config(tmp_path, dead)) as run:
        for _ in range(20):
            await post(run, VIEW)
            await run.watch.until(lambda w: bool(w.settled))
        await run.watch.until(lambda w: len(w.settled) == 20)
        counts = await seen(run, 20)
        assert sum(answers(counts).values()) == 20
        assert answers(counts)["unanswered"] < 10
        await until(lambda: run.gateway.spool.shards[0].cursor("new") == 20)
        depth = (await run.gateway.spool.depths())["new"]
        assert (depth.retrying, depth.parked, depth.dead_letters) == (0, 0, 0)


async def test_the_backlog_of_a_new_shadow_is_discarded(tmp_path: Path) -> None:
    """A destination that becomes a shadow discards its pending deliveries, and logs how many."""
    dead = DELIVERS.replace("{sandbox}/chrts", f"http://127.0.0.1:{CLOSED_PORT}")
    async with running(tmp_path, config(tmp_path, dead)) as run:
        await post(run, VIEW)
        await until(lambda: run.gateway.teams["new"].counts.retried > 0)
        path = tmp_path / "gateway.toml"
        path.write_text(config(tmp_path, LOOKS_ON)(run.sandbox))
        with structlog.testing.capture_logs() as logs:
            await run.gateway.apply(load(path, run.gateway.registry))
        (line,) = [line for line in logs if line["event"] == "shadow_backlog_discarded"]
        assert (line["destination"], line["deliveries"]) == ("new", 1)
        await seen(run, 1)
        assert await run.journal("chrts") == []


async def test_counts_survive_a_restart(tmp_path: Path) -> None:
    """The report has events from before and after a restart."""
    for _ in range(2):
        async with running(tmp_path, config(tmp_path, LOOKS_ON)) as run:
            await post(run, VIEW)
            await until(lambda run=run: run.gateway.teams["new"].counts.shadowed == 1)  # type: ignore[misc]  # bound at once
    report = shadow_report(tmp_path)
    assert report["seen"] == 2
    assert report["last"] > report["first"]


async def test_a_removed_shadow_that_another_gateway_has_yet_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a spool does not forget a shadow yet, the gateway says so and goes on."""

    async def refuse(destination: str) -> int:
        raise SpoolError(f"gateway other: destination {destination!r} is registered")

    async with running(tmp_path, config(tmp_path, LOOKS_ON)) as run:
        monkeypatch.setattr(run.gateway.spool, "forget", refuse)
        table = "[destinations.new]\n" + LOOKS_ON.format(sandbox=run.sandbox)
        path = tmp_path / "gateway.toml"
        text = config(tmp_path, LOOKS_ON)(run.sandbox)
        path.write_text(text.replace(table, "").replace('"personaclick", "new"', '"personaclick"'))
        with structlog.testing.capture_logs() as logged:
            await run.gateway.apply(load(path, run.gateway.registry))
    kept = [line for line in logged if line["event"] == "removed_destinations_kept"]
    assert [line["reason"] for line in kept] == ["gateway other: destination 'new' is registered"]


@pytest.mark.parametrize("stopped", [False, True], ids=["reloaded", "restarted"])
async def test_a_removed_shadow_leaves_no_backlog(tmp_path: Path, *, stopped: bool) -> None:
    """A shadow that is removed from the file leaves no orphaned backlog."""
    without = ("[destinations.new]\n" + LOOKS_ON, '"personaclick", "new"')

    def fewer(sandbox: str) -> str:
        text = config(tmp_path, LOOKS_ON)(sandbox)
        table = without[0].format(sandbox=sandbox)
        return text.replace(table, "").replace(without[1], '"personaclick"')

    async with running(tmp_path, config(tmp_path, LOOKS_ON)) as run:
        await post(run, VIEW)
        await seen(run, 1)
        if not stopped:
            path = tmp_path / "gateway.toml"
            path.write_text(fewer(run.sandbox))
            await run.gateway.apply(load(path, run.gateway.registry))
            assert await run.gateway.spool.orphans() == {}
    if stopped:

        async def forgotten() -> bool:
            return await run.gateway.spool.orphans() == {}

        async with running(tmp_path, fewer) as run:
            await eventually(forgotten)
    assert ShadowStore(tmp_path / SPOOL).read("new")


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (
            f'{LOOKS_ON}\ncredentials = "client"',
            'shadow: is not possible with credentials = "client"',
        ),
        (LOOKS_ON.replace("true", '"yes"'), 'shadow: must be true, false or "send"'),
        (TRIES.replace(SETTINGS["chrts"], ""), "api_key"),
    ],
)
def test_an_invalid_shadow_is_reported(tmp_path: Path, new: str, said: str) -> None:
    """A shadow takes true, false or "send", no clients' credentials, and sends with its own key."""
    path = tmp_path / "gateway.toml"
    path.write_text(config(tmp_path, new)("http://127.0.0.1:9"))
    found = CliRunner().invoke(main, ["check", "-c", str(path)])
    assert found.exit_code == 1
    assert said in found.stderr


def test_a_shadow_neither_replies_nor_relays(tmp_path: Path) -> None:
    """A shadow cannot reply to a source's clients, nor give its key to relayed calls."""
    path = tmp_path / "gateway.toml"
    path.write_text(
        '[sources.shop]\nvendor = "chrts"\nkeys = ["k"]\nurl = "https://api.example"\n'
        'respond = "upstream"\nrelay_as = "new"\n'
        '[destinations.new]\nvendor = "chrts"\nshadow = true\n[[routes]]\nto = ["new"]\n'
    )
    found = CliRunner().invoke(main, ["check", "-c", str(path)])
    assert "relay_as: [destinations.new] is a shadow; name another destination" in found.stderr
    assert "respond: needs a route to a destination of chrts with passthrough" in found.stderr


def test_a_shadow_is_shown_as_one(tmp_path: Path) -> None:
    """``gateway check`` shows that a destination is a shadow, and of which kind."""
    path = tmp_path / "gateway.toml"
    for new, said in ((LOOKS_ON, "shadow: compared, never sent"), (TRIES, "counted separately")):
        path.write_text(config(tmp_path, new)("http://127.0.0.1:9"))
        found = CliRunner().invoke(main, ["check", "-c", str(path)])
        assert found.exit_code == 0, found.stderr
        assert said in " ".join(found.stdout.split())
