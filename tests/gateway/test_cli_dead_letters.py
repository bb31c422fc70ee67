"""``gateway dead-letters`` on a real spool, while a gateway has it open."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.dead_letters import with_message
from gateway.http import Request
from gateway.observability.redacted_request import _without
from gateway.spool import (
    Attempt,
    BacklogLimit,
    Cause,
    DeadLettersReplayed,
    DeliveryRef,
    Entry,
    FailedDelivery,
    Progress,
    SpoolNotice,
    delivery_number,
)
from gateway.spool.sqlite.spool import SqliteSpool

PATIENCE = 60.0
AT = datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()
SHOP_ID = "canary0d42fd8b713d0752776ca589cc"
BODY = {"shop_id": SHOP_ID, "shop_secret": "canary-two", "event": "view", "did": "d1",
        "items": [{"id": "100500"}]}  # fmt: skip
SENT = {
    "method": "POST",
    "url": "https://crm.example/event/track",
    "headers": {"authorization": "Bearer ***"},
    "body": '{"name":"Product Viewed"}',
}


class Place:
    """A folder with a configuration, and a spool that this process holds open."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "gateway.toml"
        self.config.write_text(
            f'[spool]\npath = "{folder / "spool"}"\n'
            '[sources.shop]\nvendor = "personaclick"\nkeys = "any"\n'
            '[destinations.crm]\nvendor = "chrts"\nurl = "http://crm.example"\n'
            'api_key = "${CRM_KEY}"\n[[routes]]\nto = ["crm"]\n'
        )
        self.spool = SqliteSpool(folder / "spool")

    async def give_up(
        self, destination: str, cause: Cause, reason: str, *, at: float, name: str, user: str
    ) -> None:
        """Create a dead letter."""
        request = Request(
            method="POST",
            url="/push",
            headers={"content-type": "application/json"},
            body=orjson.dumps(BODY),
            id=f"req-{at:.0f}",
            received_at=datetime.fromtimestamp(at, UTC),
        )
        entry = Entry(request.id, "shop", request, {destination: (0,)}, "personaclick")
        seq = (await self.spool.append(entry)).seq
        tried = Attempt(at, 400, 0.25, "no such product")
        failed = FailedDelivery(
            DeliveryRef(seq, 0), cause, reason, at, (tried,), orjson.dumps(SENT), name, user
        )
        await self.spool.settle(destination, Progress(seq, dead=[failed]))

    async def gateway(self, *args: str) -> Result:
        """Run ``gateway dead-letters`` beside the open spool, and return its result."""
        command = ["dead-letters", args[0], "--config", str(self.config), *args[1:]]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    async def ids(self) -> list[int]:
        """Return the ids of all dead letters."""
        return [letter.id for letter in await self.spool.dead_letters()]


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """Yield a place with four dead letters, of two destinations."""
    monkeypatch.setenv("CRM_KEY", "key-of-crm")
    made = Place(tmp_path)
    await made.spool.open()
    await made.spool.register({"crm": BacklogLimit(), "mail": BacklogLimit()})
    await made.give_up(
        "crm", "refused", "HTTP 400: no such product", at=AT, name="Product Viewed", user="u1"
    )
    await made.give_up(
        "crm", "refused", "HTTP 422: No Such field", at=AT + 60, name="Order Completed", user="u2"
    )
    await made.give_up(
        "mail", "expired", "given up after 3", at=AT + 120, name="Product Viewed", user="u1"
    )
    await made.give_up(
        "mail", "unrenderable", "[red]lacks a price[/red]", at=AT + 180, name="", user=""
    )
    yield made
    await made.spool.close()


async def test_a_list_has_a_line_per_dead_letter(place: Place) -> None:
    """Each dead letter is a line with id, time, destination, event, user, cause and reason."""
    found = await place.gateway("list")
    assert found.exit_code == 0, found.stderr
    lines = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert lines[0] == "id at destination event user cause reason"
    assert lines[1].startswith("1 2024-05-01 crm Product Viewed u1 refused HTTP 400")
    assert "[red]lacks" in found.stdout
    assert max(map(len, found.stdout.splitlines())) < 100


@pytest.mark.parametrize("command", ["list", "replay", "delete"])
async def test_an_unknown_destination_is_an_error(place: Place, command: str) -> None:
    """A misspelt destination is an error that suggests the closest name; nothing changes."""
    found = await place.gateway(command, "--destination", "crn")
    assert found.exit_code == 2
    assert found.stderr == "Error: there is no destination 'crn'; did you mean crm?\n"
    assert len(await place.ids()) == 4


async def test_control_characters_do_not_reach_the_terminal(place: Place) -> None:
    """Control characters in names, users and reasons do not reach the terminal."""
    evil = "\x1b]0;mine\x07\x1b[2J"
    await place.give_up("crm", "refused", f"HTTP 400: {evil}", at=AT + 240, name=evil, user=evil)
    for args in (("list",), ("show", "5")):
        found = await place.gateway(*args)
        assert found.exit_code == 0, found.stderr
        assert "\x1b" not in found.stdout
        assert "mine" in found.stdout


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--destination", "mail"], [3, 4]),
        (["--reason", "no such"], [1, 2]),
        (["--cause", "expired"], [3]),
        (["--event", "Product Viewed"], [1, 3]),
        (["--user", "u2"], [2]),
        (["--request", f"req-{AT:.0f}"], [1]),
        (["--since", "2024-05-01T12:01", "--until", "2024-05-01T14:03:00+02:00"], [2, 3]),
        (["--since", "1h"], []),
        (["--until", "1h"], [1, 2, 3, 4]),
        (["--event", "Product Viewed", "--destination", "crm"], [1]),
        (["--after", "2"], [3, 4]),
    ],
)
async def test_a_list_can_be_narrowed(place: Place, options: list[str], ids: list[int]) -> None:
    """All given filters must match, and an empty result prints a message."""
    found = await place.gateway("list", *options)
    assert found.exit_code == 0, found.stderr
    firsts = [line.split()[0] for line in found.stdout.splitlines()]
    assert [int(first) for first in firsts if first.isdigit()] == ids
    if not ids:
        assert found.stdout == "no dead letter matches\n"


async def test_a_truncated_list_names_where_to_continue(place: Place) -> None:
    """A truncated list says so, and names the id to continue after."""
    found = await place.gateway("list", "--limit", "3")
    assert found.stderr == "there are more; continue with --after 3\n"
    assert (await place.gateway("list", "--limit", "4")).stderr == ""


async def test_show_prints_everything_but_credentials(place: Place) -> None:
    """``show`` prints the request, each attempt and the last sent request, redacted."""
    found = await place.gateway("show", "1")
    assert found.exit_code == 0, found.stderr
    for part in (
        "dead letter 1 of crm", "event     Product Viewed", "request   req-", ", event 0",
        "user      u1",
        "given up  2024-05-01 12:00:00 UTC, refused: HTTP 400: no such product",
        "received at 2024-05-01 12:00:00 UTC by shop", "POST /push", '"id": "100500"',
        "attempt 1 at 2024-05-01 12:00:00 UTC: HTTP 400 in 0.250 s", "no such product",
        "POST https://crm.example/event/track", "authorization: Bearer ***",
        '"name": "Product Viewed"', '"shop_id": "***"', '"shop_secret": "***"',
    ):  # fmt: skip
        assert part in found.stdout
    assert "canary" not in found.output


async def test_a_key_that_is_not_set_draws_a_warning(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configured key is redacted in names, too; a key that is not set here draws a warning."""
    await place.give_up("crm", "refused", "no", at=AT, name="key-of-crm", user="key-of-crm")
    monkeypatch.delenv("CRM_KEY")
    found = await place.gateway("list", "--cause", "refused")
    assert "key-of-crm" in found.stdout
    assert found.stderr == (
        "warning: CRM_KEY is not set or cannot be read here, so its value is not redacted in the "
        "output\n"
    )
    monkeypatch.setenv("CRM_KEY", "key-of-crm")
    found = await place.gateway("list", "--cause", "refused")
    assert "***" in found.stdout
    assert "key-of-crm" not in found.stdout
    assert not found.stderr
    place.config.write_text(place.config.read_text().replace('"chrts"', '"nobody"'))
    told = (await place.gateway("list")).stderr
    assert told.startswith(f"warning: {place.config} is invalid (see `gateway check`), so its ")


async def test_an_unknown_id_is_one_sentence(place: Place) -> None:
    """An unknown id prints one sentence and exits with 1."""
    found = await place.gateway("show", "99")
    assert found.exit_code == 1
    assert found.stderr == "Error: there is no dead letter 99; see `gateway dead-letters list`\n"


async def test_replaying_reaches_the_gateway_that_runs(place: Place) -> None:
    """Replayed dead letters leave the list, and the open spool notifies its subscribers."""
    notices: asyncio.Queue[SpoolNotice] = asyncio.Queue()
    place.spool.subscribe(notices.put_nowait)
    found = await place.gateway("replay", "--destination", "crm")
    assert (found.exit_code, found.stdout) == (0, "replayed 2\n")
    async with asyncio.timeout(PATIENCE):
        assert await notices.get() == DeadLettersReplayed("crm")
    assert await place.ids() == [3, 4]
    waiting = await place.spool.retrying("crm", 1e12, 10)
    assert [later.event_name for later in waiting] == ["Product Viewed", "Order Completed"]


async def test_ids_select_dead_letters(place: Place) -> None:
    """Given ids, only those dead letters are replayed or deleted."""
    assert (await place.gateway("delete", "1", "4")).stdout == "deleted 2\n"
    assert (await place.gateway("replay", "3")).stdout == "replayed 1\n"
    assert await place.ids() == [2]


async def test_an_unknown_id_moves_nothing(place: Place) -> None:
    """If one of the ids does not exist, no dead letter changes."""
    found = await place.gateway("delete", "1", "98", "99")
    assert found.exit_code == 1
    assert "there is no dead letter 98, 99; nothing was done" in found.stderr
    assert await place.ids() == [1, 2, 3, 4]


@pytest.mark.parametrize("verb", ["replay", "delete"])
@pytest.mark.parametrize(
    "args", [[], ["1", "--all"], ["1", "--user", "u1"], ["--user", "", "--all"]]
)
async def test_ids_filters_or_all_are_required(place: Place, verb: str, args: list[str]) -> None:
    """Exactly one of ids, filters and ``--all`` is required; otherwise nothing changes."""
    found = await place.gateway(verb, *args)
    assert found.exit_code == 2
    assert "give ids, filters or --all: exactly one of the three" in found.stderr
    assert await place.ids() == [1, 2, 3, 4]


async def test_all_takes_every_dead_letter(place: Place) -> None:
    """``--all`` takes every dead letter across pages, and accepts an empty list."""
    for number in range(450):
        await place.give_up("mail", "refused", "x", at=AT + number, name="", user="")
    assert (await place.gateway("delete", "--all")).stdout == "deleted 454\n"
    assert (await place.gateway("delete", "--all")).stdout == "no dead letter matches\n"
    assert (await place.gateway("list")).stdout == "no dead letters\n"


async def test_an_invalid_time_is_an_error(place: Place) -> None:
    """A text that is neither a time nor a duration is an error that shows what to write."""
    found = await place.gateway("list", "--since", "yesterday")
    assert found.exit_code == 2
    assert "'yesterday' is not a time; write \"2h\" for two hours ago" in found.stderr


def test_a_missing_spool_is_one_sentence(tmp_path: Path) -> None:
    """A folder without a spool prints one sentence and exits with 1."""
    config = Place(tmp_path).config
    found = CliRunner().invoke(main, ["dead-letters", "list", "--config", str(config)])
    assert found.exit_code == 1
    assert (
        "there is no spool yet; start the gateway once, or correct path in [spool]" in found.stderr
    )


def test_a_spool_in_nats_is_one_sentence(tmp_path: Path) -> None:
    """With a spool in NATS the command says where its dead letters are shown."""
    path = tmp_path / "gateway.toml"
    path.write_text('[spool]\nurl = "nats://n1"\n')
    ran = CliRunner().invoke(main, ["dead-letters", "list", "-c", str(path)])
    assert ran.exit_code == 1
    assert "[spool] url: the dead letters are in NATS; use the console or the admin" in ran.output


def test_every_write_key_of_a_batch_is_hidden() -> None:
    """Every ``writeKey`` in a Segment batch is redacted, not only the one that was checked."""
    shown = _without({"writeKey": "one", "batch": [{"writeKey": "two", "event": "x"}]}, "one")
    assert shown == {"writeKey": "***", "batch": [{"writeKey": "***", "event": "x"}]}


async def test_the_route_of_a_dead_letter_is_shown(place: Place) -> None:
    """A dead letter shows its route and event number, also for a second delivery of the event."""
    request = Request(method="POST", url="/push", body=orjson.dumps(BODY), id="r")
    again = delivery_number(0, 1)
    entry = Entry(
        "r", "shop", request, {"crm": (again,)}, "personaclick", {"crm": {"ads": (again,)}}
    )
    seq = (await place.spool.append(entry)).seq
    failed = FailedDelivery(DeliveryRef(seq, again), "unrenderable", "no such route", AT)
    await place.spool.settle("crm", Progress(seq, dead=[failed]))
    shown = (await place.gateway("show", str(max(await place.ids())))).stdout
    assert "route     ads; a replay applies its steps" in shown
    assert "request   r, event 0" in shown


async def test_the_balance_is_a_line_for_each_destination(place: Place) -> None:
    """``balance`` prints every count, and fails if a delivery is unaccounted for."""
    found = await place.gateway("balance")
    assert found.exit_code == 0, found.stderr
    lines = [line.split() for line in found.stdout.splitlines()]
    counts = "accepted delivered declined shadowed dead_letters dropped pending unaccounted"
    assert " ".join(lines[0]) == f"destination {counts}"
    assert ["crm", "2", "0", "0", "0", "2", "0", "0", "0"] in lines
    await place.spool.settle("mail", Progress(delivered=1))
    found = await place.gateway("balance")
    assert found.exit_code == 1
    assert ["mail", "2", "1", "0", "0", "2", "0", "0", "-1"] in [
        line.split() for line in found.stdout.splitlines()
    ]
    assert "deliveries are unaccounted for: mail; copy the spool" in found.stderr


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ('HTTP 422: {"status":false,"message":"no \\"id\\""}', 'HTTP 422: no "id"'),
        ('HTTP 400: [{"code": 3, "detail": "late"}]', "HTTP 400: late"),
        ('HTTP 422: {"data":{"error_message":"Unprocessable"}}', "HTTP 422: Unprocessable"),
        ('HTTP 400: {"code": 3}', 'HTTP 400: {"code": 3}'),
        ("no connection", "no connection"),
    ],
)
def test_a_list_shows_the_vendors_message(reason: str, said: str) -> None:
    """The message in a vendor's JSON stands for the JSON; without one the reason stays."""
    assert with_message(reason) == said
