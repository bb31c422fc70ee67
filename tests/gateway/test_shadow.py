"""The parts of shadows: counts, limits, storage and report."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from gateway.cli import main
from gateway.config.steps import Drop
from gateway.delivery.connection import OnEnd
from gateway.delivery.job import AttemptResult, Job, Shadowed
from gateway.delivery.renderer import Renderer
from gateway.errors import SpoolError, TransportError
from gateway.event import Event, Product, Properties
from gateway.http import Request, Response
from gateway.losses.field_outcomes import NO_PLACE, FieldOutcome, spellings, spelt
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.routing.steps import StepChain
from gateway.shadow.report import ShadowReport, report
from gateway.shadow.sender import REMEMBERED, LiveComparison, ShadowSender
from gateway.shadow.store import ShadowStore
from gateway.shadow.tally import (
    MOST_FIELDS,
    MOST_NAMES,
    MOST_REASONS,
    Count,
    Key,
    ShadowTally,
    example,
)
from gateway.spool import DeliveryRef, Entry
from gateway.verdict import Declined, Delivered, Refused

EVENT = Event(
    type="track",
    name="Product Viewed",
    id="r-0",
    origin="personaclick",
    user_id="u1",
    session_id="s1",
    properties=Properties(products=(Product(product_id="1"),)),
)
LOST = FieldOutcome(
    "session_id",
    "lost",
    "s1",
    "",
    'it is context of the event, not one of its properties; to send it: include = ["session_id"]',
)
KEPT = FieldOutcome("user_id", "kept", "u1", "uid", "")


def goes(event: str = "Product Viewed", vendor: str = "personaclick") -> Key:
    """Return the counter key of events that would be sent."""
    return Key("new", vendor, event, "goes")


def field(name: str, how: str, why: str = "") -> Key:
    """Return the counter key of a field's outcome."""
    return Key("new", "personaclick", "Product Viewed", "field", name, how, why)


def count(number: int = 1, first: float = 1.0, last: float = 2.0, shown: str = "") -> Count:
    """Return a count."""
    return Count(number, first, last, shown)


def concluded(counts: Mapping[Key, Count], *accepted: str) -> ShadowReport:
    """Return the report on *counts*."""
    return report("new", counts, lambda _, name: name.upper(), accepted)


# Counting


def test_a_field_counts_once_per_event() -> None:
    """A field counts once per event; only fields that are not kept have an example."""
    tally = ShadowTally()
    for at in (5.0, 7.0):
        tally.event("new", EVENT, "goes", at)
        tally.fields("new", EVENT, [LOST, LOST, KEPT], at)
    found = tally.drain()
    assert found[goes()] == count(2, 5.0, 7.0)
    assert found[field("session_id", "lost", LOST.why)] == count(2, 5.0, 7.0, "text of 2")
    assert found[field("user_id", "kept")] == count(2, 5.0, 7.0)
    assert not tally.drain()


def test_restored_counts_are_added() -> None:
    """Restored counts are added to those that arrived in the meantime."""
    tally = ShadowTally()
    tally.event("new", EVENT, "goes", 1.0)
    before = tally.drain()
    tally.event("new", EVENT, "goes", 2.0)
    tally.restore(before)
    assert tally.drain() == {goes(): count(2, 1.0, 2.0)}


def test_memory_is_bounded() -> None:
    """Names, fields and reasons from senders are counted separately up to a limit each."""
    tally = ShadowTally()
    for number in range(1000):
        event = replace(EVENT, name=f"event {number}")
        tally.event("new", event, "declined", 1.0, f"no way to say it, {number}")
        path = f"properties.extra.k{number}"
        tally.fields("new", event, [FieldOutcome(path, "lost", 1, "", "no place")], 1.0)
    found = tally.drain()
    assert len({key.event for key in found}) == MOST_NAMES + 1
    assert len({key.field for key in found if key.field}) == MOST_FIELDS + 1
    assert "properties.extra.*" in {key.field for key in found}
    assert len({key.why for key in found if key.what == "declined"}) == MOST_REASONS + 1


def test_varying_reasons_count_as_one() -> None:
    """Reasons that differ only in an id, number or address count as one; names are truncated."""
    tally = ShadowTally()
    for number in range(3):
        event = replace(EVENT, id=f"r-{number}", name="n" * 9999)
        why = f"r-{number}: no 'x{number}' for ada{number}@shop.example, order 10000{number}"
        tally.event("new", event, "unrenderable", 1.0, why)
        loss = FieldOutcome(f"properties.products[{number}]", "lost", 1, "", "no place")
        tally.fields("new", event, [loss], 1.0)
    whole, member = tally.drain()
    assert whole.why == "no '…' for …, order …"
    assert len(whole.event) < 100
    assert member.field == "properties.products[]"


def test_bounds_hold_across_restarts() -> None:
    """Names known before a restart stay separate, and count towards the limit."""
    tally = ShadowTally()
    tally.know(goes(f"event {number}") for number in range(MOST_NAMES))
    tally.event("new", replace(EVENT, name="new one"), "goes", 1.0)
    tally.event("new", replace(EVENT, name="event 7"), "goes", 1.0)
    assert {key.event for key in tally.drain()} == {"(others)", "event 7"}


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("properties.coupon", "MAY", '"MAY"'),
        ("properties.total", 9.5, "9.5"),
        ("properties.query", "x" * 99, '"' + "x" * 22 + "…"),
        ("properties.query", "ada@shop.example", "text of 16"),
        ("traits.first_name", "Ada", "text of 3"),
        ("traits.age", 35, "number"),
        ("user_id", "u-1", "text of 3"),
        ("context.ip", "192.0.2.7", "text of 9"),
        ("properties.extra.address", "1 Some Street", "text of 13"),
        ("properties.extra.gift", True, "true"),
        ("properties.extra.many", [1, 2], "list of 2"),
        ("traits.address", {"city": "London"}, "object of 1"),
        ("properties.products[1]", Product(product_id="1", price=2), "object of 2"),
    ],
)
def test_examples_hide_personal_values(path: str, value: Any, shown: str) -> None:
    """Examples show only the length of personal values, and truncate others."""
    assert example(path, value) == shown


def test_both_sides_of_an_event_meet_in_any_order() -> None:
    """The test account's response is compared with each live outcome, in any order."""
    tally = ShadowTally()
    comparison = LiveComparison(tally)
    comparison.answered("new", "r-0", "refused", 1.0)
    comparison.settled("old", "r-0", Delivered(), 2.0)
    comparison.settled("old", "r-1", Refused("no"), 3.0)
    comparison.answered("new", "r-1", "accepted", 4.0)
    comparison.settled("old", "r-2", Declined("no way"), 5.0)
    comparison.answered("new", "r-2", "accepted", 6.0)
    assert {(key.field, key.how) for key in tally.drain()} == {
        ("old", "delivered, refused"),
        ("old", "refused, accepted"),
    }


def test_one_side_is_remembered_for_a_while() -> None:
    """Events with only one side are kept up to a limit."""
    tally = ShadowTally()
    comparison = LiveComparison(tally)
    for number in range(REMEMBERED + 1):
        comparison.settled("old", f"r-{number}", Delivered(), 1.0)
    comparison.answered("new", "r-0", "accepted", 2.0)
    comparison.answered("new", f"r-{REMEMBERED}", "accepted", 2.0)
    assert sum(each.number for each in tally.drain().values()) == 1


# The sender


class Account:
    """A transport that gives one prepared response after the other."""

    def __init__(self, *answers: Response | TransportError) -> None:
        self.answers = list(answers)
        self.sent: list[Request] = []

    def post(self, request: Request, on_end: OnEnd, *, whole: bool = False) -> None:
        """Pass the next response on."""
        del whole
        self.sent.append(request)
        asyncio.get_running_loop().call_soon(on_end, self.answers.pop(0))

    async def close(self) -> None:
        """Do nothing."""


def job(event: Event = EVENT, steps: StepChain | None = None) -> Job:
    """Return a job for *event*."""
    entry = Entry("r", "shop", Request(method="POST", url="/"), {"new": (0,)}, "personaclick")
    return Job(DeliveryRef(1, 0), entry, event, steps=steps)


async def looked(vendor: str, *jobs: Job, account: Account | None = None) -> Mapping[Key, Count]:
    """Return the counts after a shadow of *vendor* processed *jobs*; it sends only to *account*."""
    tally = ShadowTally()
    rendering = Renderer(placeholder_output(load_plugins().outputs[vendor]))
    comparison = LiveComparison(tally) if account is not None else None
    sender = ShadowSender("new", rendering, account or Account(), tally, comparison)
    for one in jobs:
        result: asyncio.Future[AttemptResult] = asyncio.get_running_loop().create_future()
        sender.send([one], result.set_result)
        assert not result.done(), "it must let other work run"
        outcome = await result
        assert isinstance(outcome.verdict, Shadowed)
        assert outcome.attempt is None
    return tally.drain()


async def test_a_shadow_sends_nothing() -> None:
    """A shadow renders an event, counts its fields, and sends nothing."""
    found = await looked("chrts", job())
    assert found[goes()].number == 1
    assert found[field("session_id", "lost", LOST.why)].number == 1
    assert found[field("properties.products[].product_id", "kept")].number == 1


async def test_a_shadow_notes_why_an_event_would_not_go() -> None:
    """Declined and unrenderable events count with their reasons."""
    declined = replace(EVENT, name="Cart Updated")
    found = await looked("quartic", job(declined))
    ((key, _),) = found.items()
    assert (key.what, key.event) == ("declined", "Cart Updated")
    assert "'…'" in key.why
    odd = replace(EVENT, properties=Properties(extra={"n": 1 << 80}))
    ((key, _),) = (await looked("chrts", job(odd))).items()
    assert key.what == "unrenderable"


async def test_a_plugins_mistake_is_noted() -> None:
    """An exception in a plugin counts as unrenderable, and the shadow continues."""
    broken = replace(EVENT, anonymous_id=3)
    found = await looked("chrts", job(broken), job())
    assert sorted(key.what for key in found if not key.field) == ["goes", "unrenderable"]


async def test_a_field_removed_by_a_route_is_no_loss() -> None:
    """A field that a route's steps remove counts as removed by that route."""
    steps = StepChain("careful", [Drop.model_validate({"drop": ["session_id"]})])
    found = await looked("chrts", job(steps=steps))
    (removed,) = [key for key in found if key.how == "removed"]
    assert removed.field == "session_id"
    assert "'careful'" in removed.why
    assert not any(key.how == "lost" for key in found)


async def test_a_test_accounts_answers_are_counted() -> None:
    """The test account's responses count as accepted or refused, and are never retried."""
    account = Account(Response(200), Response(400, body=b"no such event"))
    found = await looked("chrts", job(), job(), account=account)
    answers = {key.how: key.why for key in found if key.what == "answer"}
    assert answers == {"accepted": "", "refused": "HTTP 400: no such event"}
    assert len(account.sent) == 2


@pytest.mark.parametrize(
    "trouble",
    [Response(503), Response(401), Response(429), TransportError("connect", "cannot connect")],
    ids=str,
)
async def test_a_failing_test_account_gets_a_pause(trouble: Response | TransportError) -> None:
    """After a failure the test account gets no requests for a while; counting continues."""
    account = Account(trouble)
    found = await looked("chrts", job(), job(), job(), account=account)
    assert {key.how: n.number for key, n in found.items() if key.what == "answer"} == {
        "unanswered": 1,
        "unasked": 2,
    }
    assert found[goes()].number == 3
    assert len(account.sent) == 1


async def test_no_credential_is_noted() -> None:
    """A credential in the test account's response is redacted."""
    body = b'no key "placeholder-credential" here'
    found = await looked("chrts", job(), account=Account(Response(400, body=body)))
    assert not any("placeholder" in part for key in found for part in key)


async def test_other_tasks_run_meanwhile() -> None:
    """Other tasks run while a shadow processes many events."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(other())
    await looked("chrts", *(job() for _ in range(20)))
    task.cancel()
    assert turns >= 20


# The file


def test_sums_survive_and_add_up(tmp_path: Path) -> None:
    """Stored counts add up, and keep the first time, the last time and the first example."""
    key = field("session_id", "lost")
    ShadowStore(tmp_path).add({key: count(2, 5.0, 6.0, "one"), goes(): count()})
    ShadowStore(tmp_path).add({key: count(3, 4.0, 9.0, "two")})
    assert ShadowStore(tmp_path).read() == {key: count(5, 4.0, 9.0, "one"), goes(): count()}
    assert ShadowStore(tmp_path).read("other") == {}
    assert (ShadowStore(tmp_path).path.stat().st_mode & 0o777) == 0o600


def test_nothing_is_made_without_shadows(tmp_path: Path) -> None:
    """A gateway without shadows creates no shadow file."""
    file = ShadowStore(tmp_path)
    file.name(set(), {"crm"})
    assert (file.read(), file.names(), file.clear()) == ({}, set(), 0)
    assert not file.path.exists()


def test_shadows_are_remembered_until_they_deliver(tmp_path: Path) -> None:
    """A removed shadow stays known; a shadow that becomes a destination does not."""
    file = ShadowStore(tmp_path)
    file.name({"new", "newer"}, set())
    file.name(set(), {"new"})
    assert file.names() == {"newer"}


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    """A file that is no shadow database is an error that names the file."""
    file = ShadowStore(tmp_path)
    file.path.write_bytes(b"no database, though long enough to be taken for one " * 99)
    with pytest.raises(SpoolError, match=r"shadow\.db"):
        file.read()


# The report


def test_a_report_without_events_says_so() -> None:
    """Without events, the report says so."""
    assert "No event seen yet" in concluded({}).verdict


def test_it_is_safe_to_switch_if_everything_is_kept() -> None:
    """It is safe to switch if every event is sent and every field is kept."""
    found = concluded({goes(): count(7), field("user_id", "kept"): count(7)})
    assert found.verdict == "Safe to switch: everything of 7 events would arrive."
    assert (found.open, found.kept, found.seen, found.arriving) == ([], 1, 7, 7)
    assert (found.first, found.last) == (1.0, 2.0)


COUNTS = {
    goes(): count(8),
    Key("new", "personaclick", "alias", "declined", why="no way"): count(2),
    Key("new", "personaclick", "alias", "unrenderable", why="no id"): count(1),
    field("session_id", "lost", "no place"): count(5, shown="text of 2"),
    field("session_id", "kept"): count(3),
    field("timestamp", "coerced", "whole seconds"): count(1),
    Key("new", "personaclick", "Product Viewed", "answer", how="refused", why="HTTP 400"): count(4),
    Key("new", "", "", "skipped"): count(9),
    Key("new", "", "", "beside", "old", "delivered, refused"): count(4),
}


def test_a_report_counts_every_obstacle() -> None:
    """The report counts undelivered events, lost and coerced fields, and refusals."""
    found = concluded(COUNTS)
    assert found.verdict == (
        "Not safe to switch yet: 3 of 11 events would not arrive; 1 field would be lost; "
        "1 field would be coerced; the test account refused 4."
    )
    assert found.skipped == 9
    lost, coerced = found.fields
    assert (lost.field, lost.sent_as, lost.number, lost.total) == ("session_id", "SESSION_ID", 5, 8)
    assert coerced.kind == "coerced"
    assert found.events[1].reasons == (("no way", 2), ("a dead letter: no id", 1))
    assert found.comparisons == [("old", "delivered", "refused", 4)]


def test_accepted_losses_do_not_affect_the_verdict() -> None:
    """Accepted fields and events are marked, and do not affect the verdict."""
    counts = {key: each for key, each in COUNTS.items() if key.what != "answer"}
    found = concluded(counts, "session_*", "timestamp", "alias")
    assert (
        found.verdict
        == "Safe to switch: everything except what you accept of 11 events would arrive."
    )
    assert all(line.accepted for line in found.fields)


def test_removed_fields_do_not_affect_the_verdict() -> None:
    """Fields that a route removes are listed, and do not affect the verdict."""
    found = concluded({goes(): count(2), field("session_id", "removed", "a step"): count(2)})
    assert found.verdict.endswith("would arrive, except what the route's steps remove.")
    assert found.fields


@pytest.mark.parametrize(
    ("path", "wire"),
    [
        ("context.page.url", "referer"),
        ("properties.products[].quantity", "items[].amount"),
        ("properties.extra.own", "own"),
        ("extra.sid", "sid"),
        ("context.timezone", ""),
    ],
)
def test_fields_have_the_senders_paths(path: str, wire: str) -> None:
    """A field has its path in the sender's payload, also a free key or a leftover."""
    assert spelt(path, spellings(load_plugins().inputs["personaclick"]())) == wire


# The command


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """Return the path of a configuration whose shadow has counts."""
    folder = tmp_path / "spool"
    folder.mkdir()
    ShadowStore(folder).add(COUNTS)
    path = tmp_path / "gateway.toml"
    path.write_text(f'[spool]\npath = "{folder}"\n')
    return path


def shadow(*args: str | Path) -> Result:
    """Run ``gateway shadow`` and return its result."""
    return CliRunner().invoke(main, ["shadow", *map(str, args)])


def lines(found: Result) -> list[str]:
    """Return the output's lines with single spaces."""
    return [" ".join(line.split()) for line in found.stdout.splitlines()]


def test_the_report_is_printed(seen: Path) -> None:
    """The report starts with the verdict; events, fields, responses and comparisons follow."""
    found = shadow("report", "--config", seen)
    assert found.exit_code == 0, found.output
    told = lines(found)
    assert told[0] == "new"
    assert told[1].startswith("Not safe to switch yet: 3 of 11 events would not arrive;")
    for line in (
        "9 more were skipped: they came faster than they can be compared",
        "Product Viewed personaclick 8 8",
        "alias personaclick 3 0",
        "2 no way alias",
        "lost: no place",
        "session_id seance 5 of 8 text of 2",
        "coerced: whole seconds",
        "4 refused HTTP 400",
        "4 old delivered refused",
    ):
        assert line in told
    assert max(map(len, found.stdout.splitlines())) < 100


def test_each_reason_is_told_with_its_fields(tmp_path: Path) -> None:
    """Every lost field stands below its reason, also the commonest: the vendor has no place."""
    why = f"quartic {NO_PLACE}"
    lost = {field(name, "lost", why): count() for name in ("session_id", "context.ip")}
    ShadowStore(tmp_path).add({goes(): count(), **lost})
    path = tmp_path / "gateway.toml"
    path.write_text(f'[spool]\npath = "{tmp_path}"\n')
    told = lines(shadow("report", "--config", path))
    begin = told.index(f"lost: {why}")
    assert [line.split(" ")[0] for line in told[begin + 2 : begin + 4]] == [
        "context.ip",
        "session_id",
    ]


@pytest.mark.parametrize("options", [(), ("--json",), ("--accept", "*")])
def test_the_exit_code_says_not_safe(seen: Path, options: Sequence[str]) -> None:
    """With ``--exit-code`` the report exits with 1 while a shadow is not safe to switch to."""
    assert shadow("report", "--config", seen, "--exit-code", *options).exit_code == 1
    assert shadow("report", "--config", seen, *options).exit_code == 0


def test_the_exit_code_says_safe(seen: Path) -> None:
    """``--exit-code`` exits with 0 once all that was seen arrives or is accepted."""
    file = ShadowStore(seen.parent / "spool")
    file.clear()
    assert shadow("report", "--config", seen, "--exit-code").exit_code == 1
    file.add({goes(): count(), field("session_id", "lost", "no place"): count()})
    assert shadow("report", "--config", seen, "--exit-code").exit_code == 1
    accepted = shadow("report", "--config", seen, "--exit-code", "--accept", "session_id")
    assert accepted.exit_code == 0


def test_the_report_marks_what_is_accepted(seen: Path) -> None:
    """``--accept`` marks the accepted fields."""
    told = lines(shadow("report", "--config", seen, "--accept", "session_id"))
    assert any(line.startswith("session_id (accepted) seance") for line in told)


def test_the_report_prints_json(seen: Path) -> None:
    """``--json`` prints the whole report, with the verdict."""
    (found,) = orjson.loads(shadow("report", "--config", seen, "--json").stdout)
    assert found["safe"] is False
    assert found["fields"][0]["sent_as"] == "seance"
    assert found["comparisons"][0]["destination"] == "old"


def test_the_report_names_the_nearest(seen: Path) -> None:
    """An unknown shadow is an error that suggests the closest name."""
    found = shadow("report", "--config", seen, "--destination", "nwe")
    assert found.exit_code == 2
    assert "no shadow 'nwe'; did you mean new?" in found.stderr


def test_reset_deletes_the_counts(seen: Path) -> None:
    """After ``reset`` there are no counts, and the report says so."""
    assert shadow("reset", "--config", seen, "--destination", "other").exit_code == 2
    assert shadow("reset", "--config", seen).stdout == "the counts were deleted\n"
    assert shadow("reset", "--config", seen).stdout == "there was nothing to delete\n"
    assert "no shadow has seen an event yet" in shadow("report", "--config", seen).stdout
